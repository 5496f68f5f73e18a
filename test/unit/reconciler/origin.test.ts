// What the infra-operator, which had these upgrades first, tests about them, run on ours: each test has the name of a row of
// its tests. docs/upgrade.md ("What the origin tests") says where the rest is.
import { describe, expect, it } from 'vitest';
import {
  ANNOTATION,
  FINALIZER,
  PAUSE_LABEL,
  PROXY_CONTAINER,
  UPGRADE_ANNOTATION,
  WIPE_CONTAINER,
} from '../../../common/contract.ts';
import { named, objectsAt, textAt, valueAt } from '../../../common/kube/json.ts';
import {
  CLUSTER,
  MIRROR_POLICIES,
  POD,
  RABBITMQ,
  SECRET,
  apiVersionOf,
} from '../../../common/kube/resources.ts';
import type { Json, JsonObject } from '../../../common/kube/types.ts';
import { parseVersion } from '../../../common/version.ts';
import { adaptConfig } from '../../../reconciler/brokerconf.ts';
import { isFourOrLater, isThreeToFour, versionPath } from '../../../reconciler/versions.ts';
import { wipeContainer } from '../../../reconciler/wipe.ts';
import { NAME, NAMESPACE, World, type WorldSettings } from './world.ts';

const POD_SPEC = ['spec', 'override', 'statefulSet', 'spec', 'template', 'spec'];
const target = (version: string) => ({ [ANNOTATION.targetVersion]: version });

/** Runs until the version is known and nothing more is to be done. */
async function known(settings: WorldSettings = {}): Promise<World> {
  const world = new World(settings);
  await world.run(() => (world.status('currentVersion') ?? '') !== '');
  await world.rest();
  return world;
}

async function upgraded(version: string, settings: WorldSettings = {}): Promise<World> {
  const world = await known(settings);
  await world.annotate(target(version));
  await world.run(() => world.isAt(version));
  await world.rest();
  expect(world.wrongs).toEqual([]);
  return world;
}

function containers(world: World, list: 'containers' | 'initContainers'): JsonObject[] {
  return objectsAt(world.cluster, ...POD_SPEC, list);
}

function annotation(object: Json | undefined, key: string): string | undefined {
  return textAt(object, 'metadata', 'annotations', key);
}

/** What the cluster is like at each moment of an upgrade, by phase. */
async function byPhase<T>(world: World, version: string, look: () => T): Promise<Map<string, T[]>> {
  const seen = new Map<string, T[]>();
  await world.run(() => {
    const phase = textAt(world.rabbitmq, 'status', 'upgradePhase') ?? '';
    seen.set(phase, [...(seen.get(phase) ?? []), look()]);
    return world.isAt(version);
  });
  return seen;
}

