import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  connectPeer,
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
  const backend = `127.0.0.1:${broker.port}`;
  const proxy = await startTestProxy({ backend, breakerFailures: '3', breakerReset: '0.5', ...flags });
  running.push(proxy);
  return proxy;
}

/** The broker takes no connections any more; those that there are go on. @returns its port, for {@link comeBack} */
function goAway(): number {
  const { port } = broker;
  broker.server.close();
  return port;
}

async function comeBack(port: number): Promise<void> {
  broker.server.listen(port, '127.0.0.1');
  await once(broker.server, 'listening');
}

async function begin(proxy: TestProxy): Promise<Peer> {
  const client = await connectPeer(proxy.port);
  client.write(HEADER);
  return client;
}

/** A new client's connection.close. */
async function refused(proxy: TestProxy): Promise<{ code: number; text: string }> {
  const client = await begin(proxy);
  const { code, text } = readCloseFrame(await client.frame());
  client.socket.destroy();
  return { code, text };
}

async function state(proxy: TestProxy): Promise<string | undefined> {
  const samples = await proxy.metric('quorumbridge_proxy_breaker_state');
  return samples.find((sample) => sample.endsWith(' 1'));
}

const CLOSED = '{state="closed"} 1';
const HALF_OPEN = '{state="half-open"} 1';
const OPEN = '{state="open"} 1';

describe('the circuit breaker of a proxy whose backend is away', () => {
  it('refuses new clients at once, leaves those alone that there are, and closes when the backend is back', async () => {
    const proxy = await proxyTo();
    const old = await openThrough(broker, proxy.port);
    const port = goAway();
    for (let i = 0; i < 3; i++) {
      const { code, text } = await refused(proxy);
      expect([code, text]).toEqual([
        320,
        `CONNECTION_FORCED - backend 127.0.0.1:${port} cannot be reached: ECONNREFUSED`,
      ]);
    }
    expect(await state(proxy)).toBe(OPEN);
    const { code, text } = await refused(proxy);
    expect(code).toBe(320);
    expect(text).toMatch(
      /^CONNECTION_FORCED - the circuit breaker is open: 3 connections to the backend have failed in a row, the last one: ECONNREFUSED; the next try in 0\.\d s$/,
    );
    old.client.write(method(1, 20, 10, Buffer.of(0)));
    expect((await old.upstream.frame()).readUInt32BE(7)).toBe(0x0014_000a);
    await comeBack(port);
    expect((await refused(proxy)).text).toContain('the circuit breaker is open');
    expect(broker.peers).toHaveLength(1); // nothing has come to the backend meanwhile
    await expect.poll(() => state(proxy), { interval: 20 }).toBe(HALF_OPEN);
    await openThrough(broker, proxy.port);
    expect(await state(proxy)).toBe(CLOSED);
    const lines = proxy.log().filter(({ msg }) => String(msg).startsWith('the circuit breaker '));
    expect(lines.map(({ level, code, msg }) => [level, code, String(msg).slice(0, 26)])).toEqual([
      ['warn', 'BREAKER_OPEN', 'the circuit breaker opens:'],
      ['warn', 'BREAKER_OPEN', 'the circuit breaker is ope'],
      ['warn', 'BREAKER_OPEN', 'the circuit breaker is ope'],
      ['info', undefined, 'the circuit breaker closes'],
    ]);
    expect(await proxy.metric('quorumbridge_proxy_breaker_opened_total')).toEqual([' 1']);
    expect(await proxy.metric('quorumbridge_proxy_breaker_refused_total')).toEqual([' 2']);
  });

  it('lets one connection through when its time is over, and stays open when that fails', async () => {
    const proxy = await proxyTo();
    goAway();
    for (let i = 0; i < 3; i++) await refused(proxy);
    await expect.poll(() => state(proxy), { interval: 20 }).toBe(HALF_OPEN);
    expect((await refused(proxy)).text).toContain('cannot be reached: ECONNREFUSED');
    expect(await state(proxy)).toBe(OPEN);
    expect((await refused(proxy)).text).toContain('ECONNREFUSED, again');
  });

  it('lets new clients wait where that is wanted, and serves them when the backend is back', async () => {
    const proxy = await proxyTo({ breakerWait: 'wait' });
    const port = goAway();
    for (let i = 0; i < 3; i++) await refused(proxy);
    const waiting = [await begin(proxy), await begin(proxy)];
    await comeBack(port);
    await expect.poll(() => broker.peers.length).toBe(1);
    const first = broker.peers[0]!;
    await first.take(8);
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(broker.peers).toHaveLength(1); // as long as it isn't known how the one goes
    first.write(method(0, 10, 10, Buffer.from('start')));
    await expect.poll(() => broker.peers.length).toBe(2);
    broker.peers[1]!.write(method(0, 10, 10, Buffer.from('start')));
    for (const client of waiting) expect((await client.frame()).readUInt32BE(7)).toBe(0x000a_000a);
  });

  it('lets them wait no longer than for a connection', async () => {
    const proxy = await proxyTo({ breakerWait: 'wait', breakerReset: '60', connectTimeout: '0.5' });
    goAway();
    for (let i = 0; i < 3; i++) await refused(proxy);
    const { code, text } = await refused(proxy);
    expect([code, text]).toEqual([320, expect.stringContaining('did not answer in time')]);
  });

  it('counts a backend that hangs up, and one that says nothing', async () => {
    const proxy = await proxyTo({ handshakeTimeout: '0.4', breakerReset: '60' });
    for (let i = 0; i < 2; i++) {
      const arriving = broker.next();
      const client = await begin(proxy);
      (await arriving).socket.end();
      await client.until('its end', ({ ended }) => ended);
    }
    expect(await state(proxy)).toBe(CLOSED);
    expect((await refused(proxy)).text).toContain('the handshake took more than 0.4 s');
    await expect.poll(() => state(proxy)).toBe(OPEN);
    expect((await refused(proxy)).text).toContain('the last one: no answer within 0.4 s');
  });

  it('does not count clients that go before the backend has answered', async () => {
    const proxy = await proxyTo({ breakerFailures: '1' });
    for (let i = 0; i < 5; i++) {
      const arriving = broker.next();
      const client = await begin(proxy);
      const upstream = await arriving;
      await upstream.take(8);
      client.socket.destroy();
      await upstream.until('its end', ({ ended, closed }) => ended || closed);
      upstream.socket.end();
    }
    expect(await state(proxy)).toBe(CLOSED);
  });

  it('is closed by the check of /readyz, which it always lets through', async () => {
    const proxy = await proxyTo({ breakerReset: '3600' });
    const port = goAway();
    for (let i = 0; i < 3; i++) await refused(proxy);
    expect(await state(proxy)).toBe(OPEN);
    await comeBack(port);
    const arriving = broker.next();
    const ready = fetch(`http://127.0.0.1:${proxy.proxy.adminAddress.port}/readyz`);
    (await arriving).write(method(0, 10, 10, Buffer.alloc(20)));
    expect((await ready).status).toBe(200);
    expect(await state(proxy)).toBe(CLOSED);
  });
});

