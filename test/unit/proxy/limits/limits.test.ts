// What limits and access control do to clients, in both modes, by sockets.
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { proxyHeader } from '../../../../proxy/proxy-protocol.ts';
import { basicPublish } from '../../../support/amqp-methods.ts';
import { encodeTable, entry } from '../../../support/amqp-frames.ts';
import { generateCerts } from '../../../support/generated-certs.ts';
import { active, errors, hits, LimitsWorld } from '../../../support/limits-world.ts';
import { readCloseFrame, type TestProxy } from '../../../support/peers.ts';
import type { RawOptions } from '../../../support/raw-client.ts';

let world: LimitsWorld;

beforeEach(async () => {
  world = await LimitsWorld.start();
});

afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

const proxyTo = (flags: Record<string, string | string[] | boolean>) => world.proxyTo(flags);
const client = (proxy: TestProxy, options?: RawOptions) => world.client(proxy, options);
const refusal = (proxy: TestProxy, options?: RawOptions) => world.refusal(proxy, options);
const connectFrom = (address: string, proxy: TestProxy) => world.connectFrom(address, proxy);

/** Messages with numbers as bodies, on channel 1. */
function messages(count: number, from = 0): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, i) => basicPublish(1, 'q', String(from + i))));
}

async function arrived(count: number, milliseconds: number): Promise<void> {
  const deadline = performance.now() + milliseconds;
  while (world.broker.published.length < count) {
    if (performance.now() > deadline)
      throw new Error(`${world.broker.published.length} of ${count} messages`);
    await sleep(10);
  }
}

describe.each(['transparent', 'pool'])('mode %s: a limit of connections', (mode) => {
  it.each([
    [
      'of a user',
      { maxConnectionsPerUser: '2' },
      { user: 'b' },
      "530 NOT_ALLOWED - connection refused for user 'a': user connection limit (2) is reached (10.40)",
      'max-connections-per-user',
    ],
    [
      'to a virtual host',
      { maxConnectionsPerVhost: '2' },
      { user: 'a', virtualHost: 'other' },
      "530 NOT_ALLOWED - access to vhost '/' refused for user 'a': connection limit (2) is reached (10.40)",
      'max-connections-per-vhost',
    ],
  ])('%s holds for that one, until one goes', async (_name, flags, other, expected, limit) => {
    const proxy = await proxyTo({ mode, ...flags });
    const first = await client(proxy, { user: 'a' });
    await client(proxy, { user: 'a' });
    expect(await refusal(proxy, { user: 'a' })).toBe(`connection.close ${expected}`);
    expect(await refusal(proxy, other)).toBe('let in');
    expect(await hits(proxy, limit)).toBe(1);
    expect(await errors(proxy, 'CONNECTION_LIMIT')).toBe(1);
    await first.close();
    await active(proxy, 2);
    expect(await refusal(proxy, { user: 'a' })).toBe('let in');
    expect(await refusal(proxy, { user: 'a' })).toBe(`connection.close ${expected}`);
  });

  it('lets all in by --limits=alarm, and tells it', async () => {
    const proxy = await proxyTo({ mode, maxConnectionsPerUser: '1', limits: 'alarm' });
    for (let i = 0; i < 3; i++) expect(await refusal(proxy)).toBe('let in');
    expect(await hits(proxy, 'max-connections-per-user')).toBe(2);
    const told = proxy.log().filter((line) => line['limit'] === 'max-connections-per-user');
    expect(told.map(({ msg }) => msg)).toEqual([
      "connection refused for user 'guest': user connection limit (1) is reached; it may, by --limits=alarm",
    ]);
  });

  it('counts nobody whom the broker has not let in', async () => {
    const proxy = await proxyTo({ mode, maxConnectionsPerUser: '1', handshakeTimeout: '30' });
    const silent = await connectFrom('127.0.0.1', proxy);
    silent.write(Buffer.from('AMQP\0\0\x09\x01', 'latin1'));
    await silent.frame();
    expect(await refusal(proxy)).toBe('let in');
  });
});

