import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeCluster } from '../support/describe-cluster.ts';
import { eventually } from '../support/kube-api.ts';
import type { KubeObject } from '../support/kube-api.ts';
import { startCluster } from '../support/kube.ts';
import type { Cluster } from '../support/kube.ts';

const NAMESPACE = 'openstack';

/** Where the stand-in and the operator differ, as patterns of paths, and why. */
const KNOWN: readonly (readonly [path: RegExp, why: string])[] = [
  [/^Secret \S+-erlang-cookie data\.\.erlang\.cookie$/, 'it is random'],
  [
    /^Secret \S+-default-user data\.(username|password|default_user\.conf|connection_string)$/,
    'names and passwords are random',
  ],
  [
    /^StatefulSet \S+ metadata\.annotations\.rabbitmq\.com\/createdAt$/,
    'the operator marks it so until rabbitmqctl has run in a pod, which is nowhere here; the stand-in takes it for done',
  ],
  [
    /^RabbitmqCluster \S+ status\.(observedGeneration|conditions\.3\.(status|reason|message))$/,
    'for the same reason the operator never says that it has reconciled',
  ],
];

/** What may be besides when a cluster was changed, by what the operator sees of it in time. */
const KNOWN_LATER: typeof KNOWN = [
  ...KNOWN,
  [
    /rabbitmq\.com\/queueRebalanceNeededAt$/,
    'the operator marks clusters of several nodes so until rabbitmq-queues has run in a pod',
  ],
];
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;

const SPECS: Record<string, Record<string, unknown>> = {
  plain: {},
  tls: { tls: { secretName: 'tls' } },
  'tls-only': { tls: { secretName: 'tls', disableNonTLSListeners: true }, persistence: { storage: '0' } },
  mutual: { tls: { secretName: 'tls', caSecretName: 'tls' }, service: { type: 'NodePort' } },
  configured: {
    image: 'registry.invalid/rabbitmq:4.0',
    delayStartSeconds: 5,
    terminationGracePeriodSeconds: 60,
    persistence: { storage: '3Gi', storageClassName: 'fast' },
    resources: { requests: { memory: '1Gi' }, limits: { memory: '20Gi' } },
    rabbitmq: {
      additionalConfig:
        'auth_mechanisms.1 = PLAIN\nmanagement.tcp.port = 15673\nvm_memory_high_watermark.relative = 0.5\n',
      advancedConfig: '[{rabbit,[{tcp_listeners,[{"127.0.0.1",5673}]}]}].\n',
      envConfig: 'RABBITMQ_LOGS=-\n',
      additionalPlugins: ['rabbitmq_shovel', 'rabbitmq_management'],
    },
    tolerations: [{ key: 'mq', operator: 'Exists' }],
  },
  overridden: {
    replicas: 3,
    override: {
      service: { metadata: { labels: { tier: 'front' } }, spec: { sessionAffinity: 'ClientIP' } },
      statefulSet: {
        metadata: { annotations: { 'example.com/set': 'yes' } },
        spec: {
          updateStrategy: { type: 'OnDelete' },
          template: {
            metadata: { labels: { tier: 'mq' }, annotations: { 'example.com/pod': 'yes' } },
            spec: {
              containers: [
                {
                  name: 'rabbitmq',
                  env: [
                    { name: 'EXTRA', value: '$(MY_POD_NAME)' },
                    { name: 'RABBITMQ_USE_LONGNAME', value: 'false' },
                  ],
                  volumeMounts: [{ name: 'extra', mountPath: '/extra' }],
                  readinessProbe: { exec: { command: ['true'] }, periodSeconds: 7 },
                  ports: [{ name: 'extra', containerPort: 9999 }],
                },
                { name: 'metrics', image: 'registry.invalid/metrics' },
                { name: 'amqp-proxy', image: 'registry.invalid/proxy', ports: [{ containerPort: 5672 }] },
              ],
              initContainers: [
                { name: 'wipe-data', image: 'registry.invalid/wipe' },
                { name: 'setup-container', resources: { limits: { cpu: '50m' } } },
              ],
              volumes: [{ name: 'extra', emptyDir: {} }],
              securityContext: { fsGroup: 999 },
              terminationGracePeriodSeconds: 30,
            },
          },
        },
      },
    },
  },
  // The operator takes the first container for its own, whichever it is.
  'first-is-another': {
    override: {
      statefulSet: {
        spec: {
          template: { spec: { containers: [{ name: 'metrics', image: 'registry.invalid/metrics' }] } },
        },
      },
    },
  },
};

