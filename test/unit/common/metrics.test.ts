import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Distribution } from '../../../common/distribution.ts';
import { createMetrics, type Metrics } from '../../../common/metrics.ts';

describe('createMetrics', () => {
  it('reads plain fields when scraped, as often as it is scraped', async () => {
    const metrics = createMetrics({ prefix: 'quorumbridge_proxy_' });
    const fields = { total: 5, open: 2 };
    metrics.counter('connections_total', 'Connections accepted.', () => fields.total);
    metrics.gauge('connections', 'Connections open.', () => fields.open);
    expect(await metrics.text()).toContain('\nquorumbridge_proxy_connections_total 5\n');
    fields.total = 9;
    fields.open = 1;
    const text = await metrics.text();
    expect(text).toContain(
      '# HELP quorumbridge_proxy_connections_total Connections accepted.\n' +
        '# TYPE quorumbridge_proxy_connections_total counter\n' +
        'quorumbridge_proxy_connections_total 9\n',
    );
    expect(text).toContain('# TYPE quorumbridge_proxy_connections gauge\nquorumbridge_proxy_connections 1\n');
  });

  it('writes one sample for each set of labels and forgets those that are gone', async () => {
    const metrics = createMetrics();
    const seen = new Map([
      ['queue', 3],
      ['exchange', 4],
    ]);
    metrics.counter(
      'rewrites_total',
      'Rewrites.',
      () => [...seen].map(([kind, count]) => [{ kind }, count] as const),
      ['kind'],
    );
    const text = await metrics.text();
    expect(text).toContain('\nrewrites_total{kind="queue"} 3\nrewrites_total{kind="exchange"} 4\n');
    seen.delete('queue');
    expect(await metrics.text()).not.toContain('kind="queue"');
  });

  it('shows a counter that has not counted yet as 0', async () => {
    const metrics = createMetrics();
    metrics.counter('nothing_total', 'Nothing yet.', () => 0);
    expect(await metrics.text()).toContain('\nnothing_total 0\n');
  });

  it('writes distributions as histograms: each bucket holds what is below its bound, the bound included', async () => {
    const metrics = createMetrics({ prefix: 'p_' });
    const [up, down] = [new Distribution([0.1, 1]), new Distribution([0.1, 1])];
    metrics.histogram('seconds', 'Durations.', () => [
      [{ direction: 'up' }, up],
      [{ direction: 'down' }, down],
    ]);
    for (const value of [0.05, 0.1, 0.5, 1, 7]) up.observe(value);
    expect(await metrics.text()).toContain(
      [
        '# HELP p_seconds Durations.',
        '# TYPE p_seconds histogram',
        'p_seconds_bucket{direction="up",le="0.1"} 2',
        'p_seconds_bucket{direction="up",le="1"} 4',
        'p_seconds_bucket{direction="up",le="+Inf"} 5',
        'p_seconds_sum{direction="up"} 8.65',
        'p_seconds_count{direction="up"} 5',
        'p_seconds_bucket{direction="down",le="0.1"} 0',
        'p_seconds_bucket{direction="down",le="1"} 0',
        'p_seconds_bucket{direction="down",le="+Inf"} 0',
        'p_seconds_sum{direction="down"} 0',
        'p_seconds_count{direction="down"} 0',
      ].join('\n'),
    );
    expect((await metrics.text()).split('# TYPE p_seconds ')).toHaveLength(2);
  });

  it('includes the metrics of the process and keeps registries apart', async () => {
    const one = createMetrics();
    const other = createMetrics();
    one.gauge('only_here', 'One.', () => 1);
    expect(await one.text()).toMatch(/^process_cpu_seconds_total \d/m);
    expect(await other.text()).not.toContain('only_here');
    expect(one.contentType).toBe('text/plain; version=0.0.4; charset=utf-8');
  });

  it('rejects a scrape whose reader throws', async () => {
    const metrics = createMetrics();
    metrics.gauge('broken', 'Broken.', () => {
      throw new Error('no value');
    });
    await expect(metrics.text()).rejects.toThrow('no value');
  });
});

describe("the event loop's lag", () => {
  const LAGS = ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99'];

  async function lags(metrics: Metrics): Promise<Record<string, number>> {
    const found = (await metrics.text()).matchAll(/^nodejs_eventloop_lag_(\w+)_seconds (\S+)$/gm);
    return Object.fromEntries([...found].map(([, name, value]) => [name, Number(value)]));
  }

  it('is how long its turns were, the longest one included', async () => {
    const metrics = createMetrics();
    await lags(metrics);
    await setImmediate();
    const until = performance.now() + 50;
    while (performance.now() < until);
    for (let turn = 0; turn < 200; turn++) await setImmediate();
    const busy = await lags(metrics);
    expect(Object.keys(busy)).toEqual(LAGS);
    expect(busy['max']).toBeGreaterThanOrEqual(0.05);
    expect(busy['min']).toBeLessThan(busy['max']!);
  });

  it('is a number, however little there was', async () => {
    const metrics = createMetrics();
    const atOnce = await Promise.all([lags(metrics), lags(metrics)]);
    for (const name of LAGS)
      expect(atOnce.map((found) => Number.isFinite(found[name]))).toEqual([true, true]);
  });
});
