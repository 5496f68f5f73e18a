import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WireError } from '../../../amqp/error.ts';
import { ruleFor } from '../../../proxy/rules/index.ts';
import { AUTO_DELETE_EXPIRES } from '../../../proxy/rules/queue-declare.ts';
import { fieldArbitrary } from '../../support/amqp-arbitraries.ts';
import {
  type Entry,
  entry,
  exchangeDeclare,
  type Field,
  longstr,
  queueDeclare,
  readQueueDeclare,
} from '../../support/amqp-frames.ts';
import { amidst } from '../../support/amqp-streams.ts';
import { ruleContext } from '../../support/rule-context.ts';

/** The numbers are the rows of the measurements on RabbitMQ 3.10, 4.0 and 4.3 that the rules follow (4.3 as upstream ships it). */

const PASSIVE = 1;
const DURABLE = 2;
const EXCLUSIVE = 4;
const AUTO_DELETE = 8;
const NO_WAIT = 16;

const QUORUM = entry('x-queue-type', longstr('quorum'));
const CLASSIC = entry('x-queue-type', longstr('classic'));
const STREAM = entry('x-queue-type', longstr('stream'));
const EXPIRES = entry('x-expires', { tag: 'I', value: 1_800_000 });

const int = (key: string, value: number): Entry => entry(key, { tag: 'I', value });
const text = (key: string, value: string): Entry => entry(key, longstr(value));

function rewrite(frame: Buffer): Uint8Array {
  const rule = ruleFor(frame.readUInt32BE(7))!;
  const within = amidst(frame, 0x5a);
  const larger = new Uint8Array(within.buffer).slice();
  const edited = rule.rewrite(within, ruleContext());
  expect(new Uint8Array(within.buffer)).toEqual(larger);
  // "the same array when nothing changes", and again: what was rewritten is as it should be
  expect(edited === within).toBe(Buffer.compare(edited, within) === 0);
  expect(rule.rewrite(edited, ruleContext())).toBe(edited);
  return edited;
}

interface Declare {
  readonly name?: string | Buffer;
  readonly flags?: number;
  readonly entries?: readonly Entry[];
}

interface Row {
  readonly row: string;
  readonly declare: Declare;
  /** What the declare becomes, what isn't given being as before; undefined: it is left alone. */
  readonly becomes?: Omit<Declare, 'name'>;
}

/** Rows of declares that are left alone with every combination of durable, exclusive and auto-delete. */
function untouched(row: string, declare: Declare, within = DURABLE | EXCLUSIVE | AUTO_DELETE): Row[] {
  const always = declare.flags ?? 0;
  const combinations = Array.from({ length: 32 }, (_, flags) => flags).filter((flags) => !(flags & ~within));
  return combinations.map((flags) => {
    const bits = `d=${+!!((flags | always) & DURABLE)} e=${+!!((flags | always) & EXCLUSIVE)} a=${+!!((flags | always) & AUTO_DELETE)}`;
    return { row: `${row} ${bits}`, declare: { ...declare, flags: flags | always } };
  });
}

const TYPES: readonly [string, Entry[]][] = [
  ['absent', []],
  ['classic', [CLASSIC]],
];

