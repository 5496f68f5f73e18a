import * as fc from 'fast-check';
import { BlockList, isIPv4 } from 'node:net';
import { describe, expect, it } from 'vitest';
import { inRange, isLoopback, parseAddress, parseRange } from '../../../../proxy/access/address.ts';

describe('a range of addresses', () => {
  it.each([
    ['10.0.0.0/8', '10.255.0.1', true],
    ['10.0.0.0/8', '11.0.0.1', false],
    ['10.0.0.0/8', '::ffff:10.1.2.3', true],
    ['10.0.0.0/8', '::ffff:a01:203', true],
    ['::ffff:10.0.0.0/104', '10.1.2.3', true],
    ['::ffff:10.0.0.0/104', '11.1.2.3', false],
    ['192.0.2.7', '192.0.2.7', true],
    ['192.0.2.7', '192.0.2.6', false],
    ['192.0.2.0/25', '192.0.2.127', true],
    ['192.0.2.0/25', '192.0.2.128', false],
    ['0.0.0.0/0', '203.0.113.9', true],
    ['0.0.0.0/0', '::1', false],
    ['::/0', '2001:db8::1', true],
    ['::/0', '10.0.0.1', false],
    ['fd00::/8', 'fd12:3456::1', true],
    ['fd00::/8', 'fe80::1', false],
    ['fe80::/10', 'fe80::1%eth0', true],
    ['2001:db8::/33', '2001:db8:7fff::', true],
    ['2001:db8::/33', '2001:db8:8000::', false],
    ['2001:db8::1', '2001:0db8:0:0:0:0:0:1', true],
  ])('%s and %s: %s', (range, address, expected) => {
    expect(inRange(parseAddress(address), parseRange(range))).toBe(expected);
  });

  it.each([
    ['', 'expected an address'],
    ['localhost', 'expected an address'],
    ['10.0.0.0/33', 'expected an address'],
    ['10.0.0.0/', 'expected an address'],
    ['10.0.0.0/-1', 'expected an address'],
    ['10.0.0/8', 'expected an address'],
    ['::1/129', 'expected an address'],
    ['::ffff:10.0.0.0/8', 'expected an address'],
    ['fe80::1%eth0', 'expected an address'],
    ['10.0.0.1/8', '10.0.0.1/8 has bits behind its prefix'],
    ['2001:db8::1/64', '2001:db8::1/64 has bits behind its prefix'],
  ])('is not %j', (text, message) => {
    expect(() => parseRange(text)).toThrow(message);
  });

  it('holds what node:net holds to be in it', () => {
    const v4 = fc.ipV4();
    const v6 = fc.ipV6().filter((text) => parseAddress(text).length === 16);
    const family = (text: string): 'ipv4' | 'ipv6' => (isIPv4(text) ? 'ipv4' : 'ipv6');
    const network = (text: string, bits: number): string => {
      const octets = parseAddress(text).map(
        (octet, i) => octet & (0xff00 >> Math.min(8, Math.max(0, bits - i * 8))),
      );
      if (octets.length === 4) return octets.join('.');
      const hex = octets.map((octet) => octet.toString(16).padStart(2, '0')).join('');
      return hex.match(/.{4}/g)!.join(':');
    };
    const near = fc
      .tuple(fc.constantFrom(v4, v6), fc.nat({ max: 128 }))
      .chain(([kind, bits]) => fc.tuple(kind, kind, fc.constant(bits), fc.boolean()));
    let inside = 0;
    fc.assert(
      fc.property(near, ([base, other, prefix, isSame]) => {
        const bits = Math.min(prefix, parseAddress(base).length * 8);
        const net = network(base, bits);
        const address = isSame ? base : other;
        const list = new BlockList();
        list.addSubnet(net, bits, family(base));
        const expected = list.check(address, family(address));
        if (expected) inside++;
        return inRange(parseAddress(address), parseRange(`${net}/${bits}`)) === expected;
      }),
      { numRuns: 2000 },
    );
    expect(inside).toBeGreaterThan(500);
  });
});

describe('loopback', () => {
  it.each([
    ['127.0.0.1', true],
    ['127.255.1.2', true],
    ['::1', true],
    ['::ffff:127.0.0.1', true],
    ['128.0.0.1', false],
    ['::2', false],
    ['10.0.0.1', false],
  ])('%s: %s', (address, expected) => {
    expect(isLoopback(parseAddress(address))).toBe(expected);
  });
});
