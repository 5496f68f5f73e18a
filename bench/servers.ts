import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../test/support/ports.ts';
import { Service } from '../test/support/service.ts';
import type { Review } from './reviews.ts';

/** A server in a process of its own, and the connections to it. */
export interface Server {
  readonly pid: number;
  readonly port: number;
  readonly agent: Agent;
  /** Throws when that is not its answer to the review. */
  check(review: Review, answer: string): void;
}

function connections(ca: string, count: number, cleanup: AsyncDisposableStack): Agent {
  return cleanup.adopt(
    new Agent({ ca, keepAlive: true, maxSockets: count, maxFreeSockets: count }),
    async (agent) => agent.destroy(),
  );
}

/**
 * Starts `quorumbridge webhook` with a certificate of its own and without a cluster, for `count` connections. What has
 * to be ended goes to `cleanup`, also when the start fails half way.
 */
export async function startWebhook(count: number, cleanup: AsyncDisposableStack): Promise<Server> {
  const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-bench-'));
  cleanup.defer(async () => rmSync(folder, { recursive: true, force: true }));
  const [port, admin] = [await freePort(), `127.0.0.1:${await freePort()}`];
  const caFile = join(folder, 'ca.crt');
  const where = [`--listen=127.0.0.1:${port}`, `--admin-listen=${admin}`, `--ca-out=${caFile}`];
  const service = cleanup.adopt(
    new Service(
      ['webhook', ...where, '--self-signed', '--no-cluster', '--shutdown-delay=0'],
      join(folder, 'log'),
    ),
    async (running) => void (await running.stop()),
  );
  await service.ready(`http://${admin}/readyz`);
  return {
    pid: service.pid,
    port,
    agent: connections(readFileSync(caFile, 'utf8'), count, cleanup),
    check: (review, answer) => review.check(answer),
  };
}

/** Starts the handler of no-op.ts, for `count` connections. */
export async function startNoOp(count: number, cleanup: AsyncDisposableStack): Promise<Server> {
  const child = fork(new URL('no-op.ts', import.meta.url));
  const exited = once(child, 'exit');
  cleanup.defer(async () => {
    if (child.connected) child.disconnect();
    await exited;
  });
  const told = await Promise.race([once(child, 'message'), exited.then(() => undefined)]);
  if (told === undefined) throw new Error('the no-op handler ended at once');
  const [{ port, ca }] = told as [{ port: number; ca: string }];
  return {
    pid: child.pid!,
    port,
    agent: connections(ca, count, cleanup),
    check(_review, answer) {
      if (!answer.includes('"allowed":true')) throw new Error(`the no-op handler answered ${answer}`);
    },
  };
}
