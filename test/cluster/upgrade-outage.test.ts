// Upgrades while the API server is away, and while the reconciler that works is exchanged for another.
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { ANNOTATION, INSTALL } from '../../common/contract.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import type { KeptReconciler } from '../support/kept-reconciler.ts';
import type { KubeObject } from '../support/kube-api.ts';
import { Stage, clusterRef } from '../support/upgrade-stage.ts';

const TARGET = { [ANNOTATION.targetVersion]: '4.2' };
const SEED = { queues: [{ vhost: '/', name: 'orders', durable: true, auto_delete: false, arguments: {} }] };
const NAMES = ['orphaned', 'handed-over', 'cut-off'];
/** Two thirds of it without an answer cost the Lease, also where the machine is busy. */
const LEASE_SECONDS = 6;
const OUTAGE_MS = 30_000;
const LEASE = {
  apiVersion: 'coordination.k8s.io/v1',
  kind: 'Lease',
  metadata: { namespace: INSTALL.namespace, name: INSTALL.reconciler },
};

interface Lease extends KubeObject {
  spec: { holderIdentity?: string };
}

await describeCluster('an upgrade', { operator: 'real' }, () => {
  let stage: Stage;
  let running: KeptReconciler[];
  const passwords = new Map<string, string>();
  /** When the API server was not ready; it denies everything until it has read its roles. */
  const outages: { from: number; to: number }[] = [];

  const start = async (): Promise<KeptReconciler> => {
    const one = await stage.startReconciler([`--lease-duration=${LEASE_SECONDS}`]);
    running.push(one);
    return one;
  };
  const leads = async ({ log }: KeptReconciler): Promise<boolean> => {
    const { holderIdentity } = (await stage.api.read<Lease>(LEASE)).spec;
    return log.some(({ msg, identity }) => msg === 'leading' && identity === holderIdentity);
  };
  /** One that works and one that waits. */
  const startTwo = async (): Promise<[leader: KeptReconciler, other: KeptReconciler]> => {
    const leader = await start();
    await stage.eventually('a leader', () => leads(leader));
    const other = await start();
    await stage.eventually('the other', async () =>
      other.log.some(({ msg }) => msg === 'reconciler started'),
    );
    return [leader, other];
  };

  async function expectWhole(name: string): Promise<void> {
    expect((await stage.credentials(name)).password).toBe(passwords.get(name));
    const { queues } = stage.brokers.definitions(name);
    expect(queues).toMatchObject([{ name: 'orders', arguments: { 'x-queue-type': 'quorum' } }]);
    expect(await stage.did('delete', 'rabbitmqclusters', name, 200)).toBe(1);
    expect(await stage.did('create', 'rabbitmqclusters', name, 201)).toBe(1);
    expect((await stage.read(name)).status).toMatchObject({
      lastUpgrade: { sequence: 1 },
      proxyRequired: true,
    });
  }

  beforeAll(async () => {
    stage = await Stage.start({ real: false, seed: SEED });
    running = [];
    const first = await start();
    await stage.makeClusters(NAMES);
    for (const name of NAMES) {
      await stage.govern(name);
      passwords.set(name, (await stage.credentials(name)).password);
    }
    await first.stop();
  });
  afterEach(async () => {
    await Promise.all(running.splice(0).map((each) => each.stop()));
  });
  afterAll(async () => {
    await stage?.stop();
  });

  it('is finished by the other reconciler when the one that works is killed in the midst of it', async () => {
    const name = 'orphaned';
    const [leader, other] = await startTwo();
    const waits = stage.phase(name, 'WaitingForPods');
    await stage.annotate(name, TARGET);
    await waits;
    await leader.kill();
    const began = performance.now();
    await stage.eventually('the other to work', () => leads(other));
    // Up to a retry after the Lease's end.
    expect(performance.now() - began).toBeLessThan((LEASE_SECONDS + 2) * 1000);
    await stage.upgraded(name, '4.2');
    await expectWhole(name);
  }, 120_000);

  it('is handed over within three seconds when the one that works is told to end', async () => {
    const name = 'handed-over';
    const [leader, other] = await startTwo();
    const waits = stage.phase(name, 'WaitingForPods');
    await stage.annotate(name, TARGET);
    await waits;
    const began = performance.now();
    const ended = leader.stop();
    await stage.eventually('the other to work', () => leads(other));
    expect(performance.now() - began).toBeLessThan(3000);
    expect(await ended).toBe(0);
    await stage.upgraded(name, '4.2');
    await expectWhole(name);
  }, 120_000);

  it('goes on when the API server was away for 30 s in each phase', async () => {
    const name = 'cut-off';
    const reconciler = await start();
    await stage.eventually('a leader', () => leads(reconciler));
    const { uid } = (await stage.api.read(clusterRef(name))).metadata;
    const phases = ['DeletingResources', 'WaitingForPods', 'WaitingForCluster'];
    const reached = phases.map((phase) => stage.phase(name, phase));
    await stage.annotate(name, TARGET);
    for (const came of reached) {
      await came;
      const from = Date.now();
      await stage.cluster.kill('kube-apiserver');
      await delay(OUTAGE_MS);
      await stage.cluster.restart('kube-apiserver');
      outages.push({ from, to: Date.now() });
      // As their kubelets would: the one has ended, the other looks again only after a while.
      await stage.cluster.restart('cluster-operator');
      await stage.cluster.restart('kube-controller-manager');
    }
    await stage.upgraded(name, '4.2', 90_000);
    await expectWhole(name);
    expect((await stage.ready(name)).metadata.uid).not.toBe(uid);
    // Its Lease was lost each time.
    expect(reconciler.starts).toBe(1 + phases.length);
    const ends = reconciler.log.filter(({ level }) => level === 'fatal');
    expect(ends.map(({ msg }) => msg)).toEqual(phases.map(() => 'the Lease is lost, exiting'));
  }, 240_000);

  it('had the rights of the manifests for all of that, and said no secret', async () => {
    const audited = await stage.audited();
    expect(audited.length).toBeGreaterThan(100);
    const denied = audited.filter(({ responseStatus, requestReceivedTimestamp }) => {
      const at = Date.parse(requestReceivedTimestamp);
      return responseStatus?.code === 403 && !outages.some(({ from, to }) => from <= at && at <= to);
    });
    expect(denied).toEqual([]);
    for (const password of passwords.values()) expect(stage.said).not.toContain(password);
  });
});
