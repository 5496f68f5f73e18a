import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Cuts,
  BYTES,
  cut,
  cutsArbitrary,
  THIRDS,
  traceArbitrary,
} from '../../support/amqp-arbitraries.ts';
import { frame, method } from '../../support/amqp-frames.ts';
import { amidst, scan } from '../../support/amqp-streams.ts';
import { WireError } from '../../../amqp/error.ts';
import { FrameCutter, type FrameSink } from '../../../amqp/frames.ts';

const FRAME_MAX = 4096;

/** Where chunks begin in the arrays that are pushed. */
const START = 3;

/** A frame as a sink is shown it. */
interface Shown {
  readonly type: number;
  readonly channel: number;
  readonly method: number;
  /** Its octets, copied while it was shown. */
  readonly octets: Buffer;
  /** The array it lay in, and where. */
  readonly array: Uint8Array;
  readonly start: number;
  readonly end: number;
}

class Recorder implements FrameSink {
  readonly shown: Shown[] = [];

  frame(type: number, channel: number, ids: number, array: Uint8Array, start: number, end: number): void {
    const octets = Buffer.from(array.subarray(start, end));
    this.shown.push({ type, channel, method: ids, octets, array, start, end });
  }
}

/** A chunk inside an array of its own, with `garbage` around it. */
function chunkArray(chunk: Uint8Array, garbage: number): Uint8Array {
  const array = amidst(new Uint8Array(START + chunk.length + 12).fill(garbage), garbage);
  array.set(chunk, START);
  return array;
}

/** Pushes chunks as a socket's one buffer has them: each is overwritten as soon as the next comes. */
function push(cutter: FrameCutter, chunks: readonly Uint8Array[], garbage = 0xce): Uint8Array[] {
  return chunks.map((chunk) => {
    const array = chunkArray(chunk, garbage);
    cutter.push(array, START, START + chunk.length);
    array.subarray(START, START + chunk.length).fill(0x55);
    return array;
  });
}

function errorOf(cutter: FrameCutter): unknown {
  const { error } = cutter;
  return error && { code: error.replyCode, method: error.method, text: error.message };
}

const cutsOrBytes = fc.oneof({ weight: 4, arbitrary: cutsArbitrary }, fc.constantFrom<Cuts>(BYTES, THIRDS));

describe('whole frames out of a stream', () => {
  it('are the same wherever it is cut, and lie in their chunk unless its end cuts them', () => {
    fc.assert(
      fc.property(traceArbitrary, cutsOrBytes, fc.nat(255), (trace, cuts, garbage) => {
        const stream = Buffer.concat(trace.map(({ octets }) => octets));
        const sink = new Recorder();
        const cutter = new FrameCutter(FRAME_MAX, sink);
        const chunks = cut(stream, cuts);
        const arrays = push(cutter, chunks, garbage);
        expect(
          sink.shown.map(({ type, channel, method: ids, octets }) => ({
            type,
            channel,
            method: ids,
            octets,
          })),
        ).toEqual(
          trace.map(({ type, channel, method: ids, octets }) => ({ type, channel, method: ids, octets })),
        );
        // where each frame lies: the chunk that has its first octet, if that has its last one too
        const begins = [0];
        for (const chunk of chunks) begins.push(begins.at(-1)! + chunk.length);
        let at = 0;
        for (const { array, start, end, octets } of sink.shown) {
          const first = begins.findLastIndex((begin) => begin <= at);
          const within = at + octets.length <= (begins[first + 1] ?? 0);
          const place = within
            ? { array: arrays[first], start: START + at - begins[first]! }
            : { array, start: 0 };
          expect({ array, start, end }).toEqual({ ...place, end: place.start + octets.length });
          expect(arrays.includes(array)).toBe(within);
          expect(array.length === octets.length || within).toBe(true);
          at += octets.length;
        }
        expect({ frames: cutter.frames, error: cutter.error, atBoundary: cutter.atBoundary }).toEqual({
          frames: trace.length,
          error: undefined,
          atBoundary: true,
        });
      }),
      { numRuns: 400 },
    );
  });

  it('tells a boundary exactly there', () => {
    const cutter = new FrameCutter(FRAME_MAX, new Recorder());
    const stream = Buffer.concat([method(1, 50, 10, Buffer.alloc(3)), frame(3, 1, Buffer.alloc(2))]);
    const seen = Array.from(stream, (_, at) => {
      cutter.push(stream, at, at + 1);
      return cutter.atBoundary;
    });
    expect(seen.flatMap((boundary, at) => (boundary ? [at + 1] : []))).toEqual([15, 25]);
  });

  it('takes a frame of frame_max from a later tune', () => {
    const sink = new Recorder();
    const cutter = new FrameCutter(FRAME_MAX, sink);
    cutter.setFrameMax(8192);
    const large = frame(3, 1, Buffer.alloc(8192));
    push(cutter, [large.subarray(0, 4000), large.subarray(4000)]);
    expect(sink.shown.map(({ octets }) => octets.equals(large))).toEqual([true]);
  });

  it.each([0, -1, NaN])('wants its memory bounded, and not by %s', (frameMax) => {
    expect(() => new FrameCutter(frameMax, new Recorder())).toThrow('frame_max has to be bounded');
    const cutter = new FrameCutter(FRAME_MAX, new Recorder());
    expect(() => cutter.setFrameMax(frameMax)).toThrow('frame_max has to be bounded');
  });
});

