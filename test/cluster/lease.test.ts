import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { INSTALL } from '../../common/contract.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import { eventually } from '../support/kube-api.ts';
import type { KubeObject } from '../support/kube-api.ts';
import { startCluster } from '../support/kube.ts';
import type { Cluster } from '../support/kube.ts';
import { type ReconcilerProcess, startReconcilerProcess } from '../support/reconciler-process.ts';

const LEASE = {
  apiVersion: 'coordination.k8s.io/v1',
  kind: 'Lease',
  metadata: { namespace: INSTALL.namespace, name: INSTALL.reconciler },
};
const DURATION_S = 6;

await describeCluster('two reconcilers', {}, () => {
  let cluster: Cluster;
  let running: ReconcilerProcess[];

  const start = async (durationS = DURATION_S): Promise<ReconcilerProcess> => {
    const one = await startReconcilerProcess(cluster.kubeconfig, [`--lease-duration=${durationS}`]);
    running.push(one);
    return one;
  };
  const startTwo = async (
    durationS = DURATION_S,
  ): Promise<[leader: ReconcilerProcess, other: ReconcilerProcess]> => {
    const leader = await start(durationS);
    await eventually('a leader', () => leader.leads());
    const other = await start(durationS);
    expect(await other.leads()).toBe(false);
    return [leader, other];
  };
  const lease = async (): Promise<Record<string, unknown>> =>
    (await cluster.api.read<KubeObject>(LEASE))['spec'] as Record<string, unknown>;

  beforeAll(async () => {
    cluster = await startCluster({ controllers: false });
    await cluster.createNamespace(INSTALL.namespace);
    running = [];
  });
  afterEach(async () => {
    await Promise.all(running.splice(0).map((one) => one.stop()));
  });
  afterAll(() => cluster.stop());

  it('are one that works and one that waits, both ready', async () => {
    const [leader, other] = await startTwo();
    const { holderIdentity, leaseDurationSeconds } = await lease();
    expect(leaseDurationSeconds).toBe(DURATION_S);
    const ready = async ({ adminUrl }: ReconcilerProcess) => (await fetch(`${adminUrl}/readyz`)).text();
    const waiting = `${String(holderIdentity)} holds the Lease`;
    expect(await ready(leader)).toMatch(/^ok\n/);
    expect(await ready(leader)).not.toContain(waiting);
    expect((await ready(other)).split('\n')).toEqual(expect.arrayContaining(['ok', waiting]));
    await delay(DURATION_S * 1500);
    expect([await leader.leads(), await other.leads()]).toEqual([true, false]);
    expect((await lease())['leaseTransitions']).toBe(0);
  });

  it('hand over within three seconds when one is told to end', async () => {
    const [leader, other] = await startTwo();
    const began = performance.now();
    expect(await leader.stop()).toBe(0);
    await eventually('the other to work', () => other.leads());
    expect(performance.now() - began).toBeLessThan(3000);
    expect(leader.log().map(({ msg }) => msg)).toContain('gave the Lease back');
  });

  it('hand over when one is killed, after the time that the Lease is good for', async () => {
    const [leader, other] = await startTwo();
    await delay(1000);
    const began = performance.now();
    process.kill(leader.pid, 'SIGKILL');
    await eventually('the other to work', () => other.leads());
    const took = performance.now() - began;
    expect(took).toBeGreaterThan((DURATION_S - 2) * 1000);
    expect(took).toBeLessThan((DURATION_S + 4) * 1000);
    expect(await leader.stop()).toBeNull();
  });

  it('never work both when one is stopped for longer than the Lease lasts: it ends when it goes on', async () => {
    const [leader, other] = await startTwo();
    process.kill(leader.pid, 'SIGSTOP');
    await eventually('the other to work', () => other.leads());
    process.kill(leader.pid, 'SIGCONT');
    await eventually('its end', async () => leader.log().some(({ level }) => level === 'fatal'));
    expect(await leader.stop()).toBe(1);
    const end = leader.log().find(({ level }) => level === 'fatal');
    expect(end).toMatchObject({ msg: 'the Lease is lost, exiting' });
    expect(await other.leads()).toBe(true);
  });

  it('end the one that works when the API server is away for too long, and the other one goes on', async () => {
    const [leader, other] = await startTwo();
    const began = performance.now();
    await cluster.kill('kube-apiserver');
    await eventually('its end', async () => leader.log().some(({ level }) => level === 'fatal'));
    expect(performance.now() - began).toBeLessThan((DURATION_S + 2) * 1000);
    expect(await leader.stop()).toBe(1);
    expect(await other.leads()).toBe(false);
    await cluster.restart('kube-apiserver');
    await eventually('the other to work', () => other.leads());
    const troubles = other.log().filter(({ msg }) => msg === 'the Lease cannot be had, trying again');
    expect(troubles.length).toBeLessThan(4);
  });

  it('go on when the API server is away for a moment', async () => {
    // Less than two thirds of it; on a busy machine some seconds, and an old API server takes ten.
    const durationS = 4 * DURATION_S;
    const [leader] = await startTwo(durationS);
    await cluster.restart('kube-apiserver');
    await delay(durationS * 1000);
    expect(await leader.leads()).toBe(true);
    expect(leader.log().filter(({ level }) => level === 'fatal')).toEqual([]);
  });
});
