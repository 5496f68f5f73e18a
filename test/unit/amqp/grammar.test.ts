import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { entriesArbitrary } from '../../support/amqp-arbitraries.ts';
import {
  decodeTable,
  encodeTable,
  type Entry,
  entry,
  type Field,
  frame,
  method,
  queueDeclare,
  shortstr,
} from '../../support/amqp-frames.ts';
import { amidst } from '../../support/amqp-streams.ts';
import { type Argument, defs, type MethodInfo, METHODS } from '../../support/amqplib-defs.ts';
import { METHOD } from '../../../amqp/constants.ts';
import { WireError } from '../../../amqp/error.ts';
import { checkMethod, clientMethod, isImmediate, isNoWait, readBodySize } from '../../../amqp/grammar.ts';

/** What clients may send, section 1.3 and RabbitMQ's extensions; without channel.flow-ok, since no broker sends channel.flow. */
const OF_CLIENTS = `
  ConnectionStartOk ConnectionSecureOk ConnectionTuneOk ConnectionOpen ConnectionClose ConnectionCloseOk
  ConnectionUpdateSecret ChannelOpen ChannelFlow ChannelClose ChannelCloseOk AccessRequest
  ExchangeDeclare ExchangeDelete ExchangeBind ExchangeUnbind
  QueueDeclare QueueBind QueuePurge QueueDelete QueueUnbind
  BasicQos BasicConsume BasicCancel BasicPublish BasicGet BasicAck BasicReject BasicRecoverAsync BasicRecover BasicNack
  ConfirmSelect TxSelect TxCommit TxRollback`.match(/\w+/g)!;

const clientMethods = METHODS.filter(({ name }) => OF_CLIENTS.includes(name));

