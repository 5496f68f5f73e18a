import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { METHOD } from '../../../amqp/constants.ts';
import { WireError } from '../../../amqp/error.ts';
import { MAX_COLLECTED, Relay, type RelayHandler } from '../../../proxy/relay.ts';
import {
  BYTES,
  clientTraceArbitrary,
  cut,
  type Cuts,
  cutsArbitrary,
  THIRDS,
  traced,
  type TracedFrame,
  WHOLE,
} from '../../support/amqp-arbitraries.ts';
import { frame, method, queueDeclare } from '../../support/amqp-frames.ts';

const QUEUE_DECLARE = 0x0032_000a;
const EXCHANGE_DECLARE = 0x0028_000a;
const CONNECTION_CLASS = 10;

/** What a wanted frame is replaced by: nothing, itself, a shorter and a longer one, by a number in it. */
function replacement(octets: Buffer): Buffer {
  switch (octets.length % 4) {
    case 0:
      return octets;
    case 1:
      return Buffer.concat([octets, Buffer.from('more')]);
    case 2:
      return octets.subarray(0, 3);
    default:
      return Buffer.alloc(octets.length, 0xaa);
  }
}

interface Setup {
  readonly client?: boolean;
  readonly frameMax?: number;
  readonly wants?: (method: number) => boolean;
  readonly frame?: RelayHandler['frame'];
  readonly passes?: RelayHandler['passes'];
}

const wantsDeclares = (method: number): boolean => method === QUEUE_DECLARE || method === EXCHANGE_DECLARE;

function makeRelay({
  client = true,
  frameMax = 0,
  wants = wantsDeclares,
  frame,
  passes = () => !wants(client ? METHOD.basicPublish : METHOD.basicDeliver),
}: Setup = {}): {
  relay: Relay;
  shown: Buffer[];
} {
  const shown: Buffer[] = [];
  const relay = new Relay(frameMax, {
    client,
    wants,
    frame: (octets, id) => {
      shown.push(Buffer.from(octets));
      return frame === undefined ? replacement(Buffer.from(octets)) : frame(octets, id, 1);
    },
    passes,
    passed: () => {},
  });
  return { relay, shown };
}

/**
 * Pushes a chunk as a socket with a buffer of its own does: the buffer is larger than the chunk, and is written over
 * as soon as the pieces have been taken.
 */
function push(relay: Relay, chunk: Uint8Array): Buffer {
  const buffer = new Uint8Array(chunk.length + 13).fill(0xce).subarray(2);
  buffer.set(chunk);
  const passed = Buffer.concat(relay.push(buffer, chunk.length));
  buffer.fill(0xee);
  return passed;
}

/** What the relay must have passed on when it has had the first `length` octets of the stream. */
function passedOn(trace: readonly TracedFrame[], length: number, wants = wantsDeclares): Buffer {
  const passed: Buffer[] = [];
  let start = 0;
  for (const { type, method, octets } of trace) {
    const had = Math.min(octets.length, length - start);
    const wanted = type === 1 && wants(method);
    if (had >= octets.length) passed.push(wanted ? replacement(octets) : octets);
    else if (!wanted && had >= (type === 1 ? 11 : 7)) passed.push(octets.subarray(0, had));
    start += octets.length;
    if (start >= length) break;
  }
  return Buffer.concat(passed);
}

const octetsOf = (trace: readonly TracedFrame[]): Buffer => Buffer.concat(trace.map(({ octets }) => octets));

