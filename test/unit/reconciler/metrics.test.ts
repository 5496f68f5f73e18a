import { describe, expect, it } from 'vitest';
import { createMetrics } from '../../../common/metrics.ts';
import { ReconcilerStats, factsOf, registerMetrics } from '../../../reconciler/metrics.ts';
import type { ObservedRabbitMq, UpgradePhase } from '../../../reconciler/types.ts';

function observed(
  phase: UpgradePhase,
  phaseStartedAt: string,
  status: object = {},
): Pick<ObservedRabbitMq, 'object' | 'status'> {
  return {
    object: {
      apiVersion: 'rabbitmq.openstack.org/v1beta1',
      kind: 'RabbitMq',
      metadata: {},
      status: { ...status },
    },
    status: { upgradePhase: phase, upgrade: { phaseStartedAt } } as ObservedRabbitMq['status'],
  };
}

async function scraped(stats: ReconcilerStats): Promise<string[]> {
  const metrics = createMetrics();
  registerMetrics(metrics, stats);
  return (await metrics.text()).split('\n').filter((line) => line.startsWith('quorumbridge_reconciler_'));
}

describe('the metrics of the reconciler', () => {
  it('show each RabbitMq as it was seen last, until it is gone', async () => {
    const stats = new ReconcilerStats();
    const conditions = [
      { type: 'Ready', status: 'False' },
      { type: 'Degraded', status: 'True' },
      { type: 'ProxyRemovable', status: 'Unknown' },
    ];
    const started = new Date(Date.now() - 90_000).toISOString();
    stats.note(
      'openstack',
      'a',
      factsOf(observed('WaitingForPods', started, { conditions, clients: { needProxy: 7 } })),
    );
    stats.note('openstack', 'b', factsOf(observed('', started)));
    stats.note('openstack', 'c', factsOf(observed('', 'never')));
    const lines = await scraped(stats);
    const of = 'namespace="openstack",name="a"';
    expect(lines).toEqual(
      expect.arrayContaining([
        'quorumbridge_reconciler_rabbitmqs{phase="WaitingForPods"} 1',
        'quorumbridge_reconciler_rabbitmqs{phase="none"} 2',
        `quorumbridge_reconciler_condition{${of},type="Ready"} 0`,
        `quorumbridge_reconciler_condition{${of},type="Degraded"} 1`,
        `quorumbridge_reconciler_condition{${of},type="ProxyRemovable"} -1`,
        `quorumbridge_reconciler_clients_needing_proxy{${of}} 7`,
      ]),
    );
    const ages = lines.filter((line) => line.startsWith('quorumbridge_reconciler_phase_age_seconds'));
    expect(ages).toEqual([
      expect.stringMatching(/\{namespace="openstack",name="a",phase="WaitingForPods"\} 9\d\.\d+$/),
    ]);
    stats.note('openstack', 'a', undefined);
    expect((await scraped(stats)).filter((line) => line.includes('name="a"'))).toEqual([]);
  });

  it('have a bounded number of series, and never leave out an upgrade', () => {
    const stats = new ReconcilerStats();
    const conditions = Array.from({ length: 100 }, (_, index) => ({ type: `T${index}`, status: 'True' }));
    for (let index = 0; index < 2000; index++)
      stats.note(
        'openstack',
        `r${index}`,
        factsOf(observed('', 'never', { conditions, clients: { needProxy: 1 } })),
      );
    stats.note('openstack', 'last', factsOf(observed('WaitingForCluster', '2026-11-21T14:00:00Z')));
    expect([...stats.clients()].length).toBeLessThanOrEqual(500);
    expect([...stats.conditions()].length).toBeLessThanOrEqual(500 * 20);
    const ages = [...stats.phaseAges(Date.parse('2026-11-21T14:01:00Z'))];
    expect(ages).toEqual([[{ namespace: 'openstack', name: 'last', phase: 'WaitingForCluster' }, 60]]);
    expect(new Map([...stats.phases()].map(([{ phase }, count]) => [phase, count])).get('none')).toBe(2000);
  });
});