describe('versions and the wipe', () => {
  it('versions: major.minor with or without a patch, and nothing else', () => {
    expect(parseVersion('3.9')).toEqual({ major: 3, minor: 9, patch: undefined });
    expect(parseVersion('4.2.1')).toEqual({ major: 4, minor: 2, patch: 1 });
    const others = ['', '3', 'v3.9', '3.9.', '3.9.1.2', 'three.nine', '3.x'];
    expect(others.filter((text) => parseVersion(text) !== undefined)).toEqual([]);
  });

  it.each([
    ['3.9', '4.2', true],
    ['3.9', '3.13', true],
    ['4.0', '4.2', true],
    ['3.9', '3.9', false],
    ['3.9.0', '3.9.1', false],
    ['4.2', '4.2.1', false],
  ])('a wipe is needed for another major or minor, from %s to %s: %s', (from, to, isWiped) => {
    const path = versionPath(from, to);
    expect(path.ok && path.kind === 'wipe').toBe(isWiped);
  });

  it('a wipe is needed downwards, too: here that is refused; and so is what is no version', () => {
    for (const [from, to] of [
      ['4.2', '3.9'],
      ['3.13', '3.9'],
      ['3.9', 'newest'],
      ['old', '4.2'],
    ] as const)
      expect(versionPath(from, to)).toMatchObject({ ok: false });
  });

  it('from 3.x to 4.x, 5.0 counted; and what is 4 or later', () => {
    for (const to of ['4.0', '4.2.1', '5.0'])
      expect([isThreeToFour('3.9', to), isFourOrLater(to)]).toEqual([true, true]);
    for (const [from, to] of [
      ['3.9', '3.13'],
      ['4.0', '4.2'],
      ['', '4.2'],
      ['3.9', ''],
    ] as const)
      expect(isThreeToFour(from, to)).toBe(false);
    for (const text of ['3.13', '', 'x']) expect(isFourOrLater(text)).toBe(false);
  });

  it.each([
    ['4.2, the default', undefined, '4.2'],
    ['that of the target', '4.0', '4.0'],
  ])('a new cluster has the version %s; no phase, no wipe', async (_, targetVersion, version) => {
    const spec = { replicas: 1, ...(targetVersion !== undefined && { targetVersion }) };
    const world = await known({ version: '', spec });
    expect(world.rabbitmq!['status']).toMatchObject({
      currentVersion: version,
      upgradePhase: '',
      wipeReason: '',
    });
    expect(textAt(world.cluster, 'spec', 'image')).toBe(`rabbitmq:${version}-management`);
    expect(containers(world, 'initContainers')).toEqual([]);
    expect(world.broker!.version).toBe(version);
  });

  it('an existing cluster without currentVersion counts as 3.9, if nobody knows better, and then wipes to 4.2', async () => {
    const world = new World({ version: '3.9.29' });
    world.whims.managementAnswers = false;
    const spec = { ...(world.cluster!['spec'] as JsonObject), image: 'registry.example/rabbitmq:stable' };
    world.api.put(CLUSTER, { ...world.cluster!, spec });
    await world.run(() => world.status('currentVersion') === '3.9');
    world.whims.managementAnswers = true;
    await world.annotate({
      ...target('4.2'),
      [UPGRADE_ANNOTATION.targetImage]: 'registry.example/rabbitmq:4.2',
    });
    await world.run(() => world.isAt('4.2'));
    expect(world.created).toHaveLength(1);
    expect(world.broker!.version).toBe('4.2');
  });

  it('3.9 to 4.2 passes its phases; the new cluster is made; currentVersion is 4.2, phase and wipeReason are empty', async () => {
    const world = await known({ version: '3.9.29' });
    await world.annotate(target('4.2'));
    const reasons = await byPhase(world, '4.2', () => world.status('wipeReason'));
    const phases = ['DeletingResources', 'WaitingForPods', 'WaitingForCluster'];
    expect([...reasons.keys()].filter((phase) => phase !== '')).toEqual(phases);
    for (const phase of phases) expect(new Set(reasons.get(phase))).toEqual(new Set(['VersionUpgrade']));
    expect(world.rabbitmq!['status']).toMatchObject({
      currentVersion: '4.2',
      upgradePhase: '',
      wipeReason: '',
    });
    expect(world.created).toEqual([textAt(world.cluster, 'metadata', 'uid')]);
  });

  it('storage-wipe-needed is on the cluster in WaitingForCluster, and off behind it', async () => {
    const world = await known();
    await world.annotate(target('4.2'));
    const seen = await byPhase(world, '4.2', () =>
      annotation(world.cluster, UPGRADE_ANNOTATION.storageWipeNeeded),
    );
    expect(seen.get('WaitingForCluster')).toContain('true');
    expect(seen.get('DeletingResources')).not.toContain('true');
    expect(annotation(world.cluster, UPGRADE_ANNOTATION.storageWipeNeeded)).toBeUndefined();
  });

  it('wipe-data: /bin/sh -c, WIPE_DIR, rm -rf, the marker of the version, workingDir, the mount; the first of all', async () => {
    const world = await upgraded('4.2');
    const wipe = containers(world, 'initContainers')[0]!;
    expect(wipe).toMatchObject({
      name: WIPE_CONTAINER,
      env: [{ name: 'WIPE_DIR', value: '/var/lib/rabbitmq' }],
      workingDir: '/var/lib/rabbitmq',
      volumeMounts: [{ name: 'persistence', mountPath: '/var/lib/rabbitmq' }],
    });
    const [shell, option, script] = wipe['command'] as [string, string, string];
    expect([shell, option]).toEqual(['/bin/sh', '-c']);
    expect(script).toMatch(/rm -rf[^]*\.operator-wipe-4\.2|\.operator-wipe-4\.2[^]*rm -rf/);
  });

  it('wipe-data is kept behind the upgrade: no pod restarts for it', async () => {
    const world = await known();
    await world.annotate(target('4.2'));
    let pods: unknown[] = [];
    await world.run(() => {
      if (textAt(world.condition('DefinitionsPreserved'), 'reason') === 'Restored' && pods.length === 0)
        pods = world.pods.map((pod) => pod.metadata['uid']);
      return world.isAt('4.2');
    });
    await world.rest();
    expect(pods).toHaveLength(1);
    expect(world.pods.map((pod) => pod.metadata['uid'])).toEqual(pods);
    expect(named(containers(world, 'initContainers'), WIPE_CONTAINER)).toBeDefined();
  });

  it('wipe-data: none without an upgrade, none for what is no version, and another marker for each upgrade', async () => {
    expect(containers(await known(), 'initContainers')).toEqual([]);
    const made = { image: 'rabbitmq:4.2', isNonRoot: true };
    expect(() => wipeContainer({ ...made, version: '4.2; id', sequence: 1 })).toThrow('is no version');
    const world = await upgraded('4.2');
    const first = containers(world, 'initContainers')[0]!['command'];
    await world.annotate(target('4.3'));
    await world.run(() => world.isAt('4.3'));
    expect(containers(world, 'initContainers')).toHaveLength(1);
    expect(containers(world, 'initContainers')[0]!['command']).not.toEqual(first);
  });

  it.each([
    ['3.9.0', '3.9.1'],
    ['4.2.0', '4.2.1'],
  ])('another patch, %s to %s: the image changes, and nothing is wiped', async (from, to) => {
    const world = await known({ version: from });
    await world.annotate(target(to));
    await world.run(() => world.status('currentVersion') === to);
    await world.rest();
    expect(textAt(world.cluster, 'spec', 'image')).toBe(`rabbitmq:${to}-management`);
    expect([world.deletions, world.created]).toEqual([[], []]);
    expect([world.status('wipeReason'), world.status('proxyRequired')]).toEqual(['', false]);
  });

  it('a phase is kept for the next process; it does not go on while pods hang; pods that start again wipe nothing', async () => {
    const world = await known();
    await world.annotate(target('4.2'));
    world.whims.podsEnd = false;
    await world.run(() => world.status('upgradePhase') === 'WaitingForPods');
    world.restart();
    for (let i = 0; i < 20; i++) await world.reconcile();
    expect([world.status('upgradePhase'), world.created]).toEqual(['WaitingForPods', []]);
    world.whims.podsEnd = true;
    await world.run(() => world.isAt('4.2'));
    // What wipes looks for its marker first; test/unit/reconciler/wipe.test.ts runs it twice.
    const [, , script] = containers(world, 'initContainers')[0]!['command'] as [string, string, string];
    expect(script.indexOf('exit 0')).toBeLessThan(script.indexOf('rm -rf'));
  });
});

