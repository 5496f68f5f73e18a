import type { Socket } from 'node:net';
import { Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Gather } from '../../../../proxy/pool/gather.ts';

/** A socket that takes octets at once, or when the test says so. */
class Destination extends Writable {
  readonly writes: Buffer[] = [];
  atOnce = true;
  #sending: { octets: Buffer; done: () => void } | undefined;

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#sending = { octets: chunk, done };
    if (this.atOnce || chunk.length === 0) this.take();
  }

  /** The kernel reads the octets now, and not when they were written. */
  take(): void {
    const sending = this.#sending;
    this.#sending = undefined;
    if (sending === undefined) return;
    if (sending.octets.length > 0) this.writes.push(Buffer.from(sending.octets));
    sending.done();
  }
}

function gathering(): { destination: Destination; gather: Gather } {
  const destination = new Destination();
  return { destination, gather: new Gather(destination as unknown as Socket, false) };
}

/** Writes a client's message as a connection does. */
function write({ destination, gather }: ReturnType<typeof gathering>, clients: number, octets: Buffer): void {
  if (!gather.expectsMore(clients) || !gather.add([octets])) destination.write(octets);
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'] });
});

afterEach(() => {
  vi.useRealTimers();
});

describe('messages of clients that share a connection', () => {
  it('are written at once when each is alone in its millisecond', () => {
    const test = gathering();
    for (const text of ['one', 'two', 'three']) {
      vi.setSystemTime(Date.now() + 1);
      write(test, 2, Buffer.from(text));
    }
    expect(test.destination.writes.map(String)).toEqual(['one', 'two', 'three']);
  });

  it('are written together at the end of the turn when more come than the first of a millisecond', async () => {
    const test = gathering();
    vi.setSystemTime(Date.now() + 1);
    for (const text of ['one', 'two', 'three']) write(test, 2, Buffer.from(text));
    vi.setSystemTime(Date.now() + 1);
    write(test, 2, Buffer.from('four'));
    expect(test.destination.writes.map(String)).toEqual(['one']);
    await setImmediate();
    expect(test.destination.writes.map(String)).toEqual(['one', 'twothreefour']);
  });

  it('are written at once when they are all of one client', () => {
    const test = gathering();
    for (const text of ['one', 'two', 'three']) write(test, 1, Buffer.from(text));
    expect(test.destination.writes.map(String)).toEqual(['one', 'two', 'three']);
  });

  it('arrive in order and as they were written, whoever waits for what', async () => {
    const stepArbitrary = fc.record({
      size: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1500, max: 3000 })),
      clients: fc.integer({ min: 1, max: 3 }),
      passes: fc.nat(1),
      turns: fc.boolean(),
      atOnce: fc.boolean(),
      take: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(stepArbitrary, { maxLength: 60 }), async (steps) => {
        const test = gathering();
        const { destination } = test;
        const written: Buffer[] = [];
        for (const [i, { size, clients, passes, turns, atOnce, take }] of steps.entries()) {
          destination.atOnce = atOnce;
          if (take) destination.take();
          if (turns) await setImmediate();
          vi.setSystemTime(Date.now() + passes);
          const octets = Buffer.alloc(size, i + 1);
          written.push(octets);
          write(test, clients, octets);
        }
        destination.atOnce = true;
        for (let i = 0; i < 200 && (destination.writableLength > 0 || i < 2); i++) {
          destination.take();
          await setImmediate();
        }
        expect(Buffer.concat(destination.writes)).toEqual(Buffer.concat(written));
      }),
      { numRuns: 200 },
    );
  });
});