const KINDS = [
  ['apps/v1', 'StatefulSet', (name: string) => `${name}-server`],
  ['rabbitmq.com/v1beta1', 'RabbitmqCluster', (name: string) => name],
  ['v1', 'Service', (name: string) => name],
  ['v1', 'Service', (name: string) => `${name}-nodes`],
  ['v1', 'Secret', (name: string) => `${name}-erlang-cookie`],
  ['v1', 'Secret', (name: string) => `${name}-default-user`],
  ['v1', 'ConfigMap', (name: string) => `${name}-plugins-conf`],
  ['v1', 'ConfigMap', (name: string) => `${name}-server-conf`],
  ['v1', 'ServiceAccount', (name: string) => `${name}-server`],
  ['rbac.authorization.k8s.io/v1', 'Role', (name: string) => `${name}-peer-discovery`],
  ['rbac.authorization.k8s.io/v1', 'RoleBinding', (name: string) => `${name}-server`],
] as const;

/** What no two clusters have in common, and what Kubernetes' own controllers write. */
const OWN =
  /^(metadata\.(uid|resourceVersion|creationTimestamp|generation|managedFields.*)|metadata\.ownerReferences\.\d+\.uid|spec\.(clusterIPs?(\.\d+)?|ports\.\S+\.nodePort)|.*\.ownerReferences\.\d+\.uid|status\.(conditions\.\d+\.lastTransitionTime|loadBalancer.*))$/;

/**
 * Paths and values of all that is no object: ports of Services by their names, for their order is by chance, and times
 * as there or not.
 */
function leaves(value: unknown, path: string[] = []): [string, unknown][] {
  if (typeof value === 'string' && TIME.test(value)) return [[path.join('.'), 'a time']];
  if (typeof value !== 'object' || value === null) return [[path.join('.'), value]];
  const entries: [string, unknown][] =
    Array.isArray(value) && path.join('.') === 'spec.ports'
      ? (value as { name: string }[]).map((port) => [port.name, port])
      : Object.entries(value);
  if (entries.length === 0) return [[path.join('.'), Array.isArray(value) ? '[]' : '{}']];
  return entries.flatMap(([key, inner]) => leaves(inner, [...path, key]));
}

function factsOf(object: KubeObject): Map<string, unknown> {
  const { apiVersion: _, kind, ...rest } = object;
  // The StatefulSet's status is its controller's.
  if (kind !== 'RabbitmqCluster') delete rest['status'];
  return new Map(leaves(rest).filter(([path]) => !OWN.test(path)));
}

/** Where two objects of the same kind and name differ, each with both values. */
function differences(real: KubeObject, played: KubeObject): Map<string, string> {
  const [a, b] = [factsOf(real), factsOf(played)];
  const result = new Map<string, string>();
  for (const path of new Set([...a.keys(), ...b.keys()])) {
    const [left, right] = [JSON.stringify(a.get(path)), JSON.stringify(b.get(path))];
    if (left !== right)
      result.set(`${real.kind} ${real.metadata.name} ${path}`, `operator ${left}, stand-in ${right}`);
  }
  return result;
}