describe('credentials', () => {
  it('the backup equals the original, and is kept; the Secret of the default user has the same values afterwards', async () => {
    const world = await known();
    const { username, password } = valueAt(world.secret, 'data') as Record<string, string>;
    await world.annotate(target('4.2'));
    await world.run(() => world.isAt('4.2'));
    const backup = world.api.peek(SECRET, NAMESPACE, `${NAME}-default-user-backup`);
    expect(valueAt(backup, 'data')).toMatchObject({ username, password });
    expect(valueAt(world.secret, 'data')).toMatchObject({ username, password });
    expect(world.condition('CredentialsPreserved')).toMatchObject({ status: 'True', reason: 'Restored' });
  });

  it('a RabbitMQUser has the old credentials: here the new broker starts with them', async () => {
    const world = await known();
    const before = world.broker!.user;
    await world.annotate(target('4.2'));
    await world.run(() => world.isAt('4.2'));
    expect(world.broker!.user).toEqual(before);
  });
});

describe('queue type and policy', () => {
  const mirrored = { spec: { queueType: 'Mirrored' } };

  it('Mirrored on 3.9: status says so, and ha-all is the cluster’s own, made and deleted by nobody', async () => {
    const world = await known({ version: '3.9.29', ...mirrored });
    expect(world.status('queueType')).toBe('Mirrored');
    expect(MIRROR_POLICIES.flatMap((resource) => world.api.all(resource))).toEqual([]);
  });

  it('ha-all is deleted by an upgrade, and not there on 4.2', async () => {
    const world = await known({ version: '3.9.29', ...mirrored });
    for (const resource of MIRROR_POLICIES) {
      const metadata = { namespace: NAMESPACE, name: `${NAME}-ha-all` };
      world.api.put(resource, { apiVersion: apiVersionOf(resource), kind: resource.kind, metadata });
    }
    await world.annotate(target('4.2'));
    await world.run(() => world.isAt('4.2'));
    expect(MIRROR_POLICIES.flatMap((resource) => world.api.all(resource))).toEqual([]);
  });

  it('Mirrored with a target of 4.x becomes Quorum, in one pass with the upgrade, and the proxy is required', async () => {
    const world = await upgraded('4.2', { version: '3.9.29', replicas: 3, ...mirrored });
    expect(textAt(world.rabbitmq, 'spec', 'queueType')).toBe('Quorum');
    expect(world.told.map(({ reason }) => reason)).toContain('QueueTypeForced');
    expect(world.rabbitmq!['status']).toMatchObject({ queueType: 'Quorum', proxyRequired: true });
    expect(world.status('lastUpgrade', 'reason')).toBe('VersionUpgrade');
    expect([world.created.length, world.pods.length]).toEqual([1, 3]);
  });

  it('Mirrored to Quorum on one version: QueueTypeMigration, a wipe with wipe-data, the proxy; then all is cleared', async () => {
    const world = await known(mirrored);
    await world.edit({ spec: { queueType: 'Quorum' } });
    await world.run(() => world.status('upgradePhase') === 'DeletingResources');
    expect(world.rabbitmq!['status']).toMatchObject({
      wipeReason: 'QueueTypeMigration',
      proxyRequired: true,
    });
    await world.run(() => (world.status('upgradePhase') ?? '') === '');
    await world.rest();
    expect(world.wrongs).toEqual([]);
    expect(world.created).toHaveLength(1);
    expect(containers(world, 'initContainers').map(({ name }) => name)).toEqual([WIPE_CONTAINER]);
    expect(containers(world, 'containers').map(({ name }) => name)).toEqual([PROXY_CONTAINER]);
    expect(world.rabbitmq!['status']).toMatchObject({
      currentVersion: '3.10',
      queueType: 'Quorum',
      wipeReason: '',
    });
    expect(world.broker!.version).toBe('3.10.8');
  });

  it.each([
    ['while it waits', { [UPGRADE_ANNOTATION.approved]: 'false' }, ''],
    ['before anything is deleted', {}, 'DeletingResources'],
  ])(
    'Quorum that a target of 4.x forced is no migration when the target is taken back %s',
    async (_, more, phase) => {
      const world = await known(mirrored);
      await world.annotate({ ...target('4.2'), ...more });
      await world.run(
        () => world.status('upgradePhase') === phase && world.condition('UpgradeAllowed') !== undefined,
      );
      await world.annotate({ [ANNOTATION.targetVersion]: null, [UPGRADE_ANNOTATION.approved]: null });
      await world.rest();
      expect(textAt(world.rabbitmq, 'spec', 'queueType')).toBe('Quorum');
      expect([world.status('upgradePhase'), world.deletions]).toEqual(['', []]);
      expect(world.condition('Upgrading')).toMatchObject({ status: 'False', reason: 'NoUpgrade' });
    },
  );

  it('relaxed checks of redeclarations: with the proxy on 4.x; not without, and never on 3.x', () => {
    const key = 'relaxed_checks_on_redeclaration';
    const has = (version: string, isProxied: boolean): boolean =>
      adaptConfig('', { version, isProxied, isReplicated: false }).text.includes(key);
    expect([has('4.2', true), has('4.2', false), has('3.13', true)]).toEqual([true, false, false]);
  });
});

