import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterAll, describe, expect, it } from 'vitest';
import { runCommandLine } from '../../../cli/run.ts';

const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-dlq-'));
const file = join(folder, 'm.yaml');
writeFileSync(
  file,
  "host: 127.0.0.1\nport: 1\nexchanges: [{ name: '', queues: [{ name: q, dlx_name: x, dlq_name: d }] }]\n",
);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function run(...args: string[]): Promise<{ code: number; stderr: string }> {
  const stderr = new PassThrough();
  const io = { stdin: Readable.from([]), stdout: new PassThrough(), stderr, env: {} };
  const code = await runCommandLine(['dlq', ...args], { dlq: () => import('../../../cli/dlq.ts') }, io);
  return { code, stderr: String(stderr.read() ?? '') };
}

describe('quorumbridge dlq', () => {
  it.each([
    [['list'], 'option --filename is required'],
    [['show', '-f', file], 'option --queue: show needs a queue, as in quorumbridge dlq show shop.dlq'],
    [['show', 'e', '-f', file], 'option --queue: the file has no queue e for dead letters; it has d'],
    [['show', 'd', '-f', file, '--dry-run'], 'option --dry-run: only redrive has it'],
    [['redrive', 'd', '-f', file, '--yes'], 'option --yes: only purge has it'],
    [['redrive', 'd', '-f', file, '--content=5'], 'option --content: only show has it'],
    [['redrive', 'd', '-f', file, '--to=q', '--exchange=x'], 'options --to and --exchange: say one of them'],
    [['redrive', 'd', '-f', file, '--routing-key=k'], 'option --routing-key: it goes with --exchange'],
    [['redrive', 'd', '-f', file, '--to=d'], 'option --to: d is where the dead letters are already'],
    [['purge', 'd', '-f', file, '--filter=old'], 'option --filter: "old" is not valid: expected reason=WORD'],
  ])('%j ends with exit code 2 and says what to do', async (args, message) => {
    const { code, stderr } = await run(...args);
    expect(stderr).toContain(`quorumbridge dlq: ${message}`);
    expect(code).toBe(2);
  });

  it('ends with exit code 1 and without a stack where there is no broker', async () => {
    expect(await run('purge', 'd', '-f', file)).toEqual({
      code: 1,
      stderr:
        'quorumbridge dlq: RabbitMQ at 127.0.0.1:1, virtual host /: connection refused: check host and port, and that it runs\n',
    });
  });
});
