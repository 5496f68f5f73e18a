import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readQueueDeclare as spansOf } from '../../../amqp/method.ts';
import { longstrValue, withBits, withEntry, withoutEntry } from '../../../amqp/splice.ts';
import { WireError } from '../../../amqp/error.ts';
import { findEntry } from '../../../amqp/table.ts';
import { entriesArbitrary, fieldArbitrary } from '../../support/amqp-arbitraries.ts';
import {
  encodeField,
  type Entry,
  entry,
  type Field,
  longstr,
  queueDeclare,
  readQueueDeclare,
} from '../../support/amqp-frames.ts';
import { amidst } from '../../support/amqp-streams.ts';

const keyArbitrary = fc.constantFrom('a', 'b', 'x-expires', '', 'not there');

/** The model of withEntry: in the place of the first with that key, without the others; else at the end. */
function put(model: readonly Entry[], key: string, field: Field): Entry[] {
  const octets = Buffer.from(key);
  const at = model.findIndex((one) => one.key.equals(octets));
  if (at === -1) return [...model, { key: octets, field }];
  return model.flatMap((one, i) => {
    if (!one.key.equals(octets)) return [one];
    return i === at ? [{ key: octets, field }] : [];
  });
}

function without(model: readonly Entry[], key: string): Entry[] {
  return model.filter((one) => !one.key.equals(Buffer.from(key)));
}

/** Runs an edit on a frame inside a larger buffer, and checks that neither was written to. */
function edit(frame: Buffer, change: (frame: Uint8Array, tableStart: number) => Uint8Array): Uint8Array {
  const within = amidst(frame, 0xa5);
  const larger = new Uint8Array(within.buffer).slice();
  const edited = change(within, spansOf(within).tableStart);
  expect(new Uint8Array(within.buffer)).toEqual(larger);
  expect(edited === within || edited.buffer !== within.buffer).toBe(true);
  return edited;
}

describe('an entry put into a table', () => {
  it('gives the frame of the edited model, octet for octet', () => {
    fc.assert(
      fc.property(
        entriesArbitrary,
        keyArbitrary,
        fieldArbitrary,
        fc.nat(31),
        (entries, key, field, flags) => {
          const frame = queueDeclare({ name: 'queue', flags, entries });
          const edited = edit(frame, (octets, table) => withEntry(octets, table, key, encodeField(field)));
          expect(Buffer.from(edited)).toEqual(
            queueDeclare({ name: 'queue', flags, entries: put(entries, key, field) }),
          );
          expect(readQueueDeclare(edited).entries).toEqual(put(entries, key, field));
        },
      ),
      { numRuns: 400 },
    );
  });

  it('is found by a walk afterwards, and put again changes nothing: the same array', () => {
    fc.assert(
      fc.property(entriesArbitrary, keyArbitrary, fieldArbitrary, (entries, key, field) => {
        const value = encodeField(field);
        const frame = queueDeclare({ entries });
        const { tableStart } = spansOf(frame);
        const edited = withEntry(frame, tableStart, key, value);
        const span = findEntry(edited, tableStart, edited.length - 1, key)!;
        expect(Buffer.from(edited.subarray(span.keyEnd, span.end))).toEqual(value);
        expect(withEntry(edited, tableStart, key, value)).toBe(edited);
      }),
      { numRuns: 200 },
    );
  });

  it('stands in the place of the first of several with its key, of which none is left', () => {
    const entries = ['a', 'k', 'b', 'k', 'k', 'c'].map((key, i) => entry(key, { tag: 'I', value: i }));
    const edited = edit(queueDeclare({ entries }), (octets, table) =>
      withEntry(octets, table, 'k', longstrValue('new')),
    );
    const left = readQueueDeclare(edited).entries.map(({ key, field }) => [key.toString(), field]);
    expect(left).toEqual([
      ['a', { tag: 'I', value: 0 }],
      ['k', longstr('new')],
      ['b', { tag: 'I', value: 2 }],
      ['c', { tag: 'I', value: 5 }],
    ]);
  });

  it('equal to the first of several with its key removes the others', () => {
    const same = entry('k', longstr('v'));
    const frame = queueDeclare({ entries: [same, entry('k', { tag: 'V' })] });
    const edited = edit(frame, (octets, table) => withEntry(octets, table, 'k', longstrValue('v')));
    expect(Buffer.from(edited)).toEqual(queueDeclare({ entries: [same] }));
  });

  it('with the same octets and another tag replaces it', () => {
    const frame = queueDeclare({ entries: [entry('k', { tag: 'x', value: Buffer.from('v') })] });
    const edited = edit(frame, (octets, table) => withEntry(octets, table, 'k', longstrValue('v')));
    expect(readQueueDeclare(edited).entries).toEqual([entry('k', longstr('v'))]);
  });
});

