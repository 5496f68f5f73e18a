import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ARGUMENTS_OF, type PlainMethod, decodeArguments, encodeArguments } from '../../../amqp/arguments.ts';
import { WireError } from '../../../amqp/error.ts';
import {
  type FieldTable,
  type FieldValue,
  decodeField,
  decodeTable,
  encodeField,
  encodeTable,
  isInteger64,
  plainTable,
} from '../../../amqp/values.ts';
import {
  type Field,
  basicConsume,
  basicQos,
  encodeField as encodeReference,
  encodeTable as encodeReferenceTable,
  entry,
  exchangeDeclare,
  longstr,
  method,
  queueDeclare,
  shortstr,
} from '../../support/amqp-frames.ts';

const fields: [FieldValue, Field][] = [
  ['täxt', longstr('täxt')],
  ['', longstr('')],
  [true, { tag: 't', value: 1 }],
  [false, { tag: 't', value: 0 }],
  [0n, { tag: 'I', value: 0 }],
  [-1n, { tag: 'I', value: -1 }],
  [2n ** 31n - 1n, { tag: 'I', value: 2 ** 31 - 1 }],
  [-(2n ** 31n), { tag: 'I', value: -(2 ** 31) }],
  [2n ** 31n, { tag: 'l', value: 2n ** 31n }],
  [-(2n ** 31n) - 1n, { tag: 'l', value: -(2n ** 31n) - 1n }],
  [2n ** 63n - 1n, { tag: 'l', value: 2n ** 63n - 1n }],
  [-(2n ** 63n), { tag: 'l', value: -(2n ** 63n) }],
  [1, { tag: 'd', value: 1 }],
  [-0.25, { tag: 'd', value: -0.25 }],
  [null, { tag: 'V' }],
  [[], { tag: 'A', value: [] }],
  [
    [1n, 'a', [false]],
    {
      tag: 'A',
      value: [{ tag: 'I', value: 1 }, longstr('a'), { tag: 'A', value: [{ tag: 't', value: 0 }] }],
    },
  ],
  [{}, { tag: 'F', value: [] }],
  [
    { a: { b: 2n } },
    { tag: 'F', value: [entry('a', { tag: 'F', value: [entry('b', { tag: 'I', value: 2 })] })] },
  ],
];

const { value: valueArbitrary } = fc.letrec<{ value: FieldValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, depthSize: 'small' },
    fc.string({ unit: 'binary' }),
    fc.boolean(),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    fc.double(),
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(fc.string({ maxLength: 10 }), tie('value'), { maxKeys: 3, noNullPrototype: true }),
  ),
}));

describe('values of tables', () => {
  it.each(fields.map(([value, field]) => ({ tag: field.tag, value, field })))(
    'of type $tag are written as the specification says, and read back: $value',
    ({ value, field }) => {
      expect(Buffer.from(encodeField(value))).toEqual(encodeReference(field));
      expect(decodeField(encodeField(value))).toEqual(value);
    },
  );

  it('whatever they are, come back from a table in any buffer as they were', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string({ maxLength: 20 }), valueArbitrary, { noNullPrototype: true }),
        fc.nat(9),
        (table, before) => {
          const octets = Buffer.concat([Buffer.alloc(before), encodeTable(table), Buffer.alloc(3)]);
          const within = new Uint8Array(octets.buffer, octets.byteOffset, octets.length);
          expect(decodeTable(within, before, within.length - 3)).toEqual(table);
        },
      ),
    );
  });

  it('are refused beyond 64 bits, and under a key of more than 255 octets', () => {
    expect([2n ** 63n - 1n, -(2n ** 63n), 2n ** 63n, -(2n ** 63n) - 1n].map(isInteger64)).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(() => encodeField(2n ** 63n)).toThrow("9223372036854775808 doesn't fit in 64 bits");
    expect(() => encodeTable({ ['ä'.repeat(128)]: true })).toThrow(
      '256 octets, a short string has at most 255',
    );
    expect(() => encodeTable({ ['a'.repeat(255)]: true })).not.toThrow(RangeError);
  });

  it('of integer types that are not written are read as well, others are refused', () => {
    const small = encodeReferenceTable([
      entry('a', { tag: 'b', value: -3 }),
      entry('b', { tag: 'u', value: 9 }),
    ]);
    expect(decodeTable(small, 0, small.length)).toEqual({ a: -3n, b: 9n });
    const stamp = encodeReferenceTable([entry('a', { tag: 'T', value: 1n })]);
    expect(() => decodeTable(stamp, 0, stamp.length)).toThrow(WireError);
  });

  it('are plain where JSON holds them exactly, else texts', () => {
    const table: FieldTable = { a: 2n ** 53n - 1n, b: 2n ** 53n + 1n, c: [1n, { d: null }], e: 0.5 };
    expect(plainTable(table)).toEqual({
      a: Number.MAX_SAFE_INTEGER,
      b: '9007199254740993',
      c: [1, { d: null }],
      e: 0.5,
    });
  });
});

