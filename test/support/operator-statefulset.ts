// The StatefulSet that RabbitMQ's cluster operator 2.16 makes of a RabbitmqCluster: for the stand-in.
import { objectsAt, textAt, valueAt } from '../../common/kube/json.ts';
import type { Json, JsonObject } from '../../common/kube/types.ts';
import type { KubeMetadata, KubeObject } from './kube-api.ts';
import { POD_SPEC_KEYS, strategicMerge } from './strategic-merge.ts';

export interface RabbitmqCluster extends KubeObject {
  metadata: KubeMetadata & { name: string; namespace: string; uid: string; finalizers?: string[] };
  spec: ClusterSpec;
  status?: JsonObject & { conditions?: Condition[] };
}

export interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
  [key: string]: Json | undefined;
}

/** As far as the stand-in reads it. The CRD has put in the defaults. */
export interface ClusterSpec {
  replicas: number;
  image: string;
  delayStartSeconds: number;
  terminationGracePeriodSeconds: number;
  persistence: { storage: string | number; storageClassName?: string };
  resources: JsonObject & { limits?: Record<string, string | number> };
  service: { type: string; annotations?: Record<string, string>; labels?: Record<string, string> };
  rabbitmq?: {
    additionalConfig?: string;
    additionalPlugins?: string[];
    advancedConfig?: string;
    envConfig?: string;
    erlangInetConfig?: string;
  };
  tls?: { secretName?: string; caSecretName?: string; disableNonTLSListeners?: boolean };
  override?: { service?: Override; statefulSet?: Override };
  affinity?: JsonObject;
  tolerations?: Json[];
  imagePullSecrets?: Json[];
  [key: string]: unknown;
}

interface Override {
  metadata?: ObjectMeta;
  spec?: JsonObject & { template?: { metadata?: ObjectMeta; spec?: JsonObject } };
}

type ObjectMeta = { labels?: Record<string, string>; annotations?: Record<string, string> };
type Port = readonly [name: string, port: number];

export interface StatefulSet extends KubeObject {
  spec: { replicas?: number; template: { metadata?: ObjectMeta; spec: JsonObject }; [key: string]: unknown };
  status?: { readyReplicas?: number; currentRevision?: string; updateRevision?: string };
}

/** The object's name: `child(cluster, 'server')` is `NAME-server`. */
export function child({ metadata }: RabbitmqCluster, suffix: string): string {
  return `${metadata.name}-${suffix}`;
}

export function podLabels({ metadata }: RabbitmqCluster): Record<string, string> {
  return {
    'app.kubernetes.io/name': metadata.name,
    'app.kubernetes.io/component': 'rabbitmq',
    'app.kubernetes.io/part-of': 'rabbitmq',
  };
}

/** Those of the cluster too, but for the standard ones. */
export function labelsOf(cluster: RabbitmqCluster): Record<string, string> {
  const own = Object.entries(cluster.metadata.labels ?? {});
  const others = own.filter(([key]) => !key.startsWith('app.kubernetes.io'));
  return { ...podLabels(cluster), ...Object.fromEntries(others) };
}

/** The cluster's over what is there, which is never taken away. */
export function annotationsOf(
  cluster: RabbitmqCluster,
  before: Record<string, string> = {},
): Record<string, string> {
  const own = Object.entries(cluster.metadata.annotations ?? {});
  return { ...before, ...Object.fromEntries(own.filter(([key]) => !/kubernetes\.io|k8s\.io/.test(key))) };
}

export function ownerReference(
  { apiVersion, kind, metadata }: RabbitmqCluster,
  blockOwnerDeletion = true,
): JsonObject {
  return { apiVersion, kind, name: metadata.name, uid: metadata.uid, controller: true, blockOwnerDeletion };
}

/**
 * The StatefulSet as it is to be written: its template is made anew each time, but for annotations, and the override is
 * merged into that.
 */
export function statefulSet(cluster: RabbitmqCluster, stored: StatefulSet | undefined): StatefulSet {
  const { spec, metadata } = cluster;
  const override = spec.override?.statefulSet;
  const { template, volumeClaimTemplates, ...fields } = override?.spec ?? {};
  const base = stored ?? created(cluster);
  const selector = fields['selector'] ?? { matchLabels: selectorOf(cluster) };
  const annotations = { ...base.spec.template?.metadata?.annotations, ...template?.metadata?.annotations };
  return {
    ...base,
    metadata: {
      ...base.metadata,
      labels: { ...labelsOf(cluster), ...override?.metadata?.labels },
      annotations: {
        ...annotationsOf(cluster, base.metadata.annotations),
        ...override?.metadata?.annotations,
      },
      ownerReferences: [ownerReference(cluster)] as unknown as KubeMetadata['ownerReferences'],
      namespace: metadata.namespace,
    } as KubeMetadata,
    spec: {
      ...base.spec,
      replicas: spec.replicas,
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 0 } },
      ...(fields as Record<string, unknown>),
      ...claimsOf(cluster, volumeClaimTemplates),
      // Neither can be changed once it is there.
      selector: stored?.spec['selector'] ?? selector,
      serviceName: stored?.spec['serviceName'] ?? fields['serviceName'] ?? child(cluster, 'nodes'),
      template: {
        metadata: { labels: { ...podLabels(cluster), ...template?.metadata?.labels }, annotations },
        spec: overridden(podSpec(cluster), template?.spec),
      },
    },
  };
}

