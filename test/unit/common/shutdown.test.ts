import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const room = fileURLToPath(new URL('../../../common/', import.meta.url));

/** Runs a program that has installed onShutdown with `close`, then does `body`; `act` may send signals once it is ready. */
async function run(
  close: string,
  body: string,
  act: (kill: (signal: NodeJS.Signals) => void) => void | Promise<void>,
): Promise<{ code: number | null; messages: string[]; levels: string[] }> {
  const program = `
    import { createLogger } from '${room}log.ts';
    import { onShutdown } from '${room}shutdown.ts';
    const log = createLogger({ name: 'test', level: 'info' });
    setInterval(() => {}, 1000);
    onShutdown({ log, timeoutMs: () => 300, close: ${close} });
    log.info('ready');
    ${body}
  `;
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  let acted = false;
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk;
    if (acted || !output.includes('"ready"')) return;
    acted = true;
    void act((signal) => child.kill(signal));
  });
  const [code] = (await once(child, 'close')) as [number | null];
  const lines = output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { msg: string; level: string });
  return { code, messages: lines.map(({ msg }) => msg), levels: lines.map(({ level }) => level) };
}

const never = '() => new Promise(() => {})';

describe('onShutdown', () => {
  it.each(['SIGTERM', 'SIGINT'] as const)('closes in good order on %s and exits 0', async (signal) => {
    const { code, messages } = await run("async (reason) => log.info('closing: ' + reason)", '', (kill) =>
      kill(signal),
    );
    expect(messages).toEqual(['ready', 'shutting down', `closing: ${signal}`, 'shutdown complete']);
    expect(code).toBe(0);
  });

  it('exits at once on a second signal', async () => {
    const { code, messages } = await run(never, '', async (kill) => {
      kill('SIGTERM');
      await new Promise((resolve) => setTimeout(resolve, 60));
      kill('SIGINT');
    });
    expect(messages).toEqual(['ready', 'shutting down', 'second signal, exiting at once']);
    expect(code).toBe(1);
  });

  it('exits 1 when closing takes longer than it may', async () => {
    const { code, messages } = await run(never, '', (kill) => kill('SIGTERM'));
    expect(messages.at(-1)).toBe('shutdown took too long, exiting');
    expect(code).toBe(1);
  });

  it('exits 1 when closing fails', async () => {
    const { code, messages } = await run("async () => { throw new Error('x') }", '', (kill) =>
      kill('SIGTERM'),
    );
    expect(messages.at(-1)).toBe('shutdown failed, exiting');
    expect(code).toBe(1);
  });

  it.each([
    ['an uncaught exception', "setTimeout(() => { throw new Error('boom') }, 1);"],
    ['an unhandled rejection', "void Promise.reject(new Error('boom'));"],
  ])('logs %s as fatal and exits 1 without closing', async (_, body) => {
    const { code, messages, levels } = await run(never, body, () => {});
    expect(messages).toEqual(['ready', 'unexpected error, exiting']);
    expect(levels.at(-1)).toBe('fatal');
    expect(code).toBe(1);
  });
});