const newQueues: readonly Row[] = [
  ...TYPES.flatMap(([type, entries]): Row[] => [
    {
      row: `1.1 type ${type}, d=0 e=0 a=0: durable quorum`,
      declare: { entries },
      becomes: { flags: DURABLE, entries: [QUORUM] },
    },
    {
      row: `1.2 type ${type}, d=0 e=0 a=1: durable quorum that expires`,
      declare: { flags: AUTO_DELETE, entries },
      becomes: { flags: DURABLE, entries: [QUORUM, EXPIRES] },
    },
    ...untouched(
      `1.3 type ${type}, exclusive: left alone,`,
      { flags: EXCLUSIVE, entries },
      DURABLE | AUTO_DELETE,
    ),
    {
      row: `1.4 type ${type}, d=1 e=0 a=0: quorum`,
      declare: { flags: DURABLE, entries },
      becomes: { entries: [QUORUM] },
    },
    {
      row: `1.5 type ${type}, d=1 e=0 a=1: quorum that expires`,
      declare: { flags: DURABLE | AUTO_DELETE, entries },
      becomes: { flags: DURABLE, entries: [QUORUM, EXPIRES] },
    },
  ]),
  {
    row: "1.2 with the client's own x-expires: that one",
    declare: { flags: AUTO_DELETE, entries: [int('x-expires', 60_000)] },
    becomes: { flags: DURABLE, entries: [int('x-expires', 60_000), QUORUM] },
  },
  {
    row: '1.6 type quorum, d=1 e=0 a=0: left alone',
    declare: { flags: DURABLE, entries: [QUORUM] },
  },
  {
    row: '1.7 type quorum, d=0 e=0 a=0: durable',
    declare: { entries: [QUORUM] },
    becomes: { flags: DURABLE },
  },
  ...[0, DURABLE].map((flags) => ({
    row: `1.8 type quorum, d=${flags / DURABLE} e=0 a=1: as 1.2`,
    declare: { flags: flags | AUTO_DELETE, entries: [QUORUM] },
    becomes: { flags: DURABLE, entries: [QUORUM, EXPIRES] },
  })),
  ...untouched(
    '1.8, 1.9 type quorum, exclusive: an error on 3.10 too, left alone,',
    { flags: EXCLUSIVE, entries: [QUORUM] },
    DURABLE | AUTO_DELETE,
  ),
  ...untouched('1.10 type stream: left alone,', { entries: [STREAM] }),
  {
    row: '1.11 type "": as if absent',
    declare: { entries: [text('x-queue-type', '')] },
    becomes: { flags: DURABLE, entries: [QUORUM] },
  },
  ...(
    [
      longstr('lazy'),
      longstr('QUORUM'),
      longstr('quorum '),
      { tag: 'I', value: 1 },
      { tag: 'x', value: Buffer.from('quorum') },
      { tag: 'S', value: Buffer.of(0xff) },
      { tag: 'V' },
    ] as const
  ).map((field: Field, i) => ({
    row: `1.12 type that no broker knows, of tag ${field.tag} (${i}): left alone`,
    declare: { flags: AUTO_DELETE, entries: [entry('x-queue-type', field)] },
  })),
  ...untouched(
    '1.13 server-named, exclusive: left alone,',
    { name: '', flags: EXCLUSIVE },
    DURABLE | AUTO_DELETE,
  ),
  ...untouched('1.15 server-named, durable, exclusive: left alone,', {
    name: '',
    flags: DURABLE | EXCLUSIVE,
  }),
  ...untouched('1.16 server-named, type quorum: left alone,', { name: '', entries: [QUORUM] }),
  ...['amq.foo', 'amq.gen-x', 'amq.', 'amq.rabbitmq.reply-to'].flatMap((name) =>
    untouched(`1.17, 5.20 reserved name ${name}: left alone,`, {
      name,
      entries: [text('x-queue-version', '1')],
    }),
  ),
  ...['amq', 'amq-', 'AMQ.foo', 'amqp.foo', 'my.amq.foo'].map((name) => ({
    row: `1.17 name ${name}, which is not reserved: as 1.1`,
    declare: { name },
    becomes: { flags: DURABLE, entries: [QUORUM] },
  })),
  ...untouched('1.18, 1.19 passive: left alone,', {
    flags: PASSIVE,
    entries: [CLASSIC, int('x-max-priority', 10), text('x-queue-master-locator', 'random')],
  }),
  {
    row: '1.20 no-wait: as 1.2, and still no-wait',
    declare: { flags: NO_WAIT | AUTO_DELETE },
    becomes: { flags: NO_WAIT | DURABLE, entries: [QUORUM, EXPIRES] },
  },
  {
    row: '11.4 name that is no UTF-8: its octets are kept',
    declare: { name: Buffer.of(0x70, 0x2e, 0xff, 0xfe) },
    becomes: { flags: DURABLE, entries: [QUORUM] },
  },
];

