import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { exampleOf } from '../../../proxy/example.ts';
import { USAGES, type Usage, usagesOf, usagesOfHandshake } from '../../../proxy/usage.ts';
import { entriesArbitrary } from '../../support/amqp-arbitraries.ts';
import {
  basicConsume,
  basicQos,
  type Entry,
  entry,
  exchangeDeclare,
  longstr,
  method,
  queueDeclare,
  readQueueDeclare,
  shortstr,
} from '../../support/amqp-frames.ts';
import { prefetch, queueBind, queueDelete } from '../../support/amqp-methods.ts';
import { amidst } from '../../support/amqp-streams.ts';

const PASSIVE = 1;
const DURABLE = 2;
const EXCLUSIVE = 4;
const AUTO_DELETE = 8;
const NO_WAIT = 16;

const type = (name: string): Entry => entry('x-queue-type', longstr(name));
const text = (key: string, value: string): Entry => entry(key, longstr(value));
const number = (key: string, value: number): Entry => entry(key, { tag: 'I', value });
const LIMIT = number('x-delivery-limit', 5);

/** As the proxy calls it: with the method's ids, and the frame in the midst of other octets. */
function usages(frame: Buffer): readonly Usage[] {
  return usagesOf(frame.readUInt32BE(7), amidst(frame, 0x5a));
}

type Row = [row: string, frame: Buffer, usages: Usage[]];

