import { writeUint32 } from '../../amqp/splice.ts';
import { readUint32 } from '../../amqp/table.ts';

/**
 * A delivery tag, or the number of a publish: 64 bits on the wire. Infinity beyond 2^53 - 1: a broker that counts up from 1
 * gets there after 285 years of a million messages a second, so that such a number can only be made up.
 */
export function readTag(octets: Uint8Array, at: number): number {
  const tag = readUint32(octets, at) * 0x1_0000_0000 + readUint32(octets, at + 4);
  return tag <= Number.MAX_SAFE_INTEGER ? tag : Infinity;
}

/** @param tag at most 2^53 - 1 */
export function writeTag(octets: Uint8Array, at: number, tag: number): void {
  writeUint32(octets, at, Math.floor(tag / 0x1_0000_0000));
  writeUint32(octets, at + 4, tag);
}