await describeCluster('the stand-in for the cluster operator', { operator: 'real' }, () => {
  let clusters: [Cluster, Cluster];
  const onBoth = async <T>(act: (cluster: Cluster) => Promise<T>): Promise<[T, T]> =>
    (await Promise.all(clusters.map(act))) as [T, T];
  const rabbit = (name: string, spec: unknown = {}): KubeObject => ({
    apiVersion: 'rabbitmq.com/v1beta1',
    kind: 'RabbitmqCluster',
    metadata: { namespace: NAMESPACE, name },
    spec,
  });

  beforeAll(async () => {
    clusters = [await startCluster({ operator: true }), await startCluster({ operator: 'stand-in' })];
    await onBoth(async ({ api }) => {
      await api.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
      const files = { 'tls.crt': 'certificate', 'tls.key': 'key', 'ca.crt': 'ca' };
      const metadata = { namespace: NAMESPACE, name: 'tls' };
      await api.create({ apiVersion: 'v1', kind: 'Secret', metadata, stringData: files });
      for (const [name, spec] of Object.entries(SPECS)) {
        const object = rabbit(name, spec);
        const labels = { team: 'mq', 'app.kubernetes.io/name': 'mine' };
        const annotations = { 'example.com/own': 'yes', 'example.k8s.io/not': 'copied' };
        await api.create({ ...object, metadata: { ...object.metadata, labels, annotations } });
      }
    });
  });
  afterAll(async () => {
    await Promise.all((clusters ?? []).map((cluster) => cluster.stop()));
  });

  const setOf = (name: string): KubeObject => ({
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { namespace: NAMESPACE, name: `${name}-server` },
  });
  const seen = new Set<RegExp>();
  /** The objects of both as they are now, and where they differ without being known to. */
  const compared = async (name: string, known: typeof KNOWN) => {
    const pairs = await Promise.all(
      KINDS.map(([apiVersion, kind, nameOf]) => {
        const metadata = { namespace: NAMESPACE, name: nameOf(name) };
        return onBoth(({ api }) => api.read({ apiVersion, kind, metadata }));
      }),
    );
    return pairs
      .flatMap(([real, played]) => [...differences(real, played)])
      .filter(([path]) => {
        const found = known.find(([pattern]) => pattern.test(path));
        if (found !== undefined) seen.add(found[0]);
        return found === undefined;
      });
  };
  /** Until all that `since` waits for has come, and then until both operators have come to rest. */
  const expectSame = async (
    name: string,
    known: typeof KNOWN,
    since: (set: KubeObject) => boolean = () => true,
  ) => {
    await onBoth(({ api }) =>
      eventually(`StatefulSet of ${name}`, async () => {
        const set = await api.find<KubeObject & { status?: { readyReplicas?: number } }>(setOf(name));
        const { replicas } = (set?.['spec'] ?? {}) as { replicas?: number };
        return set !== undefined && since(set) && set.status?.readyReplicas === replicas;
      }),
    );
    await expect.poll(() => compared(name, known), { timeout: 20_000, interval: 200 }).toEqual([]);
  };

  it.each(Object.keys(SPECS))('makes of a RabbitmqCluster what the operator does: %s', async (name) => {
    await expectSame(name, KNOWN);
  });

  it('differs from the operator in all that it is known to', () => {
    expect(KNOWN.filter(([pattern]) => !seen.has(pattern))).toEqual([]);
  });

  describe('after a change', () => {
    it('of image, configuration and annotations does what the operator does', async () => {
      await onBoth(({ api }) =>
        api.patch(rabbit('configured'), {
          metadata: { annotations: { 'example.com/own': 'changed', 'example.com/new': 'yes' } },
          spec: { image: 'registry.invalid/rabbitmq:4.2', rabbitmq: { advancedConfig: '[].\n' } },
        }),
      );
      const restarted = (set: KubeObject): boolean =>
        /lastRestartAt.*rabbitmq:4\.2/s.test(JSON.stringify(set['spec']));
      await expectSame('configured', KNOWN_LATER, restarted);
    });

    it('of the number of replicas does what the operator does, and not when it gets smaller', async () => {
      await onBoth(({ api }) => api.patch(rabbit('plain'), { spec: { replicas: 2 } }));
      const larger = (set: KubeObject): boolean => (set['spec'] as { replicas: number }).replicas === 2;
      await expectSame('plain', KNOWN_LATER, larger);
      await onBoth(({ api }) => api.patch(rabbit('plain'), { spec: { replicas: 1 } }));
      const reasons = await onBoth(({ api }) =>
        eventually('the complaint', async () => {
          const { status } = (await api.read(rabbit('plain'))) as KubeObject & {
            status: { conditions: { type: string; reason: string; message: string }[] };
          };
          const last = status.conditions.find(({ type }) => type === 'ReconcileSuccess')!;
          return last.reason === 'UnsupportedOperation' && last.message;
        }),
      );
      expect(reasons[1]).toBe(reasons[0]);
    });

    it('of an override that went keeps the annotations of the pods, as the operator does', async () => {
      await onBoth(({ api }) =>
        api.patch(rabbit('overridden'), { spec: { override: { statefulSet: null } } }),
      );
      const plain = (set: KubeObject): boolean => !JSON.stringify(set['spec']).includes('amqp-proxy');
      await expectSame('overridden', KNOWN_LATER, plain);
      const [, played] = await onBoth(({ api }) => api.read(setOf('overridden')));
      const path = ['spec', 'template', 'metadata', 'annotations', 'example.com/pod'];
      expect(played).toHaveProperty(path, 'yes');
    });

    it('lets all go when the RabbitmqCluster is deleted', async () => {
      await onBoth(({ api }) => api.remove(rabbit('tls')));
      // The garbage collector looks for new kinds twice a minute.
      const gone = KINDS.map(([apiVersion, kind, nameOf]) =>
        onBoth(({ api }) => {
          const object = { apiVersion, kind, metadata: { namespace: NAMESPACE, name: nameOf('tls') } };
          return eventually(`end of ${kind}`, async () => (await api.find(object)) === undefined, 90_000);
        }),
      );
      expect((await Promise.all(gone)).flat()).not.toContain(false);
    }, 120_000);
  });
});
