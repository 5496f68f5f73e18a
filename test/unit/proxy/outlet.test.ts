import type { Socket } from 'node:net';
import { Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Outlet } from '../../../proxy/outlet.ts';

/** What an outlet asks of a source. */
class Source {
  paused = false;

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }
}

interface Sending {
  readonly octets: readonly Uint8Array[];
  readonly done: (error?: Error | null) => void;
}

/**
 * A destination that sends when the test says so. A plain socket reads the octets at the time when the kernel takes
 * them, which may be long after the write; an encrypting one (`copies`) reads them in the write.
 */
class Destination extends Writable {
  readonly sent: Buffer[] = [];
  sending: Sending | undefined;
  /** Whether the kernel takes all at once, in the write. */
  atOnce = false;
  readonly copies: boolean;

  constructor(copies: boolean) {
    super({ highWaterMark: 64 });
    this.copies = copies;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Sending['done']): void {
    this.#send([chunk], done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: Sending['done']): void {
    this.#send(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  #send(octets: readonly Uint8Array[], done: Sending['done']): void {
    this.sending = { octets: this.copies ? [Buffer.concat(octets)] : octets, done };
    // The kernel has nothing to wait for where there is nothing to take.
    if (this.atOnce || octets.every(({ length }) => length === 0)) this.take();
  }

  /** What is being sent is cancelled, and told so afterwards. */
  override _destroy(error: Error | null, destroyed: (error: Error | null) => void): void {
    const { sending } = this;
    this.sending = undefined;
    destroyed(error);
    sending?.done();
  }

  /** The kernel takes what is being sent. */
  take(): void {
    const { sending } = this;
    this.sending = undefined;
    if (sending === undefined) return;
    this.sent.push(Buffer.concat(sending.octets));
    sending.done();
  }
}

function outletOf(copies: boolean): { source: Source; destination: Destination; outlet: Outlet } {
  const source = new Source();
  const destination = new Destination(copies);
  const outlet = new Outlet(source, destination as unknown as Socket, copies);
  return { source, destination, outlet };
}

/** The chunk as one piece, or around an edited frame that is not the source's. */
function piecesOf(chunk: Uint8Array, edits: number): Uint8Array[] {
  if (edits === 0) return [chunk];
  const middle = Math.floor(chunk.length / 2);
  return [chunk.subarray(0, middle), Buffer.from('<edited>'), chunk.subarray(middle)];
}

const kinds = [
  { kind: 'plain', copies: false },
  { kind: 'encrypting', copies: true },
] as const;

/** What happens in turn: a read of so many octets, in pieces, unless the source is paused; or the kernel takes some. */
const stepsArbitrary = fc.array(
  fc.record({
    read: fc.integer({ min: 0, max: 32 }),
    edits: fc.nat(1),
    atOnce: fc.boolean(),
    take: fc.boolean(),
  }),
  { maxLength: 40 },
);

describe.each(kinds)('the octets of a source that reads into one buffer, on a $kind socket', ({ copies }) => {
  it('arrive in order and as they were read, whenever the kernel takes them; little of them waits', async () => {
    await fc.assert(
      fc.asyncProperty(stepsArbitrary, fc.boolean(), async (steps, released) => {
        const { source, destination, outlet } = outletOf(copies);
        const buffer = new Uint8Array(32);
        const written: Buffer[] = [];
        for (const [i, { read, edits, atOnce, take }] of steps.entries()) {
          destination.atOnce = atOnce;
          if (take) {
            destination.take();
            await setImmediate();
          }
          if (source.paused) continue;
          buffer.fill(i + 1);
          const pieces = piecesOf(buffer.subarray(0, read), edits);
          written.push(Buffer.concat(pieces));
          outlet.write(pieces, true);
          expect(destination.writableLength).toBeLessThanOrEqual(64 + 2 * 40);
        }
        if (released) outlet.release();
        // Whatever the source reads from now on isn't passed on, and may be read as soon as it isn't paused.
        for (let i = 0; i < 100 && (destination.sending !== undefined || source.paused); i++) {
          if (!source.paused) buffer.fill(0xee);
          destination.take();
          await setImmediate();
        }
        expect(source.paused).toBe(false);
        expect(Buffer.concat(destination.sent)).toEqual(Buffer.concat(written));
      }),
      { numRuns: 200 },
    );
  });
});

