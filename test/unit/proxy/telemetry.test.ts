// What is counted about connections and channels, with real sockets; and that its labels have a bound.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Ledger } from '../../../proxy/ledger.ts';
import { createProxyMetrics } from '../../../proxy/metrics.ts';
import { Stats } from '../../../proxy/stats.ts';
import { Account, type Told } from '../../../proxy/telemetry/account.ts';
import { LatencySampler, SAMPLED_ONE_IN } from '../../../proxy/telemetry/latency.ts';
import { PARTIES_MAX } from '../../../proxy/telemetry/parties.ts';
import { NOBODY } from '../../../amqp/handshake.ts';
import {
  connectPeer,
  HEADER,
  method,
  openThrough,
  ScriptedBroker,
  startTestProxy,
  type TestProxy,
} from '../../support/peers.ts';
import { channelClose, channelCloseOk, channelOpen } from '../../support/amqp-methods.ts';

const NAME = 'quorumbridge_proxy_';

/** Connections end by events of both sockets, on a machine that may be busy. */
const PATIENCE = { timeout: 15_000 };

function told(virtualHost: string, user: string): Told {
  const identity = { ...NOBODY, user };
  return { identity, brokerUser: undefined, virtualHost, rewrites: {}, changes: {}, closeSeen: true };
}

function account(stats: Stats, id: number): Account {
  const endpoints = {
    sourceAddress: '10.0.0.1',
    sourcePort: 1,
    destinationAddress: '10.0.0.2',
    destinationPort: 2,
  };
  return new Account({ id, endpoints, stats: stats.telemetry, audit: undefined });
}

async function samplesOf(stats: Stats, name: string): Promise<string[]> {
  const text = await createProxyMetrics(stats, new Ledger({ mode: 'transparent', limit: 1 })).text();
  return text.split('\n').filter((line) => line.startsWith(`${NAME}${name}{`));
}

describe('labels', () => {
  it('have a bound: 10,000 virtual hosts are 100 pairs and the others', async () => {
    const stats = new Stats();
    const accounts = Array.from({ length: 10_000 }, (_, id) => account(stats, id));
    for (const [id, one] of accounts.entries()) one.opened(told(`v${id}`, `u${id % 7}`), {});
    const open = await samplesOf(stats, 'connections_open');
    expect(open).toHaveLength(PARTIES_MAX + 1);
    expect(open).toContain(`${NAME}connections_open{vhost="v99",user="u1"} 1`);
    expect(open).toContain(`${NAME}connections_open{vhost="other",user="other"} 9900`);
    for (const [id, one] of accounts.entries()) one.ended(told(`v${id}`, `u${id % 7}`));
    expect(await samplesOf(stats, 'connections_open')).toContain(
      `${NAME}connections_open{vhost="other",user="other"} 0`,
    );
    const closed = await samplesOf(stats, 'connections_closed_total');
    expect(closed).toHaveLength(PARTIES_MAX + 1);
    expect(closed).toContain(
      `${NAME}connections_closed_total{vhost="other",user="other",reason="client"} 9900`,
    );
    expect(await samplesOf(stats, 'connections_opened_total')).toHaveLength(PARTIES_MAX + 1);
  });

  it('tell pairs apart that are the same text, and cut long names', async () => {
    const stats = new Stats();
    account(stats, 1).opened(told('ab', 'c'), {});
    account(stats, 2).opened(told('a', 'bc'), {});
    account(stats, 3).opened(told('x'.repeat(255), 'y'.repeat(255)), {});
    expect(await samplesOf(stats, 'connections_open')).toEqual([
      `${NAME}connections_open{vhost="ab",user="c"} 1`,
      `${NAME}connections_open{vhost="a",user="bc"} 1`,
      `${NAME}connections_open{vhost="${'x'.repeat(64)}",user="${'y'.repeat(64)}"} 1`,
    ]);
  });
});

describe('the sampler of latency', () => {
  it('takes one chunk in 256', () => {
    const sampler = new LatencySampler();
    for (let chunk = 0; chunk < SAMPLED_ONE_IN * 3; chunk++) sampler.end(sampler.begin());
    expect(sampler.seconds.counts.reduce((all, count) => all + count, 0)).toBe(3);
    expect(sampler.seconds.sum).toBeGreaterThanOrEqual(0);
    expect(sampler.seconds.sum).toBeLessThan(0.1);
  });
});

