// --max-buffer and --max-buffer-per-client as clients meet them, by sockets.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { frame, method, shortstr } from '../../../support/amqp-frames.ts';
import { basicGet, basicPublish } from '../../../support/amqp-methods.ts';
import { errors, hits, LimitsWorld } from '../../../support/limits-world.ts';
import type { Peer, TestProxy } from '../../../support/peers.ts';
import type { RawClient } from '../../../support/raw-client.ts';

/** The machine is shared: what is waited for takes milliseconds by itself. */
const PATIENCE = { timeout: 20_000, interval: 50 };
const MEBIBYTE = 1024 * 1024;

let world: LimitsWorld;

beforeEach(async () => {
  world = await LimitsWorld.start();
});

afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

/** Octets that a proxy holds in a direction. */
async function buffered(proxy: TestProxy, direction: string): Promise<number> {
  const [value] = await proxy.metric(`quorumbridge_proxy_buffered_bytes{direction="${direction}"} `);
  return Number(value);
}

/** Clients that have their channel 1. */
async function clients(proxy: TestProxy, count: number, user: string): Promise<RawClient[]> {
  const all = await Promise.all(Array.from({ length: count }, () => world.client(proxy, { user })));
  for (const one of all) await one.channels(1);
  return all;
}

const LARGE = basicPublish(1, 'q', 'x'.repeat(100_000));
/** More of these than sockets and the proxy take together. */
const MANY = 100;

/** A message of the broker's for a consumer, of 100 kB. */
function delivery(): Buffer {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60, 0);
  header.writeBigUInt64BE(100_000n, 4);
  const args = [shortstr('c'), Buffer.alloc(8, 1), Buffer.of(0), shortstr(''), shortstr('q')];
  return Buffer.concat([
    method(1, 60, 60, Buffer.concat(args)),
    frame(2, 1, header),
    frame(3, 1, Buffer.alloc(100_000)),
  ]);
}

describe.each(['transparent', 'pool'])('mode %s: what is held of all clients', (mode) => {
  /** A proxy that holds too much for a broker that doesn't read, and a client whose broker does. */
  async function fill(
    flags: Record<string, string>,
  ): Promise<{ proxy: TestProxy; other: RawClient; stuck: Peer[] }> {
    const proxy = await world.proxyTo({ mode, maxBuffer: '1MiB', ...flags });
    const [other] = await clients(proxy, 1, 'other');
    const others = new Set(world.broker.peers);
    const all = await clients(proxy, 8, 'many');
    const stuck = world.broker.peers.filter((peer) => !others.has(peer));
    for (const { socket } of stuck) socket.pause();
    for (const one of all) for (let i = 0; i < MANY; i++) one.send(LARGE);
    await expect.poll(() => hits(proxy, 'max-buffer'), PATIENCE).toBeGreaterThan(0);
    return { proxy, other: other!, stuck };
  }

  it('holds publishes beyond the limit, refuses new clients, and loses nothing', async () => {
    const { proxy, other, stuck } = await fill({});
    expect(await world.refusal(proxy)).toBe(
      'connection.close 320 CONNECTION_FORCED - the proxy holds more than 1048576 octets for its clients (--max-buffer): try again later (0.0)',
    );
    // Who doesn't publish goes on.
    expect(await other.ask(basicGet(1, 'q'))).toMatch(/^basic.get-ok/);
    const before = world.broker.published.length;
    other.send(basicPublish(1, 'q', 'held'));
    expect(await other.hearWithin(1000)).toBeUndefined();
    expect(world.broker.published).toHaveLength(before);
    for (const { socket } of stuck) socket.resume();
    const all = 8 * MANY + 1;
    await expect.poll(() => world.broker.published.length, PATIENCE).toBe(all);
    expect(world.broker.octets).toBe(8 * MANY * 100_000 + 4);
    await expect.poll(() => world.refusal(proxy), PATIENCE).toBe('let in');
    expect(await errors(proxy, 'BUFFER_LIMIT')).toBe(0);
  });

  it('is told by --limits=alarm, and nobody is held', async () => {
    const { proxy, other } = await fill({ limits: 'alarm' });
    expect(await world.refusal(proxy)).toBe('let in');
    other.send(basicPublish(1, 'q', 'not held'));
    await expect.poll(() => world.broker.published.at(-1)?.body, PATIENCE).toBe('not held');
    const told = proxy.log().filter((line) => line['limit'] === 'max-buffer');
    expect(told.map(({ msg }) => msg)).toEqual([
      'the proxy holds more than 1048576 octets for its clients (--max-buffer); it may, by --limits=alarm',
    ]);
  });
});

