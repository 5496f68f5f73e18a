// What RabbitMQ's cluster operator 2.16 makes of a RabbitmqCluster besides the StatefulSet: for the stand-in.
import { randomBytes } from 'node:crypto';
import type { JsonObject } from '../../common/kube/types.ts';
import type { KubeMetadata, KubeObject } from './kube-api.ts';
import {
  annotationsOf,
  child,
  labelsOf,
  ownerReference,
  podLabels,
  portsOf,
  serverFiles,
} from './operator-statefulset.ts';
import type { RabbitmqCluster } from './operator-statefulset.ts';
import { SERVICE_SPEC_KEYS, strategicMerge } from './strategic-merge.ts';

/** An object that the operator keeps: what it is to be, by what is stored under its name. */
export interface Kept {
  apiVersion: string;
  kind: string;
  name: string;
  make: (stored: KubeObject | undefined) => Record<string, unknown> & { metadata?: KubeMetadata };
}

/** In the operator's order; the StatefulSet comes after them. */
export function objectsOf(cluster: RabbitmqCluster): Kept[] {
  const rbac = 'rbac.authorization.k8s.io';
  const { name } = cluster.metadata;
  const named = (apiVersion: string, kind: string, own: string, make: Kept['make']): Kept => ({
    apiVersion,
    kind,
    name: own,
    make,
  });
  const roleRef = { apiGroup: rbac, kind: 'Role', name: child(cluster, 'peer-discovery') };
  const subjects = [{ kind: 'ServiceAccount', name: child(cluster, 'server') }];
  return [
    named('v1', 'Service', child(cluster, 'nodes'), () => ({ spec: headlessService(cluster) })),
    named('v1', 'Service', name, (stored) => service(cluster, stored)),
    named('v1', 'Secret', child(cluster, 'erlang-cookie'), (stored) => ({
      data: stored?.['data'] ?? { '.erlang.cookie': base64(random()) },
    })),
    named('v1', 'Secret', child(cluster, 'default-user'), (stored) => ({
      data: defaultUser(cluster, stored),
    })),
    named('v1', 'ConfigMap', child(cluster, 'plugins-conf'), () => ({ data: plugins(cluster) })),
    named('v1', 'ConfigMap', child(cluster, 'server-conf'), () => ({ data: serverConf(cluster) })),
    named('v1', 'ServiceAccount', child(cluster, 'server'), () => ({})),
    named(`${rbac}/v1`, 'Role', child(cluster, 'peer-discovery'), () => ({
      rules: [
        { apiGroups: [''], resources: ['endpoints'], verbs: ['get'] },
        { apiGroups: [''], resources: ['events'], verbs: ['create'] },
      ],
    })),
    named(`${rbac}/v1`, 'RoleBinding', child(cluster, 'server'), () => ({ roleRef, subjects })),
  ];
}