describe.each(['transparent', 'pool'])('mode %s: channels of a client', (mode) => {
  it('are those that it is offered', async () => {
    const proxy = await proxyTo({ mode, maxChannelsPerClient: '3' });
    // This client takes what it is offered.
    const one = await client(proxy);
    await one.channels(1, 2, 3);
    one.send(basicPublish(4, 'q', 'x'));
    expect(await one.hear(0)).toBe(
      'connection.close 504 CHANNEL_ERROR - channel 4 where channel_max is 3 (60.40)',
    );
    expect(await hits(proxy, 'max-channels-per-client')).toBe(1);
  });

  it('are not those that the broker offers, where it asks for these', async () => {
    const proxy = await proxyTo({ mode, maxChannelsPerClient: '3' });
    expect(await refusal(proxy, { askedChannels: 4 })).toBe(
      'connection.close 530 NOT_ALLOWED - channel_max 4 where 3 channels are offered (--max-channels-per-client) (10.31)',
    );
    expect(await errors(proxy, 'CHANNEL_LIMIT')).toBe(1);
  });

  it('may be more by --limits=alarm, and that is told', async () => {
    const proxy = await proxyTo({ mode, maxChannelsPerClient: '3', limits: 'alarm' });
    const one = await client(proxy);
    await one.channels(1, 2, 3, 4, 5);
    expect(await hits(proxy, 'max-channels-per-client')).toBe(2);
  });
});

describe.each(['transparent', 'pool'])('mode %s: publishes of a user', (mode) => {
  /** The most that came in any time above what may come in it: 0 or less is within the limit. */
  const excess = (rate: number, slack: number): number => {
    const { published } = world.broker;
    let most = -Infinity;
    for (const [from, { at }] of published.entries()) {
      for (let to = from; to < published.length; to++) {
        const seconds = (published[to]!.at - at + slack) / 1000;
        most = Math.max(most, to - from + 1 - rate * seconds - rate);
      }
    }
    return most;
  };

  it('come at their rate, all of them and in order, from one read or many', async () => {
    const proxy = await proxyTo({ mode, publishRate: '50' });
    const one = await client(proxy);
    await one.channels(1);
    const began = performance.now();
    one.send(messages(120));
    await sleep(100);
    expect(world.broker.published.length).toBeLessThanOrEqual(56);
    one.send(messages(30, 120));
    await arrived(150, 10_000);
    expect(performance.now() - began).toBeGreaterThan(1900);
    expect(performance.now() - began).toBeLessThan(4000);
    expect(world.broker.published.map(({ body }) => Number(body))).toEqual(
      Array.from({ length: 150 }, (_, i) => i),
    );
    // What a socket has taken may come some milliseconds late, and then more at once.
    expect(excess(50, 60)).toBeLessThanOrEqual(0);
    expect(await hits(proxy, 'publish-rate')).toBeGreaterThan(5);
    expect(await refusal(proxy)).toBe('let in');
  });

  it('share it between their connections, and others have their own', async () => {
    const proxy = await proxyTo({ mode, publishRate: '40' });
    const [one, same, other] = [
      await client(proxy, { user: 'a' }),
      await client(proxy, { user: 'a' }),
      await client(proxy, { user: 'b' }),
    ];
    for (const each of [one, same, other]) await each.channels(1);
    one.send(messages(60, 1000));
    same.send(messages(60, 2000));
    other.send(messages(40, 3000));
    const began = performance.now();
    await sleep(300);
    expect(world.broker.published.filter(({ body }) => body.startsWith('3'))).toHaveLength(40);
    await arrived(160, 10_000);
    expect(performance.now() - began).toBeGreaterThan(1900);
    for (const first of ['1', '2'])
      expect(world.broker.published.filter(({ body }) => body.startsWith(first))).toHaveLength(60);
  });

  it('that are held keep nothing else from ending', async () => {
    const proxy = await proxyTo({ mode, publishRate: '1' });
    const one = await client(proxy);
    await one.channels(1);
    one.send(messages(500));
    await sleep(50);
    one.reset();
    const other = await client(proxy);
    await other.channels(1);
    await other.close();
    await proxy.proxy.close();
  });

  it('pass by --limits=alarm, and are counted', async () => {
    const proxy = await proxyTo({ mode, publishRate: '50', limits: 'alarm' });
    const one = await client(proxy);
    await one.channels(1);
    one.send(messages(150));
    await arrived(150, 1000);
    expect(await hits(proxy, 'publish-rate')).toBeGreaterThan(80);
  });
});

it('tells the broker that a client is there while it is held back', async () => {
  const proxy = await proxyTo({ publishRate: '1' });
  const clients = [await client(proxy), await client(proxy), await client(proxy)];
  for (const one of clients) {
    await one.channels(1);
    one.send(messages(2));
  }
  await arrived(4, 10_000);
  expect(world.broker.heartbeats).toBeGreaterThan(1);
});

