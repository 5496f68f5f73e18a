import { REPLY } from './constants.ts';
import { WireError } from './error.ts';

/**
 * Field tables (AMQP 0-9-1 section 4.2.5.5) with RabbitMQ's type tags: walked, never decoded. A value is skipped by
 * its tag, so that what nobody asks about keeps its octets, whatever they are.
 */

/** Where one entry of a table lies; positions are octets from the start of the buffer, ends exclusive. */
export interface EntrySpan {
  /** The key's length octet: the entry's first. */
  readonly start: number;
  readonly keyStart: number;
  readonly keyEnd: number;
  /** The value's type tag, an ASCII code. */
  readonly tag: number;
  /** The value's first octet, behind the tag. */
  readonly valueStart: number;
  /** The value's end and the entry's. */
  readonly end: number;
}

/** Octets of values with a fixed size, by tag, as RabbitMQ's rabbit_binary_parser reads them; L since 3.x (measured). */
const FIXED_SIZE: Readonly<Record<string, number>> = {
  t: 1, // boolean
  b: 1, // signed 8 bit
  B: 1, // unsigned 8 bit
  s: 2, // signed 16 bit
  u: 2, // unsigned 16 bit
  I: 4, // signed 32 bit
  i: 4, // unsigned 32 bit
  l: 8, // signed 64 bit
  L: 8, // unsigned 64 bit
  f: 4, // float
  d: 8, // double
  D: 5, // decimal: scale, unsigned 32 bit
  T: 8, // timestamp
  V: 0, // void
};

/** Tags whose value begins with its length in 4 octets: longstr, octets, array, table. */
const LENGTH_PREFIXED = 'SxAF';

const VARIABLE = -1;
const UNKNOWN = -2;

const SIZE_BY_TAG = new Int8Array(256).fill(UNKNOWN);
for (const [tag, size] of Object.entries(FIXED_SIZE)) SIZE_BY_TAG[tag.charCodeAt(0)] = size;
for (const tag of LENGTH_PREFIXED) SIZE_BY_TAG[tag.charCodeAt(0)] = VARIABLE;

/** Reads 4 octets as an unsigned number, most significant first. */
export function readUint32(octets: Uint8Array, at: number): number {
  return octets[at]! * 0x1000000 + ((octets[at + 1]! << 16) | (octets[at + 2]! << 8) | octets[at + 3]!);
}

/**
 * The end of the table at `tableStart` (its length field), exclusive.
 * @throws WireError 502 when the length reaches beyond `limit`.
 */
export function tableEnd(octets: Uint8Array, tableStart: number, limit: number): number {
  if (limit - tableStart < 4) throw malformed('field table without a length');
  const end = tableStart + 4 + readUint32(octets, tableStart);
  if (end > limit)
    throw malformed(`field table of ${end - tableStart - 4} octets in ${limit - tableStart - 4}`);
  return end;
}

/**
 * Skips one value.
 * @param tag the type tag, an ASCII code
 * @param at the value's first octet, behind the tag
 * @param limit the end of what the value may lie in
 * @returns the position behind the value
 * @throws WireError 502 for an unknown tag and for a value that reaches beyond `limit`
 */
export function skipValue(octets: Uint8Array, tag: number, at: number, limit: number): number {
  const fixed = SIZE_BY_TAG[tag] ?? UNKNOWN;
  if (fixed === UNKNOWN) throw malformed(`unknown field type 0x${tag.toString(16).padStart(2, '0')}`);
  if (fixed !== VARIABLE) {
    if (at + fixed > limit) throw malformed('field value cut off');
    return at + fixed;
  }
  if (limit - at < 4) throw malformed('field value cut off');
  const end = at + 4 + readUint32(octets, at);
  if (end > limit) throw malformed('field value longer than its table');
  return end;
}

