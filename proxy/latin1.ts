/** The octets from `start` to `end` (exclusive) as text, an octet a character: names on the wire may be any octets. */
export function latin1(octets: Uint8Array, start: number, end: number): string {
  return Buffer.from(octets.buffer, octets.byteOffset + start, end - start).toString('latin1');
}
