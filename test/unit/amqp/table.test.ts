import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { asciiValue, entries, type EntrySpan, findEntry, hasKey } from '../../../amqp/table.ts';
import { WireError } from '../../../amqp/error.ts';
import { entriesArbitrary, fieldArbitrary } from '../../support/amqp-arbitraries.ts';
import {
  decodeTable,
  encodeEntry,
  encodeField,
  encodeTable,
  type Entry,
  entry,
  type Field,
  longstr,
  TAGS,
} from '../../support/amqp-frames.ts';
import { amidst } from '../../support/amqp-streams.ts';

/** Where the model says that a table's entries lie. */
function spansOf(model: readonly Entry[], tableStart: number): EntrySpan[] {
  let start = tableStart + 4;
  return model.map((one) => {
    const keyStart = start + 1;
    const keyEnd = keyStart + one.key.length;
    const end = start + encodeEntry(one).length;
    const span = {
      start,
      keyStart,
      keyEnd,
      tag: one.field.tag.charCodeAt(0),
      valueStart: keyEnd + 1,
      end,
    };
    start = end;
    return span;
  });
}

/** What walking ends with: spans, or the reply code and text of the error. Anything else that is thrown goes on. */
function walk(octets: Uint8Array, tableStart = 0, limit = octets.length): EntrySpan[] | string {
  try {
    return entries(octets, tableStart, limit);
  } catch (error) {
    if (error instanceof WireError) return `${error.replyCode} ${error.message}`;
    throw error;
  }
}

/** One value of each tag. */
const ONE_EACH: readonly Field[] = [
  { tag: 't', value: 2 },
  { tag: 'b', value: -128 },
  { tag: 'B', value: 255 },
  { tag: 's', value: -0x8000 },
  { tag: 'u', value: 0xffff },
  { tag: 'I', value: -1 },
  { tag: 'i', value: 0xffff_ffff },
  { tag: 'l', value: -1n },
  { tag: 'L', value: 0xffff_ffff_ffff_ffffn },
  { tag: 'f', value: 1.5 },
  { tag: 'd', value: Math.PI },
  { tag: 'D', scale: 2, value: 314 },
  { tag: 'S', value: Buffer.of(0xff, 0xfe, 0) },
  { tag: 'x', value: Buffer.alloc(300, 0x46) },
  { tag: 'A', value: [{ tag: 'V' }, longstr('in an array'), { tag: 'A', value: [] }] },
  { tag: 'F', value: [entry('inner', { tag: 'F', value: [entry('', { tag: 'V' })] })] },
  { tag: 'T', value: 1_700_000_000n },
  { tag: 'V' },
];

