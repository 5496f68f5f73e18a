import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BYTES,
  cut,
  cutsArbitrary,
  THIRDS,
  traceArbitrary,
  traced,
  type TracedFrame,
  WHOLE,
} from '../../support/amqp-arbitraries.ts';
import { frame, method } from '../../support/amqp-frames.ts';
import { describeEvent, scan } from '../../support/amqp-streams.ts';
import { FrameScanner, SCAN } from '../../../amqp/scan.ts';

const FRAME_MAX = 4096;

function streamOf(trace: readonly TracedFrame[]): Buffer {
  return Buffer.concat(trace.map(({ octets }) => octets));
}

/** What a scanner must say of valid frames. */
function expectedEvents(trace: readonly TracedFrame[]): string[] {
  let start = 0;
  return trace.flatMap((one) => {
    const header = describeEvent('header', one, start + (one.type === 1 ? 11 : 7));
    start += one.octets.length;
    return [header, describeEvent('end', one, start)];
  });
}

describe('a trace of valid frames', () => {
  const whole = { error: undefined, toldAt: undefined, atBoundary: true };

  it.each([WHOLE, BYTES, THIRDS])('gives its events when it comes $name', (cuts) => {
    fc.assert(
      fc.property(traceArbitrary, (trace) => {
        expect(scan(cut(streamOf(trace), cuts), FRAME_MAX)).toEqual({
          ...whole,
          events: expectedEvents(trace),
          frames: trace.length,
        });
      }),
      { numRuns: 150 },
    );
  });

  it('gives its events when it is cut anywhere, whatever lies around the chunks', () => {
    fc.assert(
      fc.property(traceArbitrary, cutsArbitrary, fc.nat(255), (trace, cuts, garbage) => {
        expect(scan(cut(streamOf(trace), cuts), FRAME_MAX, garbage)).toEqual({
          ...whole,
          events: expectedEvents(trace),
          frames: trace.length,
        });
      }),
      { numRuns: 300 },
    );
  });

  it('gives its events when it is cut in two at each position', () => {
    const trace = [
      method(1, 60, 40, Buffer.from('publish')),
      frame(2, 1, Buffer.alloc(14, 0xce)),
      frame(3, 1, Buffer.alloc(0)),
      frame(3, 0xffff, Buffer.from([1, 0xce, 1])),
      frame(8, 0, Buffer.alloc(0)),
      method(0, 10, 51),
    ].map(traced);
    const stream = streamOf(trace);
    for (let at = 0; at <= stream.length; at++) {
      const { events } = scan([stream.subarray(0, at), stream.subarray(at)], FRAME_MAX);
      expect(events, `cut at ${at}`).toEqual(expectedEvents(trace));
    }
  });
});

describe('the boundary between frames', () => {
  it('is told exactly there, and held octets are those of an incomplete header', () => {
    const scanner = new FrameScanner(0);
    const stream = Buffer.concat([method(1, 50, 10, Buffer.alloc(3)), frame(3, 1, Buffer.alloc(2))]);
    const seen: string[] = [];
    for (let at = 0; at < stream.length; at++) {
      seen.push(`${scanner.atBoundary ? '|' : '.'}${scanner.heldBack}`);
      scanner.start(at);
      while (scanner.next(stream, at + 1) !== SCAN.more);
    }
    const headers = [1, 2, 3, 4, 5, 6].map((held) => `.${held}`);
    const payload = (length: number): string[] => Array<string>(length).fill('.0');
    expect(seen).toEqual([
      '|0',
      ...headers,
      '.7',
      '.8',
      '.9',
      '.10',
      ...payload(4),
      '|0',
      ...headers,
      ...payload(3),
    ]);
    expect(scanner.atBoundary).toBe(true);
  });
});

interface Bad {
  readonly name: string;
  readonly octets: Buffer;
  readonly code: number;
  readonly text: string;
  readonly frameMax?: number;
  readonly method?: number;
  /** Octets after which it can be known. */
  readonly known: number;
}

