import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  connectPeer,
  frame,
  HEADER,
  method,
  openThrough,
  type Peer,
  readCloseFrame,
  ScriptedBroker,
  startTestProxy,
  type TestProxy,
} from '../../../support/peers.ts';

let broker: ScriptedBroker;
const running: AsyncDisposable[] = [];

beforeEach(async () => {
  broker = await new ScriptedBroker().start();
  running.push(broker);
});

afterEach(async () => {
  for (const one of running.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});

async function proxyTo(flags: Record<string, string | string[] | boolean> = {}): Promise<TestProxy> {
  const proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, ...flags });
  running.push(proxy);
  return proxy;
}

interface Ends {
  readonly client: Peer;
  readonly upstream: Peer;
}

const CONFIRM_SELECT = method(1, 85, 10, Buffer.of(0));

/** basic.publish, its content header and its body. */
function publish(body: string, size = body.length): Buffer {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60, 0);
  header.writeBigUInt64BE(BigInt(size), 4);
  return Buffer.concat([
    method(1, 60, 40, Buffer.of(0, 0, 0, 1, 0x71, 0)),
    frame(2, 1, header),
    frame(3, 1, Buffer.from(body)),
  ]);
}

function ack(tag: number, multiple = false): Buffer {
  const args = Buffer.alloc(9);
  args.writeBigUInt64BE(BigInt(tag));
  args[8] = multiple ? 1 : 0;
  return method(1, 60, 80, args);
}

/** Sends octets one way, and has them come out as they are. */
async function pass(from: Peer, to: Peer, octets: Buffer): Promise<void> {
  from.write(octets);
  expect(await to.take(octets.length)).toEqual(octets);
}

async function publisher(proxy: TestProxy): Promise<Ends> {
  const ends = await openThrough(broker, proxy.port);
  await pass(ends.client, ends.upstream, CONFIRM_SELECT);
  await pass(ends.upstream, ends.client, method(1, 85, 11));
  return ends;
}

/** Both ends hear connection.close, and go. */
async function bothClosed({ client, upstream }: Ends): Promise<string> {
  const { code, text } = readCloseFrame(await client.frame());
  expect([code, readCloseFrame(await upstream.frame()).code]).toEqual([320, 320]);
  client.socket.end();
  upstream.socket.end();
  return text;
}

function lines(proxy: TestProxy, msg: string): Record<string, unknown>[] {
  return proxy.log().filter((line) => line['msg'] === msg);
}

