import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { METHOD } from '../../../amqp/constants.ts';
import { MessageRun } from '../../../amqp/message-run.ts';
import { FrameTally } from '../../../amqp/tally.ts';
import type { Link } from '../../../proxy/link.ts';
import { relayToLink } from '../../../proxy/offer.ts';
import { Relay } from '../../../proxy/relay.ts';
import { clientTraceArbitrary, cut, cutsArbitrary } from '../../support/amqp-arbitraries.ts';
import { frame, method } from '../../support/amqp-frames.ts';

const PUBLISH = method(1, 60, 40, Buffer.of(0, 0, 0, 1, 0x71, 0));
const DELIVER = method(1, 60, 60, Buffer.alloc(20));

function header(channel: number, size: number): Buffer {
  const payload = Buffer.alloc(14);
  payload[1] = 60;
  payload.writeUInt32BE(size, 8);
  return frame(2, channel, payload);
}

const MESSAGE = Buffer.concat([PUBLISH, header(1, 3), frame(3, 1, Buffer.from('abc'))]);

/** A relay, what it has been asked, and what it was told of messages. */
function makeRelay(passes: boolean, client = true, frameMax = 0) {
  const asked: number[] = [];
  const told: [channel: number, messages: number][] = [];
  const tally = new FrameTally();
  const handler = {
    client,
    wants: (id: number) => {
      asked.push(id);
      return false;
    },
    frame: (octets: Uint8Array) => octets,
    passes: () => passes,
    passed: (channel: number, messages: number) => {
      told.push([channel, messages]);
    },
  };
  return { relay: new Relay(frameMax, handler, tally), asked, told, tally };
}

/** All that can be seen of a relay that has taken these chunks. */
function result({ relay, tally }: ReturnType<typeof makeRelay>, chunks: readonly Uint8Array[]): object {
  const out: Buffer[] = [];
  for (const chunk of chunks) {
    out.push(Buffer.concat(relay.push(chunk, chunk.length)));
    if (relay.error !== undefined) break;
  }
  const { error, atBoundary, scanner } = relay;
  return { out, error, atBoundary, frames: scanner.frames, tally };
}

/** A link that takes some of what it is offered, and what it was given for each chunk. */
function makeTaker(takes: readonly boolean[]) {
  const out: Buffer[] = [];
  const seen = { taken: 0, corks: 0 };
  const run = new MessageRun(METHOD.basicPublish);
  const link: Pick<Link, 'write' | 'take' | 'cork' | 'uncork'> = {
    write: (pieces) => out.push(...pieces.map((piece) => Buffer.from(piece))),
    take: (octets, start, end, maxPayload) => {
      expect(seen.corks).toBe(1);
      if (takes[seen.taken++ % takes.length] === false || !run.find(octets, start, end, maxPayload))
        return undefined;
      out.push(Buffer.from(octets.subarray(start, run.end)));
      // What is taken is the link's: it may change it, as the pool does with channel numbers.
      octets.fill(0xff, start, run.end);
      return run;
    },
    cork: () => seen.corks++,
    uncork: () => seen.corks--,
  };
  return { link: link as Link, out, seen };
}

/** The same with a link that takes messages by itself. */
function resultOfOffers(
  { relay, tally }: ReturnType<typeof makeRelay>,
  chunks: readonly Uint8Array[],
  takes: readonly boolean[],
): object {
  const { link, out, seen } = makeTaker(takes);
  const each: Buffer[] = [];
  for (const chunk of chunks) {
    const octets = Buffer.from(chunk);
    link.write(relayToLink(relay, link, octets, octets.length, true), true);
    each.push(Buffer.concat(out.splice(0)));
    expect(seen.corks).toBe(0);
    if (relay.error !== undefined) break;
  }
  const { error, atBoundary, scanner } = relay;
  return { out: each, error, atBoundary, frames: scanner.frames, tally };
}