/** The numbers are rows of what brokers answered to legacy clients. */
const queues: Row[] = [
  ['1.1 transient', queueDeclare({}), ['transient-queue']],
  ['1.1 transient, type classic', queueDeclare({ entries: [type('classic')] }), ['transient-queue']],
  ['1.1 transient, no-wait', queueDeclare({ flags: NO_WAIT }), ['transient-queue']],
  [
    '1.2 transient and auto-delete',
    queueDeclare({ flags: AUTO_DELETE }),
    ['transient-queue', 'auto-delete-queue'],
  ],
  ['1.3 exclusive', queueDeclare({ flags: EXCLUSIVE }), ['exclusive-named-queue']],
  ['1.3 exclusive and durable', queueDeclare({ flags: EXCLUSIVE | DURABLE }), ['exclusive-named-queue']],
  ['1.4 durable', queueDeclare({ flags: DURABLE }), ['durable-classic-queue']],
  ['1.5 durable and auto-delete', queueDeclare({ flags: DURABLE | AUTO_DELETE }), ['auto-delete-queue']],
  ['1.6 quorum', queueDeclare({ flags: DURABLE, entries: [type('quorum'), LIMIT] }), []],
  ['1.7 quorum, transient', queueDeclare({ entries: [type('quorum')] }), ['quorum-refused']],
  [
    '1.8 quorum, auto-delete',
    queueDeclare({ flags: DURABLE | AUTO_DELETE, entries: [type('quorum')] }),
    ['quorum-refused'],
  ],
  [
    '1.9 quorum, exclusive',
    queueDeclare({ flags: DURABLE | EXCLUSIVE, entries: [type('quorum')] }),
    ['quorum-refused'],
  ],
  ['1.10 stream', queueDeclare({ flags: DURABLE, entries: [type('stream')] }), []],
  [
    '1.11 type empty',
    queueDeclare({ flags: DURABLE, entries: [type('')] }),
    ['durable-classic-queue', 'empty-queue-type'],
  ],
  ['1.12 type unknown', queueDeclare({ entries: [type('lazy')] }), []],
  ['1.12 type no text', queueDeclare({ entries: [number('x-queue-type', 1)] }), []],
  ['1.13 server-named, exclusive', queueDeclare({ name: '', flags: EXCLUSIVE }), []],
  ['1.14 server-named, transient', queueDeclare({ name: '' }), ['transient-queue-server-named']],
  [
    '1.14 server-named, transient, auto-delete',
    queueDeclare({ name: '', flags: AUTO_DELETE }),
    ['transient-queue-server-named', 'auto-delete-queue'],
  ],
  ['1.15 server-named, durable', queueDeclare({ name: '', flags: DURABLE }), ['durable-classic-queue']],
  [
    '1.16 server-named, quorum',
    queueDeclare({ name: '', flags: DURABLE, entries: [type('quorum')] }),
    ['quorum-refused'],
  ],
  ['1.17 reserved name', queueDeclare({ name: 'amq.gen-x' }), []],
  ['1.18 passive', queueDeclare({ flags: PASSIVE, entries: [number('x-max-priority', 9)] }), []],
  [
    '4.5 reject-publish-dlx, classic',
    queueDeclare({ flags: DURABLE, entries: [text('x-overflow', 'reject-publish-dlx')] }),
    ['durable-classic-queue', 'overflow-reject-publish-dlx'],
  ],
  [
    '4.5 reject-publish-dlx, quorum',
    queueDeclare({
      flags: DURABLE,
      entries: [type('quorum'), LIMIT, text('x-overflow', 'reject-publish-dlx')],
    }),
    ['overflow-reject-publish-dlx'],
  ],
  [
    '4.4 reject-publish',
    queueDeclare({ flags: EXCLUSIVE, name: '', entries: [text('x-overflow', 'reject-publish')] }),
    [],
  ],
  ...['x-max-priority', 'x-queue-mode', 'x-queue-version', 'x-queue-master-locator'].map((key): Row => [
    `4.9 to 4.12 quorum with ${key}`,
    queueDeclare({ flags: DURABLE, entries: [type('quorum'), LIMIT, number(key, 2)] }),
    ['quorum-refused'],
  ]),
  [
    '4.9 x-max-priority, exclusive',
    queueDeclare({ name: '', flags: EXCLUSIVE, entries: [number('x-max-priority', 9)] }),
    ['max-priority'],
  ],
  [
    '4.10 x-queue-mode',
    queueDeclare({ flags: DURABLE, entries: [text('x-queue-mode', 'lazy')] }),
    ['durable-classic-queue', 'queue-mode'],
  ],
  [
    '4.11 x-queue-version 1',
    queueDeclare({ flags: DURABLE, entries: [number('x-queue-version', 1)] }),
    ['durable-classic-queue', 'queue-version-1'],
  ],
  [
    '4.11 x-queue-version 1 in one octet',
    queueDeclare({ flags: DURABLE, entries: [entry('x-queue-version', { tag: 'B', value: 1 })] }),
    ['durable-classic-queue', 'queue-version-1'],
  ],
  [
    '4.11 x-queue-version 2',
    queueDeclare({ flags: DURABLE, entries: [number('x-queue-version', 2)] }),
    ['durable-classic-queue'],
  ],
  [
    '4.13 x-queue-master-locator, exclusive',
    queueDeclare({ name: '', flags: EXCLUSIVE, entries: [text('x-queue-master-locator', 'min-masters')] }),
    ['queue-master-locator'],
  ],
  [
    '4.14 x-ha-policy',
    queueDeclare({ entries: [text('x-ha-policy', 'all')] }),
    ['transient-queue', 'ha-policy-argument'],
  ],
  [
    '4.14 x-ha-policy, quorum',
    queueDeclare({ flags: DURABLE, entries: [type('quorum'), LIMIT, text('x-ha-policy', 'all')] }),
    ['ha-policy-argument'],
  ],
  [
    '4.16 a negative limit',
    queueDeclare({ flags: DURABLE, entries: [type('quorum'), number('x-delivery-limit', -1)] }),
    ['negative-delivery-limit'],
  ],
  [
    '4.16 a negative limit of 64 bits',
    queueDeclare({
      flags: DURABLE,
      entries: [type('quorum'), entry('x-delivery-limit', { tag: 'l', value: -1n })],
    }),
    ['negative-delivery-limit'],
  ],
  [
    '4.20 x-consumer-timeout, quorum',
    queueDeclare({ flags: DURABLE, entries: [type('quorum'), LIMIT, number('x-consumer-timeout', 60_000)] }),
    ['consumer-timeout'],
  ],
  [
    '4.20 x-consumer-timeout as text, quorum',
    queueDeclare({ flags: DURABLE, entries: [type('quorum'), LIMIT, text('x-consumer-timeout', '60000')] }),
    ['consumer-timeout-refused'],
  ],
  [
    '4.20 x-consumer-timeout, exclusive',
    queueDeclare({ name: '', flags: EXCLUSIVE, entries: [number('x-consumer-timeout', 60_000)] }),
    ['consumer-timeout-refused'],
  ],
  [
    '5.1 quorum without a limit',
    queueDeclare({ flags: DURABLE, entries: [type('quorum')] }),
    ['quorum-without-delivery-limit'],
  ],
  [
    '9 oslo.messaging reply queue',
    queueDeclare({ name: `reply_${'a'.repeat(32)}`, entries: [number('x-expires', 1_800_000)] }),
    ['transient-queue'],
  ],
];