describe.each(['transparent', 'pool'])('mode %s: who may come', (mode) => {
  it('is told by --user-vhosts', async () => {
    const proxy = await proxyTo({ mode, userVhosts: ['nova*=openstack', 'root=*'] });
    expect(await refusal(proxy, { user: 'nova-1', virtualHost: 'openstack' })).toBe('let in');
    expect(await refusal(proxy, { user: 'root', virtualHost: 'any' })).toBe('let in');
    expect(await refusal(proxy, { user: 'nova-1', virtualHost: '/' })).toBe(
      "connection.close 530 NOT_ALLOWED - access to vhost '/' refused for user 'nova-1' (--user-vhosts) (10.40)",
    );
    expect(await errors(proxy, 'ACCESS_REFUSED')).toBe(1);
  });

  it('does not come by another version of AMQP, where --user-vhosts asks who it is', async () => {
    const proxy = await proxyTo({ mode, userVhosts: ['*=*'] });
    const peer = await connectFrom('127.0.0.1', proxy);
    peer.write(Buffer.from('AMQP\0\x01\0\0', 'latin1'));
    expect((await peer.take(8)).toString('latin1')).toBe('AMQP\0\0\x09\x01');
    await peer.until('the end', ({ ended }) => ended);
  });

  it('is told by --allow and --deny before anything is read', async () => {
    const proxy = await proxyTo({ mode, allow: ['127.0.0.0/30'], deny: ['127.0.0.2'] });
    for (const address of ['127.0.0.2', '127.0.0.9']) {
      const peer = await connectFrom(address, proxy);
      await peer.until('the end', ({ ended, closed }) => ended || closed);
      expect(peer.received).toHaveLength(0);
    }
    expect(await refusal(proxy)).toBe('let in');
    expect(await errors(proxy, 'ACCESS_REFUSED')).toBe(2);
    expect(proxy.log().find(({ code }) => code === 'ACCESS_REFUSED')?.msg).toBe(
      'a client from 127.0.0.2 is refused: its address is denied (--deny)',
    );
  });
});

/** A connection that a load balancer has made for a client. */
function from(sourceAddress: string): RawOptions {
  const rest = { sourcePort: 40_000, destinationAddress: '127.0.0.1', destinationPort: 5672 };
  return { before: proxyHeader({ sourceAddress, ...rest }) };
}

const TRUSTING = { trustProxyProtocol: ['127.0.0.1'] };
const GUEST_REFUSED =
  "connection.close 403 ACCESS_REFUSED - user 'guest' can only connect via localhost (--guest-loopback-only) (0.0)";

describe.each(['transparent', 'pool'])('mode %s: clients from elsewhere', (mode) => {
  const anonymous = { mechanism: 'ANONYMOUS', response: Buffer.alloc(0) };
  const table = { tag: 'S', value: Buffer.from('guest') } as const;
  const login = encodeTable([entry('LOGIN', table), entry('PASSWORD', table)]).subarray(4);
  const amqplain = { mechanism: 'AMQPLAIN', response: login };

  it('are not guest, by whatever mechanism, and others may be who they are', async () => {
    const proxy = await proxyTo({ mode, ...TRUSTING });
    for (const address of ['10.1.2.3', '2001:db8::7']) {
      expect(await refusal(proxy, from(address))).toBe(GUEST_REFUSED);
      expect(await refusal(proxy, { ...from(address), sasl: amqplain })).toBe(GUEST_REFUSED);
      expect(await refusal(proxy, { ...from(address), sasl: anonymous })).toBe(GUEST_REFUSED);
      expect(await refusal(proxy, { ...from(address), failureClose: false })).toBe('closed');
      expect(await refusal(proxy, { ...from(address), user: 'nova' })).toBe('let in');
    }
    for (const address of ['127.0.0.1', '127.8.9.1', '::1'])
      expect(await refusal(proxy, from(address))).toBe('let in');
    expect(await errors(proxy, 'ACCESS_REFUSED')).toBe(8);
    expect(world.broker.channelMaxima.length).toBeGreaterThan(0);
  });

  it('may be guest where that is said', async () => {
    const proxy = await proxyTo({ mode, ...TRUSTING, guestLoopbackOnly: 'false' });
    expect(await refusal(proxy, from('10.1.2.3'))).toBe('let in');
  });

  it('are known by their own addresses to --deny and --max-connections-per-address', async () => {
    const proxy = await proxyTo({ mode, ...TRUSTING, deny: ['10.0.0.0/8'], maxConnectionsPerAddress: '1' });
    expect(await refusal(proxy, from('10.1.2.3'))).toBe('closed');
    const first = await client(proxy, { ...from('192.0.2.1'), user: 'a' });
    expect(await refusal(proxy, { ...from('192.0.2.1'), user: 'a' })).toMatch(
      /^connection.close 320 CONNECTION_FORCED - 192.0.2.1 has 1 connections/,
    );
    expect(await refusal(proxy, { ...from('192.0.2.2'), user: 'a' })).toBe('let in');
    await first.close();
    await active(proxy, 1);
    expect(await refusal(proxy, { ...from('192.0.2.1'), user: 'a' })).toBe('let in');
  });
});

