import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Relay } from '../../../proxy/relay.ts';
import { BYTES, cut, cutsArbitrary, THIRDS, WHOLE } from '../../support/amqp-arbitraries.ts';
import { frame, method } from '../../support/amqp-frames.ts';

const MAX = 4088; // payload of a frame of 4096 octets

function push(relay: Relay, chunks: readonly Uint8Array[]): Buffer {
  return Buffer.concat(chunks.map((chunk) => Buffer.concat(relay.push(chunk, chunk.length))));
}

function makeRelay(): Relay {
  const relay = new Relay(131_072, {
    client: false,
    wants: () => false,
    frame: (octets) => octets,
    passes: () => true,
    passed: () => {},
  });
  relay.splitAbove = MAX;
  return relay;
}

/** Type, channel and payload of each frame, whose lengths and end octets must be right. */
function framesOf(octets: Buffer): { type: number; channel: number; payload: Buffer }[] {
  const frames = [];
  for (let at = 0; at < octets.length;) {
    const size = octets.readUInt32BE(at + 3);
    expect(octets[at + 7 + size]).toBe(0xce);
    frames.push({
      type: octets.readUInt8(at),
      channel: octets.readUInt16BE(at + 1),
      payload: octets.subarray(at + 7, at + 7 + size),
    });
    at += size + 8;
  }
  return frames;
}

const bodyArbitrary = fc
  .tuple(
    fc.integer({ min: 1, max: 9 }),
    fc.oneof(fc.nat(40), fc.constantFrom(MAX - 1, MAX, MAX + 1, 2 * MAX, 30_000)),
  )
  .map(([channel, size]) => frame(3, channel, Buffer.from(Array.from({ length: size }, (_, i) => i * 7))));

describe('a receiver with a small frame_max', () => {
  it('gets every body in frames that fit, the same octets in the same order, whatever the cuts', () => {
    fc.assert(
      fc.property(
        fc.array(bodyArbitrary, { maxLength: 5 }),
        fc.oneof(cutsArbitrary, fc.constantFrom(WHOLE, THIRDS)),
        (bodies, cuts) => {
          const stream = Buffer.concat(bodies);
          const got = framesOf(push(makeRelay(), cut(stream, cuts)));
          const sent = framesOf(stream);
          expect(got.every(({ type, payload }) => type === 3 && payload.length <= MAX)).toBe(true);
          for (const channel of new Set(sent.map((one) => one.channel))) {
            const of = (frames: typeof sent): Buffer =>
              Buffer.concat(frames.filter((one) => one.channel === channel).map(({ payload }) => payload));
            expect(of(got).equals(of(sent))).toBe(true);
          }
          const fitting = sent.filter(({ payload }) => payload.length <= MAX);
          expect(got.length).toBe(
            fitting.length +
              sent
                .filter((one) => !fitting.includes(one))
                .reduce((count, { payload }) => count + Math.ceil(payload.length / MAX), 0),
          );
        },
      ),
      { numRuns: 60 },
    );
  });

  it('gets octet by octet what it gets at once', () => {
    const stream = Buffer.concat([frame(3, 1, Buffer.alloc(9000, 5)), frame(8, 0, Buffer.alloc(0))]);
    const whole = push(makeRelay(), [stream]);
    expect(push(makeRelay(), cut(stream, BYTES)).equals(whole)).toBe(true);
    expect(framesOf(whole).map(({ payload }) => payload.length)).toEqual([MAX, MAX, 9000 - 2 * MAX, 0]);
  });

  it.each([
    ['method', method(3, 60, 60, Buffer.alloc(MAX)), 0x003c_003c],
    ['content header', frame(2, 3, Buffer.alloc(MAX + 1)), 0],
  ])(
    'can not get a %s that is larger: that is an error of 501, after what came before',
    (kind, large, at) => {
      const before = frame(3, 1, Buffer.alloc(10));
      for (const cuts of [WHOLE, THIRDS, BYTES]) {
        const relay = makeRelay();
        const got = push(relay, cut(Buffer.concat([before, large]), cuts));
        expect(got.equals(before)).toBe(true);
        expect(relay).toMatchObject({ unsplittable: true, atBoundary: true });
        expect(relay.error).toMatchObject({ replyCode: 501, method: at });
        expect(relay.error?.message).toContain(`a ${kind} of ${large.length - 8} octets doesn't fit`);
        expect(relay.error?.message).toContain('frame_max of 4096');
      }
    },
  );

  it('gets what fits as it was, in one piece with what is around it', () => {
    const stream = Buffer.concat([frame(3, 1, Buffer.alloc(MAX)), method(1, 60, 60, Buffer.alloc(50))]);
    const pieces = makeRelay().push(stream, stream.length);
    expect(pieces).toHaveLength(1);
    expect(Buffer.from(pieces[0]!).equals(stream)).toBe(true);
  });
});
