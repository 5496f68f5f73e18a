/** Octets of the protocol header that a client sends first (AMQP 0-9-1 section 4.2.2). */
export const HEADER_SIZE = 8;

/** `more`: too few octets to tell; `amqp-0-9-1`: that or its forerunners, with the same frames; `other-amqp`: AMQP 1.0. */
export type HeaderKind = 'more' | 'amqp-0-9-1' | 'other-amqp' | 'noise';

const AMQP = [0x41, 0x4d, 0x51, 0x50];

/** 0-9-1, and its forerunners 0-9 and 0-8 as RabbitMQ takes them (rabbit_reader of 3.10 to 4.3). */
const SAME_FRAMES: ReadonlySet<string> = new Set(['0 0 9 1', '1 1 0 9', '1 1 9 1', '1 1 8 0']);

/** What a client speaks, from its first octets. */
export function classifyHeader(octets: Uint8Array): HeaderKind {
  if (octets.subarray(0, AMQP.length).some((octet, i) => octet !== AMQP[i])) return 'noise';
  if (octets.length < HEADER_SIZE) return 'more';
  const version = octets.subarray(AMQP.length, HEADER_SIZE).join(' ');
  return SAME_FRAMES.has(version) ? 'amqp-0-9-1' : 'other-amqp';
}

/** What the octets of something that is not AMQP look like, for the log: what to look at first. */
export function describeNoise(octets: Uint8Array, tls: boolean): string {
  const text = new TextDecoder('latin1').decode(octets.subarray(0, HEADER_SIZE));
  if (octets[0] === 0x16 && !tls)
    return 'the client speaks TLS to a plain listener: use an amqps:// listener or its port';
  if (/^(GET|POST|HEAD|PUT|OPTIONS) ?/.test(text)) return 'the client speaks HTTP to an AMQP listener';
  const hex = Array.from(octets.subarray(0, HEADER_SIZE), (octet) =>
    octet.toString(16).padStart(2, '0'),
  ).join(' ');
  return `the client does not begin with an AMQP protocol header but with ${hex}`;
}
