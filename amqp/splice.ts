import { FRAME_END, FRAME_HEADER_SIZE, FRAME_OVERHEAD, REPLY } from './constants.ts';
import { WireError } from './error.ts';
import { entries, hasKey, readUint32, tableEnd } from './table.ts';

/**
 * Edits of one complete frame (type to end octet) that leave every octet alone which they don't concern. Each answers
 * the same array when there is nothing to change and else a new one; the lengths of the frame and of the table are set
 * right. The frame given is never written to.
 */

/** The frame with the bits of `mask` in the octet at `at` set or cleared. */
export function withBits(frame: Uint8Array, at: number, mask: number, on: boolean): Uint8Array {
  const octet = on ? frame[at]! | mask : frame[at]! & ~mask;
  if (octet === frame[at]) return frame;
  const edited = new Uint8Array(frame); // not slice(): of a Buffer that is a view
  edited[at] = octet;
  return edited;
}

/**
 * The frame with `value` under `key` in the table at `tableStart`: in the place of the first entry with that key, and
 * others with it removed; or as the table's last entry.
 * @param key ASCII, at most 255 octets
 * @param value a type tag and the value's octets
 * @throws WireError 502 when the table is malformed
 */
export function withEntry(frame: Uint8Array, tableStart: number, key: string, value: Uint8Array): Uint8Array {
  const limit = frame.length - 1;
  const same = entries(frame, tableStart, limit).filter((entry) => hasKey(frame, entry, key));
  const [first, ...others] = same;
  if (first === undefined) {
    const end = tableEnd(frame, tableStart, limit);
    return replace(frame, tableStart, end, end, encodeEntry(key, value));
  }
  let edited = frame;
  for (const entry of others.toReversed())
    edited = replace(edited, tableStart, entry.start, entry.end, NOTHING);
  if (equalOctets(edited.subarray(first.keyEnd, first.end), value)) return edited;
  return replace(edited, tableStart, first.keyEnd, first.end, value);
}

/**
 * The frame without the entries under `key` in the table at `tableStart`.
 * @throws WireError 502 when the table is malformed
 */
export function withoutEntry(frame: Uint8Array, tableStart: number, key: string): Uint8Array {
  let edited = frame;
  for (const entry of entries(frame, tableStart, frame.length - 1).toReversed()) {
    if (hasKey(frame, entry, key)) edited = replace(edited, tableStart, entry.start, entry.end, NOTHING);
  }
  return edited;
}

/**
 * The frame with another short string (ASCII, at most 255 octets) in the place of the one whose length octet is at `at`.
 * @throws WireError 502 when the one there reaches beyond the frame
 */
export function withShortstr(frame: Uint8Array, at: number, text: string): Uint8Array {
  const end = at + 1 + frame[at]!;
  if (end >= frame.length) throw new WireError(REPLY.syntaxError, 'short string cut off');
  const octets = new Uint8Array(1 + text.length);
  octets[0] = text.length;
  for (let i = 0; i < text.length; i++) octets[1 + i] = text.charCodeAt(i);
  return splice(frame, at, end, octets);
}

/**
 * The frame with other octets in the place of the long string whose length field is at `at`.
 * @throws WireError 502 when the one there reaches beyond the frame
 */
export function withLongstr(frame: Uint8Array, at: number, octets: Uint8Array): Uint8Array {
  const end = tableEnd(frame, at, frame.length - 1); // a longstr has its length where a table has it
  const sized = new Uint8Array(4 + octets.length);
  writeUint32(sized, 0, octets.length);
  sized.set(octets, 4);
  return splice(frame, at, end, sized);
}

/** The frame with an unsigned 16 bit number at `at`. */
export function withUint16(frame: Uint8Array, at: number, number: number): Uint8Array {
  const edited = new Uint8Array(frame); // not slice(): of a Buffer that is a view
  edited[at] = number >>> 8;
  edited[at + 1] = number;
  return edited;
}

/** The frame with an unsigned 32 bit number at `at`. */
export function withUint32(frame: Uint8Array, at: number, number: number): Uint8Array {
  const edited = new Uint8Array(frame); // not slice(): of a Buffer that is a view
  writeUint32(edited, at, number);
  return edited;
}

/**
 * A complete body frame as several, one after the other, none with a payload of more than `maxPayload` octets: how
 * content is cut into frames has no meaning (section 4.2.6.2).
 */
export function splitBody(frame: Uint8Array, maxPayload: number): Uint8Array {
  const payload = frame.subarray(FRAME_HEADER_SIZE, -1);
  const count = Math.ceil(payload.length / maxPayload);
  const split = new Uint8Array(payload.length + count * FRAME_OVERHEAD);
  for (let i = 0, at = 0; i < count; i++) {
    const part = payload.subarray(i * maxPayload, (i + 1) * maxPayload);
    split.set(frame.subarray(0, FRAME_HEADER_SIZE - 4), at);
    writeUint32(split, at + FRAME_HEADER_SIZE - 4, part.length);
    split.set(part, at + FRAME_HEADER_SIZE);
    at += part.length + FRAME_OVERHEAD;
    split[at - 1] = FRAME_END;
  }
  return split;
}

/** A longstr value: tag S, length, the text's octets; ASCII only. */
export function longstrValue(text: string): Uint8Array {
  const value = new Uint8Array(5 + text.length);
  value[0] = 0x53;
  writeUint32(value, 1, text.length);
  for (let i = 0; i < text.length; i++) value[5 + i] = text.charCodeAt(i);
  return value;
}

const NOTHING = new Uint8Array(0);

/** Puts `octets` in the place of start to end and sets the frame's length right. */
function splice(frame: Uint8Array, start: number, end: number, octets: Uint8Array): Uint8Array {
  const edited = new Uint8Array(frame.length - (end - start) + octets.length);
  edited.set(frame.subarray(0, start));
  edited.set(octets, start);
  edited.set(frame.subarray(end), start + octets.length);
  writeUint32(edited, FRAME_HEADER_SIZE - 4, edited.length - FRAME_OVERHEAD);
  return edited;
}

/** The same inside the table at `tableStart`, whose length is set right too. */
function replace(
  frame: Uint8Array,
  tableStart: number,
  start: number,
  end: number,
  octets: Uint8Array,
): Uint8Array {
  const edited = splice(frame, start, end, octets);
  writeUint32(edited, tableStart, readUint32(frame, tableStart) + edited.length - frame.length);
  return edited;
}

function encodeEntry(key: string, value: Uint8Array): Uint8Array {
  const entry = new Uint8Array(1 + key.length + value.length);
  entry[0] = key.length;
  for (let i = 0; i < key.length; i++) entry[1 + i] = key.charCodeAt(i);
  entry.set(value, 1 + key.length);
  return entry;
}

/** Writes 4 octets, most significant first: the number modulo 2^32. */
export function writeUint32(octets: Uint8Array, at: number, number: number): void {
  octets[at] = number >>> 24;
  octets[at + 1] = number >>> 16;
  octets[at + 2] = number >>> 8;
  octets[at + 3] = number;
}

function equalOctets(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((octet, i) => octet === other[i]);
}