const others: Row[] = [
  ['5.3 qos global', prefetch(1, 10, true), ['global-qos']],
  ['5.3 qos of consumers', prefetch(1, 10, false), []],
  ['5.4 qos global without a limit', prefetch(1, 0, true), []],
  ['5.5 an exclusive consumer', basicConsume({ flags: 4 }), ['exclusive-consumer']],
  [
    '5.6 x-cancel-on-ha-failover',
    basicConsume({ entries: [entry('x-cancel-on-ha-failover', { tag: 't', value: 1 })] }),
    ['cancel-on-ha-failover'],
  ],
  [
    '5.7 a consumer without acknowledgements',
    basicConsume({ flags: 2, entries: [number('x-priority', 1)] }),
    [],
  ],
  ['6.2 delete if-unused', queueDelete(1, 'q', 1), ['conditional-delete']],
  ['6.2 delete if-empty, no-wait', queueDelete(1, 'q', 2 | 4), ['conditional-delete']],
  ['6.3 delete', queueDelete(1, 'q', 4), []],
  ['7.1 a transient exchange', exchangeDeclare({}), ['transient-exchange']],
  [
    '7.1 a transient exchange that is auto-delete and internal',
    exchangeDeclare({ flags: 4 | 8 }),
    ['transient-exchange'],
  ],
  ['7.1 a durable exchange', exchangeDeclare({ flags: DURABLE }), []],
  ['7.3 a passive declare of an exchange', exchangeDeclare({ flags: PASSIVE }), []],
  ['7.5 amq.direct and the default exchange', exchangeDeclare({ name: 'amq.direct' }), []],
  ['7.5 the default exchange', exchangeDeclare({ name: '' }), []],
  ['a bind', queueBind(1, 'q', 'x', 'k'), []],
];

