import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { endpointsOf, proxyHeader } from '../../../proxy/proxy-protocol.ts';

/** The signature of PROXY protocol version 2, then "version 2, PROXY". */
const BEGIN = '0d0a0d0a000d0a515549540a21';

function hexOf(
  source: string,
  destination: string,
  ports: readonly [number, number] = [0x1234, 0x1628],
): string {
  const header = proxyHeader({
    sourceAddress: source,
    sourcePort: ports[0],
    destinationAddress: destination,
    destinationPort: ports[1],
  });
  return Buffer.from(header).toString('hex');
}

const PORTS = '12341628';
const V4 = `${BEGIN}11000c`;
const V6 = `${BEGIN}210024`;

describe('the header of PROXY protocol version 2', () => {
  it.each([
    ['IPv4', '10.1.2.3', '127.0.0.1', `${V4}0a0102037f000001${PORTS}`],
    ['IPv4 at its ends', '0.0.0.0', '255.255.255.255', `${V4}00000000ffffffff${PORTS}`],
    [
      'IPv4 as a dual-stack listener gives it',
      '::ffff:10.1.2.3',
      '::FFFF:127.0.0.1',
      `${V4}0a0102037f000001${PORTS}`,
    ],
    ['IPv6', '2001:db8::1:2', '::1', `${V6}20010db8000000000000000000010002${'00'.repeat(15)}01${PORTS}`],
    [
      'IPv6 written out',
      '1:22:333:4444:5:6:7:8',
      '::',
      `${V6}00010022033344440005000600070008${'00'.repeat(16)}${PORTS}`,
    ],
    [
      'IPv6 that ends in zeros, with a zone',
      'fe80::%eth0',
      'fe80::1%2',
      `${V6}fe80${'00'.repeat(14)}fe80${'00'.repeat(13)}01${PORTS}`,
    ],
    [
      'IPv6 with an IPv4 tail that is not mapped',
      '64:ff9b::192.0.2.33',
      '::1',
      `${V6}0064ff9b${'00'.repeat(8)}c0000221${'00'.repeat(15)}01${PORTS}`,
    ],
    [
      'mixed: IPv4 is mapped',
      '10.1.2.3',
      '::1',
      `${V6}${'00'.repeat(10)}ffff0a010203${'00'.repeat(15)}01${PORTS}`,
    ],
    [
      'mixed the other way',
      '::1',
      '::ffff:10.1.2.3',
      `${V6}${'00'.repeat(15)}01${'00'.repeat(10)}ffff0a010203${PORTS}`,
    ],
  ])('is right octet by octet: %s', (_name, source, destination, hex) => {
    expect(hexOf(source, destination)).toBe(hex);
  });

  it('has the ports, most significant octet first', () => {
    expect(hexOf('1.2.3.4', '5.6.7.8', [0, 65_535])).toBe(`${V4}01020304050607080000ffff`);
    expect(hexOf('1.2.3.4', '5.6.7.8', [256, 255])).toBe(`${V4}0102030405060708010000ff`);
  });

  it('has every IPv6 address as it is, however it is written', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(0xffff), { minLength: 8, maxLength: 8 }), (groups) => {
        const long = groups.map((group) => group.toString(16)).join(':');
        const short = new URL(`http://[${long}]/`).hostname.slice(1, -1);
        const hex = groups.map((group) => group.toString(16).padStart(4, '0')).join('');
        for (const address of [long, short, long.toUpperCase()]) {
          expect(hexOf(address, '::')).toBe(`${V6}${hex}${'00'.repeat(16)}${PORTS}`);
        }
      }),
      { numRuns: 200 },
    );
  });

  it.each(['', 'localhost', '1.2.3', '1.2.3.4.5', '::g', '::ffff:1.2.3.256'])(
    'is not made of %j, which is no address',
    (address) => {
      expect(() => hexOf(address, '::1')).toThrow(new TypeError(`not an IP address: "${address}"`));
      expect(() => hexOf('::1', address)).toThrow(TypeError);
    },
  );
});

describe('the ends of a socket', () => {
  it('are those of its peer and its own, until it is gone', async () => {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const client = net.connect(port, '127.0.0.1');
    const [accepted] = (await once(server, 'connection')) as [net.Socket];
    expect(endpointsOf(accepted)).toEqual({
      sourceAddress: '127.0.0.1',
      sourcePort: client.localPort,
      destinationAddress: '127.0.0.1',
      destinationPort: port,
    });
    client.destroy();
    accepted.destroy();
    server.close();
    expect(endpointsOf(accepted)).toBeUndefined();
  });
});