describe('a drain', () => {
  it('lets publishes that are under way be confirmed, and takes no more', async () => {
    const proxy = await proxyTo({ drainTimeout: '5' });
    const ends = await publisher(proxy);
    await pass(ends.client, ends.upstream, publish('one'));
    await pass(ends.client, ends.upstream, publish('two'));
    await pass(ends.client, ends.upstream, publish('three'));
    await pass(ends.upstream, ends.client, ack(2));
    const drained = proxy.proxy.drain();
    await new Promise((resolve) => setTimeout(resolve, 3200)); // its turn is after 2 s
    ends.client.write(publish('four'));
    ends.client.write(publish('five'));
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect([ends.upstream.received.length, ends.client.received.length]).toEqual([0, 0]);
    const last = ack(3, true);
    ends.upstream.write(last.subarray(0, 15));
    await new Promise((resolve) => setTimeout(resolve, 100));
    ends.upstream.write(last.subarray(15));
    expect(await ends.client.take(last.length)).toEqual(last);
    expect(await bothClosed(ends)).toContain('the proxy is shutting down within 5 s: connect again');
    await drained;
    expect(lines(proxy, 'drained')).toEqual([expect.objectContaining({ told: 1, forced: 0, left: 0 })]);
    const progress = lines(proxy, 'draining');
    expect(progress[0]).toMatchObject({ connections: 1, told: 0, finishing: 0, secondsLeft: 4 });
    expect(progress).toContainEqual(expect.objectContaining({ connections: 1, told: 0, finishing: 1 }));
  });

  it('tells idle clients first, and those spread over the time', async () => {
    const proxy = await proxyTo({ drainTimeout: '2' });
    const busy = await publisher(proxy);
    await pass(busy.client, busy.upstream, publish('one'));
    const idle = [await publisher(proxy), await openThrough(broker, proxy.port), await publisher(proxy)];
    const began = performance.now();
    const drained = proxy.proxy.drain();
    const told: number[] = [];
    await Promise.all(
      idle.map(async (ends) => {
        await bothClosed(ends);
        told.push(performance.now() - began);
      }),
    );
    expect(told[2]! - told[0]!).toBeGreaterThan(600); // 400 ms between each two
    expect(busy.client.received.length).toBe(0);
    // After the first second its turn has not come yet.
    expect(lines(proxy, 'draining')[0]).toMatchObject({ finishing: 0 });
    await pass(busy.upstream, busy.client, ack(1));
    await bothClosed(busy);
    await drained;
    expect(performance.now() - began).toBeLessThan(2500);
  });

  it('ends at its time with those that the broker does not confirm to', async () => {
    const proxy = await proxyTo({ drainTimeout: '1' });
    const ends = await publisher(proxy);
    await pass(ends.client, ends.upstream, publish('one'));
    const drained = proxy.proxy.drain();
    expect(await bothClosed(ends)).toContain('the proxy is shutting down, and 1 s to finish are over');
    await drained;
    expect(lines(proxy, 'drained')).toEqual([expect.objectContaining({ told: 1, forced: 1 })]);
  });

  it('waits for no confirms on channels that are closed', async () => {
    const proxy = await proxyTo({ drainTimeout: '4' });
    const ends = await publisher(proxy);
    await pass(ends.client, ends.upstream, publish('one'));
    await pass(
      ends.upstream,
      ends.client,
      method(1, 20, 40, Buffer.from('\x01\x94\0\0\x3c\0\x28', 'latin1')),
    );
    const drained = proxy.proxy.drain();
    await bothClosed(ends);
    await drained;
    expect(lines(proxy, 'drained')).toEqual([expect.objectContaining({ forced: 0 })]);
  });

  it('lets a publish without confirms come to its end', async () => {
    const proxy = await proxyTo({ drainTimeout: '2' });
    const ends = await openThrough(broker, proxy.port);
    const whole = publish('x'.repeat(400));
    const drained = proxy.proxy.drain();
    // Over 1.2 s, with its turn after 0.8 s.
    for (let at = 0; at < whole.length; at += 10) {
      ends.client.write(whole.subarray(at, at + 10));
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    expect(await ends.upstream.take(whole.length)).toEqual(whole);
    await bothClosed(ends);
    await drained;
    expect(lines(proxy, 'drained')).toEqual([expect.objectContaining({ told: 1, forced: 0 })]);
  });

  it('stops a client that publishes without confirms and without end at a publish', async () => {
    const proxy = await proxyTo({ drainTimeout: '3' });
    const { client, upstream } = await openThrough(broker, proxy.port);
    const one = publish('again');
    const over = new AbortController();
    const publishing = (async () => {
      while (!over.signal.aborted) {
        client.socket.write(one.subarray(0, 30));
        await new Promise((resolve) => setTimeout(resolve, 3));
        client.socket.write(one.subarray(30));
      }
    })();
    const drained = proxy.proxy.drain();
    expect(readCloseFrame(await client.frame()).code).toBe(320);
    over.abort();
    await publishing;
    await upstream.until('its end', ({ ended }) => ended);
    let at = 0;
    while (upstream.received.subarray(at, at + one.length).equals(one)) at += one.length;
    expect(at).toBeGreaterThan(10 * one.length);
    expect(readCloseFrame(upstream.received.subarray(at)).code).toBe(320); // right behind a whole message
    client.socket.end();
    upstream.socket.end();
    await drained;
    expect(lines(proxy, 'drained')).toEqual([expect.objectContaining({ forced: 0 })]);
  });

  it('ends clients that are in their handshake, or have said nothing', async () => {
    const proxy = await proxyTo({ drainTimeout: '1' });
    const silent = await connectPeer(proxy.port);
    const arriving = broker.next();
    const greeting = await connectPeer(proxy.port);
    greeting.write(HEADER);
    const upstream = await arriving;
    const drained = proxy.proxy.drain();
    await silent.until('its end', ({ ended, closed }) => ended || closed);
    expect(readCloseFrame(await greeting.frame()).code).toBe(320);
    greeting.socket.end();
    await upstream.until('its end', ({ ended }) => ended);
    upstream.socket.end();
    await drained;
  });
});