describe('the circuit breaker in mode pool', () => {
  it('stands before the attempts of the pool, while its clients wait', async () => {
    const proxy = await proxyTo({ mode: 'pool', breakerReset: '1.5', poolWaitTimeout: '20' });
    const port = goAway();
    const clients = [await begin(proxy), await begin(proxy)];
    await expect.poll(() => state(proxy), { timeout: 10_000 }).toBe(OPEN);
    await comeBack(port);
    await expect
      .poll(async () => Number((await proxy.metric('quorumbridge_proxy_breaker_refused_total'))[0]), {
        timeout: 10_000,
      })
      .toBeGreaterThan(0);
    expect(broker.peers).toEqual([]);
    await expect.poll(() => broker.peers.length, { timeout: 10_000 }).toBe(1);
    const mechanisms = Buffer.concat([
      Buffer.of(0, 9, 0, 0, 0, 0, 0, 0, 0, 5),
      Buffer.from('PLAIN'),
      Buffer.alloc(4),
    ]);
    broker.peers[0]!.write(method(0, 10, 10, mechanisms));
    for (const client of clients) expect((await client.frame()).readUInt32BE(7)).toBe(0x000a_000a);
    expect(await state(proxy)).toBe(CLOSED);
  });

  it('refuses new clients at once where that is wanted', async () => {
    const proxy = await proxyTo({ mode: 'pool', breakerWait: 'refuse', breakerReset: '60' });
    goAway();
    const first = await begin(proxy);
    await expect.poll(() => state(proxy), { timeout: 10_000 }).toBe(OPEN);
    const began = performance.now();
    const { code, text } = await refused(proxy);
    expect([code, text]).toEqual([320, expect.stringContaining('the circuit breaker is open')]);
    expect(performance.now() - began).toBeLessThan(1000);
    first.socket.destroy();
  });
});
