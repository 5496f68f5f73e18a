import { describe, expect, it } from 'vitest';
import { createMetrics } from '../../../common/metrics.ts';

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