describe('a usage', () => {
  it.each([...queues, ...others])('is seen, and no other: %s', (_row, frame, expected) => {
    expect(usages(frame)).toEqual(expected);
  });

  it.each([
    [4096, ['small-frame-max']],
    [8191, ['small-frame-max']],
    [8192, []],
    [131_072, []],
    [0, []],
  ])('8.2 is seen in a handshake with a frame_max of %i: %j', (frameMax, expected) => {
    expect(usagesOfHandshake(frameMax)).toEqual(expected);
  });

  it('of each kind is in a row above', () => {
    const seen = new Set([...queues, ...others].flatMap(([, , usages]) => usages));
    expect(USAGES.filter((usage) => !seen.has(usage))).toEqual(['small-frame-max']);
  });

  it('is not seen in a frame that is cut off or has octets left over', () => {
    for (const [, frame] of [...queues, ...others].filter(([, , usages]) => usages.length > 0)) {
      const args = frame.subarray(11, -1);
      const ids = [frame.readUInt16BE(7), frame.readUInt16BE(9)] as const;
      expect(usages(method(1, ...ids, args.subarray(0, -1)))).toEqual([]);
      expect(usages(method(1, ...ids, Buffer.concat([args, Buffer.of(0)])))).toEqual([]);
    }
  });

  it('is the same whatever else the table holds', () => {
    const keys = new Set(queues.flatMap(([, frame]) => entriesOf(frame)));
    fc.assert(
      fc.property(
        fc.constantFrom(...queues),
        entriesArbitrary,
        fc.boolean(),
        ([, frame, expected], more, first) => {
          const rest = more.filter(({ key }) => !keys.has(key.toString()));
          const { name, flags, entries } = readBack(frame);
          expect(
            usages(
              queueDeclare({ name, flags, entries: first ? [...rest, ...entries] : [...entries, ...rest] }),
            ),
          ).toEqual(expected);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('reading what a client does', () => {
  it('never throws, and leaves the octets as they are', () => {
    const methods = fc.constantFrom<[number, number]>(
      [50, 10],
      [40, 10],
      [60, 20],
      [60, 10],
      [50, 40],
      [10, 31],
    );
    fc.assert(
      fc.property(methods, fc.uint8Array({ maxLength: 60 }), (ids, args) => {
        const frame = method(1, ...ids, args);
        const before = Buffer.from(frame);
        expect(usages(frame).every((usage) => USAGES.includes(usage))).toBe(true);
        expect(exampleOf(frame.readUInt32BE(7), frame).length).toBeLessThanOrEqual(200);
        expect(frame.equals(before)).toBe(true);
      }),
      { numRuns: 3000 },
    );
  });
});

describe('an example', () => {
  it.each<[Buffer, string]>([
    [
      queueDeclare({ name: 'reply_1', entries: [number('x-expires', 1_800_000)] }),
      "queue 'reply_1' (transient, x-expires=1800000)",
    ],
    [queueDeclare({ name: '', flags: AUTO_DELETE }), 'queue without a name (transient, auto-delete)'],
    [queueDeclare({ flags: DURABLE }), "queue 'q'"],
    [queueDeclare({ flags: EXCLUSIVE }), "queue 'q' (exclusive)"],
    [
      queueDeclare({
        flags: DURABLE,
        entries: [type('quorum'), entry('t', { tag: 't', value: 1 }), entry('f', { tag: 'F', value: [] })],
      }),
      "queue 'q' (x-queue-type=quorum, t=true, f=…)",
    ],
    [
      queueDeclare({ flags: DURABLE, entries: [text('x', 'y'.repeat(60))] }),
      `queue 'q' (x=${'y'.repeat(40)}…)`,
    ],
    [exchangeDeclare({ name: 'openstack' }), "exchange 'openstack' (topic, transient)"],
    [
      exchangeDeclare({ type: 'fanout', flags: DURABLE | 4 | 8 }),
      "exchange 'x' (fanout, auto-delete, internal)",
    ],
    [basicQos(0, 10, 1), 'a prefetch of 10 for a whole channel'],
    [
      basicConsume({ flags: 4, entries: [entry('x-cancel-on-ha-failover', { tag: 't', value: 0 })] }),
      "a consumer of queue 'q' (exclusive, x-cancel-on-ha-failover=false)",
    ],
    [queueDelete(1, 'q', 3), "delete of queue 'q' (if-unused, if-empty)"],
    [queueDeclare({ name: 'n'.repeat(255) }), `queue '${'n'.repeat(192)}…`],
    [
      queueDeclare({ flags: DURABLE, entries: Array.from({ length: 3000 }, () => number('k', 1)) }),
      `queue 'q' (${'k=1, '.repeat(8)}…)`,
    ],
    [method(1, 50, 10, shortstr('x')), ''],
    [queueBind(1, 'q', 'x', 'k'), ''],
  ])('says in one line what a client asked for: %#', (frame, expected) => {
    expect(exampleOf(frame.readUInt32BE(7), amidst(frame, 0x5a))).toBe(expected);
  });

  it.each([
    [{ tag: 'b', value: -1 }, '-1'],
    [{ tag: 'B', value: 255 }, '255'],
    [{ tag: 's', value: -300 }, '-300'],
    [{ tag: 'u', value: 65_535 }, '65535'],
    [{ tag: 'I', value: -70_000 }, '-70000'],
    [{ tag: 'i', value: 4_000_000_000 }, '4000000000'],
    [{ tag: 'l', value: -5_000_000_000n }, '-5000000000'],
    [{ tag: 'L', value: 18_446_744_073_709_551_615n }, '18446744073709551615'],
    [{ tag: 'd', value: 1.5 }, '…'],
  ] as const)('has numbers of every type of the wire: %#', (field, expected) => {
    const frame = queueDeclare({ flags: DURABLE, entries: [entry('n', field)] });
    expect(exampleOf(frame.readUInt32BE(7), frame)).toBe(`queue 'q' (n=${expected})`);
  });
});

function readBack(frame: Buffer): { name: string; flags: number; entries: Entry[] } {
  const { name, flags, entries } = readQueueDeclare(frame);
  return { name: name.toString(), flags, entries };
}

function entriesOf(frame: Buffer): string[] {
  return readBack(frame).entries.map(({ key }) => key.toString());
}