describe('the proxy', () => {
  it('proxyRequired is true from the first phase on, so that the cluster is made with the sidecar', async () => {
    const world = await known();
    await world.annotate(target('4.2'));
    const required = await byPhase(world, '4.2', () => world.status('proxyRequired'));
    expect(required.get('DeletingResources')![0]).toBe(true);
    expect(containers(world, 'containers').map(({ name }) => name)).toEqual([PROXY_CONTAINER]);
  });

  it('none from 4.0 to 4.2', async () => {
    const world = await upgraded('4.2', { version: '4.0.5' });
    expect(world.status('proxyRequired')).toBe(false);
    expect(containers(world, 'containers')).toEqual([]);
  });

  it('clients-reconfigured: proxyRequired is false, the sidecar goes, and so does the annotation', async () => {
    const world = await upgraded('4.2');
    await world.annotate({ [ANNOTATION.clientsReconfigured]: 'true' });
    await world.rest();
    expect(world.status('proxyRequired')).toBe(false);
    expect(containers(world, 'containers')).toEqual([]);
    expect(annotation(world.rabbitmq, ANNOTATION.clientsReconfigured)).toBeUndefined();
  });

  it('a proxy that only observed before the upgrade rewrites behind it, and that is told', async () => {
    const world = await known();
    const annotations = { [ANNOTATION.mode]: 'observe', [ANNOTATION.inject]: 'true' };
    world.api.put(CLUSTER, { ...world.cluster!, metadata: { ...world.cluster!.metadata, annotations } });
    await world.annotate(target('4.2'));
    await world.run(() => world.isAt('4.2'));
    expect(annotation(world.cluster, ANNOTATION.mode)).toBeUndefined();
    const told = world.told.filter(({ reason }) => reason === 'ConfigurationChanged');
    expect(told.map(({ note }) => note)).toEqual([expect.stringContaining(ANNOTATION.mode)]);
  });
});