/** Arguments that a quorum queue takes, by row. */
const kept: readonly [string, Entry][] = [
  ...(['b', 'B', 's', 'u', 'I', 'i'] as const).map((tag): [string, Entry] => [
    '4.1',
    entry('x-expires', { tag, value: 100 }),
  ]),
  ['4.1', entry('x-expires', { tag: 'l', value: 100n })],
  ['4.1', int('x-expires', 0)],
  ['4.2', entry('x-message-ttl', { tag: 'u', value: 60_000 })],
  ['4.3', entry('x-max-length', { tag: 'l', value: 10n })],
  ['4.3', int('x-max-length-bytes', 10)],
  ['4.4', text('x-overflow', 'drop-head')],
  ['4.4', text('x-overflow', 'reject-publish')],
  ['4.6', text('x-overflow', 'nonsense')],
  ['4.6', entry('x-overflow', { tag: 'x', value: Buffer.from('reject-publish-dlx') })],
  ['4.7', text('x-dead-letter-exchange', '')],
  ['4.8', text('x-dead-letter-routing-key', 'key')],
  ['4.14', text('x-ha-policy', 'all')],
  ['4.15', entry('x-single-active-consumer', { tag: 't', value: 1 })],
  ['4.16', int('x-delivery-limit', -1)],
  ['4.17', int('x-max-in-memory-length', 5)],
  ['4.17', int('x-max-in-memory-bytes', 5)],
  ['4.18', int('x-quorum-initial-group-size', 3)],
  ['4.19', text('x-queue-leader-locator', 'balanced')],
  ['4.20', int('x-consumer-timeout', 5000)],
  ['4.21', entry('x-cancel-on-ha-failover', { tag: 't', value: 1 })],
  ['4.21', text('alternate-exchange', 'other')],
  ['4.21', entry('unknown', { tag: 'F', value: [text('x-queue-mode', 'lazy')] })],
  ['4.22', text('x-dead-letter-strategy', 'at-least-once')],
];

const stripped: readonly [string, Entry][] = [
  ['4.9', int('x-max-priority', 10)],
  ['4.9', entry('x-max-priority', { tag: 'B', value: 10 })],
  ['4.10', text('x-queue-mode', 'lazy')],
  ['4.10', text('x-queue-mode', 'default')],
  ['4.11', int('x-queue-version', 2)],
  ['4.12', text('x-queue-master-locator', 'client-local')],
  ['4.12', text('x-queue-master-locator', 'min-masters')],
];

const argumentsOfQueues: readonly Row[] = [
  ...kept.map(([row, argument]) => ({
    row: `${row} ${argument.key.toString()} of tag ${argument.field.tag}: kept`,
    declare: { flags: DURABLE, entries: [argument] },
    becomes: { entries: [argument, QUORUM] },
  })),
  ...stripped.flatMap(([row, argument]): Row[] => [
    {
      row: `${row} ${argument.key.toString()} of tag ${argument.field.tag}: stripped`,
      declare: { entries: [text('a', '1'), argument, text('b', '2'), argument] },
      becomes: { flags: DURABLE, entries: [text('a', '1'), text('b', '2'), QUORUM] },
    },
    {
      row: `${row} ${argument.key.toString()} of tag ${argument.field.tag} on a quorum queue: stripped`,
      declare: { flags: DURABLE, entries: [argument, QUORUM] },
      becomes: { entries: [QUORUM] },
    },
  ]),
  {
    row: '4.5 x-overflow reject-publish-dlx: reject-publish in its place',
    declare: { entries: [text('x-overflow', 'reject-publish-dlx'), int('x-max-length', 2)] },
    becomes: {
      flags: DURABLE,
      entries: [text('x-overflow', 'reject-publish'), int('x-max-length', 2), QUORUM],
    },
  },
  ...['x-queue-master-locator', 'x-queue-version', 'x-consumer-timeout'].map((key) => ({
    row: `4.13 ${key} on an exclusive queue: stripped, and nothing else`,
    declare: { flags: EXCLUSIVE | AUTO_DELETE, entries: [CLASSIC, text(key, 'x'), int('x-max-priority', 3)] },
    becomes: { entries: [CLASSIC, int('x-max-priority', 3)] },
  })),
  {
    row: '4.13 x-queue-master-locator on a server-named exclusive queue: stripped',
    declare: { name: '', flags: EXCLUSIVE, entries: [text('x-queue-master-locator', 'random')] },
    becomes: { entries: [] },
  },
  ...(
    [
      ['4.9', 'x-max-priority'],
      ['4.10', 'x-queue-mode'],
      ['4.23', 'x-delivery-limit'],
      ['4.23', 'x-max-in-memory-length'],
      ['4.24', 'x-queue-leader-locator'],
    ] as const
  ).map(([row, key]) => ({
    row: `${row} ${key} on an exclusive queue: the client's own, left alone`,
    declare: { flags: EXCLUSIVE, entries: [int(key, 1)] },
  })),
];