/** A frame's header and nothing else, with any size. */
function head(type: number, channel: number, size: number): Buffer {
  const octets = Buffer.alloc(7);
  octets.writeUInt8(type);
  octets.writeUInt16BE(channel, 1);
  octets.writeUInt32BE(size, 3);
  return octets;
}

const bounds: readonly Bad[] = [
  {
    name: 'a body of one octet more than frame_max',
    octets: frame(3, 1, Buffer.alloc(4097)),
    code: 501,
    text: 'frame of 4105 octets exceeds frame_max 4096',
    known: 7,
  },
  {
    name: 'a method frame whose payload is one octet more than frame_max',
    octets: method(1, 50, 10, Buffer.alloc(4093)),
    code: 501,
    text: 'frame of 4105 octets exceeds frame_max 4096',
    known: 7,
  },
  {
    name: 'a size of 4 GiB',
    octets: head(2, 1, 0xffff_ffff),
    code: 501,
    text: 'frame of 4294967303 octets exceeds frame_max 4096',
    known: 7,
  },
  ...[0, 1, 3].map((size) => ({
    name: `a method frame of ${size} octets`,
    octets: frame(1, 1, Buffer.alloc(size)),
    code: 501,
    text: `method frame with a payload of ${size} octets`,
    frameMax: 0,
    known: 7,
  })),
  {
    name: 'a heartbeat with a payload',
    octets: frame(8, 0, Buffer.alloc(1)),
    code: 501,
    text: 'heartbeat frame on channel 0 with 1 octets',
    known: 7,
  },
  {
    name: 'a heartbeat on a channel',
    octets: frame(8, 256, Buffer.alloc(0)),
    code: 501,
    text: 'heartbeat frame on channel 256 with 0 octets',
    known: 7,
  },
  {
    name: 'a content header on channel 0',
    octets: frame(2, 0, Buffer.alloc(14)),
    code: 504,
    text: 'content frame on channel 0',
    known: 7,
  },
  {
    name: 'a content body on channel 0',
    octets: frame(3, 0, Buffer.alloc(1)),
    code: 504,
    text: 'content frame on channel 0',
    known: 7,
  },
  {
    name: 'a connection method on a channel',
    octets: method(1, 10, 40),
    code: 503,
    text: 'method 10.40 on channel 1',
    method: 0x000a_0028,
    known: 11,
  },
  {
    name: 'a channel method on channel 0',
    octets: method(0, 50, 10, Buffer.alloc(9)),
    code: 503,
    text: 'method 50.10 on channel 0',
    method: 0x0032_000a,
    known: 11,
  },
  {
    name: 'a wrong end octet',
    octets: frame(3, 1, Buffer.alloc(3, 0xce), 0x0a),
    code: 501,
    text: 'frame end octet is 0x0a and not 0xce',
    known: 11,
  },
  {
    name: 'a wrong end octet of a method frame',
    octets: method(1, 50, 10, Buffer.alloc(3, 0xce)).fill(0xcd, 14),
    code: 501,
    text: 'frame end octet is 0xcd and not 0xce',
    method: 0x0032_000a,
    known: 15,
  },
  {
    name: 'an unknown type with a size of 4 GiB',
    octets: Buffer.concat([head(0x16, 1, 0xffff_ffff), Buffer.alloc(9)]),
    code: 501,
    text: 'unknown frame type 22',
    known: 1,
  },
  ...[0, 4, 7, 9, 0x41, 255].map((type) => ({
    name: `frame type ${type}`,
    octets: frame(type, 0, Buffer.alloc(0)),
    code: 501,
    text: `unknown frame type ${type}`,
    known: 1,
  })),
];

