import { isIPv4, isIPv6, type Socket } from 'node:net';

/** Where a connection comes from and what it reached, as node:net gives them. */
export interface Endpoints {
  readonly sourceAddress: string;
  readonly sourcePort: number;
  readonly destinationAddress: string;
  readonly destinationPort: number;
}

/** Both ends of a socket as its peer sees them, or undefined: the peer is gone already. */
export function endpointsOf(socket: Socket): Endpoints | undefined {
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  if (remoteAddress === undefined || remotePort === undefined) return undefined;
  if (localAddress === undefined || localPort === undefined) return undefined;
  return {
    sourceAddress: remoteAddress,
    sourcePort: remotePort,
    destinationAddress: localAddress,
    destinationPort: localPort,
  };
}

/** What a header of version 2 begins with. */
export const SIGNATURE: Uint8Array = Uint8Array.of(
  0x0d,
  0x0a,
  0x0d,
  0x0a,
  0x00,
  0x0d,
  0x0a,
  0x51,
  0x55,
  0x49,
  0x54,
  0x0a,
);
const PROXY = 0x21;
const TCP4 = 0x11;
const TCP6 = 0x21;

/**
 * The header of PROXY protocol version 2 (HAProxy's specification, section 2.2) that tells the backend whose connection
 * this is. There is no LOCAL form here, for the proxy's own connections: RabbitMQ 3.10 logs a crash for it.
 * @throws TypeError when an address is no IP address
 */
export function proxyHeader(endpoints: Endpoints): Uint8Array {
  const source = addressOctets(endpoints.sourceAddress);
  const destination = addressOctets(endpoints.destinationAddress);
  const v4 = source.length === 4 && destination.length === 4;
  const addresses = v4 ? [...source, ...destination] : [...asV6(source), ...asV6(destination)];
  const ports = [endpoints.sourcePort, endpoints.destinationPort].flatMap((port) => [
    port >>> 8,
    port & 0xff,
  ]);
  const length = addresses.length + ports.length;
  return Uint8Array.of(...SIGNATURE, PROXY, v4 ? TCP4 : TCP6, 0, length, ...addresses, ...ports);
}

/** 4 or 16 octets; a v4 address in v6 form (a dual-stack listener's) counts as v4. @throws TypeError when it is no IP address */
export function addressOctets(text: string): number[] {
  const mapped = text.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, '');
  if (isIPv4(mapped)) return mapped.split('.').map(Number);
  const address = text.replace(/%.*$/, '');
  if (!isIPv6(address)) throw new TypeError(`not an IP address: ${JSON.stringify(text)}`);
  const [head = '', tail] = address.split('::');
  const front = groups(head);
  const back = tail === undefined ? [] : groups(tail);
  const zeros = Array<number>(16 - front.length - back.length).fill(0);
  return [...front, ...zeros, ...back];
}

function groups(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (isIPv4(group)) return group.split('.').map(Number);
    const value = Number.parseInt(group, 16);
    return [value >>> 8, value & 0xff];
  });
}

function asV6(octets: number[]): number[] {
  return octets.length === 16 ? octets : [...Array<number>(10).fill(0), 0xff, 0xff, ...octets];
}