/** What oslo.messaging declares: its defaults, and what its options change. */
const oslo: readonly Row[] = [
  {
    row: '9 topic and server queues: durable quorum',
    declare: { name: 'conductor.host1' },
    becomes: { flags: DURABLE, entries: [QUORUM] },
  },
  ...['conductor_fanout_0123456789abcdef0123456789abcdef', 'reply_0123456789abcdef0123456789abcdef'].map(
    (name) => ({
      row: `9 ${name.replace(/_[0-9a-f]+$/, '_*')}: durable quorum, its own x-expires kept`,
      declare: { name, entries: [EXPIRES] },
      becomes: { flags: DURABLE, entries: [EXPIRES, QUORUM] },
    }),
  ),
  {
    row: '9 rabbit_ha_queues and amqp_auto_delete',
    declare: { flags: AUTO_DELETE, entries: [text('x-ha-policy', 'all')] },
    becomes: { flags: DURABLE, entries: [text('x-ha-policy', 'all'), QUORUM, EXPIRES] },
  },
  {
    row: '9 rabbit_quorum_queue with a delivery limit: left alone',
    declare: { flags: DURABLE, entries: [QUORUM, int('x-delivery-limit', 5)] },
  },
  {
    row: '9 rabbit_stream_fanout: left alone',
    declare: { flags: DURABLE, entries: [STREAM, text('x-max-age', '1800s')] },
  },
];

describe.each([
  ['a new queue', newQueues],
  ['the arguments of a queue', argumentsOfQueues],
  ['the queues of oslo.messaging', oslo],
])('queue.declare: %s', (_name, rows) => {
  it.each(rows)('$row', ({ declare, becomes }) => {
    const frame = queueDeclare(declare);
    expect(Buffer.from(rewrite(frame))).toEqual(queueDeclare({ ...declare, ...becomes }));
  });
});

const ILLEGAL_ON_QUORUM = ['x-max-priority', 'x-queue-mode', 'x-queue-version', 'x-queue-master-locator'];

/** The rule on the model: flags and entries from flags and entries. */
function rewritten(name: Buffer, flags: number, entries: readonly Entry[]): [number, Entry[]] {
  const nameless = name.length === 0;
  const without = (list: readonly Entry[], keys: readonly string[]): Entry[] =>
    list.filter(({ key }) => !keys.includes(key.toString('latin1')));
  const first = (list: readonly Entry[], wanted: string): Field | undefined =>
    list.find(({ key }) => key.toString('latin1') === wanted)?.field;
  const isText = (field: Field | undefined, ...texts: string[]): boolean =>
    field?.tag === 'S' && texts.includes(field.value.toString('latin1'));
  const put = (list: readonly Entry[], one: Entry): Entry[] => {
    const at = list.findIndex(({ key }) => key.equals(one.key));
    const others = list.filter((other, i) => i === at || !other.key.equals(one.key));
    return at === -1 ? [...list, one] : others.with(at, one);
  };
  if (flags & PASSIVE || name.subarray(0, 4).toString('latin1') === 'amq.') return [flags, [...entries]];
  if (flags & EXCLUSIVE)
    return [flags, without(entries, ['x-queue-master-locator', 'x-queue-version', 'x-consumer-timeout'])];
  const type = first(entries, 'x-queue-type');
  if (type && !isText(type, '', 'classic', 'quorum')) return [flags, [...entries]];
  if (nameless && isText(type, 'quorum')) return [flags, [...entries]];
  let edited = without(entries, ILLEGAL_ON_QUORUM);
  if (isText(first(edited, 'x-overflow'), 'reject-publish-dlx'))
    edited = put(edited, text('x-overflow', 'reject-publish'));
  edited = put(edited, QUORUM);
  const passing = flags & AUTO_DELETE || (nameless && !(flags & DURABLE));
  if (passing && first(edited, 'x-expires') === undefined) edited.push(EXPIRES);
  return [(flags | DURABLE) & ~AUTO_DELETE, edited];
}