describe('a frame that breaks a rule', () => {
  it.each(bounds)('$name is corrupt with $code, wherever it is cut and as soon as it can be known', (bad) => {
    const before = Buffer.concat([frame(8, 0, Buffer.alloc(0)), method(7, 20, 10)]);
    const stream = Buffer.concat([before, bad.octets]);
    const frameMax = bad.frameMax ?? FRAME_MAX;
    const error = { code: bad.code, method: bad.method ?? 0, text: bad.text };
    const whole = scan([stream], frameMax);
    expect(whole).toMatchObject({ error, frames: 2 });
    for (let at = 0; at <= stream.length; at++) {
      const { events, error: told } = scan([stream.subarray(0, at), stream.subarray(at)], frameMax);
      expect(told, `cut at ${at}`).toEqual(error);
      expect(events, `cut at ${at}`).toEqual(whole.events);
    }
    expect(scan(cut(stream, BYTES), frameMax)).toMatchObject({ error, toldAt: before.length + bad.known });
  });

  it('stays corrupt', () => {
    const scanner = new FrameScanner(0);
    const good = frame(8, 0, Buffer.alloc(0));
    scanner.start(0);
    expect(scanner.next(Uint8Array.of(9), 1)).toBe(SCAN.corrupt);
    const { error } = scanner;
    scanner.start(0);
    expect(scanner.next(good, good.length)).toBe(SCAN.corrupt);
    expect(scanner.error).toBe(error);
  });
});

describe('frame_max', () => {
  const body = (size: number): Buffer => frame(3, 1, Buffer.alloc(size));

  it('allows a payload of just that many octets, as brokers do', () => {
    expect(scan([body(4096)], 4096)).toMatchObject({ error: undefined, frames: 1 });
  });

  it('of 0 is no limit', () => {
    expect(scan([body(200_000)], 0)).toMatchObject({ error: undefined, frames: 1 });
    const { error, events } = scan([head(3, 1, 0xffff_ffff)], 0);
    expect(error).toBeUndefined();
    expect(events).toEqual(['header of type 3 on 1, 4294967295 octets, method 0, @7']);
  });

  it('when it is set anew holds from the next frame on', () => {
    const scanner = new FrameScanner(0);
    const stream = body(5000);
    scanner.start(0);
    expect(scanner.next(stream, 100)).toBe(SCAN.header);
    scanner.setFrameMax(4096);
    expect(scanner.next(stream, stream.length)).toBe(SCAN.end);
    scanner.start(0);
    expect(scanner.next(stream, stream.length)).toBe(SCAN.corrupt);
  });
});

/** Streams that begin well and then aren't AMQP any more: one octet changed, or noise. */
const brokenArbitrary = fc
  .tuple(traceArbitrary, fc.nat(), fc.nat(255), fc.uint8Array({ maxLength: 40 }), fc.boolean())
  .map(([trace, place, octet, noise, change]) => {
    const stream = Buffer.concat([...trace.map(({ octets }) => octets), noise]);
    if (change && stream.length > 0) stream[place % stream.length] = octet;
    return stream;
  });

describe('octets that may be anything', () => {
  it('give the same events and the same error under all cuts', () => {
    fc.assert(
      fc.property(brokenArbitrary, cutsArbitrary, fc.constantFrom(0, 64, FRAME_MAX), (stream, cuts, max) => {
        const whole = { ...scan([stream], max), toldAt: undefined };
        for (const how of [BYTES, THIRDS, cuts]) {
          const scanned = { ...scan(cut(stream, how), max), toldAt: undefined };
          expect(scanned, `cut ${how.name}`).toEqual(whole);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('throw nothing, are never read outside, and are told corrupt by a known code', () => {
    fc.assert(
      fc.property(brokenArbitrary, cutsArbitrary, fc.nat(255), fc.nat(255), (stream, cuts, one, other) => {
        const chunks = cut(stream, cuts);
        const scanned = scan(chunks, FRAME_MAX, one);
        expect(scan(chunks, FRAME_MAX, other)).toEqual(scanned);
        expect([undefined, 501, 503, 504]).toContain(scanned.error?.code);
      }),
      { numRuns: 300 },
    );
  });
});
