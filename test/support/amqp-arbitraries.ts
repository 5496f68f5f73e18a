import * as fc from 'fast-check';
import { type Entry, type Field, frame, method } from './amqp-frames.ts';

/** Random AMQP for property tests: values of all tags, tables, traces of frames, and cuts of a stream. */

const int = (min: number, max: number): fc.Arbitrary<number> => fc.integer({ min, max });
const octets = (maxLength: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const octet = int(0, 255);
const uint16 = int(0, 0xffff);
const uint32 = int(0, 0xffffffff);
const uint64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
const int64 = fc.bigInt({ min: -0x8000_0000_0000_0000n, max: 0x7fff_ffff_ffff_ffffn });

/** Keys: mostly few, so that some come twice, and some that are no UTF-8. */
const keyArbitrary: fc.Arbitrary<Buffer> = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom('a', 'b', 'x-expires', '').map((key) => Buffer.from(key)) },
  { weight: 1, arbitrary: octets(12) },
);

const { field } = fc.letrec<{ field: Field; entry: Entry }>((tie) => ({
  field: fc.oneof(
    { maxDepth: 3, depthSize: 'small' },
    fc.record({ tag: fc.constantFrom('t', 'B'), value: octet }),
    fc.record({ tag: fc.constant('b'), value: int(-128, 127) }),
    fc.record({ tag: fc.constant('s'), value: int(-0x8000, 0x7fff) }),
    fc.record({ tag: fc.constant('u'), value: uint16 }),
    fc.record({ tag: fc.constant('I'), value: int(-0x80000000, 0x7fffffff) }),
    fc.record({ tag: fc.constant('i'), value: uint32 }),
    fc.record({ tag: fc.constant('l'), value: int64 }),
    fc.record({ tag: fc.constantFrom('L', 'T'), value: uint64 }),
    fc.record({ tag: fc.constant('f'), value: fc.float({ noNaN: true }) }),
    fc.record({ tag: fc.constant('d'), value: fc.double({ noNaN: true }) }),
    fc.record({ tag: fc.constant('D'), scale: octet, value: uint32 }),
    fc.record({ tag: fc.constantFrom('S', 'x'), value: octets(20) }),
    fc.record({ tag: fc.constant('V') }),
    fc.record({ tag: fc.constant('A'), value: fc.array(tie('field'), { maxLength: 4 }) }),
    fc.record({ tag: fc.constant('F'), value: fc.array(tie('entry'), { maxLength: 4 }) }),
  ),
  entry: fc.record({ key: keyArbitrary, field: tie('field') }),
}));

/** A value of any of the tags. */
export const fieldArbitrary: fc.Arbitrary<Field> = field;

/** A table's entries. */
export const entriesArbitrary: fc.Arbitrary<Entry[]> = fc.array(
  fc.record({ key: keyArbitrary, field: fieldArbitrary }),
  { maxLength: 8 },
);

/** A frame as a scanner should see it, with its octets. */
export interface TracedFrame {
  readonly type: number;
  readonly channel: number;
  readonly size: number;
  /** class * 65536 + method, 0 for frames that aren't methods. */
  readonly method: number;
  readonly octets: Buffer;
}

/** What is known of a frame written by `frame` or `method`. */
export function traced(written: Buffer): TracedFrame {
  const type = written.readUInt8(0);
  return {
    type,
    channel: written.readUInt16BE(1),
    size: written.readUInt32BE(3),
    method: type === 1 ? written.readUInt32BE(7) : 0,
    octets: written,
  };
}

const payload = fc.oneof(
  { weight: 4, arbitrary: octets(20) },
  { weight: 1, arbitrary: int(100, 700).map((length) => Buffer.alloc(length, length)) },
);
const channelAbove0 = fc.oneof(int(1, 3), int(1, 0xffff));
const classNotConnection = fc
  .oneof(fc.constantFrom(20, 40, 50, 60, 85, 90), uint16)
  .filter((id) => id !== 10);

const methodFrame = fc
  .tuple(channelAbove0, classNotConnection, int(0, 120), payload)
  .map((parts) => method(...parts));
const connectionFrame = fc.tuple(int(10, 70), payload).map(([id, args]) => method(0, 10, id, args));
const heartbeat = fc.constant(frame(8, 0, Buffer.alloc(0)));

/** Valid frames in any order. */
export const traceArbitrary: fc.Arbitrary<TracedFrame[]> = fc.array(
  fc
    .oneof(
      methodFrame,
      connectionFrame,
      heartbeat,
      fc.tuple(fc.constantFrom(2, 3), channelAbove0, payload).map((parts) => frame(...parts)),
    )
    .map(traced),
  { maxLength: 12 },
);

/** basic.publish with its content on a channel. */
function publication(channel: number, body: readonly Buffer[]): Buffer[] {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60);
  header.writeBigUInt64BE(BigInt(body.reduce((sum, part) => sum + part.length, 0)), 4);
  return [
    method(channel, 60, 40, Buffer.of(0, 0, 0, 1, 0x71, 0)),
    frame(2, channel, header),
    ...body.map((part) => frame(3, channel, part)),
  ];
}

function channelTrace(channel: number): fc.Arbitrary<Buffer[]> {
  const call = fc
    .tuple(fc.constantFrom<[number, number]>([50, 10], [40, 10], [60, 20], [20, 10]), payload)
    .map(([ids, args]) => [method(channel, ...ids, args)]);
  const content = fc.array(payload, { maxLength: 3 }).map((body) => publication(channel, body));
  return fc.array(fc.oneof(call, content), { maxLength: 4 }).map((parts) => parts.flat());
}

/** What a client may send: content in order on each of three channels, the channels interleaved frame by frame. */
export const clientTraceArbitrary: fc.Arbitrary<TracedFrame[]> = fc
  .tuple(
    channelTrace(1),
    channelTrace(2),
    channelTrace(40_000),
    fc.array(fc.oneof(connectionFrame, heartbeat), { maxLength: 2 }),
    fc.infiniteStream(int(0, 3)),
  )
  .map(([one, two, three, others, picks]) => {
    const queues = [one, two, three, others].map((queue) => [...queue]);
    const trace: TracedFrame[] = [];
    while (queues.some((queue) => queue.length > 0)) {
      const next = queues[picks.next().value]!.shift();
      if (next !== undefined) trace.push(traced(next));
    }
    return trace;
  });

/** How a stream is cut into chunks: from its length to the positions between them, ascending. */
export interface Cuts {
  readonly name: string;
  at(length: number): number[];
}

export const WHOLE: Cuts = { name: 'whole', at: () => [] };
export const BYTES: Cuts = {
  name: 'byte by byte',
  at: (length) => Array.from({ length: Math.max(0, length - 1) }, (_, i) => i + 1),
};
export const THIRDS: Cuts = {
  name: 'in thirds',
  at: (length) => [Math.floor(length / 3), Math.floor((2 * length) / 3)],
};

/** Cuts at random, at the same position twice (an empty chunk) among others. */
export const cutsArbitrary: fc.Arbitrary<Cuts> = fc.array(fc.nat(10_000), { maxLength: 12 }).map((parts) => ({
  name: `at ${parts.join(' ')} of 10000`,
  at: (length) =>
    parts.map((part) => Math.floor((part * (length + 1)) / 10_001)).sort((one, other) => one - other),
}));

/** The chunks of a stream. */
export function cut(stream: Uint8Array, cuts: Cuts): Uint8Array[] {
  const positions = [0, ...cuts.at(stream.length), stream.length];
  return positions.slice(1).map((end, i) => stream.subarray(positions[i], end));
}