const argumentArbitrary: fc.Arbitrary<Entry> = fc.oneof(
  fc.constantFrom('', 'quorum', 'classic', 'stream').map((type): Entry => text('x-queue-type', type)),
  fc.constantFrom('reject-publish-dlx', 'drop-head').map((value) => text('x-overflow', value)),
  fc
    .tuple(
      fc.oneof(
        fc.constantFrom(
          ...ILLEGAL_ON_QUORUM,
          'x-expires',
          'x-consumer-timeout',
          'x-overflow',
          'x-queue-typ',
          'other',
        ),
        fc.uint8Array({ maxLength: 8 }),
      ),
      fieldArbitrary,
    )
    .map(([key, field]) => ({ key: Buffer.from(key as Uint8Array), field })),
);

const nameArbitrary = fc.oneof(
  fc.constantFrom('', 'q', 'amq.x', 'amq').map((name) => Buffer.from(name)),
  fc.uint8Array({ maxLength: 255 }).map((octets) => Buffer.from(octets)),
);

describe('queue.declare with any arguments', () => {
  it('is rewritten as the rule on the model, with every other octet, duplicate and place as it was', () => {
    fc.assert(
      fc.property(
        nameArbitrary,
        fc.nat(255),
        fc.array(argumentArbitrary, { maxLength: 7 }),
        fc.nat(0xffff),
        (name, flags, entries, channel) => {
          const frame = queueDeclare({ channel, name, flags, entries });
          const [flagsAfter, entriesAfter] = rewritten(name, flags, entries);
          const edited = Buffer.from(rewrite(frame));
          const named = readQueueDeclare(edited).name;
          const nameAfter =
            name.length === 0 && named.toString().startsWith('quorumbridge.gen-') ? named : name;
          expect(edited).toEqual(
            queueDeclare({ channel, name: nameAfter, flags: flagsAfter, entries: entriesAfter }),
          );
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('that was auto-delete lives as long as oslo.messaging lets its own queues: 30 minutes', () => {
    expect(AUTO_DELETE_EXPIRES).toBe(30 * 60 * 1000);
  });
});

interface ExchangeRow {
  readonly row: string;
  readonly declare: Declare & { readonly type?: string };
  readonly flagsAfter?: number;
}

const EXCHANGE_AUTO_DELETE = 4;
const INTERNAL = 8;

const exchanges: readonly ExchangeRow[] = [
  ...['direct', 'topic', 'fanout', 'headers', 'x-consistent-hash'].flatMap((type): ExchangeRow[] => [
    { row: `7.1 ${type}, d=0: durable`, declare: { type }, flagsAfter: DURABLE },
    {
      row: `7.1, 7.7 ${type}, d=0 a=1 internal no-wait: durable, the rest kept`,
      declare: { type, flags: EXCHANGE_AUTO_DELETE | INTERNAL | NO_WAIT },
      flagsAfter: DURABLE | EXCHANGE_AUTO_DELETE | INTERNAL | NO_WAIT,
    },
    {
      row: `7.7 ${type}, d=1 a=1: left alone`,
      declare: { type, flags: DURABLE | EXCHANGE_AUTO_DELETE },
    },
  ]),
  { row: '7.3 passive: left alone', declare: { flags: PASSIVE } },
  {
    row: '7.3 passive, a=1 internal: left alone',
    declare: { flags: PASSIVE | EXCHANGE_AUTO_DELETE | INTERNAL },
  },
  {
    row: '7.4 alternate-exchange: kept',
    declare: { entries: [text('alternate-exchange', 'ae'), entry('n', { tag: 'u', value: 1 })] },
    flagsAfter: DURABLE,
  },
  {
    row: "7.4 arguments that are a queue's: kept",
    declare: { entries: [text('x-queue-mode', 'lazy'), int('x-expires', 1), int('x-expires', 2)] },
    flagsAfter: DURABLE,
  },
  { row: '7.5 amq.direct: left alone', declare: { name: 'amq.direct', type: 'direct' } },
  { row: '7.5 amq.new: left alone', declare: { name: 'amq.new' } },
  { row: '7.5 the default exchange: left alone', declare: { name: '', type: 'direct' } },
  { row: '7.5 amq, which is not reserved: durable', declare: { name: 'amq' }, flagsAfter: DURABLE },
  ...['x-nope', 'x-delayed-message', ''].map((type) => ({
    row: `7.6 type ${JSON.stringify(type)}: the type goes on as it is`,
    declare: { type, entries: [text('x-delayed-type', 'topic')] },
    flagsAfter: DURABLE,
  })),
  { row: '9 control exchange: durable', declare: { name: 'openstack' }, flagsAfter: DURABLE },
  {
    row: '9 fanout exchange: durable, still auto-delete',
    declare: { name: 'conductor_fanout', type: 'fanout', flags: EXCHANGE_AUTO_DELETE },
    flagsAfter: DURABLE | EXCHANGE_AUTO_DELETE,
  },
];

describe('exchange.declare', () => {
  it.each(exchanges)('$row', ({ declare, flagsAfter }) => {
    const after = flagsAfter === undefined ? declare : { ...declare, flags: flagsAfter };
    expect(Buffer.from(rewrite(exchangeDeclare(declare)))).toEqual(exchangeDeclare(after));
  });

  it('with any arguments changes in nothing but the durable bit', () => {
    fc.assert(
      fc.property(
        nameArbitrary,
        fc.string({ maxLength: 20 }),
        fc.nat(255),
        fc.array(argumentArbitrary, { maxLength: 5 }),
        (name, type, flags, entries) => {
          const named = name.length > 0 && name.subarray(0, 4).toString('latin1') !== 'amq.';
          const after = named && !(flags & PASSIVE) ? flags | DURABLE : flags;
          expect(Buffer.from(rewrite(exchangeDeclare({ name, type, flags, entries })))).toEqual(
            exchangeDeclare({ name, type, flags: after, entries }),
          );
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('the rules', () => {
  it('concern these methods and no other', () => {
    const concerned: [number, string][] = [];
    for (const classId of [10, 20, 40, 50, 60, 85, 90]) {
      for (let methodId = 1; methodId <= 120; methodId++) {
        const rule = ruleFor(classId * 0x10000 + methodId);
        if (rule !== undefined) concerned.push([classId, rule.name]);
      }
    }
    expect(concerned).toEqual([
      [40, 'exchange.declare'],
      [50, 'queue.declare'],
      [50, 'queue.delete'],
      [60, 'basic.qos'],
      [60, 'basic.consume'],
    ]);
  });

  it.each<Declare>([
    {},
    { flags: PASSIVE },
    { flags: EXCLUSIVE },
    { name: 'amq.x' },
    { name: '' },
    { entries: [STREAM] },
  ])(
    'refuse a queue.declare with a malformed table with 502, also where they change nothing: %j',
    (declare) => {
      const frame = queueDeclare({
        ...declare,
        entries: [...(declare.entries ?? []), entry('last', { tag: 'V' })],
      });
      frame[frame.length - 2] = 0x7a; // the last entry's tag
      expect(replyCodeOf(frame)).toBe(502);
    },
  );

  it('refuse declares that are cut off with 502', () => {
    for (const frame of [queueDeclare({}), exchangeDeclare({})]) {
      expect(replyCodeOf(Buffer.concat([frame.subarray(0, -2), Buffer.of(0xce)]))).toBe(502);
    }
  });
});

/** The reply code of the WireError that the frame's rule must throw. */
function replyCodeOf(frame: Buffer): number {
  try {
    ruleFor(frame.readUInt32BE(7))!.rewrite(frame, ruleContext());
  } catch (error) {
    if (error instanceof WireError) return error.replyCode;
    throw error;
  }
  throw new Error('nothing was thrown');
}