const frames: [PlainMethod, FieldTable, Buffer][] = [
  ['queue.declare', {}, queueDeclare({ name: '' })],
  [
    'queue.declare',
    { queue: 'q', durable: true, auto_delete: true, arguments: { 'x-expires': 5n } },
    queueDeclare({ flags: 2 | 8, entries: [entry('x-expires', { tag: 'I', value: 5 })] }),
  ],
  [
    'queue.declare',
    { queue: 'ä', passive: true, exclusive: true, no_wait: true },
    queueDeclare({ name: 'ä', flags: 1 | 4 | 16 }),
  ],
  [
    'exchange.declare',
    { exchange: 'x', type: 'topic', passive: true, auto_delete: true, no_wait: true },
    exchangeDeclare({ flags: 1 | 4 | 16 }),
  ],
  [
    'exchange.declare',
    {
      exchange: 'x',
      type: 'fanout',
      durable: true,
      internal: true,
      arguments: { 'alternate-exchange': 'y' },
    },
    exchangeDeclare({ type: 'fanout', flags: 2 | 8, entries: [entry('alternate-exchange', longstr('y'))] }),
  ],
  ['basic.qos', { prefetch_size: 7n, prefetch_count: 300n, global: true }, basicQos(7, 300, 1)],
  ['basic.qos', { prefetch_count: 65_535n }, basicQos(0, 65_535, 0)],
  [
    'basic.consume',
    { queue: 'q', consumer_tag: 'tag', no_ack: true, exclusive: true },
    basicConsume({ tag: 'tag', flags: 2 | 4 }),
  ],
  [
    'basic.consume',
    { queue: 'q', no_local: true, no_wait: true, arguments: { 'x-priority': 1n } },
    basicConsume({ flags: 1 | 8, entries: [entry('x-priority', { tag: 'I', value: 1 })] }),
  ],
  [
    'queue.delete',
    { queue: 'q', if_unused: true, no_wait: true },
    method(1, 50, 40, Buffer.concat([Buffer.alloc(2), shortstr('q'), Buffer.of(1 | 4)])),
  ],
];

describe('arguments of methods', () => {
  it.each(frames)('of %s are written as the specification says, and read back', (name, values, frame) => {
    expect(Buffer.from(encodeArguments(name, values))).toEqual(frame);
    expect(decodeArguments(name, frame)).toMatchObject(values);
  });

  it('that are not given are read as what they are then', () => {
    expect(decodeArguments('queue.declare', queueDeclare({ flags: 4 }))).toEqual({
      queue: 'q',
      passive: false,
      durable: false,
      exclusive: true,
      auto_delete: false,
      no_wait: false,
      arguments: {},
    });
  });

  it('are refused where a frame is cut off or too long', () => {
    for (const name of Object.keys(ARGUMENTS_OF) as PlainMethod[]) {
      const whole = encodeArguments(name, {});
      for (let length = 12; length < whole.length; length++) {
        const cut = Buffer.concat([whole.subarray(0, length - 1), Buffer.of(0xce)]);
        expect(() => decodeArguments(name, cut)).toThrow(WireError);
      }
      expect(() => decodeArguments(name, Buffer.concat([whole, Buffer.of(0xce)]))).toThrow(WireError);
    }
  });

  it('refuse a name of more than 255 octets', () => {
    expect(() => encodeArguments('queue.declare', { queue: 'ä'.repeat(128) })).toThrow('at most 255');
  });
});