describe('messages that nobody wants to see', () => {
  it('are passed on in runs just as frame by frame, whatever is wrong with them and wherever they are cut', () => {
    const fault = fc.option(fc.record({ at: fc.nat(), octet: fc.nat(255) }), { nil: undefined });
    fc.assert(
      fc.property(
        fc.array(fc.oneof(clientTraceArbitrary, fc.constant([{ octets: MESSAGE }])), { maxLength: 4 }),
        cutsArbitrary,
        fault,
        fc.constantFrom(0, 60, 131_072),
        (traces, cuts, broken, frameMax) => {
          const stream = Buffer.concat(traces.flat().map(({ octets }) => octets));
          if (broken !== undefined && stream.length > 0) stream[broken.at % stream.length] = broken.octet;
          const chunks = cut(stream, cuts);
          const inRuns = result(makeRelay(true, true, frameMax), chunks);
          expect(inRuns).toEqual(result(makeRelay(false, true, frameMax), chunks));
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('are the same where a link takes runs of them by itself, or some of them', () => {
    const fault = fc.option(fc.record({ at: fc.nat(), octet: fc.nat(255) }), { nil: undefined });
    const runs = fc.constant([{ octets: Buffer.concat([MESSAGE, MESSAGE]) }]);
    fc.assert(
      fc.property(
        fc.array(fc.oneof(clientTraceArbitrary, runs), { maxLength: 4 }),
        cutsArbitrary,
        fault,
        fc.constantFrom(0, 60, 131_072),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 4 }),
        (traces, cuts, broken, frameMax, takes) => {
          const stream = Buffer.concat(traces.flat().map(({ octets }) => octets));
          if (broken !== undefined && stream.length > 0) stream[broken.at % stream.length] = broken.octet;
          const chunks = cut(stream, cuts);
          const offered = resultOfOffers(makeRelay(true, true, frameMax), chunks, takes);
          expect(offered).toEqual(result(makeRelay(false, true, frameMax), chunks));
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('are offered at most once in a chunk to a link that takes none, and again in the next', () => {
    const { relay, told } = makeRelay(true);
    const { link, seen } = makeTaker([false]);
    const chunk = Buffer.concat([MESSAGE, frame(8, 0, Buffer.alloc(0)), MESSAGE]);
    for (const once of [1, 2]) {
      relayToLink(relay, link, chunk, chunk.length, false);
      expect([seen.taken, told]).toEqual([once, Array.from({ length: 2 * once }, () => [1, 1])]);
    }
  });

  it.for([
    ['a client', true, PUBLISH],
    ['a broker', false, DELIVER],
  ] as const)('of %s are counted without being asked for', ([, client, start]) => {
    const made = makeRelay(true, client);
    const message = Buffer.concat([start, header(1, 3), frame(3, 1, Buffer.from('abc'))]);
    const chunk = Buffer.concat([message, message, message.subarray(0, 10)]);
    result(made, [chunk]);
    expect(made.told).toEqual([[1, 2]]);
    expect(made.asked).toEqual([]);
    expect(made.tally).toMatchObject({ methods: 2, headers: 2, bodies: 2, heartbeats: 0 });
  });

  it('end where a frame follows that is of another kind, another channel or larger than is agreed', () => {
    const made = makeRelay(true, true, 100);
    const other = Buffer.concat([
      method(2, 60, 40, Buffer.of(0, 0, 0, 1, 0x71, 0)),
      header(2, 3),
      frame(3, 2, Buffer.from('abc')),
    ]);
    const large = Buffer.concat([PUBLISH, header(1, 101), frame(3, 1, Buffer.alloc(101))]);
    const chunk = Buffer.concat([MESSAGE, MESSAGE, other, frame(8, 0, Buffer.alloc(0)), MESSAGE, large]);
    result(made, [chunk]);
    expect(made.told).toEqual([
      [1, 2],
      [2, 1],
      [1, 2],
    ]);
    expect(made.relay.error?.message).toBe('frame of 109 octets exceeds frame_max 100');
  });

  it('are shown one by one as long as they may not pass', () => {
    const made = makeRelay(false);
    result(made, [Buffer.concat([MESSAGE, MESSAGE])]);
    expect(made.asked).toEqual([0x3c_0028, 0x3c_0028]);
    expect(made.told).toEqual([]);
  });
});
