import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { METHOD } from '../../../../amqp/constants.ts';
import { WholePublishes } from '../../../../proxy/pool/whole-publishes.ts';
import { frame, method, shortstr } from '../../../support/amqp-frames.ts';

const CHANNEL = 7;
const UPSTREAM = 0x0102;
const MAX_MESSAGE_SIZE = 500;
const MAX_PAYLOAD = 300;

/** What may be wrong with a message; each of them ends a run. */
const FAULTS = [
  'another channel',
  'another channel in the header',
  'another channel in a body',
  'another method',
  'no header',
  'immediate',
  'names cut off',
  'octets behind the bits',
  'another class',
  'a weight',
  'a body of 4 GiB',
  'a body too long',
  'a body too short',
  'a body without octets',
  'properties cut off',
  'no end octet',
  'a payload above the largest',
  'a message above the largest',
  'cut off',
] as const;

type Fault = (typeof FAULTS)[number];

interface Message {
  readonly exchange: string;
  readonly key: string;
  readonly mandatory: boolean;
  readonly bodies: readonly number[];
  /** Octets of a message id; undefined: no property at all. */
  readonly id: number | undefined;
}

function contentHeader(channel: number, size: number, { id }: Message, fault?: Fault): Buffer {
  const start = Buffer.alloc(14);
  start.writeUInt16BE(fault === 'another class' ? 61 : 60);
  start.writeUInt16BE(fault === 'a weight' ? 1 : 0, 2);
  start.writeUInt32BE(fault === 'a body of 4 GiB' ? 1 : 0, 4);
  start.writeUInt32BE(size, 8);
  if (id !== undefined || fault === 'properties cut off') start.writeUInt16BE(0x80, 12);
  const properties = id === undefined ? Buffer.alloc(0) : shortstr('x'.repeat(id));
  const cutOff = fault === 'properties cut off' ? Buffer.of(9, 1) : properties;
  return frame(2, channel, Buffer.concat([start, cutOff]));
}

/** A message's frames, one behind the other. */
function encode(message: Message, channel: number, fault?: Fault): Buffer {
  const { exchange, key, mandatory } = message;
  let bodies = [...message.bodies];
  if (fault === 'a body without octets') bodies = [0, 3];
  if (fault === 'a payload above the largest') bodies = [MAX_PAYLOAD + 1];
  if (fault === 'a message above the largest') bodies = [MAX_PAYLOAD, MAX_PAYLOAD];
  if (fault === 'a body too long' || fault === 'a body too short' || fault === 'another channel in a body')
    bodies.push(3);
  const total = bodies.reduce((sum, octets) => sum + octets, 0);
  const announced = { 'a body too long': total - 1, 'a body too short': total + 1 }[fault as string] ?? total;
  const bits = Buffer.of((mandatory ? 1 : 0) | (fault === 'immediate' ? 2 : 0));
  const names = fault === 'names cut off' ? [Buffer.of(200, 0x71)] : [shortstr(exchange), shortstr(key)];
  const behind = fault === 'octets behind the bits' ? [Buffer.of(0)] : [];
  const id = fault === 'another method' ? 80 : 40;
  const begins = fault === 'another channel' ? channel + 1 : channel;
  const inHeader = fault === 'another channel in the header' ? channel + 1 : channel;
  const frames = [
    method(begins, 60, id, Buffer.concat([Buffer.alloc(2), ...names, bits, ...behind])),
    ...(fault === 'no header' ? [] : [contentHeader(inHeader, announced, message, fault)]),
    ...bodies.map((octets, at) => {
      const isLast = at === bodies.length - 1;
      const number = isLast && fault === 'another channel in a body' ? channel + 1 : channel;
      return frame(3, number, Buffer.alloc(octets, 0x61));
    }),
  ];
  const octets = Buffer.concat(frames);
  if (fault === 'no end octet') octets[octets.length - 1] = 0;
  return fault === 'cut off' ? octets.subarray(0, -1) : octets;
}

const name = fc.string({ unit: 'binary-ascii', maxLength: 20 });
const message: fc.Arbitrary<Message> = fc.record({
  exchange: name,
  key: name,
  mandatory: fc.boolean(),
  bodies: fc.array(fc.integer({ min: 1, max: 120 }), { maxLength: 4 }),
  id: fc.option(fc.nat(40), { nil: undefined }),
});

function make(): WholePublishes {
  const publishes = new WholePublishes();
  publishes.channel = UPSTREAM;
  publishes.maxMessageSize = MAX_MESSAGE_SIZE;
  return publishes;
}

describe('whole publishes', () => {
  it('are found up to the first that anything is wrong with, and only they get the number at the broker', () => {
    const publishes = make();
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 6 }),
        message,
        fc.constantFrom(...FAULTS),
        fc.array(message, { maxLength: 2 }),
        fc.nat(20),
        (good, bad, fault, behind, offset) => {
          const before = Buffer.alloc(offset, 0xa5);
          const whole = good.map((each) => encode(each, CHANNEL));
          const rest = [encode(bad, CHANNEL, fault), ...behind.map((each) => encode(each, CHANNEL))];
          // A view into a larger array, as sockets' are.
          const octets = Buffer.concat([
            before,
            ...whole,
            ...(fault === 'cut off' ? rest.slice(0, 1) : rest),
          ]);
          const end = octets.length;
          expect(publishes.find(octets, offset, end, MAX_PAYLOAD)).toBe(good.length > 0);
          const expected = Buffer.concat([
            before,
            ...good.map((each) => encode(each, UPSTREAM)),
            ...(fault === 'cut off' ? rest.slice(0, 1) : rest),
          ]);
          expect(octets).toEqual(expected);
          expect(publishes).toMatchObject({
            messages: good.length,
            bodies: good.flatMap(({ bodies }) => bodies).length,
            end: offset + Buffer.concat(whole).length,
          });
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('begin with basic.publish only', () => {
    const publishes = make();
    const octets = encode({ exchange: '', key: 'q', mandatory: false, bodies: [3], id: undefined }, CHANNEL);
    expect(publishes.begins(octets, 0, octets.length)).toBe(true);
    expect(publishes.begins(octets, 0, 8)).toBe(false);
    expect(octets.readUInt32BE(7)).toBe(METHOD.basicPublish);
    const other = method(CHANNEL, 60, 80, Buffer.alloc(9));
    expect(publishes.begins(other, 0, other.length)).toBe(false);
  });
});