describe('other rows', () => {
  it('the label for a pause: nothing is done', async () => {
    const world = await known();
    await world.edit({ metadata: { labels: { [PAUSE_LABEL]: 'true' } } });
    await world.annotate(target('4.2'));
    for (let i = 0; i < 10; i++) await world.reconcile();
    expect([world.status('upgradePhase'), world.deletions]).toEqual(['', []]);
  });

  it('finalizer and ownership: what it makes is its own and goes with it', async () => {
    const world = await known({ version: '', spec: { replicas: 1 } });
    expect(valueAt(world.rabbitmq, 'metadata', 'finalizers')).toEqual([FINALIZER]);
    expect(objectsAt(world.cluster, 'metadata', 'ownerReferences')).toEqual([
      expect.objectContaining({
        kind: 'RabbitMq',
        name: NAME,
        controller: true,
        uid: world.rabbitmq!.metadata['uid'],
      }),
    ]);
    await world.api.remove(RABBITMQ, { namespace: NAMESPACE, name: NAME }, {});
    await world.run(() => world.rabbitmq === undefined);
    expect([world.cluster, world.pods]).toEqual([undefined, []]);
  });

  it('coexistence: another RabbitmqCluster, its pods and Secrets stay untouched', async () => {
    const world = await known();
    const metadata = { namespace: NAMESPACE, name: 'other' };
    const labels = { 'app.kubernetes.io/name': 'other', 'app.kubernetes.io/component': 'rabbitmq' };
    const others = [
      world.api.put(CLUSTER, {
        apiVersion: apiVersionOf(CLUSTER),
        kind: CLUSTER.kind,
        metadata,
        spec: { replicas: 1 },
      }),
      world.api.put(POD, {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { namespace: NAMESPACE, name: 'other-server-0', labels },
      }),
      world.api.put(SECRET, {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { namespace: NAMESPACE, name: 'other-default-user' },
      }),
    ];
    await world.annotate(target('4.2'));
    await world.run(() => world.isAt('4.2'));
    const left = [CLUSTER, POD, SECRET].flatMap((resource) => world.api.all(resource));
    expect(left).toEqual(expect.arrayContaining(others));
  });

  it('more replicas: the cluster gets them', async () => {
    const world = await known({ version: '', spec: { replicas: 1 } });
    await world.edit({ spec: { replicas: 3 } });
    await world.run(() => world.pods.length === 3);
    await world.rest();
    expect(valueAt(world.cluster, 'spec', 'replicas')).toBe(3);
    expect([world.created.length, world.deletions.length]).toEqual([1, 0]);
  });
});
