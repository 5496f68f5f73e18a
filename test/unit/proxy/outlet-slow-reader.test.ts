import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import * as fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { Outlet, type Source } from '../../../proxy/outlet.ts';

/** A socket's usual read buffer: what is lent, and overwritten as soon as the source may read on. */
const LENT = 4096;

/** More than the kernel's buffers of a loopback connection take, in octets. */
const BULK = 12 * 1024 * 1024;

const opened: (Socket | net.Server)[] = [];

afterEach(() => {
  for (const one of opened.splice(0)) {
    if (one instanceof net.Server) one.close();
    else one.destroy();
  }
});

/** Both ends of a connection. */
async function connection(): Promise<[near: Socket, far: Socket]> {
  const server = net.createServer({ pauseOnConnect: true });
  opened.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const near = net.connect({ host: '127.0.0.1', port: (server.address() as AddressInfo).port });
  const [[far]] = (await Promise.all([once(server, 'connection'), once(near, 'connect')])) as [[Socket], []];
  opened.push(near, far);
  return [near, far];
}

/** A source that waits where it is told to. */
class Waiting implements Source {
  pauses = 0;
  #flows = Promise.withResolvers<void>();

  constructor() {
    this.#flows.resolve();
  }

  pause(): void {
    this.pauses++;
    this.#flows = Promise.withResolvers<void>();
  }

  resume(): void {
    this.#flows.resolve();
  }

  get flows(): Promise<void> {
    return this.#flows.promise;
  }
}

/** The octet at this place of the stream: neighbouring reads differ at each place. */
function octetAt(place: number): number {
  return (place * 31 + Math.floor(place / LENT) * 7) & 0xff;
}

/** Reads to the end, and answers how much came and where it first is wrong, if anywhere. */
async function check(far: Socket, isSlow: boolean): Promise<{ length: number; wrongAt: number | undefined }> {
  let length = 0;
  let wrongAt: number | undefined;
  far.on('data', (chunk: Buffer) => {
    for (let at = 0; at < chunk.length && wrongAt === undefined; at++)
      if (chunk[at] !== octetAt(length + at)) wrongAt = length + at;
    length += chunk.length;
    if (!isSlow) return;
    far.pause();
    void setImmediate().then(() => far.resume());
  });
  far.resume();
  await once(far, 'end');
  return { length, wrongAt };
}

describe('small reads into one buffer, for a peer that does not read at first', () => {
  it.each([
    ['whole', fc.constant([LENT])],
    ['of any size', fc.array(fc.integer({ min: 700, max: LENT }), { minLength: 1, maxLength: 20 })],
  ])('arrive as they were, %s and in pieces, however slowly it reads', async (_how, sizesArbitrary) => {
    await fc.assert(
      fc.asyncProperty(sizesArbitrary, fc.nat(2), fc.boolean(), async (sizes, cuts, isSlow) => {
        const [near, far] = await connection();
        const source = new Waiting();
        const outlet = new Outlet(source, near, false);
        const buffer = Buffer.alloc(LENT);
        let sent = 0;
        let reading: ReturnType<typeof check> | undefined;
        for (let turn = 0; sent < BULK; turn++) {
          const size = sizes[turn % sizes.length]!;
          // Reading on overwrites what was read before: only a source that flows may do so.
          for (let at = 0; at < LENT; at++) buffer[at] = at < size ? octetAt(sent + at) : 0xee;
          const part = Math.ceil(size / (cuts + 1));
          const pieces = Array.from({ length: cuts + 1 }, (_, i) =>
            buffer.subarray(Math.min(size, i * part), Math.min(size, (i + 1) * part)),
          );
          outlet.write(pieces, true);
          sent += size;
          if (reading === undefined && source.pauses > 0) reading = check(far, isSlow);
          await source.flows;
        }
        near.end();
        expect(await reading).toEqual({ length: sent, wrongAt: undefined });
        expect(source.pauses).toBeGreaterThan(0);
      }),
      { numRuns: 4 },
    );
  });
});
