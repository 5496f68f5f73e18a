import { describe, expect, it, vi } from 'vitest';
import { type Api, ApiFailure } from '../../../common/kube/api.ts';
import { textAt } from '../../../common/kube/json.ts';
import type { KubeObject } from '../../../common/kube/types.ts';
import { createTeller } from '../../../reconciler/events.ts';
import { ReconcilerStats } from '../../../reconciler/metrics.ts';
import { readableLog } from '../webhook/harness.ts';

const rabbitmq: KubeObject = {
  apiVersion: 'rabbitmq.openstack.org/v1beta1',
  kind: 'RabbitMq',
  metadata: { namespace: 'openstack', name: 'rabbit', uid: 'u-1', resourceVersion: '7' },
};
const started = { type: 'Normal', reason: 'UpgradeStarted', note: '3.9 to 4.2' } as const;

/** Other tests may keep the machine busy. */
const eventually = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 10_000 });

/** Tellers of replicas that write to the same API server. */
function replicas() {
  const written = new Map<string, KubeObject>();
  let time = Date.parse('2026-11-21T14:00:00Z');
  let failure: Error | undefined;
  const create: Api['create'] = async (_resource, event) => {
    if (failure !== undefined) throw failure;
    const name = textAt(event, 'metadata', 'name')!;
    if (written.has(name)) return 'exists';
    written.set(name, event);
    return 'created';
  };
  const replica = () => {
    const stats = new ReconcilerStats();
    const { log, lines } = readableLog();
    return { tell: createTeller({ api: { create } as Api, log, stats, now: () => time }), stats, lines };
  };
  return {
    written,
    replica,
    pass: (ms: number) => void (time += ms),
    fail: (error: Error | undefined) => void (failure = error),
  };
}

describe('Events', () => {
  it('have what events.k8s.io wants, and the RabbitMq that they are about', async () => {
    const { written, replica } = replicas();
    replica().tell(rabbitmq, { ...started, note: 'x'.repeat(3000) });
    await eventually(() => expect(written.size).toBe(1));
    const [event] = [...written.values()];
    expect(event).toEqual({
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { namespace: 'openstack', name: expect.stringMatching(/^rabbit\.[0-9a-f]{16}$/) },
      eventTime: '2026-11-21T14:00:00.000000Z',
      type: 'Normal',
      reason: 'UpgradeStarted',
      note: expect.stringMatching(/^x{1023}…$/),
      action: 'Reconcile',
      reportingController: 'quorumbridge.io/reconciler',
      reportingInstance: expect.any(String),
      regarding: {
        apiVersion: 'rabbitmq.openstack.org/v1beta1',
        kind: 'RabbitMq',
        namespace: 'openstack',
        name: 'rabbit',
        uid: 'u-1',
        resourceVersion: '7',
      },
    });
  });

  it('are one for the same within ten minutes, of another replica as well', async () => {
    const { written, replica, pass } = replicas();
    const [a, b] = [replica(), replica()];
    a.tell(rabbitmq, started);
    a.tell(rabbitmq, started);
    b.tell(rabbitmq, started);
    a.tell(rabbitmq, { ...started, note: '3.9 to 4.3' });
    await eventually(() => expect(written.size).toBe(2));
    expect([...b.stats.events]).toEqual([[{ reason: 'UpgradeStarted', result: 'known' }, 1]]);
    expect([...a.stats.events]).toEqual([[{ reason: 'UpgradeStarted', result: 'written' }, 2]]);
    pass(9 * 60_000);
    a.tell(rabbitmq, started);
    pass(60_000);
    a.tell(rabbitmq, started);
    await eventually(() => expect(written.size).toBe(3));
    expect([...a.stats.events]).toEqual([[{ reason: 'UpgradeStarted', result: 'written' }, 3]]);
  });

  it('never fail whoever tells, and are counted', async () => {
    const { replica, fail } = replicas();
    const { tell, stats, lines } = replica();
    fail(new ApiFailure('the API server answered 403', 403));
    tell(rabbitmq, started);
    tell({ ...rabbitmq, metadata: {} }, started);
    await eventually(() =>
      expect([...stats.events]).toEqual([[{ reason: 'UpgradeStarted', result: 'failed' }, 2]]),
    );
    expect(lines.map(({ msg }) => msg)).toEqual(Array(2).fill('an Event could not be written'));
  });

  it('are not more than a flood is worth', async () => {
    const { written, replica } = replicas();
    const { tell, stats } = replica();
    for (let index = 0; index < 200; index++) tell(rabbitmq, { ...started, note: `${index}` });
    await eventually(() => expect(written.size).toBe(60));
    expect(new Map([...stats.events].map(([{ result }, count]) => [result, count]))).toEqual(
      new Map([
        ['written', 60],
        ['left out', 140],
      ]),
    );
  });
});