describe('an entry removed from a table', () => {
  it('gives the frame of the edited model, octet for octet', () => {
    fc.assert(
      fc.property(entriesArbitrary, keyArbitrary, (entries, key) => {
        const frame = queueDeclare({ name: 'queue', entries });
        const edited = edit(frame, (octets, table) => withoutEntry(octets, table, key));
        expect(Buffer.from(edited)).toEqual(queueDeclare({ name: 'queue', entries: without(entries, key) }));
      }),
      { numRuns: 400 },
    );
  });

  it('that is not there changes nothing: the same array', () => {
    const frame = queueDeclare({ entries: [entry('a', { tag: 'V' })] });
    expect(withoutEntry(frame, spansOf(frame).tableStart, 'b')).toBe(frame);
  });

  it('and put is as if it had been put at the end', () => {
    fc.assert(
      fc.property(entriesArbitrary, keyArbitrary, fieldArbitrary, (entries, key, field) => {
        const frame = queueDeclare({ entries });
        const { tableStart } = spansOf(frame);
        const removed = withoutEntry(frame, tableStart, key);
        const edited = withEntry(removed, tableStart, key, encodeField(field));
        expect(readQueueDeclare(edited).entries).toEqual([
          ...without(entries, key),
          { key: Buffer.from(key), field },
        ]);
      }),
      { numRuns: 200 },
    );
  });
});

describe('flag bits', () => {
  it('are set and cleared, and no other octet changes', () => {
    fc.assert(
      fc.property(entriesArbitrary, fc.nat(255), fc.nat(255), fc.boolean(), (entries, flags, mask, on) => {
        const frame = queueDeclare({ flags, entries });
        const edited = edit(frame, (octets) => withBits(octets, spansOf(octets).flagsAt, mask, on));
        const wanted = on ? flags | mask : flags & ~mask;
        expect(Buffer.from(edited)).toEqual(queueDeclare({ flags: wanted, entries }));
      }),
      { numRuns: 200 },
    );
  });

  it('that are as wanted already change nothing: the same array', () => {
    const frame = queueDeclare({ flags: 0b0101 });
    const { flagsAt } = spansOf(frame);
    expect(withBits(frame, flagsAt, 0b0101, true)).toBe(frame);
    expect(withBits(frame, flagsAt, 0b1010, false)).toBe(frame);
  });
});

describe('a table that is malformed', () => {
  it('is refused with 502 by edits, whatever the key, and the frame is as before', () => {
    const frame = queueDeclare({ entries: [entry('a', { tag: 'V' }), entry('b', { tag: 'V' })] });
    const { tableStart } = spansOf(frame);
    frame[tableStart + 4 + 3 + 2] = 0x7a; // the second entry's tag
    const before = Buffer.from(frame);
    for (const key of ['a', 'b', 'c']) {
      for (const change of [
        () => withEntry(frame, tableStart, key, longstrValue('v')),
        () => withoutEntry(frame, tableStart, key),
      ]) {
        expect(change).toThrow(WireError);
        expect(change).toThrow('unknown field type 0x7a');
      }
    }
    expect(frame).toEqual(before);
  });
});

describe('values to put', () => {
  it.each(['', 'quorum', 'reject-publish'])('%j is a longstr', (text) => {
    expect(Buffer.from(longstrValue(text))).toEqual(encodeField(longstr(text)));
  });
});