function selectorOf({ metadata }: RabbitmqCluster): Record<string, string> {
  return { 'app.kubernetes.io/name': metadata.name };
}

function created(cluster: RabbitmqCluster): StatefulSet {
  const { storage, storageClassName } = cluster.spec.persistence;
  const claim = {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: {
      name: 'persistence',
      namespace: cluster.metadata.namespace,
      labels: podLabels(cluster),
      annotations: annotationsOf(cluster),
      ownerReferences: [ownerReference(cluster, false)],
    },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage } }, storageClassName },
  };
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { namespace: cluster.metadata.namespace, name: child(cluster, 'server') },
    spec: {
      podManagementPolicy: 'Parallel',
      volumeClaimTemplates: isZero(storage) ? [] : [claim],
      template: { spec: {} },
    },
  };
}

/** Those of the override in place of the operator's own, unless nothing is to be kept anyway. */
function claimsOf(cluster: RabbitmqCluster, claims: Json | undefined): Record<string, unknown> {
  if (listOf(claims).length === 0 || isZero(cluster.spec.persistence.storage)) return {};
  const { namespace } = cluster.metadata;
  const ownerReferences = [ownerReference(cluster, false)];
  const owned = listOf(claims).map(({ metadata, spec }) => ({
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { ...(metadata as JsonObject | undefined), namespace, ownerReferences },
    spec,
  }));
  return { volumeClaimTemplates: owned };
}

function isZero(storage: string | number): boolean {
  return /^0+[A-Za-z]*$/.test(String(storage));
}

/**
 * The operator merges and then takes the first container for RabbitMQ's: with any other in front of it, the result is as
 * wrong as with the operator.
 */
function overridden(original: JsonObject, override: JsonObject | undefined): JsonObject {
  if (override === undefined) return original;
  const merged = strategicMerge(original, override, POD_SPEC_KEYS);
  const own = listOf(override['containers']).find(({ name }) => name === 'rabbitmq');
  const first = listOf(merged['containers'])[0]!;
  if (own?.['env'] !== undefined) {
    const names = ['MY_POD_NAME', 'MY_POD_NAMESPACE', 'K8S_SERVICE_NAME'];
    toFront(listOf(first['env']), names);
  }
  if (own?.['volumeMounts'] !== undefined)
    toFront(listOf(first['volumeMounts']), ['rabbitmq-erlang-cookie', 'persistence']);
  for (const probe of ['livenessProbe', 'readinessProbe'])
    if (own?.[probe] !== undefined) first[probe] = own[probe];
  return merged;
}

function listOf(value: Json | undefined): JsonObject[] {
  return Array.isArray(value) ? (value as JsonObject[]) : [];
}

/** The items of these names change places with what is where they belong, as the operator does it. */
function toFront(list: JsonObject[], names: string[]): void {
  list.forEach(({ name }, index) => {
    const place = typeof name === 'string' ? names.indexOf(name) : -1;
    if (place < 0) return;
    const other = list[place]!;
    list[place] = list[index]!;
    list[index] = other;
  });
}

/** Names and numbers of the container's ports. */
export function portsOf({ spec: { tls = {} } }: RabbitmqCluster): Port[] {
  const secure: Port[] = [
    ['amqps', 5671],
    ['management-tls', 15_671],
    ['prometheus-tls', 15_691],
  ];
  const plain: Port[] = [
    ['amqp', 5672],
    ['management', 15_672],
    ['prometheus', 15_692],
  ];
  const epmd: Port = ['epmd', 4369];
  if (tls.disableNonTLSListeners === true) return [epmd, ...secure];
  return [epmd, ...plain, ...(tls.secretName === undefined ? [] : secure)];
}

const SERVER_FILES = [
  ['envConfig', 'rabbitmq-env.conf'],
  ['advancedConfig', 'advanced.config'],
  ['erlangInetConfig', 'erl_inetrc'],
] as const;