/** `QueueDeclareOk` of `queue.declare-ok`. */
function camel(name: string): string {
  return name.replaceAll(/(?:^|[.-])([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

const shortText = fc
  .string({ unit: 'grapheme', maxLength: 60 })
  .filter((text) => Buffer.byteLength(text) < 256);

/** For amqplib a table with the key `!` names its value's type. */
const innerKey = shortText.filter((text) => text !== '!');

const VALUES: Record<Argument['type'], fc.Arbitrary<unknown>> = {
  bit: fc.boolean(),
  octet: fc.nat(0xff),
  short: fc.nat(0xffff),
  long: fc.nat(0xffff_ffff),
  longlong: fc.nat(Number.MAX_SAFE_INTEGER),
  timestamp: fc.nat(Number.MAX_SAFE_INTEGER),
  shortstr: shortText,
  longstr: fc.uint8Array({ maxLength: 300 }).map((octets) => Buffer.from(octets)),
  table: fc.dictionary(
    shortText,
    fc.oneof(
      fc.string(),
      fc.boolean(),
      fc.integer(),
      fc.double({ noNaN: true, min: -1e9, max: 1e9 }), // amqplib fails at some beyond 2^50
      fc.array(fc.constantFrom('a', 1, null)),
      fc.dictionary(innerKey, fc.constantFrom('a', true, null)),
    ),
    { maxKeys: 5 },
  ),
};

function fieldsOf(args: readonly Argument[]): fc.Arbitrary<Record<string, unknown>> {
  return fc.record(Object.fromEntries(args.map(({ type, name }) => [name, VALUES[type]])));
}

/** Checks a method frame that lies amid other octets. */
function check(octets: Uint8Array, id = Buffer.from(octets).readUInt32BE(7)): void {
  checkMethod(id, amidst(octets, 0xce, 9), 0, octets.length);
  const around = new Uint8Array(octets.length + 40).fill(0xff);
  around.set(octets, 17);
  checkMethod(id, around, 17, 17 + octets.length);
}

/** What a method, or a content header, is refused with. */
function refusal(octets: Uint8Array, read: (octets: Uint8Array) => void = check): unknown {
  try {
    read(octets);
  } catch (error) {
    if (error instanceof WireError)
      return { code: error.replyCode, method: error.method, text: error.message };
    throw error;
  }
  return undefined;
}

const ids = ({ id }: MethodInfo): [number, number] => [id >>> 16, id & 0xffff];

describe('the methods', () => {
  it('are those of the XML, with their numbers', () => {
    const named = Object.entries(METHOD).map(([name, id]) => [camel(name), id]);
    expect(Object.fromEntries(named)).toEqual(Object.fromEntries(METHODS.map(({ name, id }) => [name, id])));
  });

  it('of clients are known with their names and answers, and no others', () => {
    const known = METHODS.flatMap(({ id, name }) => {
      const form = clientMethod(id);
      return form === undefined ? [] : [{ ...form, name: camel(form.name), by: name }];
    });
    const expected = clientMethods.map(({ name, args }) => {
      const answer = METHODS.find((other) => other.name === `${name}Ok`)?.id ?? 0;
      const whether = args.some((arg) => arg.name === 'nowait') ? 'unless-no-wait' : 'always';
      return { by: name, name, answer, answered: answer === 0 ? 'never' : whether };
    });
    expect(known).toMatchObject(expected);
    expect(known).toHaveLength(OF_CLIENTS.length);
  });

  it.each([
    ['of a broker', method(1, 60, 60, Buffer.alloc(20)), 'method 60.60 is not one of a client'],
    ['that is an answer', method(1, 20, 21, Buffer.of(1)), 'method 20.21 is not one of a client'],
    ['that nobody knows', method(1, 99, 1), 'method 99.1 is not one of a client'],
  ])('%s are refused with 503', (_, octets, text) => {
    expect(refusal(octets)).toEqual({ code: 503, method: octets.readUInt32BE(7), text });
  });
});

describe('the arguments', () => {
  it.each(clientMethods)(
    'of $name are taken as amqplib writes them, and neither shorter nor longer',
    (info) => {
      fc.assert(
        fc.property(fieldsOf(info.args), fc.nat(255), (fields, octet) => {
          const octets = defs.encodeMethod(info.id, 7, fields);
          check(octets);
          const args = octets.subarray(11, -1);
          for (let length = 0; length < args.length; length++) {
            const cut = refusal(method(7, ...ids(info), args.subarray(0, length)));
            expect(cut, `cut to ${length} octets`).toMatchObject({ code: 502, method: info.id });
          }
          const longer = refusal(method(7, ...ids(info), Buffer.concat([args, Buffer.of(octet)])));
          expect(longer).toMatchObject({ code: 502, method: info.id });
        }),
        { numRuns: 25 },
      );
    },
  );

  it('are named in what is said', () => {
    expect(refusal(method(1, 50, 30, Buffer.of(0, 0, 1)))).toEqual({
      code: 502,
      method: METHOD.queuePurge,
      text: 'queue.purge: short string cut off',
    });
    expect(refusal(method(1, 60, 80, Buffer.alloc(8)))).toMatchObject({
      text: 'basic.ack of a wrong length',
    });
  });

  it.each([
    ['ff', 'no UTF-8 at all'],
    ['61c3', 'cut off'],
    ['c080', 'overlong'],
    ['eda080', 'a surrogate'],
    ['f888808080', 'five octets long'],
  ])('are refused with a name of octets %s: %s', (hex) => {
    const name = Buffer.from(hex, 'hex');
    const text = 'short string that is not UTF-8';
    expect(refusal(queueDeclare({ name }))).toMatchObject({ code: 502, text: `queue.declare: ${text}` });
    const bind = Buffer.concat([
      Buffer.alloc(2),
      shortstr('q'),
      shortstr('x'),
      shortstr(name),
      Buffer.alloc(5),
    ]);
    expect(refusal(method(1, 50, 20, bind))).toMatchObject({ code: 502, text: `queue.bind: ${text}` });
    const publish = Buffer.concat([Buffer.alloc(2), shortstr(name), shortstr(name), Buffer.of(0)]);
    expect(refusal(method(1, 60, 40, publish))).toBeUndefined();
  });
});

describe('the bits', () => {
  it.each(clientMethods.filter(({ args }) => args.length > 0))('of $name tell whether it waits', (info) => {
    fc.assert(
      fc.property(fieldsOf(info.args), (fields) => {
        const octets = defs.encodeMethod(info.id, 1, fields);
        const view = amidst(octets, 0xff, 3);
        expect(isNoWait(info.id, view, 0, octets.length)).toBe(fields['nowait'] ?? false);
      }),
      { numRuns: 30 },
    );
  });

  it('of basic.publish tell whether it is immediate', () => {
    const publish = clientMethods.find(({ id }) => id === METHOD.basicPublish)!;
    fc.assert(
      fc.property(fieldsOf(publish.args), fc.nat(20), (fields, start) => {
        const octets = Buffer.concat([Buffer.alloc(start, 0xff), defs.encodeMethod(publish.id, 1, fields)]);
        expect(isImmediate(octets, start)).toBe(fields['immediate']);
      }),
    );
  });
});

function isFinite(field: Field): boolean {
  switch (field.tag) {
    case 'f':
    case 'd':
      return Number.isFinite(field.value);
    case 'A':
      return field.value.every(isFinite);
    case 'F':
      return isFiniteTable(field.value);
    default:
      return true;
  }
}

function isFiniteTable(entries: readonly Entry[]): boolean {
  return entries.every(({ field }) => isFinite(field));
}

/** Whether another reader takes a table of these octets. */
function isTable(octets: Buffer): boolean {
  try {
    return isFiniteTable(decodeTable(octets));
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

/** queue.declare with these octets for its arguments. */
function declareWith(table: Buffer): Buffer {
  return method(1, 50, 10, Buffer.concat([Buffer.alloc(2), shortstr('q'), Buffer.of(0), table]));
}

function nested(depth: number, tag: 'A' | 'F'): Field {
  let field: Field = { tag: 'V' };
  for (let i = 0; i < depth; i++)
    field = tag === 'A' ? { tag, value: [field] } : { tag, value: [entry('a', field)] };
  return field;
}

describe('a table', () => {
  it('is taken with values of all types', () => {
    fc.assert(
      fc.property(entriesArbitrary.filter(isFiniteTable), (entries) => {
        expect(refusal(queueDeclare({ entries }))).toBeUndefined();
      }),
      { numRuns: 300 },
    );
  });

  it('with an octet changed is refused exactly when another reader refuses it', () => {
    const seen = { taken: 0, refused: 0 };
    fc.assert(
      fc.property(entriesArbitrary, fc.nat(), fc.nat(255), (entries, where, octet) => {
        const table = encodeTable(entries);
        table[where % table.length] = octet;
        const taken = isTable(table);
        seen[taken ? 'taken' : 'refused']++;
        expect(refusal(declareWith(table)) === undefined).toBe(taken);
      }),
      { numRuns: 2000 },
    );
    expect(Math.min(seen.taken, seen.refused)).toBeGreaterThan(200);
  });

  it.each<[string, Field]>([
    ['infinite', { tag: 'd', value: -Infinity }],
    ['infinite', { tag: 'f', value: Infinity }],
    ['no number', { tag: 'd', value: NaN }],
    ['no number', { tag: 'f', value: NaN }],
    ['in an array', { tag: 'A', value: [{ tag: 'd', value: NaN }] }],
    ['in a table', { tag: 'F', value: [entry('x', { tag: 'f', value: NaN })] }],
  ])('is refused with a number that is %s: %j', (_, field) => {
    expect(refusal(queueDeclare({ entries: [entry('x', field)] }))).toEqual({
      code: 502,
      method: METHOD.queueDeclare,
      text: 'queue.declare: not a finite number',
    });
  });

  it.each([Number.MAX_VALUE, -Number.MIN_VALUE, 2 ** 127])('is taken with %s', (value) => {
    const entries = [
      entry('d', { tag: 'd', value }),
      entry('f', { tag: 'f', value: Math.fround(value % 2 ** 127) }),
    ];
    expect(refusal(queueDeclare({ entries }))).toBeUndefined();
  });

  it.each(['A', 'F'] as const)('may nest %s 100 deep and no deeper', (tag) => {
    const declared = (depth: number) => refusal(queueDeclare({ entries: [entry('a', nested(depth, tag))] }));
    expect(declared(100)).toBeUndefined();
    const refused = {
      code: 502,
      method: METHOD.queueDeclare,
      text: 'queue.declare: tables and arrays 101 deep',
    };
    expect(declared(101)).toEqual(refused);
    expect(declared(1500)).toEqual(refused);
  });
});

describe('a content header', () => {
  const properties = fc
    .tuple(
      fieldsOf(defs.propertiesInfoBasicProperties.args),
      fc.subarray(defs.propertiesInfoBasicProperties.args.map(({ name }) => name)),
    )
    .map(([fields, kept]) => Object.fromEntries(kept.map((name) => [name, fields[name]])));
  const read = (octets: Uint8Array) => readBodySize(amidst(octets, 0xff), 0);

  it('tells the size of the body, and is neither shorter nor longer than its properties', () => {
    fc.assert(
      fc.property(properties, fc.nat(Number.MAX_SAFE_INTEGER), fc.nat(255), (fields, size, octet) => {
        const header = defs.encodeProperties(60, 1, size, fields);
        expect(readBodySize(Buffer.concat([Buffer.alloc(5, 0xff), header]), 5)).toBe(size);
        const payload = header.subarray(7, -1);
        for (let length = 0; length < payload.length; length++) {
          const cut = refusal(frame(2, 1, payload.subarray(0, length)), read);
          expect(cut, `cut to ${length} octets`).toMatchObject({ code: 502 });
        }
        const longer = refusal(frame(2, 1, Buffer.concat([payload, Buffer.of(octet)])), read);
        expect(longer).toMatchObject({ code: 502 });
      }),
      { numRuns: 100 },
    );
  });

  /** A header of class, weight, size and the rest in hexadecimal. */
  const header = (hex: string) => frame(2, 1, Buffer.from(hex.replaceAll(' ', ''), 'hex'));

  it.each([
    ['the largest size', '003c 0000 001fffffffffffff 0000', Number.MAX_SAFE_INTEGER],
    ['a text that is no UTF-8', '003c 0000 0000000000000007 8000 01ff', 7],
    ['flags that mean nothing', '003c 0000 0000000000000000 0003', 0],
  ])('is taken with %s', (_, hex, size) => {
    expect(read(header(hex))).toBe(size);
  });

  const notBasic = { code: 505, text: 'content header that is not of class 60 and weight 0' };

  it.each([
    ['a larger size', '003c 0000 0020000000000000 0000', { code: 502, text: 'body size above 2^53' }],
    ['no flags', '003c 0000 0000000000000000', { code: 502, text: 'content header cut off' }],
    ['another class', '0032 0000 0000000000000000 0000', notBasic],
    ['a class far away', '013c 0000 0000000000000000 0000', notBasic],
    ['a weight', '003c 0001 0000000000000000 0000', notBasic],
    ['a large weight', '003c 0100 0000000000000000 0000', notBasic],
    [
      'a header that is no number',
      '003c 0000 0000000000000000 2000 0000000b 0178 64 7ff8000000000000',
      { code: 502, text: 'not a finite number' },
    ],
    [
      'a header of an unknown type',
      '003c 0000 0000000000000000 2000 00000003 0178 5a',
      { code: 502, text: 'unknown field type 0x5a' },
    ],
  ])('is refused with %s', (_, hex, refused) => {
    expect(refusal(header(hex), read)).toEqual({ ...refused, method: 0 });
  });
});