describe('a source', () => {
  it.each(kinds)('flows while a $kind socket takes all at once', async ({ copies }) => {
    const { source, destination, outlet } = outletOf(copies);
    destination.atOnce = true;
    for (let i = 0; i < 10; i++) {
      outlet.write([Buffer.alloc(32, i)], true);
      expect(source.paused).toBe(false);
      await setImmediate();
    }
    expect(Buffer.concat(destination.sent)).toHaveLength(320);
  });

  it('is paused as long as a plain socket uses the octets that it has lent', async () => {
    const { source, destination, outlet } = outletOf(false);
    outlet.write([Buffer.from('lent')], true);
    expect(source.paused).toBe(true);
    await setImmediate();
    expect(source.paused).toBe(true);
    destination.take();
    await setImmediate();
    expect(source.paused).toBe(false);
  });

  it.each([
    { size: 10, calls: 0 },
    { size: 100_000, calls: 1 },
  ])('gets $size octets that are taken at once back, and is told of $calls writes', ({ size, calls }) => {
    const given: Uint8Array[] = [];
    const destination = new Destination(false);
    destination.atOnce = true;
    let told = 0;
    const write = destination.write.bind(destination) as (
      octets: Uint8Array,
      done?: (error?: Error | null) => void,
    ) => boolean;
    destination.write = ((octets: Uint8Array, done?: () => void) => {
      if (done !== undefined) told++;
      return write(octets, done);
    }) as typeof destination.write;
    const outlet = new Outlet(new Source(), destination as unknown as Socket, false, (octets) =>
      given.push(octets),
    );
    const piece = Buffer.alloc(size);
    outlet.write([piece], false, [piece]);
    expect(told).toBe(calls);
    expect(given).toEqual(calls === 0 ? [piece] : []);
  });

  it('gets back what it has borrowed only when the socket uses it no more', async () => {
    const given: Uint8Array[] = [];
    const destination = new Destination(false);
    const give = (octets: Uint8Array): void => void given.push(octets);
    const outlet = new Outlet(new Source(), destination as unknown as Socket, false, give);
    const piece = Buffer.from('borrowed');
    outlet.write([piece], false, [piece]);
    await setImmediate();
    expect(given).toEqual([]);
    destination.take();
    await setImmediate();
    expect(given).toEqual([piece]);
    expect(given[0]).toBe(piece);
  });

  it('that gives its octets away is paused only when the socket has enough', async () => {
    const { source, destination, outlet } = outletOf(false);
    outlet.write([Buffer.alloc(60)], false);
    expect(source.paused).toBe(false);
    outlet.write([Buffer.alloc(10)], false);
    expect(source.paused).toBe(true);
    destination.take();
    await setImmediate();
    expect(source.paused).toBe(true); // the second write is under way
    destination.take();
    await setImmediate();
    expect(source.paused).toBe(false);
  });

  it.each(kinds)(
    'may lend octets while a write of none is under way on a $kind socket',
    async ({ copies }) => {
      const { destination, outlet } = outletOf(copies);
      outlet.write([Buffer.alloc(0)], false);
      const lent = Buffer.from('lent');
      outlet.write([lent], true);
      if (copies) lent.fill(0xee); // its source isn't paused: what is encrypted is read at once
      destination.take();
      destination.take();
      await setImmediate();
      expect(Buffer.concat(destination.sent).toString()).toBe('lent');
    },
  );

  it('that is released flows at once, unless octets that it has lent are still to be taken', async () => {
    const { source, destination, outlet } = outletOf(false);
    outlet.write([Buffer.alloc(80, 1)], false);
    expect(source.paused).toBe(true);
    outlet.release();
    expect(source.paused).toBe(false);
    destination.take();
    await setImmediate();

    const lent = Buffer.alloc(10, 2);
    outlet.write([lent], true);
    outlet.release();
    expect(source.paused).toBe(true);
    destination.end('last words');
    expect(source.paused).toBe(true);
    destination.take();
    await setImmediate();
    destination.take(); // what another has written meanwhile goes out together with what tells of the end
    await setImmediate();
    expect(source.paused).toBe(false);
    const all = Buffer.concat([Buffer.alloc(80, 1), Buffer.alloc(10, 2), Buffer.from('last words')]);
    expect(Buffer.concat(destination.sent)).toEqual(all);
  });

  it('flows again when the socket is destroyed with its octets', async () => {
    const { source, destination, outlet } = outletOf(false);
    outlet.write([Buffer.alloc(10)], true);
    destination.write('more, of another');
    expect(source.paused).toBe(true);
    destination.on('error', () => {}).destroy();
    await setImmediate();
    expect(source.paused).toBe(false);
    outlet.write([Buffer.alloc(10)], true);
    expect(source.paused).toBe(false);
    expect(destination.sent).toEqual([]);
  });
});

describe('octets for a socket that has ended', () => {
  it('are dropped, and the source flows', () => {
    const { source, destination, outlet } = outletOf(false);
    destination.end();
    outlet.write([Buffer.alloc(1000)], true);
    expect(source.paused).toBe(false);
    expect(destination.sent).toEqual([]);
  });
});
