import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/** Of 12000 to 19999. */
const FIRST = 12_000;
const SHARE = 1000;
const SHARES = 8;

/** Those that were tried: who was given one may not listen yet. */
const tried = new Set<number>();

/**
 * A port that nothing listens on now, below the range of outgoing connections, so that no connection takes it
 * before the caller does. Test files that run at the same time have ports of their own.
 */
export async function freePort(): Promise<number> {
  const worker = process.env['VITEST_POOL_ID'];
  const share = worker === undefined ? randomInt(SHARES) : Number(worker) % SHARES;
  const first = FIRST + share * SHARE;
  for (let tries = 0; tries < 100; tries += 1) {
    const port = first + randomInt(SHARE);
    if (tried.has(port)) continue;
    tried.add(port);
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '0.0.0.0', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
  throw new Error(`found no free port between ${first} and ${first + SHARE - 1}`);
}
