import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import * as fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ProxyHeaderError, ProxyHeaderReader } from '../../../proxy/proxy-header.ts';
import { type Endpoints, proxyHeader } from '../../../proxy/proxy-protocol.ts';
import { generateCerts } from '../../support/generated-certs.ts';
import {
  connectPeer,
  HEADER,
  method,
  Peer,
  ScriptedBroker,
  startTestProxy,
  type TestProxy,
} from '../../support/peers.ts';

const CLIENT: Endpoints = {
  sourceAddress: '203.0.113.7',
  sourcePort: 4711,
  destinationAddress: '198.51.100.1',
  destinationPort: 5672,
};

const CLIENT_V6: Endpoints = { ...CLIENT, sourceAddress: '2001:db8::7', destinationAddress: '2001:db8::1' };

const V4 = Buffer.from(proxyHeader(CLIENT));
const V6 = Buffer.from(proxyHeader(CLIENT_V6));

/** A header with other octets: command and version, family and transport, what comes behind. */
function header(
  command: number,
  family: number,
  rest: Uint8Array = new Uint8Array(0),
  length = rest.length,
): Buffer {
  return Buffer.concat([V4.subarray(0, 12), Buffer.of(command, family, length >> 8, length & 0xff), rest]);
}

const ADDRESSES = V4.subarray(16);
const LOCAL = header(0x20, 0x00);
const WITH_TLVS = header(0x21, 0x11, Buffer.concat([ADDRESSES, Buffer.alloc(508, 0x55)]));

/** Reads all in these pieces: what the header says, and what is left of the octets behind it. */
function read(...pieces: Uint8Array[]): { endpoints: Endpoints | undefined; rest: string } | 'more' {
  const reader = new ProxyHeaderReader();
  for (const [at, piece] of pieces.entries()) {
    const taken = reader.push(piece, piece.length);
    if (taken === undefined) continue;
    const rest = Buffer.concat([piece.subarray(taken), ...pieces.slice(at + 1)]).toString('latin1');
    return { endpoints: reader.header!.endpoints, rest };
  }
  return 'more';
}

/** What becomes of octets, whatever they are. */
function outcomeOf(reader: ProxyHeaderReader, octets: Uint8Array): string {
  try {
    const taken = reader.push(octets, octets.length);
    if (taken === undefined) return 'more';
    return taken <= 536 ? 'whole' : `whole with ${taken} octets`;
  } catch (error) {
    if (error instanceof ProxyHeaderError) return 'refused';
    throw error;
  }
}

describe('a PROXY header', () => {
  it.each([
    ['IPv4', V4, CLIENT],
    ['IPv6', V6, CLIENT_V6],
    ['LOCAL', LOCAL, undefined],
    ['LOCAL with addresses, which are to be ignored', header(0x20, 0x11, ADDRESSES), undefined],
    ['no address', header(0x21, 0x00), undefined],
    ['a UNIX socket', header(0x21, 0x31, Buffer.alloc(216)), undefined],
    ['fields behind the addresses, 536 octets in all', WITH_TLVS, CLIENT],
  ])('is read: %s', (_name, octets, endpoints) => {
    expect(read(Buffer.concat([octets, HEADER]))).toEqual({ endpoints, rest: HEADER.toString('latin1') });
  });

  it('has IPv4 in the form of IPv6 as IPv4', () => {
    const mapped = Buffer.concat([Buffer.alloc(10), Buffer.of(0xff, 0xff, 203, 0, 113, 7)]);
    const octets = header(0x21, 0x21, Buffer.concat([mapped, mapped, Buffer.of(0, 1, 0, 2)]));
    expect(read(octets)).toMatchObject({ endpoints: { sourceAddress: '203.0.113.7', sourcePort: 1 } });
  });

  it.each([
    ['AMQP', HEADER, 'the first octets are no PROXY header: does the load balancer send it (version 2)?'],
    [
      'a wrong octet late',
      Buffer.from('\r\n\r\n\0\r\nQUIT\r', 'latin1'),
      'the first octets are no PROXY header',
    ],
    ['version 1', Buffer.from('PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n'), 'version 1, and only version 2'],
    ['version 3', header(0x31, 0x11, ADDRESSES), 'version 3, and only version 2'],
    ['an unknown command', header(0x22, 0x11, ADDRESSES), 'command 2, which does not exist'],
    ['UDP', header(0x21, 0x12, ADDRESSES), 'this is no TCP connection'],
    ['an unknown family', header(0x21, 0x41, ADDRESSES), 'this is no TCP connection'],
    ['too few octets of addresses', header(0x21, 0x11, ADDRESSES.subarray(0, 11)), 'too few'],
    ['IPv6 with the octets of IPv4', header(0x21, 0x21, ADDRESSES), 'too few'],
    [
      '537 octets',
      header(0x21, 0x11, ADDRESSES, 521),
      'a PROXY header of 537 octets, and at most 536 are taken',
    ],
    ['64 KiB', header(0x21, 0x11, ADDRESSES, 0xffff), 'a PROXY header of 65551 octets'],
  ])('is refused at once: %s', (_name, octets, text) => {
    expect(() => read(octets)).toThrow(text);
  });

  it('is the same in whatever pieces it comes', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(V4, V6, LOCAL, WITH_TLVS),
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 40 }),
        (octets, sizes) => {
          const all = Buffer.concat([octets, HEADER]);
          const pieces: Buffer[] = [];
          for (let at = 0, turn = 0; at < all.length; turn++) {
            const size = sizes[turn % sizes.length]!;
            pieces.push(all.subarray(at, at + size));
            at += size;
          }
          expect(read(...pieces)).toEqual(read(all));
        },
      ),
    );
  });

  it('is never more than 536 octets, and nothing but refused, whatever comes', () => {
    const begin = fc.constantFrom(Buffer.alloc(0), V4.subarray(0, 12), V4.subarray(0, 13));
    fc.assert(
      fc.property(begin, fc.uint8Array({ maxLength: 700 }), (before, noise) => {
        const reader = new ProxyHeaderReader();
        const octets = Buffer.concat([before, noise]);
        // More is asked for only as long as a header can still become of it.
        expect(outcomeOf(reader, octets)).toMatch(
          octets.length < 536 ? /^(refused|whole|more)$/ : /^(refused|whole)$/,
        );
      }),
      { numRuns: 2000 },
    );
  });
});

