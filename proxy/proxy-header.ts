import { type Endpoints, SIGNATURE } from './proxy-protocol.ts';

/** Octets before the addresses: the signature, version and command, family, length. */
const FIXED = 16;

/**
 * The longest header that is taken, in octets. The specification (section 2.2) has senders stay within a TCP segment of the
 * smallest MTU; a length field that says more is no load balancer's.
 */
const LONGEST = 536;

const VERSION_1 = [0x50, 0x52, 0x4f, 0x58, 0x59, 0x20]; // "PROXY "

/** What is wrong with a header, for people. */
export class ProxyHeaderError extends Error {}

/** A header that was read. */
export interface ProxyHeader {
  /** Whom the connection is of; undefined: the sender's own (LOCAL, or a family without addresses of the internet). */
  readonly endpoints: Endpoints | undefined;
}

/** Reads the header of PROXY protocol version 2 (HAProxy's specification, section 2.2) in whatever pieces it comes. */
export class ProxyHeaderReader {
  readonly #octets = new Uint8Array(LONGEST);
  #filled = 0;
  #header: ProxyHeader | undefined;

  /** Once {@link push} has answered something. */
  get header(): ProxyHeader | undefined {
    return this.#header;
  }

  /**
   * Takes the next octets of the connection, as far as they are the header's.
   * @param length how many of the chunk's are valid
   * @returns how many were taken when the header is complete, undefined before
   * @throws ProxyHeaderError when it is none, at the first octet that shows it
   */
  push(chunk: Uint8Array, length: number): number | undefined {
    let taken = 0;
    for (;;) {
      const due = this.#due();
      if (this.#filled === due) {
        this.#header = { endpoints: this.#read(due) };
        return taken;
      }
      if (taken === length) return undefined;
      const count = Math.min(due - this.#filled, length - taken);
      this.#octets.set(chunk.subarray(taken, taken + count), this.#filled);
      this.#filled += count;
      taken += count;
      this.#check();
    }
  }

  /** Up to where the header goes, as far as that is known. */
  #due(): number {
    return this.#filled < FIXED ? FIXED : FIXED + ((this.#octets[14]! << 8) | this.#octets[15]!);
  }

  /** Looks at what there is. */
  #check(): void {
    const octets = this.#octets;
    const filled = this.#filled;
    const signature = Math.min(filled, SIGNATURE.length);
    for (let at = 0; at < signature; at++) {
      if (octets[at] !== SIGNATURE[at]) throw new ProxyHeaderError(describe(octets, filled));
    }
    if (filled > 12 && octets[12]! >>> 4 !== 2)
      throw new ProxyHeaderError(`PROXY protocol version ${octets[12]! >>> 4}, and only version 2 is taken`);
    if (filled > 12 && (octets[12]! & 0xf) > 1)
      throw new ProxyHeaderError(`PROXY protocol command ${octets[12]! & 0xf}, which does not exist`);
    if (filled >= FIXED && this.#due() > LONGEST)
      throw new ProxyHeaderError(`a PROXY header of ${this.#due()} octets, and at most ${LONGEST} are taken`);
  }

  #read(length: number): Endpoints | undefined {
    const octets = this.#octets;
    const isLocal = (octets[12]! & 0xf) === 0;
    const family = octets[13]! >>> 4;
    const transport = octets[13]! & 0xf;
    if (isLocal || family === 0 || family === 3) return undefined;
    if (family > 3 || transport !== 1)
      throw new ProxyHeaderError(
        `PROXY protocol for family ${family} and transport ${transport}: this is no TCP connection`,
      );
    const size = family === 1 ? 4 : 16;
    const ports = FIXED + size * 2;
    if (length < ports + 4)
      throw new ProxyHeaderError(`a PROXY header with ${length - FIXED} octets of addresses, too few`);
    return {
      sourceAddress: addressText(octets.subarray(FIXED, FIXED + size)),
      destinationAddress: addressText(octets.subarray(FIXED + size, ports)),
      sourcePort: (octets[ports]! << 8) | octets[ports + 1]!,
      destinationPort: (octets[ports + 2]! << 8) | octets[ports + 3]!,
    };
  }
}

function describe(octets: Uint8Array, filled: number): string {
  const isVersion1 = VERSION_1.every((octet, at) => at >= filled || octets[at] === octet);
  if (isVersion1) return 'a PROXY header of version 1, and only version 2 is taken';
  return 'the first octets are no PROXY header: does the load balancer send it (version 2)?';
}

/** As node:net writes it; a v4 address in v6 form is written as v4. */
function addressText(octets: Uint8Array): string {
  if (octets.length === 4) return octets.join('.');
  const isMapped = octets.every((octet, at) => at >= 12 || octet === (at < 10 ? 0 : 0xff));
  if (isMapped) return octets.subarray(12).join('.');
  const groups: string[] = [];
  for (let at = 0; at < 16; at += 2) groups.push(((octets[at]! << 8) | octets[at + 1]!).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}
