import { addressOctets } from '../proxy-protocol.ts';

/** An IP address: 4 octets or 16. A v4 address in v6 form, as dual-stack listeners see it, has 4. */
export type Address = readonly number[];

/** The addresses whose first `bits` bits are those of `octets`; of the same family only. */
export interface AddressRange {
  readonly octets: Address;
  readonly bits: number;
  /** As it was written, for the log. */
  toJSON(): string;
}

/** Octets before the v4 address in its v6 form, `::ffff:0:0/96` (RFC 4291, section 2.5.5.2). */
const MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

const EXPECTED =
  'expected an address or a range of addresses, as in 10.0.0.0/8, 192.0.2.7, fd00::/8 or 2001:db8::1';

/** Addresses that are kept: each connection asks for the same one several times, and most come from few. */
const KEPT_MAX = 1000;

const kept = new Map<string, Address>();

/** @param text as node:net gives it, also with a zone (`fe80::1%eth0`)  @throws TypeError when it is no IP address */
export function parseAddress(text: string): Address {
  const known = kept.get(text);
  if (known !== undefined) return known;
  const octets = addressOctets(text);
  const address = isMapped(octets) ? octets.slice(MAPPED.length) : octets;
  if (kept.size >= KEPT_MAX) kept.clear();
  kept.set(text, address);
  return address;
}

/** Parser of an address or a CIDR range (RFC 4632); octets behind the prefix have to be 0. Throws an Error with what is expected. */
export function parseRange(text: string): AddressRange {
  const [, base = '', prefix] = /^([^/%]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const octets = octetsOf(base);
  const written = base.includes(':') ? 128 : 32;
  const given = prefix === undefined ? written : Number(prefix);
  const bits = given - (written - octets.length * 8);
  if (given > written || bits < 0) throw new Error(EXPECTED);
  if (octets.some((octet, i) => (octet & ~maskOf(bits, i)) !== 0))
    throw new Error(`${EXPECTED}; ${text} has bits behind its prefix`);
  return { octets, bits, toJSON: () => text };
}

function octetsOf(text: string): Address {
  try {
    return parseAddress(text);
  } catch {
    throw new Error(EXPECTED);
  }
}

function isMapped(octets: readonly number[]): boolean {
  return octets.length === 16 && MAPPED.every((octet, i) => octets[i] === octet);
}

/** The bits of octet `i` that belong to a prefix of so many bits. */
function maskOf(bits: number, i: number): number {
  const left = Math.min(8, Math.max(0, bits - i * 8));
  return (0xff << (8 - left)) & 0xff;
}

export function inRange(address: Address, { octets, bits }: AddressRange): boolean {
  if (address.length !== octets.length) return false;
  const whole = bits >>> 3;
  for (let i = 0; i < whole; i++) if (address[i] !== octets[i]) return false;
  return whole === octets.length || ((address[whole]! ^ octets[whole]!) & maskOf(bits, whole)) === 0;
}

const LOOPBACK: readonly AddressRange[] = [parseRange('127.0.0.0/8'), parseRange('::1')];

export function isLoopback(address: Address): boolean {
  return LOOPBACK.some((range) => inRange(address, range));
}
