import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterAll, describe, expect, it } from 'vitest';
import { runCommandLine } from '../../../cli/run.ts';

const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-topology-'));
const file = join(folder, 'm.yaml');
writeFileSync(file, 'host: 127.0.0.1\nport: 1\nexchange: []\n');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function run(...args: string[]): Promise<{ code: number; stderr: string }> {
  const stderr = new PassThrough();
  const io = { stdin: Readable.from([]), stdout: new PassThrough(), stderr, env: {} };
  const code = await runCommandLine(
    ['topology', ...args],
    { topology: () => import('../../../cli/topology.ts') },
    io,
  );
  return { code, stderr: String(stderr.read() ?? '') };
}

describe('quorumbridge topology', () => {
  it.each([
    [['plan'], 'option --filename: plan needs a file, as in quorumbridge topology plan -f messaging.yaml'],
    [['plan', '-f', file, '--delete'], 'option --delete: only apply deletes'],
    [['purge'], 'option --action: "purge" is not valid: expected one of plan, apply, export, diff'],
    [['export', '--management=http://guest:guest@h'], 'option --management: expected none or a URL such as'],
    [['diff', '-f', file], `${file}:3:1: unknown key "exchange": did you mean "exchanges"?`],
    [['apply', '-f', '/nowhere'], 'file /nowhere cannot be read: ENOENT'],
  ])('%j ends with exit code 2 and says what to do', async (args, message) => {
    const { code, stderr } = await run(...args);
    expect(stderr).toContain(`quorumbridge topology: ${message}`);
    expect(code).toBe(2);
  });

  it('ends with exit code 1 and without a stack where there is no broker', async () => {
    writeFileSync(file, 'host: 127.0.0.1\nport: 1\n');
    expect(await run('plan', '-f', file)).toEqual({
      code: 1,
      stderr:
        'quorumbridge topology: RabbitMQ at 127.0.0.1:1, virtual host /: connection refused: check host and port, and that it runs\n',
    });
  });
});