it('ends clients that have not read for long, where too much is held because of them', async () => {
  const proxy = await world.proxyTo({ maxBuffer: '1MiB' });
  const all = await clients(proxy, 8, 'slow');
  const [publisher] = await clients(proxy, 1, 'quick');
  for (const one of all) one.pause();
  const one = delivery();
  for (const peer of world.broker.peers.slice(0, 8)) for (let i = 0; i < MANY; i++) peer.write(one);
  await expect.poll(() => hits(proxy, 'max-buffer'), PATIENCE).toBeGreaterThan(0);
  publisher!.send(basicPublish(1, 'q', 'waits'));
  await expect.poll(() => world.broker.published.length, { timeout: 60_000, interval: 250 }).toBe(1);
  const ended = await errors(proxy, 'BUFFER_LIMIT');
  expect(ended).toBeGreaterThan(0);
  expect(ended).toBeLessThan(8);
}, 90_000);

describe('what is held of one client', () => {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60, 0);
  header.writeBigUInt64BE(BigInt(MEBIBYTE), 4);
  /** A message without its last frame. */
  const part = (channel: number): Buffer[] => [
    basicPublish(channel, 'q', '').subarray(0, -22),
    frame(2, channel, header),
    ...Array.from({ length: 10 }, () => frame(3, channel, Buffer.alloc(100_000))),
  ];
  const flags = { mode: 'pool', maxMessageSize: '1MiB', clientBacklog: '1MiB', maxBufferPerClient: '4MiB' };

  it('is no more than the limit of messages that it doesn’t send whole, in mode pool', async () => {
    const proxy = await world.proxyTo(flags);
    const [one, other] = await clients(proxy, 2, 'a');
    await one!.channels(2, 3, 4, 5);
    for (const channel of [1, 2, 3, 4]) one!.send(...part(channel));
    await expect.poll(() => buffered(proxy, 'client_to_broker'), PATIENCE).toBeGreaterThan(4_000_000);
    expect(await one!.hearWithin(500)).toBeUndefined();
    one!.send(...part(5));
    expect(await one!.hear(0)).toMatch(
      /^connection.close 320 CONNECTION_FORCED - 4\d{6} octets are held of the client, more than 4194304 \(--max-buffer-per-client\)/,
    );
    expect(await hits(proxy, 'max-buffer-per-client')).toBe(1);
    expect(await errors(proxy, 'BUFFER_LIMIT')).toBe(1);
    await expect.poll(() => buffered(proxy, 'client_to_broker'), PATIENCE).toBeLessThan(MEBIBYTE);
    other!.send(basicPublish(1, 'q', 'goes on'));
    await expect.poll(() => world.broker.published.at(-1)?.body, PATIENCE).toBe('goes on');
    expect(world.broker.published).toHaveLength(1);
  });

  it('may be more by --limits=alarm, which is counted once', async () => {
    const proxy = await world.proxyTo({ ...flags, limits: 'alarm' });
    const [one] = await clients(proxy, 1, 'a');
    await one!.channels(2, 3, 4, 5, 6);
    for (const channel of [1, 2, 3, 4, 5, 6]) one!.send(...part(channel));
    await expect.poll(() => buffered(proxy, 'client_to_broker'), PATIENCE).toBeGreaterThan(6_000_000);
    for (const channel of [1, 2, 3, 4, 5, 6]) one!.send(frame(3, channel, Buffer.alloc(48_576)));
    await expect.poll(() => world.broker.octets, PATIENCE).toBe(6 * MEBIBYTE);
    expect(await hits(proxy, 'max-buffer-per-client')).toBe(1);
  });

  it('is little where it is slow, in mode transparent: the broker waits for it', async () => {
    const proxy = await world.proxyTo({ maxBufferPerClient: '4MiB' });
    const [one] = await clients(proxy, 1, 'a');
    one!.pause();
    const octets = delivery();
    for (let i = 0; i < MANY; i++) world.broker.peers[0]!.write(octets);
    await expect.poll(() => buffered(proxy, 'broker_to_client'), PATIENCE).toBeGreaterThan(60_000);
    expect(await buffered(proxy, 'broker_to_client')).toBeLessThan(MEBIBYTE);
    one!.resume();
    for (let i = 0; i < MANY; i++)
      expect(await one!.hear(1)).toMatch(/^basic.deliver c \d+ 0 <100000 octets>$/);
    expect(await hits(proxy, 'max-buffer-per-client')).toBe(0);
  });
});
