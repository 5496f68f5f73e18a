import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameTally } from '../../../amqp/tally.ts';
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
