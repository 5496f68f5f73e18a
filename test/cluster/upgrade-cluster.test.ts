// The RabbitmqCluster that an upgrade makes, on a real API server, with the real cluster-operator and the real webhook.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ANNOTATION, PROXY_CONTAINER, SETUP_CONTAINER, WIPE_CONTAINER } from '../../common/contract.ts';
import { copy } from '../../common/kube/json.ts';
import type { KubeObject } from '../../common/kube/types.ts';
import { clusterChanges, desiredCluster, finishPatch, injectPatch } from '../../reconciler/cluster.ts';
import type { UpgradeRecord } from '../../reconciler/types.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import { eventually } from '../support/kube-api.ts';
import type { KubeMetadata, KubeObject as Stored } from '../support/kube-api.ts';
import { startCluster } from '../support/kube.ts';
import type { Cluster } from '../support/kube.ts';
import type { PodContainer } from '../support/kubelet.ts';
import { startWebhookProcess } from '../support/webhook-process.ts';
import type { WebhookProcess } from '../support/webhook-process.ts';

const NAMESPACE = 'openstack';
/** The garbage collector looks for new kinds, such as RabbitmqCluster, every 30 s, and may need two looks. */
const GARBAGE_MS = 100_000;
/** Without a write of the operator, it is through with a cluster. */
const SETTLED_MS = 2000;
/** Of a test that waits for the garbage collector. */
const REMOVAL_TIMEOUT_MS = GARBAGE_MS + 50_000;
const NEW_IMAGE = 'registry.example:5000/rabbitmq:4.2-management';

interface PodSpec {
  containers: PodContainer[];
  initContainers: PodContainer[];
  volumes: { name: string; emptyDir?: object }[];
}

interface StatefulSet extends Stored {
  spec: { replicas: number; template: { metadata: KubeMetadata; spec: PodSpec } };
}

function ref(apiVersion: string, kind: string, name: string) {
  return { apiVersion, kind, metadata: { namespace: NAMESPACE, name } };
}

function clusterRef(name: string) {
  return ref('rabbitmq.com/v1beta1', 'RabbitmqCluster', name);
}

function namesOf(containers: { name: string }[]): string[] {
  return containers.map(({ name }) => name);
}

function entry(list: PodContainer[], name: string): PodContainer {
  const found = list.find((each) => each.name === name);
  if (found === undefined) throw new Error(`there is no ${name} among ${namesOf(list).join(', ')}`);
  return found;
}

/** What a user of 3.x may have: containers of their own in both lists, one that waits for the setup, configuration, plugins. */
const USERS_SPEC = {
  replicas: 3,
  image: 'registry.example:5000/rabbitmq:3.13.7-management',
  terminationGracePeriodSeconds: 60,
  delayStartSeconds: 0,
  persistence: { storage: '1Gi' },
  resources: { requests: { cpu: '100m', memory: '1Gi' }, limits: { cpu: '1000m', memory: '1Gi' } },
  rabbitmq: {
    additionalConfig: 'channel_max = 77\nclassic_queue.default_version = 1\n',
    additionalPlugins: ['rabbitmq_federation'],
  },
  override: {
    service: { spec: { ports: [{ name: 'extra', port: 7000, protocol: 'TCP' }] } },
    statefulSet: {
      spec: {
        template: {
          metadata: { annotations: { 'example.com/note': 'kept' } },
          spec: {
            containers: [
              { name: 'metrics', image: 'metrics:1', ports: [{ containerPort: 9100, protocol: 'TCP' }] },
            ],
            initContainers: [{ name: SETUP_CONTAINER }, { name: 'tune', image: 'tune:1' }],
          },
        },
      },
    },
  },
};

const RECORD: UpgradeRecord = {
  sequence: 3,
  from: '3.13',
  to: '4.2',
  reason: 'VersionUpgrade',
  clusterUid: 'old',
  isOwned: false,
  proxyBefore: false,
  replicas: 3,
  gracePeriodSeconds: 60,
  startedAt: '2026-01-01T00:00:00Z',
  phaseStartedAt: '2026-01-01T00:00:00Z',
};

function rabbitMq(name: string, spec: KubeObject['metadata'] = {}): KubeObject {
  return {
    apiVersion: 'rabbitmq.openstack.org/v1beta1',
    kind: 'RabbitMq',
    metadata: { namespace: NAMESPACE, name, uid: '11111111-1111-1111-1111-111111111111' },
    spec: { targetVersion: '4.2', ...spec },
    status: { currentVersion: '4.2' },
  };
}

function made(name: string, snapshot: Stored | undefined, proxyRequired: boolean): Stored {
  const { object } = desiredCluster({
    snapshot: snapshot as KubeObject | undefined,
    rabbitmq: rabbitMq(name),
    version: '4.2',
    image: NEW_IMAGE,
    queueType: 'Quorum',
    record: RECORD,
    proxyRequired,
  });
  return object;
}

