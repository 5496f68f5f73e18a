const utf8 = new TextDecoder('utf-8', { fatal: false });

/** The name between these positions; octets that aren't UTF-8, which brokers refuse, are replaced. */
export function nameOf(frame: Uint8Array, nameStart: number, nameEnd: number): string {
  return utf8.decode(frame.subarray(nameStart, nameEnd));
}

const RESERVED = Uint8Array.of(0x61, 0x6d, 0x71, 0x2e); // "amq."

/** Whether the name between these positions belongs to the broker (amq.*): it refuses or defines those itself. */
export function isReservedName(frame: Uint8Array, nameStart: number, nameEnd: number): boolean {
  return (
    nameEnd - nameStart >= RESERVED.length && RESERVED.every((octet, i) => frame[nameStart + i] === octet)
  );
}