/** The files of N-server-conf that are RabbitMQ's own, by the fields of spec.rabbitmq that have their text. */
export function serverFiles({ spec }: RabbitmqCluster): (readonly [file: string, text: string])[] {
  return SERVER_FILES.map(([field, file]) => [file, spec.rabbitmq?.[field] ?? ''] as const).filter(
    ([, text]) => text !== '',
  );
}

function volumesOf(cluster: RabbitmqCluster): JsonObject[] {
  const { tls = {}, persistence } = cluster.spec;
  const items = (...names: string[]) => names.map((name) => ({ key: name, path: name }));
  const secret = (name: string, ...names: string[]) => ({
    secret: { name, optional: true, items: items(...names) },
  });
  const configuration = child(cluster, 'server-conf');
  const files = items('operatorDefaults.conf', 'userDefinedConfiguration.conf');
  const user = { name: child(cluster, 'default-user'), items: items('default_user.conf') };
  const marker = 'skipPreStopChecks';
  const label = { path: marker, fieldRef: { fieldPath: `metadata.labels['${marker}']` } };
  const certificates = [
    secret(tls.secretName ?? '', 'tls.crt', 'tls.key'),
    ...(tls.caSecretName === undefined ? [] : [secret(tls.caSecretName, 'ca.crt')]),
  ];
  const optional: [boolean, JsonObject][] = [
    [serverFiles(cluster).length > 0, { name: 'server-conf', configMap: { name: configuration } }],
    [isZero(persistence.storage), { name: 'persistence', emptyDir: {} }],
    // Decimal, as the operator writes it.
    [
      tls.secretName !== undefined,
      { name: 'rabbitmq-tls', projected: { sources: certificates, defaultMode: 400 } },
    ],
  ];
  return [
    { name: 'plugins-conf', configMap: { name: child(cluster, 'plugins-conf') } },
    {
      name: 'rabbitmq-confd',
      projected: { sources: [{ configMap: { name: configuration, items: files } }, { secret: user }] },
    },
    { name: 'rabbitmq-erlang-cookie', emptyDir: {} },
    { name: 'erlang-cookie-secret', secret: { secretName: child(cluster, 'erlang-cookie') } },
    { name: 'rabbitmq-plugins', emptyDir: {} },
    { name: 'pod-info', downwardAPI: { items: [label] } },
    ...optional.filter(([wanted]) => wanted).map(([, volume]) => volume),
  ];
}

function mountsOf(cluster: RabbitmqCluster): JsonObject[] {
  const inConfD = (number: string, file: string) => ({
    name: 'rabbitmq-confd',
    mountPath: `/etc/rabbitmq/conf.d/${number}-${file}`,
    subPath: file,
  });
  return [
    { name: 'rabbitmq-erlang-cookie', mountPath: '/var/lib/rabbitmq/' },
    { name: 'persistence', mountPath: '/var/lib/rabbitmq/mnesia/' },
    { name: 'rabbitmq-plugins', mountPath: '/operator' },
    inConfD('10', 'operatorDefaults.conf'),
    inConfD('90', 'userDefinedConfiguration.conf'),
    { name: 'pod-info', mountPath: '/etc/pod-info/' },
    inConfD('11', 'default_user.conf'),
    ...serverFiles(cluster).map(([file]) => ({
      name: 'server-conf',
      mountPath: `/etc/rabbitmq/${file}`,
      subPath: file,
    })),
    ...(cluster.spec.tls?.secretName === undefined
      ? []
      : [{ name: 'rabbitmq-tls', mountPath: '/etc/rabbitmq-tls/', readOnly: true }]),
  ];
}

function setupContainer(cluster: RabbitmqCluster): JsonObject {
  const resources = { cpu: '20m', memory: '64Mi' };
  const script = [
    'cp /tmp/erlang-cookie-secret/.erlang.cookie /var/lib/rabbitmq/.erlang.cookie',
    '&& chmod 600 /var/lib/rabbitmq/.erlang.cookie ;',
    'cp /tmp/rabbitmq-plugins/enabled_plugins /operator/enabled_plugins ;',
    "echo '[default]' > /var/lib/rabbitmq/.rabbitmqadmin.conf",
    "&& sed -e 's/default_user/username/' -e 's/default_pass/password/' /tmp/default_user.conf",
    '>> /var/lib/rabbitmq/.rabbitmqadmin.conf',
    '&& chmod 600 /var/lib/rabbitmq/.rabbitmqadmin.conf ;',
    `sleep ${cluster.spec.delayStartSeconds}`,
  ];
  return {
    name: 'setup-container',
    image: cluster.spec.image,
    command: ['sh', '-c', script.join(' ')],
    resources: { limits: resources, requests: resources },
    volumeMounts: [
      { name: 'plugins-conf', mountPath: '/tmp/rabbitmq-plugins/' },
      { name: 'rabbitmq-erlang-cookie', mountPath: '/var/lib/rabbitmq/' },
      { name: 'erlang-cookie-secret', mountPath: '/tmp/erlang-cookie-secret/' },
      { name: 'rabbitmq-plugins', mountPath: '/operator' },
      { name: 'persistence', mountPath: '/var/lib/rabbitmq/mnesia/' },
      { name: 'rabbitmq-confd', mountPath: '/tmp/default_user.conf', subPath: 'default_user.conf' },
    ],
  };
}

