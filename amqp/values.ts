import { WireError } from './error.ts';
import { REPLY } from './constants.ts';
import { type EntrySpan, entries, integerValue, readUint32, skipValue } from './table.ts';

/**
 * Field tables from plain values and back (AMQP 0-9-1 section 4.2.5.5), for people: what passes through the proxy is never
 * decoded. Whole numbers are bigint and become I where 32 bits hold them, else l; number is d; null is V.
 */
export type FieldValue =
  | string
  | boolean
  | bigint
  | number
  | null
  | readonly FieldValue[]
  | { readonly [key: string]: FieldValue };

export type FieldTable = Readonly<Record<string, FieldValue>>;

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder();

const INT32 = 2n ** 31n;
const INT64 = 2n ** 63n;

/** Whether a whole number has a type on the wire: 64 bits with its sign. */
export function isInteger64(value: bigint): boolean {
  return value >= -INT64 && value < INT64;
}

/**
 * A value as it stands in tables: its type tag and its octets.
 * @throws RangeError for a whole number beyond 64 bits, and for a key of more than 255 octets
 */
export function encodeField(value: FieldValue): Uint8Array {
  if (value === null) return tagged('V', new Uint8Array(0));
  if (typeof value === 'string') return tagged('S', sized(utf8.encode(value)));
  if (typeof value === 'boolean') return tagged('t', Uint8Array.of(value ? 1 : 0));
  if (typeof value === 'bigint') return encodeInteger(value);
  if (typeof value === 'number') {
    const octets = new Uint8Array(8);
    new DataView(octets.buffer).setFloat64(0, value);
    return tagged('d', octets);
  }
  if (isList(value)) return tagged('A', sized(joined(value.map(encodeField))));
  return tagged('F', encodeTable(value));
}

/** A table with its length before it. @throws RangeError as {@link encodeField} does */
export function encodeTable(table: FieldTable): Uint8Array {
  const pieces = Object.entries(table).flatMap(([key, value]) => [encodeShortstr(key), encodeField(value)]);
  return sized(joined(pieces));
}

/** A short string with its length before it. @throws RangeError when it has more than 255 octets */
export function encodeShortstr(text: string): Uint8Array {
  const octets = utf8.encode(text);
  if (octets.length > 255) throw new RangeError(`${octets.length} octets, a short string has at most 255`);
  return joined([Uint8Array.of(octets.length), octets]);
}

/**
 * The table at `tableStart`, of integers and the types that {@link encodeField} writes; of a key that comes twice the last
 * value.
 * @throws WireError 502 when it is malformed, reaches beyond `limit` or has a value of another type
 */
export function decodeTable(octets: Uint8Array, tableStart: number, limit: number): FieldTable {
  return Object.fromEntries(
    entries(octets, tableStart, limit).map((entry) => [
      fromUtf8.decode(octets.subarray(entry.keyStart, entry.keyEnd)),
      decodeValue(octets, entry),
    ]),
  );
}

type ValueSpan = Pick<EntrySpan, 'tag' | 'valueStart' | 'end'>;

/** A value as {@link encodeField} gives it. @throws WireError 502 when it is another */
export function decodeField(field: Uint8Array): FieldValue {
  const tag = field[0]!;
  return decodeValue(field, { tag, valueStart: 1, end: skipValue(field, tag, 1, field.length) });
}

function decodeValue(octets: Uint8Array, span: ValueSpan): FieldValue {
  const { tag, valueStart, end } = span;
  switch (String.fromCharCode(tag)) {
    case 'V':
      return null;
    case 'S':
      return fromUtf8.decode(octets.subarray(valueStart + 4, end));
    case 't':
      return octets[valueStart] !== 0;
    case 'd':
      return new DataView(octets.buffer, octets.byteOffset + valueStart).getFloat64(0);
    case 'F':
      return decodeTable(octets, valueStart, end);
    case 'A':
      return decodeArray(octets, valueStart, end);
    default:
      return decodeInteger(octets, span);
  }
}

function decodeInteger(octets: Uint8Array, span: ValueSpan): bigint {
  const value = integerValue(octets, span);
  if (value === undefined) throw new WireError(REPLY.syntaxError, `value of type 0x${span.tag.toString(16)}`);
  return value;
}

function decodeArray(octets: Uint8Array, start: number, end: number): FieldValue[] {
  const values: FieldValue[] = [];
  const limit = start + 4 + readUint32(octets, start);
  if (limit !== end) throw new WireError(REPLY.syntaxError, 'array of a wrong length');
  for (let at = start + 4; at < limit;) {
    const tag = octets[at]!;
    const span = { tag, valueStart: at + 1, end: skipValue(octets, tag, at + 1, limit) };
    values.push(decodeValue(octets, span));
    at = span.end;
  }
  return values;
}

/** A table as JSON can have it: whole numbers that JSON doesn't hold exactly are texts. */
export function plainTable(table: FieldTable): Record<string, unknown> {
  return Object.fromEntries(Object.entries(table).map(([key, value]) => [key, plainValue(value)]));
}

function plainValue(value: FieldValue): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (typeof value !== 'object' || value === null) return value;
  return isList(value) ? value.map(plainValue) : plainTable(value);
}

function encodeInteger(value: bigint): Uint8Array {
  if (!isInteger64(value)) throw new RangeError(`${value} doesn't fit in 64 bits`);
  const isSmall = value >= -INT32 && value < INT32;
  const octets = new Uint8Array(isSmall ? 4 : 8);
  const view = new DataView(octets.buffer);
  if (isSmall) view.setInt32(0, Number(value));
  else view.setBigInt64(0, value);
  return tagged(isSmall ? 'I' : 'l', octets);
}

function isList(value: FieldTable | readonly FieldValue[]): value is readonly FieldValue[] {
  return Array.isArray(value);
}

function tagged(tag: string, octets: Uint8Array): Uint8Array {
  return joined([Uint8Array.of(tag.charCodeAt(0)), octets]);
}

function sized(octets: Uint8Array): Uint8Array {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, octets.length);
  return joined([length, octets]);
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