describe('a field table', () => {
  it.each(ONE_EACH.map((field) => ({ field })))(
    'is walked over a value of tag $field.tag, between two others',
    ({ field }) => {
      const model = [entry('before', longstr('x')), entry('key', field), entry('after', { tag: 'V' })];
      expect(walk(encodeTable(model))).toEqual(spansOf(model, 0));
    },
  );

  it('of one value of each tag is walked', () => {
    expect(ONE_EACH.map(({ tag }) => tag).join('')).toBe(TAGS);
    const model = ONE_EACH.map((field) => entry(`key ${field.tag}`, field));
    expect(walk(encodeTable(model))).toEqual(spansOf(model, 0));
    expect(decodeTable(encodeTable(model))).toEqual(model);
  });

  it('of any values is walked as the model says, wherever it lies', () => {
    fc.assert(
      fc.property(entriesArbitrary, fc.nat(9), fc.nat(255), (model, tableStart, garbage) => {
        const table = encodeTable(model);
        const octets = amidst(Buffer.concat([Buffer.alloc(tableStart, garbage), table]), garbage);
        expect(walk(octets, tableStart)).toEqual(spansOf(model, tableStart));
        expect(decodeTable(table)).toEqual(model);
      }),
      { numRuns: 300 },
    );
  });

  it('may be empty', () => {
    expect(walk(Buffer.alloc(4))).toEqual([]);
  });

  it('finds the first entry with a key, also among duplicates', () => {
    fc.assert(
      fc.property(
        entriesArbitrary,
        fc.constantFrom('a', 'b', 'x-expires', '', 'x-expire', 'X-EXPIRES'),
        (model, key) => {
          const octets = encodeTable(model);
          const index = model.findIndex((one) => one.key.equals(Buffer.from(key)));
          expect(findEntry(octets, 0, octets.length, key)).toEqual(spansOf(model, 0)[index]);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('is refused where an entry behind the one that is looked for is malformed', () => {
    const octets = Buffer.concat([encodeTable([entry('key', { tag: 'V' })]), Buffer.from('\x04abc')]);
    octets.writeUInt32BE(octets.length - 4);
    expect(() => findEntry(octets, 0, octets.length, 'key')).toThrow('field name longer than its table');
  });

  it('tells keys apart by all their octets', () => {
    const octets = encodeTable([entry('x-expires', { tag: 'V' })]);
    const [span] = entries(octets, 0, octets.length);
    expect(hasKey(octets, span!, 'x-expires')).toBe(true);
    for (const other of ['', 'x-expire', 'x-expires2', 'y-expires', 'x-expireS']) {
      expect(hasKey(octets, span!, other)).toBe(false);
    }
  });

  it.each<[string, Field, string | undefined]>([
    ['an S of ASCII', longstr('quorum'), 'quorum'],
    ['an empty S', longstr(''), ''],
    ['an S that is not ASCII', longstr('quörum'), undefined],
    ['octets (x)', { tag: 'x', value: Buffer.from('quorum') }, undefined],
    ['a number', { tag: 'I', value: 5 }, undefined],
  ])('has the text of %s', (_name, field, text) => {
    const octets = encodeTable([entry('key', field)]);
    expect(asciiValue(octets, findEntry(octets, 0, octets.length, 'key')!)).toBe(text);
  });
});

const REFUSED = expect.stringMatching(/^502 /) as string;

/** Whether each entry begins where the one before ends, and the last one ends where the table does. */
function tiles(spans: readonly EntrySpan[], table: Buffer): boolean {
  let at = 4;
  for (const { start, end } of spans) {
    if (start !== at) return false;
    at = end;
  }
  return at === 4 + table.readUInt32BE();
}

describe('a malformed field table', () => {
  it('that ends anywhere before its end is refused with 502, although octets lie behind', () => {
    fc.assert(
      fc.property(entriesArbitrary, (model) => {
        const octets = encodeTable(model);
        for (let limit = 0; limit < octets.length; limit++) {
          expect(walk(octets, 0, limit)).toMatch(/^502 /);
          expect(walk(octets.subarray(0, limit))).toMatch(/^502 /);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('whose length is too short is refused with 502, unless it ends between two entries', () => {
    fc.assert(
      fc.property(entriesArbitrary, (model) => {
        const octets = encodeTable(model);
        const spans = spansOf(model, 0);
        const between = new Set([4, ...spans.map(({ end }) => end)]);
        for (let end = 4; end <= octets.length; end++) {
          octets.writeUInt32BE(end - 4);
          const walked = between.has(end) ? spans.filter((span) => span.end <= end) : REFUSED;
          expect(walk(octets)).toEqual(walked);
          expect(walk(octets.subarray(0, end))).toEqual(walked);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('whose length is too long is refused with 502', () => {
    const octets = encodeTable([entry('a', longstr('b'))]);
    const right = octets.readUInt32BE();
    for (const length of [right + 1, right + 4, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) {
      octets.writeUInt32BE(length);
      expect(walk(octets)).toMatch(/^502 field table of \d+ octets in 8$/);
    }
  });

  it('with a tag that RabbitMQ does not know is refused with 502', () => {
    const octets = encodeTable([entry('a', longstr('four'))]);
    const known: string[] = [];
    for (let tag = 0; tag < 256; tag++) {
      octets[6] = tag;
      const hex = tag.toString(16).padStart(2, '0');
      if (walk(octets) !== `502 unknown field type 0x${hex}`) known.push(String.fromCharCode(tag));
    }
    expect(known.sort().join('')).toBe(TAGS.split('').sort().join(''));
  });

  it.each(['S', 'x', 'A', 'F'] as const)(
    'with a value of tag %s that is longer than the table is refused with 502, within the frame as beyond it',
    (tag) => {
      const field = { tag, value: tag === 'A' || tag === 'F' ? [] : Buffer.alloc(0) } as Field;
      const table = encodeTable([entry('a', field)]);
      for (const length of [1, 3, 100, 0x8000_0000, 0xffff_ffff]) {
        table.writeUInt32BE(length, 7);
        const octets = Buffer.concat([table, Buffer.alloc(50)]);
        expect(walk(octets, 0, table.length)).toBe('502 field value longer than its table');
        expect(walk(octets)).toBe('502 field value longer than its table');
      }
    },
  );

  it('with a key that is longer than the table is refused with 502', () => {
    const octets = encodeTable([entry('abc', { tag: 'V' })]);
    expect(octets).toHaveLength(4 + 1 + 3 + 1);
    for (const length of [4, 5, 255]) {
      octets[4] = length;
      expect(walk(Buffer.concat([octets, Buffer.alloc(300)]))).toBe('502 field name longer than its table');
    }
  });

  it('with any other octets is refused with 502 or walked from end to end, and not read outside', () => {
    const changed = fc
      .tuple(entriesArbitrary, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }))
      .map(([model, changes]) => {
        const octets = encodeTable(model);
        for (const [place, octet] of changes) octets[place % octets.length] = octet;
        return octets;
      });
    const noise = fc
      .uint8Array({ maxLength: 60 })
      .map((octets) => Buffer.concat([Buffer.of(0, 0, 0, octets.length), octets]));
    fc.assert(
      fc.property(fc.oneof(changed, noise), (octets) => {
        const walked = walk(amidst(octets, 0x53));
        expect(walk(amidst(octets, 0xff))).toEqual(walked);
        const right = typeof walked === 'string' ? walked.startsWith('502 ') : tiles(walked, octets);
        expect(right, `walked: ${JSON.stringify(walked)}`).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

interface Codec {
  /** Writes a table with its length at an offset; answers its octets' number. */
  encodeTable(buffer: Buffer, table: object, offset: number): number;
}

describe("tables that amqplib's codec wrote", () => {
  const require = createRequire(import.meta.url);
  const codec = require(join(dirname(require.resolve('amqplib')), 'lib', 'codec.js')) as Codec;

  const value: fc.Memo<unknown> = fc.memo((depth) => {
    const flat = fc.oneof(
      fc.boolean(),
      fc.integer(),
      fc.maxSafeInteger(),
      fc.double({ min: -1e15, max: 1e15, noNaN: true }),
      fc.string({ maxLength: 12 }),
      fc.string({ unit: 'grapheme', maxLength: 6 }),
      fc.constant(null),
      fc.uint8Array({ maxLength: 12 }).map((octets) => Buffer.from(octets)),
      fc.nat().map((number) => ({ '!': 'timestamp', value: number })),
      fc.nat(255).map((number) => ({ '!': 'uint8', value: number })),
      fc.nat(0xffff).map((number) => ({ '!': 'uint16', value: number })),
      fc.nat().map((number) => ({ '!': 'uint32', value: number })),
      fc.float({ noNaN: true }).map((number) => ({ '!': 'float', value: number })),
      fc.nat().map((digits) => ({ '!': 'decimal', value: { places: 3, digits } })),
    );
    if (depth <= 1) return flat;
    return fc.oneof(
      { weight: 4, arbitrary: flat },
      fc.array(value(depth - 1), { maxLength: 4 }),
      table(depth - 1),
    );
  });
  const table = (depth: number): fc.Arbitrary<object> =>
    fc
      .dictionary(
        fc.string({ maxLength: 10 }).filter((key) => key !== '!'),
        value(depth),
        { maxKeys: 6 },
      )
      .map((dictionary) => ({ ...dictionary }));

  it('are walked to the same keys, in the same order, and to their end', () => {
    fc.assert(
      fc.property(table(3), fc.nat(5), (object, tableStart) => {
        const buffer = Buffer.alloc(20_000, 0xff);
        const size = codec.encodeTable(buffer, object, tableStart);
        const spans = entries(buffer, tableStart, tableStart + size);
        const keys = spans.map(({ keyStart, keyEnd }) => buffer.toString('utf8', keyStart, keyEnd));
        expect(keys).toEqual(Object.keys(object).map((key) => Buffer.from(key).toString()));
        expect(spans.at(-1)?.end ?? tableStart + 4).toBe(tableStart + size);
      }),
      { numRuns: 300 },
    );
  });

  it('have each value just where amqplib wrote it', () => {
    fc.assert(
      fc.property(fc.array(value(2), { maxLength: 5 }), (values) => {
        const object = Object.fromEntries(values.map((one, i) => [`key${i}`, one]));
        const buffer = Buffer.alloc(10_000);
        const size = codec.encodeTable(buffer, object, 0);
        for (const [i, span] of entries(buffer, 0, size).entries()) {
          const alone = Buffer.alloc(10_000);
          const length = codec.encodeTable(alone, { k: values[i] }, 0);
          expect(buffer.subarray(span.keyEnd, span.end)).toEqual(alone.subarray(6, length));
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('a value', () => {
  it('of any tag is as long in the walk as in the model', () => {
    fc.assert(
      fc.property(fieldArbitrary, (field) => {
        const octets = encodeTable([entry('', field)]);
        const [span] = entries(octets, 0, octets.length);
        expect(octets.subarray(span!.keyEnd, span!.end)).toEqual(encodeField(field));
      }),
      { numRuns: 200 },
    );
  });
});
