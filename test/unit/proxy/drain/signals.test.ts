import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openThrough, readCloseFrame, ScriptedBroker } from '../../../support/peers.ts';
import { freePort } from '../../../support/ports.ts';
import { HOME } from '../../../support/processes.ts';

let broker: ScriptedBroker;

beforeEach(async () => {
  broker = await new ScriptedBroker().start();
});

afterEach(() => broker[Symbol.asyncDispose]());

interface Started extends AsyncDisposable {
  readonly port: number;
  readonly log: () => string;
  readonly exited: Promise<[code: number | null, signal: string | null]>;
  terminate(): void;
}

/** `quorumbridge proxy` in front of the broker, as a process. */
async function start(drainTimeout: number): Promise<Started> {
  const port = await freePort();
  const args = [
    `--backend=127.0.0.1:${broker.port}`,
    `--listen=127.0.0.1:${port}`,
    '--admin-listen=127.0.0.1:0',
    `--drain-timeout=${drainTimeout}`,
  ];
  const child = spawn(process.execPath, ['cli/quorumbridge.mjs', 'proxy', ...args], {
    cwd: HOME,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const exited = once(child, 'exit') as Started['exited'];
  const log = (): string => text;
  await expect.poll(log, { timeout: 10_000 }).toContain('proxy is listening');
  return {
    port,
    log,
    exited,
    terminate: () => child.kill('SIGTERM'),
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

it('one signal drains, and a second one ends the process at once', async () => {
  await using proxy = await start(60);
  const { client, upstream } = await openThrough(broker, proxy.port);
  proxy.terminate();
  await expect.poll(proxy.log).toContain('draining: no new connections');
  await expect.poll(proxy.log, { timeout: 10_000 }).toContain('"secondsLeft":54');
  expect([client.received.length, client.ended, upstream.ended]).toEqual([0, false, false]);
  const began = performance.now();
  proxy.terminate();
  expect(await proxy.exited).toEqual([1, null]);
  expect(performance.now() - began).toBeLessThan(2000);
  expect(proxy.log()).toContain('second signal, exiting at once');
  await client.until('its end', ({ ended, closed }) => ended || closed);
});

it('one signal alone ends the process in good order, when its clients have gone', async () => {
  await using proxy = await start(2);
  const { client, upstream } = await openThrough(broker, proxy.port);
  proxy.terminate();
  expect(readCloseFrame(await client.frame()).code).toBe(320);
  client.socket.end();
  await upstream.until('its end', ({ ended }) => ended);
  upstream.socket.end();
  expect(await proxy.exited).toEqual([0, null]);
  expect(proxy.log()).toContain('"msg":"drained"');
});