describe('what a relay passes on', () => {
  const check = (trace: readonly TracedFrame[], cuts: Cuts): void => {
    const { relay, shown } = makeRelay();
    const stream = octetsOf(trace);
    let had = 0;
    let passed = Buffer.alloc(0);
    for (const chunk of cut(stream, cuts)) {
      passed = Buffer.concat([passed, push(relay, chunk)]);
      had += chunk.length;
      // At any time: all but an incomplete header (10 octets at most) and a wanted frame under way.
      expect(passed).toEqual(passedOn(trace, had));
    }
    expect(relay.error).toBeUndefined();
    expect(relay.atBoundary).toBe(true);
    expect(shown).toEqual(
      trace.filter(({ type, method }) => type === 1 && wantsDeclares(method)).map(({ octets }) => octets),
    );
  };

  it.each([WHOLE, BYTES, THIRDS])('is what the model says after each chunk, when they come $name', (cuts) => {
    fc.assert(
      fc.property(clientTraceArbitrary, (trace) => check(trace, cuts)),
      { numRuns: cuts === BYTES ? 25 : 100 },
    );
  });

  it('is what the model says after each chunk, when they are cut anywhere', () => {
    fc.assert(fc.property(clientTraceArbitrary, cutsArbitrary, check), { numRuns: 300 });
  });

  it('is the same octets where nothing is wanted', () => {
    fc.assert(
      fc.property(clientTraceArbitrary, cutsArbitrary, (trace, cuts) => {
        const { relay } = makeRelay({ wants: () => false });
        const stream = octetsOf(trace);
        expect(Buffer.concat(cut(stream, cuts).map((chunk) => push(relay, chunk)))).toEqual(stream);
      }),
      { numRuns: 100 },
    );
  });

  it('is one view of the chunk where nothing is wanted, however many frames there are', () => {
    const { relay } = makeRelay();
    const body = frame(3, 1, Buffer.alloc(50));
    const publish = method(1, 60, 40, Buffer.of(0, 0, 0, 1, 0x71, 0));
    const chunk = Buffer.concat([publish, frame(2, 1, Buffer.alloc(14)), body, body, body.subarray(0, 20)]);
    const pieces = relay.push(chunk, chunk.length);
    expect(pieces).toHaveLength(1);
    expect(pieces[0]!.buffer).toBe(chunk.buffer);
    expect(Buffer.from(pieces[0]!)).toEqual(chunk);
  });

  it('is views of the chunk around a wanted frame, and the frame itself when it comes back unedited', () => {
    let returned: Uint8Array | undefined;
    const { relay } = makeRelay({ frame: (octets) => (returned = octets) });
    const before = method(1, 20, 10);
    const chunk = Buffer.concat([before, queueDeclare({}), before]);
    const pieces = relay.push(chunk, chunk.length);
    expect(pieces.map((piece) => piece.buffer === chunk.buffer)).toEqual([true, false, true]);
    expect(pieces[1]).toBe(returned);
    expect(Buffer.concat(pieces)).toEqual(chunk);
  });

  it('does not wait for the end of an unwanted frame, however large', () => {
    const { relay } = makeRelay({ client: false });
    const body = frame(3, 1, Buffer.alloc(100_000, 1));
    let passed = 0;
    for (let at = 0; at < body.length; at += 999) {
      passed += push(relay, body.subarray(at, at + 999)).length;
      expect(passed).toBe(Math.min(at + 999, body.length));
    }
  });
});

describe('the boundary that a relay tells', () => {
  it('is there when what was passed on ends with a whole frame', () => {
    fc.assert(
      fc.property(clientTraceArbitrary, cutsArbitrary, (trace, cuts) => {
        const { relay } = makeRelay();
        const ends = new Set([0]);
        for (let end = 0, i = 0; i < trace.length; i++) ends.add((end += trace[i]!.octets.length));
        let had = 0;
        for (const chunk of cut(octetsOf(trace), cuts)) {
          push(relay, chunk);
          had += chunk.length;
          const complete = [...ends].findLast((end) => end <= had)!;
          const whole = passedOn(trace, had).equals(passedOn(trace, complete));
          expect(relay.atBoundary, `after ${had} octets`).toBe(whole);
        }
      }),
      { numRuns: 150 },
    );
  });
});

