import { describe, expect, it } from 'vitest';
import { Distribution } from '../../../../common/distribution.ts';
import { createMetrics, mergeMetrics, type Metrics } from '../../../../common/metrics.ts';
import { Ledger } from '../../../../proxy/ledger.ts';
import type { ClientWho } from '../../../../proxy/record.ts';
import { proxyOptions } from '../../../../proxy/options.ts';
import { readSettings } from '../../../../proxy/settings.ts';
import { resolveOptions } from '../../../../common/resolve.ts';
import { mergeLedgers, mergePauses, mergePools } from '../../../../proxy/workers/merge.ts';

describe('metrics of several processes', () => {
  function worker(count: number): Metrics {
    const metrics = createMetrics({ ofProcess: false });
    metrics.counter('a_total', 'Is added.', () => [[{ kind: 'x' }, count]], ['kind']);
    metrics.gauge('b', 'The largest.', () => count, [], 'max');
    metrics.gauge('c', 'The smallest.', () => count, [], 'min');
    const seconds = new Distribution([1, 10]);
    for (let value = 1; value <= count; value++) seconds.observe(value);
    metrics.histogram('d', 'Is added, bucket by bucket.', () => [[{}, seconds]]);
    return metrics;
  }

  it('are sums, or what else is said, with the time at which the main process started', async () => {
    const main = await createMetrics().samples();
    const others = await Promise.all([2, 3].map((count) => worker(count).samples()));
    // As they come from another process.
    const text = await mergeMetrics(main, JSON.parse(JSON.stringify(others)) as typeof others);
    expect(text).toContain('\na_total{kind="x"} 5\n');
    expect(text).toContain('\nb 3\n');
    expect(text).toContain('\nc 2\n');
    expect(text).toContain('\nd_bucket{le="1"} 2\n');
    expect(text).toContain('\nd_bucket{le="+Inf"} 5\n');
    expect(text).toContain('\nd_sum 9\n');
    expect(text).toMatch(/^process_start_time_seconds \d+$/m);
    expect(text).not.toContain('nodejs_');
  });
});

describe('ledgers of several processes', () => {
  const who: ClientWho = {
    user: 'nova',
    virtualHost: '/',
    connectionName: undefined,
    product: 'p',
    version: '1',
    platform: 'q',
    address: '10.0.0.1',
    frameMax: 131_072,
    mechanism: undefined,
  };
  const ledgerAt = (time: number): Ledger =>
    new Ledger({ mode: 'transparent', limit: 10, now: () => time * 1000 });

  it('have a client once that is connected to two of them', () => {
    const [one, other] = [ledgerAt(10), ledgerAt(20)];
    one.connected(who, '4.0.5').rewritten('queue.declare');
    const gone = other.connected(who, '4.0.5');
    gone.rewritten('queue.declare');
    gone.rewritten('basic.qos');
    gone.ended();
    other.connected({ ...who, user: 'cinder' }, '4.0.5');
    const { clients, summary, startedAt } = mergeLedgers([one.document(), other.document()]);
    expect(startedAt).toBe('1970-01-01T00:00:10Z');
    expect(clients).toHaveLength(2);
    expect(clients.find(({ user }) => user === 'nova')).toMatchObject({
      needsProxy: true,
      connections: { now: 1, needing: 1, total: 2 },
      firstSeen: '1970-01-01T00:00:10Z',
      lastSeen: '1970-01-01T00:00:20Z',
      lastRewrite: '1970-01-01T00:00:20Z',
      rewrites: { 'queue.declare': 2, 'basic.qos': 1 },
    });
    expect(summary).toEqual({
      text: '1 of 2 clients needs the proxy; the last rewrite was at 1970-01-01T00:00:20Z',
      unneededSince: null,
      lastRewrite: '1970-01-01T00:00:20Z',
      clients: 2,
      needing: 1,
    });
  });

  it('tell since when no client of any of them needs the proxy', () => {
    const ledgers = [ledgerAt(10), ledgerAt(20)];
    for (const ledger of ledgers) {
      const record = ledger.connected(who, undefined);
      record.rewritten('queue.declare');
      record.ended();
    }
    const { summary } = mergeLedgers(ledgers.map((ledger) => ledger.document()));
    expect(summary.unneededSince).toBe('1970-01-01T00:00:20Z');
  });
});

it('pauses and pools are added up', () => {
  const pause = { vhost: '/', until: '2026-01-01T00:00:00.000Z', connections: 2 };
  expect(mergePauses([pause, { ...pause, vhost: 'other' }, { ...pause, connections: 3 }])).toEqual([
    { ...pause, connections: 5 },
    { ...pause, vhost: 'other' },
  ]);
  const pool = { connections: 1, maxUpstreamConnections: 50, logins: 2, groups: [] };
  expect(mergePools([pool, pool])).toEqual({
    ...pool,
    connections: 2,
    maxUpstreamConnections: 100,
    logins: 4,
  });
});

it('each worker has its part of the limits that are for all, and all of the others', () => {
  const given = {
    backend: '127.0.0.1:1',
    mode: 'pool',
    workers: '4',
    'max-connections': '10',
    'handshake-rate': '100',
    'max-buffer': '64MiB',
    'max-connections-per-user': '7',
  };
  const flags = Object.fromEntries(
    Object.entries(proxyOptions).map(([property, { name }]) => [property, given[name as keyof typeof given]]),
  );
  const { options, limits, pool } = readSettings(resolveOptions(proxyOptions, { flags, env: {} }).values);
  expect(options.maxConnections).toBe(3);
  expect(limits).toMatchObject({ handshakes: 25, buffer: 16 * 2 ** 20, perUser: 7 });
  expect(pool?.maxUpstreamConnections).toBe(25);
});