function podSpec(cluster: RabbitmqCluster): JsonObject {
  const { spec } = cluster;
  const grace = spec.terminationGracePeriodSeconds;
  const fromField = (fieldPath: string) => ({ valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } } });
  const preStop = [
    'if [ ! -z "$(cat /etc/pod-info/skipPreStopChecks)" ]; then exit 0; fi;',
    `rabbitmq-upgrade await_online_quorum_plus_one -t ${grace} &&`,
    `rabbitmq-upgrade await_online_synchronized_mirror -t ${grace} || true &&`,
    `rabbitmq-upgrade drain -t ${grace}`,
  ];
  const container: JsonObject = {
    name: 'rabbitmq',
    image: spec.image,
    resources: spec.resources,
    env: [
      { name: 'MY_POD_NAME', ...fromField('metadata.name') },
      { name: 'MY_POD_NAMESPACE', ...fromField('metadata.namespace') },
      { name: 'K8S_SERVICE_NAME', value: child(cluster, 'nodes') },
      { name: 'RABBITMQ_ENABLED_PLUGINS_FILE', value: '/operator/enabled_plugins' },
      { name: 'RABBITMQ_USE_LONGNAME', value: 'true' },
      { name: 'RABBITMQ_NODENAME', value: 'rabbit@$(MY_POD_NAME).$(K8S_SERVICE_NAME).$(MY_POD_NAMESPACE)' },
      { name: 'K8S_HOSTNAME_SUFFIX', value: '.$(K8S_SERVICE_NAME).$(MY_POD_NAMESPACE)' },
    ],
    ports: portsOf(cluster).map(([name, containerPort]) => ({ name, containerPort })),
    volumeMounts: mountsOf(cluster),
    readinessProbe: {
      tcpSocket: { port: spec.tls?.disableNonTLSListeners === true ? 'amqps' : 'amqp' },
      initialDelaySeconds: 10,
      timeoutSeconds: 5,
      periodSeconds: 10,
      successThreshold: 1,
      failureThreshold: 3,
    },
    lifecycle: { preStop: { exec: { command: ['/bin/bash', '-c', preStop.join(' ')] } } },
  };
  const spread = {
    maxSkew: 1,
    topologyKey: 'topology.kubernetes.io/zone',
    whenUnsatisfiable: 'ScheduleAnyway',
    labelSelector: { matchLabels: selectorOf(cluster) },
  };
  const given = {
    affinity: spec.affinity,
    tolerations: spec.tolerations,
    imagePullSecrets: spec.imagePullSecrets,
  };
  return {
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
    topologySpreadConstraints: [spread],
    securityContext: { fsGroup: 0, runAsUser: 999 },
    terminationGracePeriodSeconds: grace,
    serviceAccountName: child(cluster, 'server'),
    automountServiceAccountToken: true,
    initContainers: [setupContainer(cluster)],
    volumes: volumesOf(cluster),
    containers: [container],
  };
}

/** The spec as the operator writes it with the first change of its own: it knows no absent structures. */
export function filledIn(spec: ClusterSpec): ClusterSpec {
  const empty = { override: {}, rabbitmq: {}, secretBackend: { externalSecret: { name: '' } }, tls: {} };
  const result = structuredClone({ ...empty, ...spec });
  const template = ['override', 'statefulSet', 'spec', 'template', 'spec'];
  for (const list of ['containers', 'initContainers'])
    for (const container of objectsAt(result, ...template, list)) container['resources'] ??= {};
  return result;
}

/** Whether a value of a field is set that the stand-in does not play; the field's name then. */
export function unplayed({ spec, metadata }: RabbitmqCluster): string | undefined {
  const backend = spec['secretBackend'] as Json | undefined;
  if (valueAt(backend, 'vault') !== undefined || (textAt(backend, 'externalSecret', 'name') ?? '') !== '')
    return 'spec.secretBackend';
  const annotation = 'rabbitmq.com/disable-default-topology-spread-constraints';
  if (metadata.annotations?.[annotation] === 'true') return annotation;
  const plugin = spec.rabbitmq?.additionalPlugins?.find((name) => /mqtt|stomp|stream|multi_dc/.test(name));
  return plugin === undefined ? undefined : `the ports of ${plugin} in spec.rabbitmq.additionalPlugins`;
}