describe('a relay that is told to stop', () => {
  it('passes on the frame under way to its end, and nothing behind it', () => {
    fc.assert(
      fc.property(clientTraceArbitrary, cutsArbitrary, fc.nat(12), (trace, cuts, when) => {
        const { relay } = makeRelay();
        const stream = octetsOf(trace);
        let had = 0;
        let stoppedAt = 0;
        let toldAtOnce = false;
        let passed = Buffer.alloc(0);
        let i = 0;
        for (const chunk of cut(stream, cuts)) {
          if (i++ === when) {
            relay.stopping = true;
            stoppedAt = had;
            toldAtOnce = relay.stopped === relay.atBoundary;
          }
          passed = Buffer.concat([passed, push(relay, chunk)]);
          had += chunk.length;
        }
        fc.pre(relay.stopping);
        expect(toldAtOnce).toBe(true);
        expect(relay.stopped).toBe(true);
        expect(push(relay, method(1, 20, 10))).toHaveLength(0);
        const ends = [0];
        for (const { octets } of trace) ends.push(ends.at(-1)! + octets.length);
        const complete = passedOn(
          trace,
          ends.findLast((end) => end <= stoppedAt)!,
        );
        const begun = passedOn(trace, stoppedAt).length > complete.length;
        const expected = begun
          ? passedOn(
              trace,
              ends.find((end) => end > stoppedAt)!,
            )
          : complete;
        expect(passed).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });

  it('by its handler stops behind that frame', () => {
    const { relay } = makeRelay({
      frame: (octets) => {
        relay.stopping = true;
        return octets;
      },
    });
    const before = method(1, 20, 10);
    const declare = queueDeclare({});
    expect(push(relay, Buffer.concat([before, declare, before]))).toEqual(Buffer.concat([before, declare]));
    expect(relay.stopped).toBe(true);
  });
});

describe('an error', () => {
  /** A frame that can't be, by what it breaks. */
  const faults: readonly [string, Buffer, number][] = [
    ['an unknown type', frame(9, 0, Buffer.alloc(3)), 501],
    ['a wrong end octet', method(2, 20, 40, Buffer.alloc(30)).fill(0, 41), 501],
    ['a wrong end octet of a wanted method', queueDeclare({ name: 'n'.repeat(20) }).fill(0, 39), 501],
    ['a heartbeat with a payload', frame(8, 0, Buffer.alloc(2)), 501],
    ['content on channel 0', frame(3, 0, Buffer.alloc(2)), 504],
    ['a connection method on a channel', method(5, CONNECTION_CLASS, 50), 503],
    ['a body without a header', frame(3, 77, Buffer.alloc(2)), 505],
    ['a header without a publish', frame(2, 77, Buffer.alloc(14)), 505],
  ];

  it.each(faults)(
    'for %s leaves whole frames only, wherever it is cut, or what had to go on before it showed',
    (_name, fault, code) => {
      fc.assert(
        fc.property(clientTraceArbitrary, cutsArbitrary, (trace, cuts) => {
          const good = octetsOf(trace);
          const { relay } = makeRelay();
          const passed: Buffer[] = [];
          for (const chunk of cut(Buffer.concat([good, fault]), cuts)) passed.push(push(relay, chunk));
          expect(relay.error?.replyCode).toBe(code);
          expect(relay.stopped).toBe(true);
          expect(push(relay, method(1, 20, 10))).toHaveLength(0);
          const all = Buffer.concat(passed);
          const frames = passedOn(trace, good.length);
          expect(all.subarray(0, frames.length)).toEqual(frames);
          const more = all.subarray(frames.length);
          expect(relay.atBoundary).toBe(more.length === 0);
          expect(more).toEqual(fault.subarray(0, more.length));
          expect(more.length).toBeLessThan(fault.length);
        }),
        { numRuns: 100 },
      );
    },
  );

  it('in a frame whose header came in two chunks leaves nothing of that frame', () => {
    const bad = method(1, 20, 40, Buffer.alloc(5)).fill(0, 16);
    for (let at = 1; at <= 10; at++) {
      const { relay } = makeRelay();
      expect(push(relay, bad.subarray(0, at))).toHaveLength(0);
      expect(push(relay, bad.subarray(at)), `cut at ${at}`).toHaveLength(0);
      expect(relay.error?.replyCode).toBe(501);
      expect(relay.atBoundary).toBe(true);
    }
  });

  it("of the handler's is the relay's with the method at fault, and that frame is not passed on", () => {
    const { relay } = makeRelay({
      frame: () => {
        throw new WireError(502, 'malformed');
      },
    });
    const before = method(1, 20, 10);
    expect(push(relay, Buffer.concat([before, queueDeclare({}), before]))).toEqual(before);
    expect(relay.error).toMatchObject({ replyCode: 502, message: 'malformed', method: QUEUE_DECLARE });
    expect(relay.stopped).toBe(true);
  });

  it("of the handler's that is no WireError is thrown", () => {
    const { relay } = makeRelay({
      frame: () => {
        throw new TypeError('a fault of the program');
      },
    });
    expect(() => push(relay, queueDeclare({}))).toThrow(new TypeError('a fault of the program'));
  });
});

describe('content out of order', () => {
  it('is refused from a client with the method at fault, and taken from a broker', () => {
    const stream = Buffer.concat([method(1, 60, 40), method(1, 20, 40)]);
    const { relay } = makeRelay();
    expect(push(relay, stream)).toEqual(method(1, 60, 40));
    expect(relay.error).toMatchObject({ replyCode: 505, method: 0x0014_0028 });
    const fromBroker = makeRelay({ client: false }).relay;
    expect(push(fromBroker, stream)).toEqual(stream);
  });
});

describe('a method frame that is wanted', () => {
  const declareOf = (octets: number): Buffer => method(1, 50, 10, Buffer.alloc(octets - 12));

  it('is collected up to the bound, whatever frame_max says', () => {
    const { relay, shown } = makeRelay({ frame: (octets) => octets });
    const declare = declareOf(MAX_COLLECTED);
    expect(push(relay, declare.subarray(0, 700_000))).toHaveLength(0);
    expect(push(relay, declare.subarray(700_000)).equals(declare)).toBe(true);
    expect(shown).toHaveLength(1);
  });

  it('of one octet more is refused with 501 by its header, before it is collected', () => {
    const { relay, shown } = makeRelay();
    const before = method(1, 20, 10);
    const head = declareOf(MAX_COLLECTED + 1).subarray(0, 11);
    expect(push(relay, Buffer.concat([before, head]))).toEqual(before);
    expect(relay.error).toMatchObject({
      replyCode: 501,
      method: QUEUE_DECLARE,
      message: 'frame of 1048577 octets exceeds 1048576',
    });
    expect(relay.atBoundary).toBe(true);
    expect(shown).toEqual([]);
  });

  it('does not bound others', () => {
    const { relay } = makeRelay({ wants: () => false });
    const declare = declareOf(MAX_COLLECTED + 1);
    expect(push(relay, declare).equals(declare)).toBe(true);
  });

  it('is asked for by its method, and only where there is one', () => {
    const asked: number[] = [];
    const { relay } = makeRelay({ wants: (id) => asked.push(id) === 0 });
    const trace = [queueDeclare({}), frame(8, 0, Buffer.alloc(0)), method(0, 10, 51), method(3, 40, 10)];
    expect(push(relay, Buffer.concat(trace))).toEqual(Buffer.concat(trace));
    expect(asked).toEqual([QUEUE_DECLARE, 0x000a_0033, EXCHANGE_DECLARE]);
    expect(trace.map(traced).map((one) => one.method)).toContain(EXCHANGE_DECLARE);
  });
});
