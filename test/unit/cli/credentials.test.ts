import { PassThrough, Readable, Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { runCommandLine } from '../../../cli/run.ts';
import { parsePasswordHash, tryPassword } from '../../../proxy/access/password-hash.ts';

async function credentials(
  stdin: Readable,
  ...args: string[]
): Promise<{ code: number; out: string; err: string }> {
  const written = { out: '', err: '' };
  const sink = (key: 'out' | 'err'): Writable =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        written[key] += chunk.toString();
        done();
      },
    });
  const io = { stdin, stdout: sink('out'), stderr: sink('err'), env: {} };
  const loaders = { credentials: () => import('../../../cli/credentials.ts') };
  const code = await runCommandLine(['credentials', ...args], loaders, io);
  return { code, ...written };
}

function isRight(password: string, hash: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  tryPassword(Buffer.from(password), parsePasswordHash(hash), resolve);
  return promise;
}

/** A hash of full cost takes as long as the machine is busy, in milliseconds. */
describe('quorumbridge credentials hash', { timeout: 90_000 }, () => {
  it.each([
    ['geheim-4711', 'geheim-4711'],
    ['geheim-4711\n', 'geheim-4711'],
    [' ü \n\r\n', ' ü \n'],
  ])('takes %j from standard input as the password %j', async (text, password) => {
    const { code, out, err } = await credentials(Readable.from([Buffer.from(text)]), 'hash');
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(await isRight(password, out.replace(/\n$/, ''))).toBe(true);
  });

  it('takes a line from a terminal, and does not show it', async () => {
    const terminal = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => {} });
    terminal.write('geheim-4712\x7f1\r');
    const { code, out, err } = await credentials(terminal, 'hash');
    expect({ code, err }).toEqual({ code: 0, err: 'Password: \n' });
    expect(await isRight('geheim-4711', out.trim())).toBe(true);
  });

  it('ends without a password at the end of the terminal', async () => {
    const terminal = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => {} });
    terminal.write('\x03');
    const { code, out } = await credentials(terminal, 'hash');
    expect({ code, out }).toEqual({ code: 2, out: '' });
  });

  it.each(['', '\n', 'a\0b', 'a'.repeat(1025)])('refuses %j', async (text) => {
    const { code, out, err } = await credentials(Readable.from([Buffer.from(text)]), 'hash');
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(
      'quorumbridge credentials: standard input: expected a password of 1 to 1024 octets, none of them 0',
    );
    expect(err).not.toContain('aaa');
  });

  it('says what it can do', async () => {
    const { code, err } = await credentials(Readable.from([]), 'make');
    expect(code).toBe(2);
    expect(err).toContain('expected one of hash');
  });
});
