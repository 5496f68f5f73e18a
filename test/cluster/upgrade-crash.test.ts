// Upgrades in which the reconciler is killed again and again, and in which everything around it goes wrong.
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ANNOTATION, PAUSE_LABEL, PROXY_CONTAINER } from '../../common/contract.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import type { KeptReconciler } from '../support/kept-reconciler.ts';
import type { KubeObject } from '../support/kube-api.ts';
import { passwordHash } from '../support/played-broker.ts';
import { NAMESPACE, type RabbitMqStatus, Stage, clusterRef, rabbitMqRef } from '../support/upgrade-stage.ts';

const TARGET = { [ANNOTATION.targetVersion]: '4.2' };
const HASH = passwordHash('alice-and-nobody-else');
const QUEUE = { durable: true, auto_delete: false, arguments: {} };
const SEED = {
  users: [{ name: 'alice', password_hash: HASH, tags: [] }],
  vhosts: [{ name: 'nova' }],
  policies: [
    {
      vhost: 'nova',
      name: 'ha-all',
      pattern: '.*',
      'apply-to': 'all',
      priority: 0,
      definition: { 'ha-mode': 'all' },
    },
  ],
  queues: [{ vhost: 'nova', name: 'orders', ...QUEUE }],
};
const TOPOLOGY = {
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { namespace: NAMESPACE, name: 'topology' },
  data: { 'messaging.yaml': 'exchanges: [{ name: declared }]' },
};
const TOPOLOGY_SPEC = { messagingTopology: { configMapRef: { name: 'topology' } } };
const NAMES = ['killed', 'endless', 'unready', 'contested', 'dropped'];

interface Facts {
  readonly uid: string;
  readonly credentials: { username: string; password: string };
}