describe('a proxy', () => {
  let broker: ScriptedBroker;
  let proxy: TestProxy;

  beforeEach(async () => {
    broker = await new ScriptedBroker().start();
    proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
  });
  afterEach(async () => {
    await proxy[Symbol.asyncDispose]();
    await broker[Symbol.asyncDispose]();
  });

  const sample = async (name: string): Promise<string | undefined> =>
    (await proxy.metric(`${NAME}${name}`)).map((value) => value.trim())[0];

  it('counts connections by virtual host, user and reason, and times their handshakes', async () => {
    const { client, upstream } = await openThrough(broker, proxy.port);
    expect(await sample('connections_open{vhost="/",user=""}')).toBe('1');
    expect(await sample('handshake_duration_seconds_count')).toBe('1');
    expect(await sample('handshake_duration_seconds_bucket{le="30"}')).toBe('1');
    client.socket.destroy();
    await upstream.until('the end', ({ ended }) => ended);
    upstream.socket.end();
    await expect
      .poll(() => sample('connections_closed_total{vhost="/",user="",reason="CLIENT_LOST"}'), PATIENCE)
      .toBe('1');
    expect(await sample('connections_open{vhost="/",user=""}')).toBe('0');
    expect(await sample('connections_opened_total{vhost="/",user=""}')).toBe('1');
  });

  it('says whose connection.close it was', async () => {
    const first = await openThrough(broker, proxy.port);
    const close = method(
      0,
      10,
      50,
      Buffer.concat([Buffer.of(0, 200, 2), Buffer.from('ok'), Buffer.alloc(4)]),
    );
    first.client.write(close);
    await first.upstream.frame();
    first.upstream.write(method(0, 10, 51));
    await first.client.frame();
    first.client.socket.end();
    first.upstream.socket.end();
    await expect
      .poll(() => sample('connections_closed_total{vhost="/",user="",reason="client"}'), PATIENCE)
      .toBe('1');
    const second = await openThrough(broker, proxy.port);
    second.upstream.write(close);
    await second.client.frame();
    second.client.write(method(0, 10, 51));
    second.client.socket.end();
    await second.upstream.frame();
    second.upstream.socket.end();
    await expect
      .poll(() => sample('connections_closed_total{vhost="/",user="",reason="broker"}'), PATIENCE)
      .toBe('1');
  });

  it('counts what never came to be open without a name', async () => {
    const client = await connectPeer(proxy.port);
    client.write(Buffer.from('GET / HTTP/1.1\r\n\r\n'));
    await client.until('the end', ({ ended }) => ended);
    client.socket.end();
    await expect
      .poll(
        () => sample('connections_closed_total{vhost="",user="",reason="CLIENT_PROTOCOL_HEADER"}'),
        PATIENCE,
      )
      .toBe('1');
    const silent = await connectPeer(proxy.port);
    silent.write(HEADER.subarray(0, 4));
    silent.socket.end();
    await expect
      .poll(() => sample('connections_closed_total{vhost="",user="",reason="unopened"}'), PATIENCE)
      .toBe('1');
  });

  it('counts channels, and by whose will they ended', async () => {
    const { client, upstream } = await openThrough(broker, proxy.port);
    for (const channel of [1, 2, 3]) {
      client.write(channelOpen(channel));
      await upstream.frame();
      upstream.write(method(channel, 20, 11, Buffer.alloc(4)));
      await client.frame();
    }
    expect(await sample('channels_open')).toBe('3');
    client.write(channelClose(1));
    await upstream.frame();
    upstream.write(channelCloseOk(1));
    await client.frame();
    upstream.write(channelClose(2));
    await client.frame();
    client.write(channelCloseOk(2));
    await upstream.frame();
    // Both sides close it at the same time: it is one end.
    upstream.write(channelClose(2), channelCloseOk(2));
    await client.frame();
    expect(await sample('channels_open')).toBe('1');
    client.socket.destroy();
    upstream.socket.end();
    await expect.poll(() => sample('channels_closed_total{by="connection"}'), PATIENCE).toBe('1');
    expect(await sample('channels_closed_total{by="client"}')).toBe('1');
    expect(await sample('channels_closed_total{by="broker"}')).toBe('1');
    expect(await sample('channels_opened_total')).toBe('3');
    expect(await sample('channels_open')).toBe('0');
  });

  it('counts frames that end their connection, by whose they were', async () => {
    const first = await openThrough(broker, proxy.port);
    first.client.write(Buffer.from([99, 0, 0, 0, 0, 0, 0, 0xce]));
    await expect
      .poll(() => sample('frames_failed_total{direction="client_to_broker",reason="FRAME_ERROR"}'), PATIENCE)
      .toBe('1');
    const second = await openThrough(broker, proxy.port);
    second.upstream.write(Buffer.from([99, 0, 0, 0, 0, 0, 0, 0xce]));
    await expect
      .poll(
        () => sample('frames_failed_total{direction="broker_to_client",reason="INTERNAL_ERROR"}'),
        PATIENCE,
      )
      .toBe('1');
  });

  it('samples the latency of what it passes on, in each direction', async () => {
    const { client, upstream } = await openThrough(broker, proxy.port);
    const heartbeat = Buffer.from([8, 0, 0, 0, 0, 0, 0, 0xce]);
    for (let chunk = 0; chunk < SAMPLED_ONE_IN + 1; chunk++) {
      client.write(heartbeat);
      await upstream.frame();
      upstream.write(heartbeat);
      await client.frame();
    }
    expect(await sample('latency_seconds_count{direction="client_to_broker"}')).toBe('1');
    expect(await sample('latency_seconds_count{direction="broker_to_client"}')).toBe('1');
    expect(Number(await sample('latency_seconds_sum{direction="client_to_broker"}'))).toBeGreaterThan(0);
  });

  it('shows what waits for a client that does not read', async () => {
    const { client, upstream } = await openThrough(broker, proxy.port);
    client.socket.pause();
    const body = Buffer.alloc(100_000);
    const head = Buffer.from([3, 0, 1, 0, 0, 0, 0]);
    head.writeUInt32BE(body.length, 3);
    for (let frame = 0; frame < 100; frame++) upstream.write(head, body, Buffer.of(0xce));
    await expect
      .poll(async () => Number(await sample('buffered_bytes{direction="broker_to_client"}')), PATIENCE)
      .toBeGreaterThan(0);
    client.socket.resume();
    await expect.poll(() => sample('buffered_bytes{direction="broker_to_client"}'), PATIENCE).toBe('0');
  });
});
