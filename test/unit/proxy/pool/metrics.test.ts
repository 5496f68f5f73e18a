import { describe, expect, it } from 'vitest';
import { Ledger } from '../../../../proxy/ledger.ts';
import { createProxyMetrics } from '../../../../proxy/metrics.ts';
import { POOL_ENDS, PoolStats } from '../../../../proxy/pool/stats.ts';
import { Stats } from '../../../../proxy/stats.ts';

/** Samples of pool mode's metrics, without their prefix. */
async function samples(stats: Stats): Promise<Map<string, number>> {
  const text = await createProxyMetrics(stats, new Ledger({ mode: 'pool', limit: 1 })).text();
  const lines = text.matchAll(/^quorumbridge_proxy_pool_(\S+) (\d+)$/gm);
  return new Map([...lines].map(([, sample, value]) => [sample!, Number(value)]));
}

describe('the metrics of pool mode', () => {
  it('are all there from the start, at 0', async () => {
    const all = await samples(new Stats());
    expect(all.size).toBeGreaterThan(20);
    expect(new Set(all.values())).toEqual(new Set([0]));
    for (const reason of POOL_ENDS) expect(all.get(`connections_lost_total{reason="${reason}"}`)).toBe(0);
  });

  it('show every counted field, each in a sample of its own', async () => {
    const stats = new Stats();
    let next = 0;
    const fill = (counts: Record<string, unknown>): void => {
      for (const [name, value] of Object.entries(counts)) {
        if (typeof value === 'number') counts[name] = ++next;
        else fill(value as Record<string, unknown>);
      }
    };
    fill(stats.pool as unknown as Record<string, unknown>);
    const all = await samples(stats);
    expect([...all.values()].sort((a, b) => a - b)).toEqual(Array.from({ length: next }, (_, at) => at + 1));
    const { sharedConnections, channelsReused, connectionsLost, loginsKnown } = stats.pool;
    expect(all.get('connections{kind="shared"}')).toBe(sharedConnections);
    expect(all.get('channels_reused_total')).toBe(channelsReused);
    expect(all.get('connections_lost_total{reason="silent"}')).toBe(connectionsLost.silent);
    expect(all.get('logins_total{result="known"}')).toBe(loginsKnown);
  });

  it('belong to one proxy: what is counted in one is not seen in another', () => {
    const [one, other] = [new PoolStats(), new PoolStats()];
    one.connectionsLost.silent++;
    expect(other.connectionsLost.silent).toBe(0);
  });
});