function registration({ url, ca }: WebhookProcess): Stored {
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: 'quorumbridge' },
    webhooks: [
      {
        name: 'rabbitmqcluster.quorumbridge.io',
        clientConfig: { url, caBundle: Buffer.from(ca).toString('base64') },
        rules: [
          {
            apiGroups: ['rabbitmq.com'],
            apiVersions: ['v1beta1'],
            operations: ['CREATE', 'UPDATE'],
            resources: ['rabbitmqclusters'],
          },
        ],
        // Those whose name says so meet it; the others show what the reconciler alone makes.
        objectSelector: { matchLabels: { 'example.com/meets': 'webhook' } },
        failurePolicy: 'Fail',
        sideEffects: 'None',
        reinvocationPolicy: 'IfNeeded',
        timeoutSeconds: 5,
        admissionReviewVersions: ['v1'],
      },
    ],
  };
}

await describeCluster('the RabbitmqCluster that an upgrade makes', { operator: true }, ({ lacks }) => {
  let cluster: Cluster;
  let webhook: WebhookProcess;

  beforeAll(async () => {
    cluster = await startCluster({ operator: true });
    await cluster.createNamespace(NAMESPACE);
    webhook = await startWebhookProcess(cluster.kubeconfig, ['--no-events']);
    await cluster.api.create(registration(webhook));
    await eventually('the webhook', async () => {
      const metadata = {
        ...clusterRef('first').metadata,
        labels: { 'example.com/meets': 'webhook' },
        annotations: { [ANNOTATION.inject]: 'true' },
      };
      const stored = await cluster.api.create({ ...clusterRef('first'), metadata }, { dryRun: 'All' });
      return JSON.stringify(stored).includes(PROXY_CONTAINER);
    });
  });
  afterAll(async () => {
    await cluster?.stop();
    await webhook?.stop();
  });

  const setOf = (name: string) => ref('apps/v1', 'StatefulSet', `${name}-server`);
  const readSet = (name: string) =>
    eventually(`StatefulSet ${name}-server`, () => cluster.api.find<StatefulSet>(setOf(name)));

  /** An old cluster, as its user made it; resolves to what is stored once all of it is ready. */
  async function old(
    name: string,
    metadata: KubeMetadata = {},
    spec: Record<string, unknown> = USERS_SPEC,
  ): Promise<Stored> {
    await cluster.api.create({
      ...clusterRef(name),
      metadata: { ...clusterRef(name).metadata, ...metadata },
      spec,
    });
    return eventually(`${name} is ready`, async () => {
      const now = await cluster.api.read<Stored & { status?: { conditions?: Condition[] } }>(
        clusterRef(name),
      );
      const isReady = now.status?.conditions?.some(
        ({ type, status }) => type === 'AllReplicasReady' && status === 'True',
      );
      return isReady === true && now;
    });
  }

  /** An operator that is in the midst of its work when the cluster is deleted makes it again from its memory. */
  async function settled(name: string): Promise<void> {
    let [version, since]: [string | undefined, number] = [undefined, 0];
    await eventually(`the operator has left ${name} alone`, async () => {
      const { resourceVersion } = (await cluster.api.read(clusterRef(name))).metadata;
      if (resourceVersion !== version) [version, since] = [resourceVersion, performance.now()];
      return performance.now() - since > SETTLED_MS;
    });
  }

  async function remove(name: string): Promise<void> {
    await settled(name);
    await cluster.api.remove(clusterRef(name));
    const isGone = async () => {
      const left = await Promise.all([
        cluster.api.find(clusterRef(name)),
        cluster.api.find(setOf(name)),
        cluster.api.find(ref('v1', 'ConfigMap', `${name}-server-conf`)),
      ]);
      const names = left.flatMap((each) => (each === undefined ? [] : [each.kind]));
      if (names.length > 0) throw new Error(`left: ${names.join(', ')}`);
      return true;
    };
    await eventually(`${name} is gone`, isGone, GARBAGE_MS);
  }

  /** The operator looks at the cluster again, though nothing about it has changed. */
  async function reconcile(name: string, nonce: string): Promise<void> {
    await cluster.api.patch(clusterRef(name), {
      metadata: { annotations: { 'example.com/nonce': nonce } },
    });
    await eventually('the operator has seen it', async () => {
      const { metadata } = await cluster.api.read(setOf(name));
      return metadata.annotations?.['example.com/nonce'] === nonce;
    });
  }

  it(
    'is the old one but for image, configuration and wipe-data, which comes first',
    { timeout: REMOVAL_TIMEOUT_MS },
    async () => {
      const snapshot = await old('plain', { labels: { team: 'red' }, annotations: { 'example.com/a': 'b' } });
      const before = await readSet('plain');
      expect(namesOf(before.spec.template.spec.initContainers)).toEqual([SETUP_CONTAINER, 'tune']);
      await remove('plain');
      await cluster.api.create(made('plain', snapshot, false));
      const after = await readSet('plain');
      const [was, is] = [before.spec.template.spec, after.spec.template.spec];
      expect(namesOf(is.initContainers)).toEqual([WIPE_CONTAINER, SETUP_CONTAINER, 'tune']);
      expect(namesOf(is.containers)).toEqual(namesOf(was.containers));
      expect(entry(is.initContainers, WIPE_CONTAINER)).toMatchObject({
        image: NEW_IMAGE,
        workingDir: '/var/lib/rabbitmq',
        volumeMounts: [{ name: 'persistence', mountPath: '/var/lib/rabbitmq' }],
        securityContext: { runAsNonRoot: true, readOnlyRootFilesystem: true },
      });
      // With the two differences taken back, it is the old StatefulSet.
      const reverted = copy(is as never) as PodSpec;
      reverted.initContainers.shift();
      entry(reverted.containers, 'rabbitmq').image = USERS_SPEC.image;
      entry(reverted.initContainers, SETUP_CONTAINER).image = USERS_SPEC.image;
      expect(reverted).toEqual(was);
      expect(after.spec.template.metadata.annotations).toHaveProperty(['example.com/note'], 'kept');
      expect(after.spec.replicas).toBe(3);

      const stored = await cluster.api.read(clusterRef('plain'));
      expect(stored.metadata.uid).not.toBe(snapshot.metadata.uid);
      expect(stored.metadata.labels).toEqual({ team: 'red' });
      expect(stored.metadata.annotations).toEqual({
        'example.com/a': 'b',
        'rabbitmq.openstack.org/storage-wipe-needed': 'true',
        'quorumbridge.io/upgrade': '3',
      });
      const config = await cluster.api.read<Stored & { data: Record<string, string> }>(
        ref('v1', 'ConfigMap', 'plain-server-conf'),
      );
      const users = config.data['userDefinedConfiguration.conf'];
      expect(users).toMatch(/^channel_max *= *77$/m);
      expect(users).toMatch(/^quorum_queue\.continuous_membership_reconciliation\.enabled *= *true$/m);
      expect(users).not.toContain('classic_queue.default_version');
    },
  );

  it('is left alone by the operator that looks again, and by the end of the upgrade', async () => {
    const before = await readSet('plain');
    await reconcile('plain', 'one');
    await reconcile('plain', 'two');
    await cluster.api.patch(clusterRef('plain'), finishPatch());
    await reconcile('plain', 'three');
    const after = await readSet('plain');
    expect(after.spec).toEqual(before.spec);
    expect(after.metadata.generation).toBe(before.metadata.generation);
    const { metadata } = await cluster.api.read(clusterRef('plain'));
    expect(metadata.annotations).not.toHaveProperty(['rabbitmq.openstack.org/storage-wipe-needed']);
  });

  it.each<[string, PodContainer[] | undefined, string[]]>([
    ['none of the user', undefined, [WIPE_CONTAINER, SETUP_CONTAINER]],
    [
      'one that comes before the setup',
      [{ name: 'early', image: 'early:1' }],
      [WIPE_CONTAINER, 'early', SETUP_CONTAINER],
    ],
  ])('wipes before everything else: %s', async (_name, initContainers, expected) => {
    const name = `first-${expected.length}`;
    const podSpec = { containers: [], ...(initContainers === undefined ? {} : { initContainers }) };
    const override = { statefulSet: { spec: { template: { spec: podSpec } } } };
    const spec = { replicas: 1, persistence: { storage: '0Gi' }, override };
    const object = { ...clusterRef(name), spec } as Stored;
    await cluster.api.create(made(name, object, false));
    const { initContainers: list, volumes } = (await readSet(name)).spec.template.spec;
    expect(namesOf(list)).toEqual(expected);
    // Without a claim the volume of that name is an emptyDir.
    expect(volumes).toContainEqual({ name: 'persistence', emptyDir: {} });
  });

  const modes: [string, string][] = [
    ['plain', ''],
    ['native', lacks('nativeSidecars')],
  ];
  for (const [mode, why] of modes)
    it.skipIf(why !== '')(
      `has the proxy once, where the old one had it already: ${mode}${why}`,
      async () => {
        const name = `proxied-${mode}`;
        const labels = { 'example.com/meets': 'webhook' };
        const asking = { [ANNOTATION.enableProxy]: 'true', [ANNOTATION.sidecarMode]: mode };
        const snapshot = await old(name, { labels, annotations: asking });
        await remove(name);
        const wanted = made(name, snapshot, true);
        await cluster.api.create(wanted);
        const stored = await cluster.api.read(clusterRef(name));
        // The webhook finds what it would have made: nothing but the API server's own fields is new.
        expect(stored['spec']).toEqual(wanted['spec']);
        const { template } = (await readSet(name)).spec;
        const all = [...template.spec.initContainers, ...template.spec.containers];
        expect(namesOf(all).filter((each) => each === PROXY_CONTAINER)).toHaveLength(1);
        expect(namesOf(template.spec.initContainers).slice(0, 3)).toEqual([
          WIPE_CONTAINER,
          SETUP_CONTAINER,
          'tune',
        ]);
        expect(namesOf(template.spec.containers).slice(0, 2)).toEqual(['rabbitmq', 'metrics']);

        const before = await readSet(name);
        await reconcile(name, 'one');
        await reconcile(name, 'two');
        const after = await readSet(name);
        expect(after.spec).toEqual(before.spec);
        expect(after.metadata.generation).toBe(before.metadata.generation);
      },
      REMOVAL_TIMEOUT_MS,
    );

  it(
    'gets the proxy that the old one had not, and loses it by the patch alone',
    async () => {
      const labels = { 'example.com/meets': 'webhook' };
      const snapshot = await old('switched', { labels });
      await remove('switched');
      await cluster.api.create(made('switched', snapshot, true));
      const { template } = (await readSet('switched')).spec;
      expect(namesOf(template.spec.containers)).toEqual(['rabbitmq', 'metrics', PROXY_CONTAINER]);
      const config = await cluster.api.read<Stored & { data: Record<string, string> }>(
        ref('v1', 'ConfigMap', 'switched-server-conf'),
      );
      expect(config.data['userDefinedConfiguration.conf']).toMatch(
        /^quorum_queue\.property_equivalence\.relaxed_checks_on_redeclaration *= *true$/m,
      );
      await cluster.api.patch(clusterRef('switched'), injectPatch(false));
      const after = await eventually('the StatefulSet without the proxy', async () => {
        const { spec } = (await readSet('switched')).spec.template;
        return !namesOf(spec.containers).includes(PROXY_CONTAINER) && spec;
      });
      expect(namesOf(after.initContainers)).toEqual([WIPE_CONTAINER, SETUP_CONTAINER, 'tune']);
    },
    REMOVAL_TIMEOUT_MS,
  );

  it('is what the RabbitMq declares after one patch, whatever webhook and operator add', async () => {
    const labels = { 'example.com/meets': 'webhook' };
    const name = 'declared';
    const metrics = { name: 'metrics', image: 'metrics:2', ports: [{ containerPort: 9100 }] };
    const probed = { name: 'rabbitmq', readinessProbe: { tcpSocket: { port: 5672 }, periodSeconds: 7 } };
    const wish = rabbitMq(name, {
      replicas: 3,
      resources: { limits: { cpu: '1', memory: '1024Mi' } },
      tls: { secretName: 'rabbitmq-tls', nobodyKnows: true },
      rabbitmq: { additionalConfig: 'channel_max = 78\n', advancedConfig: '[{rabbit, []}].\n' },
      override: {
        statefulSet: {
          spec: {
            template: { spec: { containers: [metrics, probed], volumes: [{ name: 'x', emptyDir: {} }] } },
          },
        },
      },
    });
    const base = made(name, { ...clusterRef(name), spec: USERS_SPEC }, true);
    const files = { 'tls.crt': 'certificate', 'tls.key': 'key' };
    await cluster.api.create({ ...ref('v1', 'Secret', 'rabbitmq-tls'), stringData: files });
    await cluster.api.create({ ...base, metadata: { ...base.metadata, labels } });
    const change = clusterChanges(wish, (await cluster.api.read(clusterRef(name))) as KubeObject);
    expect(Object.keys(change ?? {})).toEqual(['rabbitmq', 'tls', 'override']);
    const after = await cluster.api.patch(clusterRef(name), { spec: change });
    expect(clusterChanges(wish, after as KubeObject)).toBeUndefined();
    const text = JSON.stringify(after);
    expect(text).toContain('channel_max = 78');
    expect(text).toContain('relaxed_checks_on_redeclaration = true');
    expect(text).toContain('metrics:2');
    const { initContainers } = (await readSet(name)).spec.template.spec;
    expect(namesOf(initContainers)[0]).toBe(WIPE_CONTAINER);
    // The operator writes the object back as programs in Go do: with empty fields more, or fewer.
    await reconcile(name, 'one');
    expect(clusterChanges(wish, await cluster.api.read<KubeObject>(clusterRef(name)))).toBeUndefined();
  });
});

interface Condition {
  type: string;
  status: string;
}