describe('a stream that breaks the protocol', () => {
  const bad: readonly (readonly [name: string, octets: Buffer])[] = [
    ['noise', Buffer.from('GET / HTTP/1.1')],
    ['a frame above frame_max', frame(3, 1, Buffer.alloc(FRAME_MAX + 1))],
    ['a wrong end octet', frame(3, 1, Buffer.alloc(30, 0xce), 0x0a)],
    ['content on channel 0', frame(2, 0, Buffer.alloc(14))],
    ['a connection method on a channel', method(1, 10, 40)],
    ['a method without its ids', frame(1, 1, Buffer.alloc(3))],
  ];

  it.each(bad)('with %s ends as the scanner says, and what came before is shown', (_, octets) => {
    const before = [frame(8, 0, Buffer.alloc(0)), method(7, 20, 10, Buffer.of(0))];
    const stream = Buffer.concat([...before, octets, ...before]);
    const { error } = scan([stream], FRAME_MAX);
    expect(error).toBeDefined();
    for (const cuts of [...Array.from({ length: 60 }, (_at, at) => [at]), BYTES.at(stream.length)]) {
      const sink = new Recorder();
      const cutter = new FrameCutter(FRAME_MAX, sink);
      push(cutter, cut(stream, { name: '', at: () => cuts }));
      expect(errorOf(cutter), `cut at ${cuts.join(' ')}`).toEqual(error);
      expect(sink.shown.map((shown) => shown.octets)).toEqual(before);
      push(cutter, before);
      expect(sink.shown).toHaveLength(2);
    }
  });
});

describe('a sink', () => {
  const frames = [1, 2, 3].map((channel) => method(channel, 20, 10, Buffer.of(0)));

  /** Acts when it is shown the frame of channel 2. */
  class Acting extends Recorder {
    act: () => void = () => {};

    override frame(...shown: Parameters<FrameSink['frame']>): void {
      super.frame(...shown);
      if (shown[1] === 2) this.act();
    }
  }

  it.each([[[] as number[]], [[20]], [[5, 14, 29]]])(
    'ends the stream by what it throws, cut at %j',
    (cuts) => {
      const sink = new Acting();
      sink.act = () => {
        throw new WireError(505, 'not now', 7);
      };
      const cutter = new FrameCutter(FRAME_MAX, sink);
      const chunks = cut(Buffer.concat(frames), { name: '', at: () => cuts });
      push(cutter, [...chunks, ...frames]);
      expect(errorOf(cutter)).toEqual({ code: 505, method: 7, text: 'not now' });
      expect(sink.shown.map(({ channel }) => channel)).toEqual([1, 2]);
    },
  );

  it('is not shown anything any more once it has stopped', () => {
    const sink = new Acting();
    const cutter = new FrameCutter(FRAME_MAX, sink);
    sink.act = () => cutter.stop();
    push(cutter, [Buffer.concat(frames), ...frames]);
    expect(sink.shown.map(({ channel }) => channel)).toEqual([1, 2]);
    expect(cutter.error).toBeUndefined();
  });

  it('may change frame_max for the frame behind', () => {
    const sink = new Acting();
    const cutter = new FrameCutter(FRAME_MAX, sink);
    sink.act = () => cutter.setFrameMax(10_000);
    const large = frame(3, 1, Buffer.alloc(9000));
    push(cutter, [Buffer.concat([frames[1]!, large])]);
    expect(sink.shown.map(({ octets }) => octets.length)).toEqual([13, large.length]);
  });

  it('fails as it fails: an error that is none of the protocol goes to the caller', () => {
    const sink = new Acting();
    sink.act = () => {
      throw new TypeError('a bug');
    };
    const cutter = new FrameCutter(FRAME_MAX, sink);
    expect(() => push(cutter, frames)).toThrow('a bug');
    expect(cutter.error).toBeUndefined();
  });
});