describe.each(['transparent', 'pool'])('a proxy behind a load balancer, mode %s', (mode) => {
  let folder: string;
  let ca: string;
  let broker: ScriptedBroker;
  const running: AsyncDisposable[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quorumbridge-announced-'));
    ca = (await generateCerts(folder))['ca.crt']!;
  });

  afterAll(() => rm(folder, { recursive: true, force: true }));

  beforeEach(async () => {
    broker = await new ScriptedBroker().start();
    running.push(broker);
  });

  afterEach(async () => {
    for (const one of running.splice(0).toReversed()) await one[Symbol.asyncDispose]();
  });

  async function proxyTo(flags: Record<string, string | string[] | boolean> = {}): Promise<TestProxy> {
    const backend = `127.0.0.1:${broker.port}`;
    const trust = { trustProxyProtocol: ['10.0.0.0/8', '127.0.0.1'], backendProxyProtocol: 'v2' };
    const proxy = await startTestProxy({ backend, mode, ...trust, ...flags });
    running.push(proxy);
    return proxy;
  }

  /** The header that the broker gets next, then connection.start for the client. */
  async function greetedAs(arriving: Promise<Peer>, length: number): Promise<Buffer> {
    const upstream = await arriving;
    const announced = await upstream.take(length);
    expect(await upstream.take(8)).toEqual(HEADER);
    upstream.write(method(0, 10, 10, Buffer.concat([Buffer.of(0, 9), Buffer.alloc(12)])));
    return announced;
  }

  it.each([
    ['IPv4', V4, CLIENT],
    ['IPv6', V6, CLIENT_V6],
    ['fields behind the addresses', WITH_TLVS, CLIENT],
  ])('knows the client by it, and tells the broker: %s', async (_name, octets, { sourceAddress }) => {
    const proxy = await proxyTo({ handshakeTimeout: '1' });
    const arriving = broker.next();
    const client = await connectPeer(proxy.port);
    for (let at = 0; at < octets.length; at += 100) {
      client.write(octets.subarray(at, at + 100));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    client.write(HEADER);
    const expected = sourceAddress === CLIENT.sourceAddress ? V4 : V6;
    expect(await greetedAs(arriving, expected.length)).toEqual(expected);
    expect((await client.frame()).readUInt32BE(7)).toBe(0x000a_000a);
    await client.until('its end', ({ ended }) => ended);
    const line = proxy.log().find(({ code }) => code === 'HANDSHAKE_TIMEOUT');
    expect(line).toMatchObject({ client: `${sourceAddress} 4711` });
  });

  it('takes header and first octets that come at once, in front of TLS too', async () => {
    const proxy = await proxyTo({
      listen: ['amqps://127.0.0.1:0'],
      tlsCert: join(folder, 'server.crt'),
      tlsKey: join(folder, 'server.key'),
    });
    // Pool mode has the broker's greeting at hand from the first one on, and connects for no other.
    const cuts = mode === 'pool' ? [5] : [V4.length, 5];
    for (const cut of cuts) {
      const arriving = broker.next();
      const raw = net.connect(proxy.port, '127.0.0.1');
      await once(raw, 'connect');
      raw.write(V4.subarray(0, cut));
      if (cut < V4.length) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        raw.write(V4.subarray(cut));
      }
      const secure = new Peer(tls.connect({ socket: raw, ca, servername: 'localhost' }));
      secure.write(HEADER);
      expect(await greetedAs(arriving, V4.length)).toEqual(V4);
      expect((await secure.frame()).readUInt32BE(7)).toBe(0x000a_000a);
      secure.socket.destroy();
    }
  });

  it('has a header and the octets behind it in one chunk', async () => {
    const proxy = await proxyTo();
    const arriving = broker.next();
    const client = await connectPeer(proxy.port);
    client.write(Buffer.concat([V4, HEADER]));
    expect(await greetedAs(arriving, V4.length)).toEqual(V4);
    expect((await client.frame()).readUInt32BE(7)).toBe(0x000a_000a);
  });

  it('takes the load balancer itself for the client where that is what the header says', async () => {
    const proxy = await proxyTo();
    const arriving = broker.next();
    const client = await connectPeer(proxy.port);
    client.write(Buffer.concat([LOCAL, HEADER]));
    const { localAddress, localPort } = client.socket;
    const own = { sourceAddress: localAddress!, sourcePort: localPort!, destinationAddress: '127.0.0.1' };
    const expected = Buffer.from(proxyHeader({ ...own, destinationPort: proxy.port }));
    expect(await greetedAs(arriving, expected.length)).toEqual(expected);
  });

  it('counts those that end before their header, and closes them at their time', async () => {
    const proxy = await proxyTo({ handshakeTimeout: '0.3', maxConnections: '2' });
    const silent = await connectPeer(proxy.port);
    const gone = await connectPeer(proxy.port);
    gone.write(V4.subarray(0, 7));
    gone.socket.destroy();
    await silent.until('its end', ({ ended }) => ended);
    const lines = proxy.log().filter(({ code }) => code === 'CLIENT_PROXY_HEADER');
    expect(lines).toEqual([expect.objectContaining({ msg: 'no PROXY header within 0.3 s' })]);
    await expect.poll(() => proxy.metric('quorumbridge_proxy_connections_active')).toEqual([' 0']);
  });

  it.each([
    ['AMQP without a header', HEADER, 'no PROXY header: does the load balancer send it'],
    ['version 1', Buffer.from('PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n'), 'of version 1'],
    ['a header that is too long', header(0x21, 0x11, ADDRESSES, 0xffff), 'at most 536'],
  ])('refuses %s', async (_name, octets, text) => {
    const proxy = await proxyTo();
    const client = await connectPeer(proxy.port);
    client.write(octets);
    await client.until('its end', ({ closed, ended }) => closed || ended);
    const line = proxy.log().find(({ code }) => code === 'CLIENT_PROXY_HEADER');
    expect(line).toMatchObject({
      msg: expect.stringContaining(text) as string,
      client: expect.stringMatching(/^127\.0\.0\.1 \d+$/) as string,
    });
    await expect.poll(() => proxy.metric('quorumbridge_proxy_connections_active')).toEqual([' 0']);
    expect(broker.peers).toEqual([]);
  });

  it('refuses garbage in front of TLS', async () => {
    const proxy = await proxyTo({
      listen: ['amqps://127.0.0.1:0'],
      tlsCert: join(folder, 'server.crt'),
      tlsKey: join(folder, 'server.key'),
    });
    const client = await connectPeer(proxy.port);
    client.write(Buffer.from([0x16, 3, 1, 0, 1]));
    await client.until('its end', ({ closed, ended }) => closed || ended);
    expect(proxy.log().find(({ code }) => code === 'CLIENT_PROXY_HEADER')).toBeDefined();
    await expect.poll(() => proxy.metric('quorumbridge_proxy_connections_active')).toEqual([' 0']);
  });

  it('takes no header from addresses that it does not trust', async () => {
    const proxy = await proxyTo({ trustProxyProtocol: ['10.0.0.0/8'] });
    const client = await connectPeer(proxy.port);
    client.write(Buffer.concat([V4, HEADER]));
    await client.until('its end', ({ ended }) => ended);
    expect(client.received).toEqual(HEADER); // the answer to what is no AMQP
    expect(proxy.log().find(({ code }) => code === 'CLIENT_PROTOCOL_HEADER')).toMatchObject({
      client: expect.stringMatching(/^127\.0\.0\.1 /) as string,
    });
  });

  it('has access rules and limits for the addresses of clients, not of the load balancer', async () => {
    const proxy = await proxyTo({ deny: ['203.0.113.0/24'], allow: ['2001:db8::/32', '203.0.113.0/24'] });
    const denied = await connectPeer(proxy.port);
    denied.write(Buffer.concat([V4, HEADER]));
    await denied.until('its end', ({ closed, ended }) => closed || ended);
    expect(proxy.log().find(({ code }) => code === 'ACCESS_REFUSED')).toMatchObject({
      msg: expect.stringContaining('203.0.113.7') as string,
    });
    const arriving = broker.next();
    const allowed = await connectPeer(proxy.port);
    allowed.write(Buffer.concat([V6, HEADER]));
    expect(await greetedAs(arriving, V6.length)).toEqual(V6);
    await expect.poll(() => proxy.metric('quorumbridge_proxy_connections_active')).toEqual([' 1']);
  });
});
