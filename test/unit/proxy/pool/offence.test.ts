import { describe, expect, it } from 'vitest';
import { METHOD } from '../../../../amqp/constants.ts';
import { needsOwnConnection, offenceOf } from '../../../../proxy/pool/offence.ts';
import { method, shortstr } from '../../../support/amqp-frames.ts';

const RESERVED = Buffer.alloc(2);
const NO_TABLE = Buffer.alloc(4);

function args(...parts: (Buffer | string | number)[]): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === 'number') return Buffer.of(part);
      return typeof part === 'string' ? shortstr(part) : part;
    }),
  );
}

/** The frame lies in the middle of a chunk, as it does on the wire. */
function within(frame: Buffer): [Uint8Array, number, number] {
  return [Buffer.concat([Buffer.alloc(5, 0xee), frame, Buffer.alloc(5, 0xee)]), 5, 5 + frame.length];
}

const consumers = { hasConsumer: (tag: string) => tag === 'taken' };

const OFFENCES = [
  ['publish', METHOD.basicPublish, args(RESERVED, 'x', 'key', 1), undefined],
  ['publish, immediate', METHOD.basicPublish, args(RESERVED, 'x', 'key', 2), '540 immediate=true'],
  ['consume with a new tag', METHOD.basicConsume, args(RESERVED, 'q', 'new', 0, NO_TABLE), undefined],
  ['consume without a tag', METHOD.basicConsume, args(RESERVED, 'q', '', 0, NO_TABLE), undefined],
  [
    'consume with a tag in use',
    METHOD.basicConsume,
    args(RESERVED, 'q', 'taken', 0, NO_TABLE),
    "530 attempt to reuse consumer tag 'taken'",
  ],
  ['qos', METHOD.basicQos, args(Buffer.alloc(4), Buffer.of(0, 9), 0), undefined],
  [
    'qos with a size',
    METHOD.basicQos,
    args(Buffer.of(0, 0, 4, 0), Buffer.of(0, 9), 0),
    '540 prefetch_size!=0 (1024)',
  ],
  ['flow on', METHOD.channelFlow, args(1), undefined],
  ['flow off', METHOD.channelFlow, args(0), '540 active=false'],
  ['recover with requeue', METHOD.basicRecover, args(1), undefined],
  ['recover without requeue', METHOD.basicRecover, args(0), '540 requeue=false'],
  ['recover-async without requeue', METHOD.basicRecoverAsync, args(0), '540 requeue=false'],
  ['purge', METHOD.queuePurge, args(RESERVED, 'q', 0), undefined],
] as const;

describe('what a broker ends the connection for', () => {
  it.each(OFFENCES)('%s', (_name, id, octets, expected) => {
    const frame = method(7, id >>> 16, id & 0xffff, octets);
    const offence = offenceOf(id, ...within(frame), consumers);
    expect(offence === undefined ? undefined : `${offence.replyCode} ${offence.text}`).toBe(expected);
  });
});

const OWN = [
  ['a durable queue', METHOD.queueDeclare, args(RESERVED, 'q', 2, NO_TABLE), undefined],
  ['an exclusive queue', METHOD.queueDeclare, args(RESERVED, 'q', 4, NO_TABLE), /exclusive queue/],
  ['a durable exclusive queue', METHOD.queueDeclare, args(RESERVED, 'q', 6, NO_TABLE), /exclusive queue/],
  ['a question about a queue', METHOD.queueDeclare, args(RESERVED, 'q', 5, NO_TABLE), undefined],
  ['a transient queue', METHOD.queueDeclare, args(RESERVED, 'q', 0, NO_TABLE), /transient queue/],
  ['a fanout', METHOD.exchangeDeclare, args(RESERVED, 'x', 'fanout', 2, NO_TABLE), undefined],
  ['a type of a plugin', METHOD.exchangeDeclare, args(RESERVED, 'x', 'x-odd', 2, NO_TABLE), /"x-odd"/],
  ['a question about one', METHOD.exchangeDeclare, args(RESERVED, 'x', 'x-odd', 1, NO_TABLE), undefined],
  ['a prefetch', METHOD.basicQos, args(Buffer.alloc(4), Buffer.of(0, 9), 0), undefined],
  ['a global prefetch', METHOD.basicQos, args(Buffer.alloc(4), Buffer.of(0, 9), 1), undefined],
  ['a publish', METHOD.basicPublish, args(RESERVED, 'x', 'key', 0), undefined],
] as const;

describe('what needs a connection of its own', () => {
  it.each(OWN)('%s', (_name, id, octets, expected) => {
    const frame = method(7, id >>> 16, id & 0xffff, octets);
    expect(needsOwnConnection(id, ...within(frame)) ?? '').toMatch(expected ?? /^$/);
  });
});