/** The whole object to write: what is stored, with what the operator wants over it. */
export function written(cluster: RabbitmqCluster, kept: Kept, stored: KubeObject | undefined): KubeObject {
  const { apiVersion, kind, name } = kept;
  const wanted = kept.make(stored);
  // The labels and annotations of ConfigMaps are set at the beginning and then left alone.
  const fixed = kind === 'ConfigMap' && stored !== undefined;
  const metadata = {
    ...stored?.metadata,
    namespace: cluster.metadata.namespace,
    name,
    labels: fixed ? stored.metadata.labels : { ...labelsOf(cluster), ...wanted.metadata?.labels },
    annotations: fixed
      ? stored.metadata.annotations
      : { ...annotationsOf(cluster, stored?.metadata.annotations), ...wanted.metadata?.annotations },
    ownerReferences: [ownerReference(cluster)],
  } as unknown as KubeMetadata;
  return { ...stored, ...wanted, apiVersion, kind, metadata };
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

function random(): string {
  return randomBytes(24).toString('base64url');
}

function selectorOf(cluster: RabbitmqCluster): Record<string, string> {
  return { 'app.kubernetes.io/name': podLabels(cluster)['app.kubernetes.io/name']! };
}

function headlessService(cluster: RabbitmqCluster): JsonObject {
  const port = (name: string, number: number) => ({
    name,
    protocol: 'TCP',
    port: number,
    targetPort: number,
  });
  return {
    type: 'ClusterIP',
    clusterIP: 'None',
    sessionAffinity: 'None',
    selector: selectorOf(cluster),
    ports: [port('epmd', 4369), port('cluster-rpc', 25_672)],
    publishNotReadyAddresses: true,
  };
}

const PROTOCOLS: Record<string, string> = {
  amqp: 'amqp',
  amqps: 'amqps',
  management: 'http',
  'management-tls': 'https',
  prometheus: 'prometheus.io/metrics',
  'prometheus-tls': 'prometheus.io/metric-tls',
};

function service(cluster: RabbitmqCluster, stored: KubeObject | undefined): ReturnType<Kept['make']> {
  const { spec } = cluster;
  const before = (stored?.['spec'] ?? {}) as JsonObject;
  // A scraper that took both ports would count each node twice.
  const left = spec.tls?.secretName === undefined ? ['epmd'] : ['epmd', 'prometheus'];
  const ports = portsOf(cluster)
    .filter(([name]) => !left.includes(name))
    .map(([name, port]) => ({
      name,
      port,
      targetPort: port,
      protocol: 'TCP',
      appProtocol: PROTOCOLS[name]!,
      ...nodePortOf(before, name, spec.service.type),
    }));
  const own: JsonObject = { ...before, type: spec.service.type, selector: selectorOf(cluster), ports };
  const override = spec.override?.service;
  return {
    metadata: {
      labels: { ...spec.service.labels, ...labelsOf(cluster), ...override?.metadata?.labels },
      annotations: { ...spec.service.annotations, ...override?.metadata?.annotations },
    },
    spec: override?.spec === undefined ? own : strategicMerge(own, override.spec, SERVICE_SPEC_KEYS),
  };
}

function nodePortOf(spec: JsonObject, name: string, type: string): JsonObject {
  const ports = (spec['ports'] ?? []) as { name: string; nodePort?: number }[];
  const nodePort = ports.find((port) => port.name === name)?.nodePort;
  return nodePort === undefined || type === 'ClusterIP' ? {} : { nodePort };
}

/** The credentials are those that are stored, whoever stored them. */
function defaultUser(cluster: RabbitmqCluster, stored: KubeObject | undefined): Record<string, string> {
  const { name, namespace } = cluster.metadata;
  const data = { ...(stored?.['data'] as Record<string, string> | undefined) };
  if (stored === undefined) {
    const [username, password] = [`default_user_${random().slice(0, 19)}`, random()];
    const made = {
      username,
      password,
      'default_user.conf': ini([
        ['default_user', username],
        ['default_pass', password],
      ]),
      provider: 'rabbitmq',
      type: 'rabbitmq',
      host: `${name}.${namespace}.svc`,
    };
    for (const [key, text] of Object.entries(made)) data[key] = base64(text);
  }
  const secure = cluster.spec.tls?.secretName !== undefined;
  const port = secure ? '5671' : '5672';
  const text = (key: string) => Buffer.from(data[key] ?? '', 'base64').toString();
  const credentials = `${text('username')}:${text('password')}`;
  return {
    ...data,
    port: base64(port),
    connection_string: base64(`${secure ? 'amqps' : 'amqp'}://${credentials}@${text('host')}:${port}/`),
  };
}

function plugins({ spec }: RabbitmqCluster): Record<string, string> {
  const own = ['rabbitmq_peer_discovery_k8s', 'rabbitmq_prometheus', 'rabbitmq_management'];
  const all = new Set([...own, ...(spec.rabbitmq?.additionalPlugins ?? [])]);
  return { enabled_plugins: `[${[...all].join(',')}].` };
}

type Setting = readonly [key: string, value: string];

/** As the operator's ini library prints: the equals signs below each other. */
function ini(settings: readonly Setting[]): string {
  const width = Math.max(...settings.map(([key]) => key.length));
  return settings.map(([key, value]) => `${key.padEnd(width)} = ${value}\n`).join('');
}

/** The settings of a rabbitmq.conf; comments are not kept. */
function settingsIn(text: string): Setting[] {
  return text
    .split('\n')
    .map((line) => /^\s*([^#;=\s][^=]*?)\s*=\s*(.*?)\s*$/.exec(line))
    .filter((match) => match !== null)
    .map(([, key, value]) => [key!, value!]);
}

const DEFAULTS: readonly Setting[] = [
  ['queue_master_locator', 'min-masters'],
  ['disk_free_limit.absolute', '2GB'],
  ['cluster_partition_handling', 'pause_minority'],
  ['cluster_formation.peer_discovery_backend', 'rabbit_peer_discovery_k8s'],
  ['cluster_formation.k8s.host', 'kubernetes.default'],
  ['cluster_formation.k8s.address_type', 'hostname'],
];

function tlsSettings({
  disableNonTLSListeners,
  caSecretName,
}: NonNullable<RabbitmqCluster['spec']['tls']>): Setting[] {
  const file = (name: string) => `/etc/rabbitmq-tls/${name}`;
  const files = (prefix: string): Setting[] => [
    [`${prefix}.certfile`, file('tls.crt')],
    [`${prefix}.keyfile`, file('tls.key')],
  ];
  const plain: Setting[] =
    disableNonTLSListeners === true
      ? [['listeners.tcp', 'none']]
      : [
          ['management.tcp.port', '15672'],
          ['prometheus.tcp.port', '15692'],
        ];
  const mutual: Setting[] = [
    ['ssl_options.cacertfile', file('ca.crt')],
    ['ssl_options.verify', 'verify_peer'],
    ['management.ssl.cacertfile', file('ca.crt')],
    ['prometheus.ssl.cacertfile', file('ca.crt')],
  ];
  return [
    ...files('ssl_options'),
    ['listeners.ssl.default', '5671'],
    ...files('management.ssl'),
    ['management.ssl.port', '15671'],
    ...files('prometheus.ssl'),
    ['prometheus.ssl.port', '15691'],
    ...plain,
    ...(caSecretName === undefined ? [] : mutual),
  ];
}

const UNITS: Record<string, number> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
};

/** Of the limit, what is left for RabbitMQ: without a fifth of it, or 2 GiB. In bytes. */
function memoryFor(limit: string | number): number {
  const [, count, unit] = /^([\d.]+)([A-Za-z]*)$/.exec(String(limit)) ?? [];
  const bytes = Number(count) * (UNITS[unit ?? ''] ?? Number.NaN);
  if (!Number.isFinite(bytes)) throw new Error(`spec.resources.limits.memory: ${limit} is not read here`);
  return bytes - Math.min(Math.floor(bytes / 5), 2 * 2 ** 30);
}

function serverConf(cluster: RabbitmqCluster): Record<string, string> {
  const { spec, metadata } = cluster;
  const additional = settingsIn(spec.rabbitmq?.additionalConfig ?? '');
  const mechanisms: Setting[] = additional.some(([key]) => key.startsWith('auth_mechanisms'))
    ? []
    : [
        ['auth_mechanisms.1', 'PLAIN'],
        ['auth_mechanisms.2', 'AMQPLAIN'],
      ];
  const defaults: Setting[] = [
    ...DEFAULTS,
    ['cluster_formation.target_cluster_size_hint', String(spec.replicas)],
    ['cluster_name', metadata.name],
    ...mechanisms,
  ];
  const memory = spec.resources?.limits?.['memory'];
  const limit: Setting[] =
    memory === undefined ? [] : [['total_memory_available_override_value', String(memoryFor(memory))]];
  const secure = spec.tls?.secretName === undefined ? [] : tlsSettings(spec.tls);
  // A key of the user's keeps the place of the operator's.
  const all = new Map([...secure, ...limit, ...additional]);
  return {
    'operatorDefaults.conf': ini(defaults),
    'userDefinedConfiguration.conf': ini([...all]),
    ...Object.fromEntries(serverFiles(cluster)),
  };
}

/** Whether RabbitMQ has to be started again for a change of N-server-conf: not for another number of replicas. */
export function needsRestart(before: KubeObject, after: KubeObject): boolean {
  const counting = (object: KubeObject): string => {
    const data = { ...(object['data'] as Record<string, string>) };
    const defaults = settingsIn(data['operatorDefaults.conf'] ?? '');
    const hint = 'cluster_formation.target_cluster_size_hint';
    data['operatorDefaults.conf'] = JSON.stringify(defaults.filter(([key]) => key !== hint));
    return JSON.stringify(Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1)));
  };
  return counting(before) !== counting(after);
}