await describeCluster('an upgrade', { operator: 'real' }, () => {
  let stage: Stage;
  let reconciler: KeptReconciler;
  const old = new Map<string, Facts>();

  const statusOf = (object: KubeObject): RabbitMqStatus => object['status'] ?? {};

  /** What has to be so behind every upgrade of such a cluster, whatever happened on the way. */
  async function expectWhole(name: string): Promise<void> {
    const { uid, credentials } = old.get(name)!;
    expect((await stage.ready(name)).metadata.uid).not.toBe(uid);
    expect(await stage.credentials(name)).toEqual(credentials);
    const { users, queues, policies } = stage.brokers.definitions(name);
    expect(new Set(users!.map((user) => user['name']))).toEqual(new Set(['alice', credentials.username]));
    expect(users).toContainEqual(expect.objectContaining({ name: 'alice', password_hash: HASH }));
    expect(queues).toMatchObject([{ name: 'orders', arguments: { 'x-queue-type': 'quorum' } }]);
    expect(policies).toEqual([]);
    // That each was done is seen above. Where the one who asked is killed meanwhile, the audit may have no code for it.
    expect(await stage.did('delete', 'rabbitmqclusters', name, 200)).toBeLessThanOrEqual(1);
    expect(await stage.did('create', 'rabbitmqclusters', name, 201)).toBeLessThanOrEqual(1);
    expect(await stage.did('create', 'secrets', `${name}-default-user`, 201)).toBeLessThanOrEqual(1);
    expect(await stage.did('create', 'secrets', `${name}-default-user-backup`, 201)).toBeLessThanOrEqual(1);
  }

  beforeAll(async () => {
    stage = await Stage.start({ real: false, seed: SEED });
    reconciler = await stage.startReconciler(['--no-leader-election', '--workers=8', '--ready-timeout=5']);
    await stage.makeClusters(NAMES);
    await stage.api.create(TOPOLOGY);
    for (const name of NAMES) {
      await stage.govern(name, name === 'killed' ? TOPOLOGY_SPEC : {});
      const { uid = '' } = (await stage.api.read(clusterRef(name))).metadata;
      old.set(name, { uid, credentials: await stage.credentials(name) });
    }
    // It takes the longest: a minute beyond the grace period.
    stage.brokers.endless.add('endless');
    const waits = stage.phase('endless', 'WaitingForPods');
    await stage.annotate('endless', TARGET);
    await waits;
  });
  afterAll(async () => {
    await stage?.stop();
  });

  it('finishes when the reconciler is killed in every phase, at its writes and in the midst of export and import', async () => {
    const name = 'killed';
    const { uid } = old.get(name)!;
    const is = (kind: string, suffix: string, isSo: (object: KubeObject) => boolean = () => true) =>
      stage.once((what, object) => {
        const isIt = object.kind === kind && object.metadata.name === `${name}${suffix}`;
        return what === 'stored' && isIt && isSo(object);
      });
    const asked = (method: string) =>
      new Promise<void>((resolve) => {
        const before = stage.brokers.onRequest;
        stage.brokers.onRequest = (cluster, verb, path) => {
          before(cluster, verb, path);
          if (cluster === name && verb === method && path === 'definitions') resolve();
        };
      });
    /** At a look at exchanges: the first is before the topology is declared, the third behind it. */
    const looked = (time: number) =>
      new Promise<void>((resolve) => {
        const before = stage.brokers.onRequest;
        let times = 0;
        stage.brokers.onRequest = (cluster, verb, path) => {
          before(cluster, verb, path);
          if (cluster === name && path === 'exchanges/%2F' && ++times === time) resolve();
        };
      });
    const upgrade = (key: string) =>
      is('RabbitMq', '', (object) => statusOf(object).upgrade?.[key] !== undefined);
    const moments: Record<string, Promise<void>> = {
      'DeletingResources is stored': stage.phase(name, 'DeletingResources'),
      'definitions are exported': asked('GET'),
      'the credentials are saved': is('Secret', '-default-user-backup'),
      'the definitions are saved': is('Secret', '-upgrade-1-a-0'),
      'the index is saved': is('Secret', '-upgrade-1'),
      'the backup is recorded': upgrade('backup'),
      'the cluster is being deleted': is(
        'RabbitmqCluster',
        '',
        ({ metadata }) => metadata.deletionTimestamp !== undefined,
      ),
      'WaitingForPods is stored': stage.phase(name, 'WaitingForPods'),
      'the cluster is gone': stage.once(
        (what, { kind, metadata }) => what === 'gone' && kind === 'RabbitmqCluster' && metadata.uid === uid,
      ),
      'WaitingForCluster is stored': stage.phase(name, 'WaitingForCluster'),
      'the credentials are restored': is(
        'Secret',
        '-default-user',
        ({ metadata }) => metadata.ownerReferences === undefined,
      ),
      'the new cluster is made': is('RabbitmqCluster', '', ({ metadata }) => metadata.uid !== uid),
      'the new cluster is recorded': upgrade('newClusterUid'),
      'definitions are imported': asked('POST'),
      'the import is recorded': upgrade('importedAt'),
      'the topology is looked at': looked(1),
      'the topology is declared': looked(3),
      'the topology is recorded': is(
        'RabbitMq',
        '',
        (object) => statusOf(object).messagingTopology !== undefined,
      ),
      'the end is stored': is('RabbitMq', '', (object) => statusOf(object).lastUpgrade !== undefined),
    };
    const seen: string[] = [];
    const crashAt = async (moment: string, came: Promise<void>): Promise<void> => {
      await came;
      seen.push(moment);
      reconciler.crash();
    };
    const crashes = Object.entries(moments).map(async ([moment, came]) => crashAt(moment, came));
    const { starts } = reconciler;
    await stage.annotate(name, TARGET);
    await stage.upgraded(name, '4.2', 200_000);
    expect(seen.toSorted()).toEqual(Object.keys(moments).toSorted());
    await Promise.all(crashes);
    // Two of them may come in one moment.
    expect(reconciler.starts - starts).toBeGreaterThan(8);
    await expectWhole(name);
    const { lastUpgrade, messagingTopology } = (await stage.read(name)).status!;
    expect(lastUpgrade).toMatchObject({ sequence: 1, clusterUid: uid, definitions: { refused: 0 } });
    const { exchanges } = stage.brokers.definitions(name);
    expect(exchanges).toMatchObject([{ name: 'declared', type: 'topic', durable: true }]);
    expect(messagingTopology).toMatchObject({ isDeclared: true, clusterUid: lastUpgrade!['newClusterUid'] });
  }, 250_000);

  it('finishes though somebody else writes the RabbitMq every 50 ms', async () => {
    const name = 'contested';
    let writes = 0;
    const stop = new AbortController();
    const writing = (async () => {
      for (; !stop.signal.aborted; writes += 1) {
        await stage.annotate(name, { 'example.com/count': `${writes}` });
        const status = { status: { foreign: writes } };
        await stage.api.patch(rabbitMqRef(name), status, { subresource: 'status' });
        await delay(50);
      }
    })();
    await stage.annotate(name, TARGET);
    await stage.upgraded(name, '4.2', 90_000);
    stop.abort();
    await writing;
    expect(writes).toBeGreaterThan(50);
    await expectWhole(name);
    const { status, metadata } = await stage.read(name);
    expect(status).toMatchObject({ foreign: writes - 1 });
    expect(metadata.annotations).toMatchObject({ 'example.com/count': `${writes - 1}` });
  }, 120_000);

  it('says that a new cluster does not become ready in time, writes nothing meanwhile, and goes on when it is', async () => {
    const name = 'unready';
    const waits = stage.phase(name, 'WaitingForCluster');
    await stage.annotate(name, TARGET);
    await waits;
    stage.brokers.fates.set(name, 'unready');
    const { message } = await stage.untilCondition(name, 'Degraded', 'ClusterNotReadyInTime');
    expect(message).toContain(`0 of 1 nodes are ready (not: ${name}-server-0)`);
    expect(message).toContain('--ready-timeout (5 s) is over');
    const versions = async () =>
      Promise.all(
        [rabbitMqRef(name), clusterRef(name)].map(async (ref) => (await stage.api.read(ref)).metadata),
      );
    const before = await versions();
    const asked = (await stage.audited()).length;
    await delay(20_000);
    const after = await versions();
    expect(after.map((each) => each.resourceVersion)).toEqual(before.map((each) => each.resourceVersion));
    // Of all the RabbitMqs together, with watches that end and are begun anew: no loop.
    const busy = (await stage.audited())
      .slice(asked)
      .filter(({ objectRef }) => objectRef?.name?.startsWith(name));
    expect(busy.length).toBeLessThan(30);
    expect((await stage.events(name)).filter(({ reason }) => reason === 'ClusterNotReady')).toMatchObject([
      { type: 'Warning', note: message },
    ]);
    stage.brokers.fates.delete(name);
    await stage.upgraded(name, '4.2');
    await expectWhole(name);
  }, 120_000);

  it('brings a cluster back that the RabbitMq only looked after, when that is deleted half-way, and lets it go', async () => {
    const name = 'dropped';
    const waits = stage.phase(name, 'WaitingForPods');
    await stage.annotate(name, TARGET);
    await waits;
    await stage.api.remove(rabbitMqRef(name));
    await stage.eventually(
      'the RabbitMq is gone',
      async () => (await stage.api.find(rabbitMqRef(name))) === undefined,
    );
    const made = await stage.ready(name);
    expect(made.metadata.ownerReferences ?? []).toEqual([]);
    await expectWhole(name);
  }, 90_000);

  it('takes a cluster along that the RabbitMq owns, when that is deleted half-way', async () => {
    const name = 'owned';
    const spec = {
      replicas: 1,
      persistence: { storage: '1Gi' },
      terminationGracePeriodSeconds: 1,
      targetVersion: '3.10',
    };
    await stage.govern(name, spec);
    const set = {
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: { namespace: NAMESPACE, name: `${name}-server` },
    };
    const { uid } = (await stage.api.read(rabbitMqRef(name))).metadata;
    expect((await stage.ready(name)).metadata.ownerReferences).toMatchObject([
      { kind: 'RabbitMq', uid, controller: true },
    ]);
    const waits = stage.phase(name, 'WaitingForCluster');
    await stage.annotate(name, TARGET);
    await waits;
    await stage.api.remove(rabbitMqRef(name));
    await stage.eventually('all of it is gone', async () => {
      const left = await Promise.all(
        [rabbitMqRef(name), clusterRef(name), set].map((ref) => stage.api.find(ref)),
      );
      return left.every((object) => object === undefined);
    });
    await delay(3000);
    expect(await stage.api.find(clusterRef(name))).toBeUndefined();
  }, 90_000);

  it('leaves the old cluster without the proxy, whoever writes it before it is deleted', async () => {
    const name = 'guarded';
    await stage.makeClusters([name]);
    await stage.govern(name);
    const begun = stage.phase(name, 'DeletingResources');
    await stage.annotate(name, TARGET);
    await begun;
    reconciler.pause();
    const { metadata, ...rest } = await stage.api.patch(clusterRef(name), {
      metadata: { annotations: { 'example.com/written': 'yes' } },
    });
    expect(metadata.deletionTimestamp).toBeUndefined();
    expect(JSON.stringify(rest)).not.toContain(PROXY_CONTAINER);
    reconciler.goOn();
    await stage.upgraded(name, '4.2');
    expect(JSON.stringify(await stage.api.read(clusterRef(name)))).toContain(PROXY_CONTAINER);
  }, 90_000);

  it('does nothing while the label says pause, and goes on without it', async () => {
    const name = 'killed';
    await stage.api.patch(rabbitMqRef(name), { metadata: { labels: { [PAUSE_LABEL]: 'true' } } });
    await stage.untilCondition(name, 'Ready', 'Paused');
    await stage.api.patch(rabbitMqRef(name), { metadata: { labels: { [PAUSE_LABEL]: null } } });
    await stage.untilCondition(name, 'Ready', 'ClusterReady');
    expect((await stage.read(name)).status?.currentVersion).toBe('4.2');
  });

  it('names a pod that does not end, makes nothing in its place, and goes on when it has ended', async () => {
    const name = 'endless';
    const { message } = await stage.untilCondition(name, 'Degraded', 'PodsStuck', 90_000);
    expect(message).toContain(`pods ${name}-server-0 were to end in 1 s and are still there`);
    expect(await stage.events(name)).toContainEqual({
      type: 'Warning',
      reason: 'PodTerminationSlow',
      note: message,
    });
    expect(await stage.api.find(clusterRef(name))).toBeUndefined();
    stage.brokers.endless.delete(name);
    await stage.upgraded(name, '4.2');
    await expectWhole(name);
    expect((await stage.read(name)).status?.conditions).toContainEqual(
      expect.objectContaining({ type: 'Degraded', status: 'False', reason: 'AsExpected' }),
    );
  }, 150_000);

  it('had the rights of the manifests for all of that, and said no secret', async () => {
    const audited = await stage.audited();
    expect(audited.filter(({ responseStatus }) => responseStatus?.code === 403)).toEqual([]);
    const said =
      stage.said + (await Promise.all(['killed', 'unready'].map((name) => stage.told(name)))).join('');
    expect(said).not.toContain(HASH);
    for (const { credentials } of old.values()) expect(said).not.toContain(credentials.password);
    // Where each failure stands for something that was done to it: API failures have one of these causes.
    expect(reconciler.log.filter(({ level }) => level === 'error' || level === 'fatal')).toEqual([]);
  });
});
