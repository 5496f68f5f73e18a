import { UsageError } from '../common/errors.ts';
import { hashOptions } from '../proxy/access/options.ts';
import type { CommandIo, CommandSpec } from './command.ts';

export const command: CommandSpec<typeof hashOptions> = {
  name: 'credentials',
  summary: "Make what stands for a password in the proxy's credentials file.",
  options: hashOptions,
  positionals: ['action'],
  examples: [
    { purpose: 'of a password that is typed, and not shown', command: 'quorumbridge credentials hash' },
    { purpose: 'of one in a file', command: 'quorumbridge credentials hash < password.txt' },
  ],
  async run(_values, { stdin, stdout, stderr }) {
    const { hashPassword, PASSWORD_MAX } = await import('../proxy/access/password-hash.ts');
    const text = await readPassword(stdin, stderr);
    const octets = Buffer.from(text);
    if (octets.length === 0 || octets.length > PASSWORD_MAX || octets.includes(0))
      throw new UsageError(
        `standard input: expected a password of 1 to ${PASSWORD_MAX} octets, none of them 0`,
      );
    stdout.write(`${await hashPassword(octets)}\n`);
    return 0;
  },
};

/** One line that is typed and not shown, or all that comes, without the end of its line. */
async function readPassword(stdin: CommandIo['stdin'], stderr: CommandIo['stderr']): Promise<string> {
  if ('isTTY' in stdin && stdin.isTTY === true) {
    stderr.write('Password: ');
    const line = await readLine(stdin);
    stderr.write('\n');
    return line;
  }
  const chunks: Buffer[] = [];
  for await (const chunk of stdin) chunks.push(Buffer.from(chunk as Buffer | string));
  return Buffer.concat(chunks)
    .toString()
    .replace(/\r?\n$/, '');
}

/** A line of a terminal, which doesn't show it; '' where none comes. */
async function readLine(terminal: CommandIo['stdin']): Promise<string> {
  const { createInterface } = await import('node:readline');
  const { Writable } = await import('node:stream');
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  for await (const line of createInterface({ input: terminal, output: nowhere, terminal: true })) return line;
  return '';
}