describe.each(['transparent', 'pool'])('mode %s, by TLS', (mode) => {
  it('the same holds, and who is denied gets no TLS handshake', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'quorumbridge-limits-'));
    world.keep({ [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) });
    const files = await generateCerts(folder);
    const proxy = await proxyTo({
      mode,
      listen: ['amqps://127.0.0.1:0'],
      tlsCert: join(folder, 'server.crt'),
      tlsKey: join(folder, 'server.key'),
      maxConnectionsPerAddress: '1',
      deny: ['127.0.0.2'],
    });
    const trust = { servername: 'localhost', ca: files['ca.crt']! };
    const first = await client(proxy, { tls: trust });
    expect(await refusal(proxy, { tls: trust })).toMatch(/^connection.close 320 .* has 1 connections/);
    await first.close();
    await active(proxy, 0);
    expect(await refusal(proxy, { tls: trust })).toBe('let in');
    const denied = await connectFrom('127.0.0.2', proxy);
    const socket = tls.connect({ ...trust, socket: denied.socket });
    const ends = await Promise.race([
      once(socket, 'secureConnect').then(() => 'let in'),
      once(socket, 'close').then(() => 'closed'),
      once(socket, 'error').then(() => 'closed'),
    ]).catch(() => 'closed');
    expect(ends).toBe('closed');
  });
});

describe('before the handshake', () => {
  it('an address has its connections, and others theirs', async () => {
    const proxy = await proxyTo({ maxConnectionsPerAddress: '2' });
    const first = await connectFrom('127.0.0.1', proxy);
    await connectFrom('127.0.0.1', proxy);
    await active(proxy, 2);
    const third = await connectFrom('127.0.0.1', proxy);
    const { code, text } = readCloseFrame(await third.frame());
    expect([code, text]).toEqual([
      320,
      'CONNECTION_FORCED - 127.0.0.1 has 2 connections, its limit (--max-connections-per-address)',
    ]);
    await third.until('the end', ({ ended, closed }) => ended || closed);
    await connectFrom('127.0.0.2', proxy);
    await active(proxy, 3);
    first.socket.destroy();
    await active(proxy, 2);
    await connectFrom('127.0.0.1', proxy);
    await active(proxy, 3);
    expect(await hits(proxy, 'max-connections-per-address')).toBe(1);
  });

  it('so many connections a second are taken, and the next second as many', async () => {
    const proxy = await proxyTo({ handshakeRate: '5' });
    const all = await Promise.all(Array.from({ length: 20 }, () => connectFrom('127.0.0.1', proxy)));
    await sleep(100);
    const refused = all.filter(({ received }) => received.length > 0);
    expect(refused.length).toBeGreaterThanOrEqual(13);
    expect(refused.length).toBeLessThanOrEqual(15);
    expect(readCloseFrame(refused[0]!.received).text).toBe(
      'CONNECTION_FORCED - more than 5 new connections in a second (--handshake-rate): try again later',
    );
    expect(await hits(proxy, 'handshake-rate')).toBe(refused.length);
    // A flood of them is one line of the log.
    expect(proxy.log().filter(({ code }) => code === 'CONNECTION_LIMIT')).toHaveLength(1);
    await sleep(1000);
    expect(await refusal(proxy)).toBe('let in');
  });

  it('--max-connections is counted among the limits', async () => {
    const proxy = await proxyTo({ maxConnections: '1', limits: 'alarm' });
    await client(proxy);
    const second = await connectFrom('127.0.0.1', proxy);
    expect(readCloseFrame(await second.frame()).code).toBe(320);
    expect(await hits(proxy, 'max-connections')).toBe(1);
  });
});