/** The end of the entry that begins at `at`, in a table that ends at `limit`. @throws WireError 502 when it is malformed */
function entryEnd(octets: Uint8Array, at: number, limit: number): number {
  const keyEnd = at + 1 + octets[at]!;
  if (keyEnd >= limit) throw malformed('field name longer than its table');
  return skipValue(octets, octets[keyEnd]!, keyEnd + 1, limit);
}

/** The entry that begins at `at`, in a table that ends at `limit`. @throws WireError 502 when it is malformed */
function readEntry(octets: Uint8Array, at: number, limit: number): EntrySpan {
  const end = entryEnd(octets, at, limit);
  const keyEnd = at + 1 + octets[at]!;
  return { start: at, keyStart: at + 1, keyEnd, tag: octets[keyEnd]!, valueStart: keyEnd + 1, end };
}

/**
 * All entries of the table at `tableStart`, in the order of the wire, duplicates included; tables inside are not
 * entered.
 * @throws WireError 502 when the table or an entry is malformed or reaches beyond `limit`
 */
export function entries(octets: Uint8Array, tableStart: number, limit: number): EntrySpan[] {
  const end = tableEnd(octets, tableStart, limit);
  const found: EntrySpan[] = [];
  for (let at = tableStart + 4; at < end;) {
    const entry = readEntry(octets, at, end);
    found.push(entry);
    at = entry.end;
  }
  return found;
}

/** Whether the entry's key is `key`, which must be ASCII. */
export function hasKey(octets: Uint8Array, { start }: Pick<EntrySpan, 'start'>, key: string): boolean {
  return isKey(octets, start, key);
}

/** Whether the short string at `at` is `key`, which must be ASCII. */
function isKey(octets: Uint8Array, at: number, key: string): boolean {
  if (octets[at] !== key.length) return false;
  for (let i = 0; i < key.length; i++) {
    if (octets[at + 1 + i] !== key.charCodeAt(i)) return false;
  }
  return true;
}

/**
 * The first entry with this ASCII key, or undefined.
 * @throws WireError 502 when the table is malformed, also behind the entry
 */
export function findEntry(
  octets: Uint8Array,
  tableStart: number,
  limit: number,
  key: string,
): EntrySpan | undefined {
  const end = tableEnd(octets, tableStart, limit);
  let found = -1;
  for (let at = tableStart + 4; at < end; at = entryEnd(octets, at, end)) {
    if (found === -1 && isKey(octets, at, key)) found = at;
  }
  return found === -1 ? undefined : readEntry(octets, found, end);
}

/**
 * The value of an S entry where it is ASCII text, else undefined (another type, other octets).
 */
export function asciiValue(octets: Uint8Array, entry: EntrySpan): string | undefined {
  if (entry.tag !== 0x53) return undefined;
  let text = '';
  for (let at = entry.valueStart + 4; at < entry.end; at++) {
    if (octets[at]! > 0x7f) return undefined;
    text += String.fromCharCode(octets[at]!);
  }
  return text;
}

/** The value of an entry of one of the integer types, else undefined. */
export function integerValue(
  octets: Uint8Array,
  { tag, valueStart, end }: Pick<EntrySpan, 'tag' | 'valueStart' | 'end'>,
): bigint | undefined {
  const view = new DataView(octets.buffer, octets.byteOffset + valueStart, end - valueStart);
  switch (String.fromCharCode(tag)) {
    case 'b':
      return BigInt(view.getInt8(0));
    case 'B':
      return BigInt(view.getUint8(0));
    case 's':
      return BigInt(view.getInt16(0));
    case 'u':
      return BigInt(view.getUint16(0));
    case 'I':
      return BigInt(view.getInt32(0));
    case 'i':
      return BigInt(view.getUint32(0));
    case 'l':
      return view.getBigInt64(0);
    case 'L':
      return view.getBigUint64(0);
    default:
      return undefined;
  }
}

function malformed(text: string): WireError {
  return new WireError(REPLY.syntaxError, text);
}
