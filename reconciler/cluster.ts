// The RabbitmqCluster as an upgrade, or a RabbitMq alone, wants it.
import { ANNOTATION, RABBITMQ_CONTAINER, UPGRADE_ANNOTATION, WIPE_CONTAINER } from '../common/contract.ts';
import { copy, dropNamed, isObject, named, objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { CLUSTER, apiVersionOf } from '../common/kube/resources.ts';
import type { Json, JsonObject, KubeObject } from '../common/kube/types.ts';
import { splitOverlays } from '../common/overlay.ts';
import { adaptConfig, followConfig } from './brokerconf.ts';
import { difference, merged } from './declared.ts';
import type { UpgradeRecord } from './types.ts';
import { wipeContainer } from './wipe.ts';

/**
 * Fields of spec that a RabbitMq and a RabbitmqCluster both have, and what of each is the same in both: an API server
 * drops what its schema does not know, and that would be missing forever. Images are chosen by version.
 */
const FIELDS: Readonly<Record<string, readonly string[] | undefined>> = {
  replicas: undefined,
  persistence: ['storage', 'storageClassName'],
  resources: ['limits', 'requests', 'claims'],
  affinity: ['nodeAffinity', 'podAffinity', 'podAntiAffinity'],
  tolerations: undefined,
  imagePullSecrets: undefined,
  service: ['type', 'annotations', 'labels', 'ipFamilyPolicy'],
  rabbitmq: ['additionalConfig', 'additionalPlugins', 'advancedConfig', 'envConfig', 'erlangInetConfig'],
  tls: ['secretName', 'caSecretName', 'disableNonTLSListeners'],
  override: ['statefulSet', 'service'],
  secretBackend: ['vault', 'externalSecret'],
  skipPostDeploySteps: undefined,
  terminationGracePeriodSeconds: undefined,
  delayStartSeconds: undefined,
};

const POD_SPEC = ['override', 'statefulSet', 'spec', 'template', 'spec'];

/** The cluster operator's notes about a cluster, which are not true of the next one; kubectl's of what it wrote; ours. */
const PASSING = new Set<string>([
  'kubectl.kubernetes.io/last-applied-configuration',
  'rabbitmq.com/version',
  'rabbitmq.com/before-zero-replicas-configured',
  'rabbitmq.com/queueRebalanceNeededAt',
  'rabbitmq.com/createdAt',
  'rabbitmq.com/lastRestartAt',
  'rabbitmq.com/serverConfUpdatedAt',
  'rabbitmq.com/pluginsUpdatedAt',
  UPGRADE_ANNOTATION.storageWipeNeeded,
  UPGRADE_ANNOTATION.stamp,
  // It counts once, and would keep the proxy out that this upgrade needs.
  ANNOTATION.clientsReconfigured,
  // Somebody allowed it once, of the cluster that was.
  ANNOTATION.allowDowngrade,
]);

/** What the RabbitMq's spec says about the cluster, as a spec of a RabbitmqCluster. */
function declaredSpec(rabbitmq: KubeObject): JsonObject {
  const spec: JsonObject = {};
  for (const [field, known] of Object.entries(FIELDS)) {
    const value = valueAt(rabbitmq, 'spec', field);
    if (value === undefined || value === null) continue;
    spec[field] =
      known !== undefined && isObject(value)
        ? Object.fromEntries(Object.entries(value).filter(([key]) => known.includes(key)))
        : value;
  }
  return spec;
}

/** Whether the RabbitMq's spec says anything about a cluster but its version and its queues. */
export function describesCluster(rabbitmq: KubeObject): boolean {
  return Object.keys(declaredSpec(rabbitmq)).length > 0;
}

export interface ClusterWish {
  /** The RabbitmqCluster that was, or its labels, annotations, ownerReferences and spec; undefined when there was none. */
  readonly snapshot: KubeObject | undefined;
  readonly rabbitmq: KubeObject;
  readonly version: string;
  readonly image: string;
  readonly queueType: string;
  /** The upgrade that makes it; undefined for a cluster that was never there before. */
  readonly record: Pick<UpgradeRecord, 'from' | 'to' | 'sequence'> | undefined;
  readonly proxyRequired: boolean;
}

/**
 * The RabbitmqCluster to create: the one that was, with what the RabbitMq's spec says otherwise and what the new version
 * needs. What the webhook put into the old one stays, for it is the webhook's to keep or to take out at admission.
 * `notes` are sentences for people about settings that went. Throws for a record without a version.
 */
export function desiredCluster(wish: ClusterWish): { object: KubeObject; notes: string[] } {
  const { snapshot, rabbitmq, version, image, queueType, record, proxyRequired } = wish;
  const before = valueAt(snapshot, 'spec');
  const base: Json = isObject(before) ? copy(before) : {};
  const spec = merged(base, difference(base, declaredSpec(rabbitmq)) ?? {}) as JsonObject;
  putImage(spec, image);
  const notes = adaptBroker(spec, {
    version,
    isProxied: proxyRequired,
    isReplicated: queueType === 'Quorum' && Number(spec['replicas'] ?? 1) > 1,
  });
  if (record !== undefined) putWipe(spec, record, image);
  const annotations = annotationsFor(wish);
  if (proxyRequired) notes.push(...withoutObserving(annotations));
  const object: KubeObject = {
    apiVersion: apiVersionOf(CLUSTER),
    kind: CLUSTER.kind,
    metadata: {
      namespace: textAt(rabbitmq, 'metadata', 'namespace'),
      name: textAt(rabbitmq, 'metadata', 'name'),
      ...labelsOf(snapshot),
      annotations,
      ownerReferences: snapshot === undefined ? [ownerOf(rabbitmq)] : ownersOf(snapshot, rabbitmq),
    },
    spec,
  };
  return { object, notes };
}

function labelsOf(snapshot: KubeObject | undefined): JsonObject {
  const labels = valueAt(snapshot, 'metadata', 'labels');
  return isObject(labels) ? { labels: copy(labels) } : {};
}

function annotationsFor({ snapshot, record, proxyRequired }: ClusterWish): JsonObject {
  const before = valueAt(snapshot, 'metadata', 'annotations');
  const annotations = Object.fromEntries(
    Object.entries(isObject(before) ? before : {}).filter(([key]) => !PASSING.has(key)),
  );
  // "true" on a cluster of an upgrade is that upgrade's; "false" is never ours, and a user's decision.
  const isOurs = textAt(snapshot, 'metadata', 'annotations', UPGRADE_ANNOTATION.stamp) !== undefined;
  if (isOurs && annotations[ANNOTATION.inject] === 'true') delete annotations[ANNOTATION.inject];
  if (proxyRequired) annotations[ANNOTATION.inject] ??= 'true';
  if (record !== undefined) {
    annotations[UPGRADE_ANNOTATION.storageWipeNeeded] = 'true';
    annotations[UPGRADE_ANNOTATION.stamp] = `${record.sequence}`;
  }
  return annotations;
}

/** Before an upgrade the proxy may have watched only; clients need more of it now. */
function withoutObserving(annotations: JsonObject): string[] {
  if (annotations[ANNOTATION.mode] !== 'observe') return [];
  delete annotations[ANNOTATION.mode];
  return [
    `the annotation ${ANNOTATION.mode}: "observe" was taken off, for clients need the proxy to rewrite what they declare`,
  ];
}

function ownerOf(rabbitmq: KubeObject): JsonObject {
  const { apiVersion, kind } = rabbitmq;
  const [name, uid] = [textAt(rabbitmq, 'metadata', 'name'), textAt(rabbitmq, 'metadata', 'uid')];
  return { apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: true };
}

/** An owner of that name with another uid was deleted since: the garbage collector would take the new cluster at once. */
function ownersOf(snapshot: KubeObject, rabbitmq: KubeObject): JsonObject[] {
  const { name, uid } = ownerOf(rabbitmq);
  return objectsAt(snapshot, 'metadata', 'ownerReferences').map((owner) =>
    owner['kind'] === rabbitmq.kind && owner['name'] === name ? { ...copy(owner), uid } : copy(owner),
  );
}

/** The override's image of RabbitMQ's container, where there is one, beats the cluster's. */
function putImage(spec: JsonObject, image: string): void {
  spec['image'] = image;
  const container = named(objectsAt(spec, ...POD_SPEC, 'containers'), RABBITMQ_CONTAINER);
  if (container?.['image'] !== undefined) container['image'] = image;
}

function adaptBroker(spec: JsonObject, needs: Parameters<typeof adaptConfig>[1]): string[] {
  const before = textAt(spec, 'rabbitmq', 'additionalConfig') ?? '';
  const { text, notes } = adaptConfig(before, needs);
  if (text !== before) spec['rabbitmq'] = merged(spec['rabbitmq'], { additionalConfig: text });
  return notes;
}

/**
 * First in the override's list, which the cluster operator merges to the front of its own: before its setup container and
 * all that users add, which keep their order.
 */
function putWipe(
  spec: JsonObject,
  { to, sequence }: Pick<UpgradeRecord, 'to' | 'sequence'>,
  image: string,
): void {
  const podSpec = makeObject(spec, POD_SPEC);
  dropNamed(podSpec, 'initContainers', WIPE_CONTAINER);
  const others = objectsAt(podSpec, 'initContainers');
  podSpec['initContainers'] = [
    wipeContainer({ version: to, sequence, image, isNonRoot: isNonRoot(podSpec) }),
    ...others,
  ];
  // The schema wants the list.
  podSpec['containers'] ??= [];
}

/** The cluster operator's pods run as RabbitMQ's user, unless the override takes that away (OpenShift) or says root. */
function isNonRoot(podSpec: JsonObject): boolean {
  const context = podSpec['securityContext'];
  return !isObject(context) || (Object.keys(context).length > 0 && context['runAsUser'] !== 0);
}

function makeObject(root: JsonObject, path: string[]): JsonObject {
  let place = root;
  for (const step of path) {
    const next = place[step];
    if (isObject(next)) place = next;
    else place = place[step] = {};
  }
  return place;
}

/**
 * A merge patch of spec after which the cluster has what the RabbitMq's spec declares; undefined where it has. What an upgrade or
 * the webhook put into it is no difference. Fewer replicas are none either: the cluster operator takes no node away.
 */
export function clusterChanges(rabbitmq: KubeObject, cluster: KubeObject): JsonObject | undefined {
  const spec = valueAt(cluster, 'spec');
  const declared = copy(declaredSpec(rabbitmq));
  if (Number(declared['replicas']) < Number(valueAt(spec, 'replicas') ?? 1)) delete declared['replicas'];
  delete named(objectsAt(declared, ...POD_SPEC, 'containers'), RABBITMQ_CONTAINER)?.['image'];
  const config = declared['rabbitmq'];
  if (isObject(config)) declared['rabbitmq'] = asDeclared(config, rabbitmq, cluster);
  const patch = difference(spec, declared);
  return isObject(patch) ? patch : undefined;
}

/** RabbitMQ's configuration as the RabbitMq declares it, in the form in which the cluster has it. */
function asDeclared(config: JsonObject, rabbitmq: KubeObject, cluster: KubeObject): JsonObject {
  const textOf = (field: string): string => textAt(cluster, 'spec', 'rabbitmq', field) ?? '';
  const result = { ...config };
  const additional = textAt(config, 'additionalConfig');
  if (additional !== undefined) {
    const version = textAt(rabbitmq, 'status', 'currentVersion') ?? '';
    result['additionalConfig'] = followConfig(additional, textOf('additionalConfig'), version);
  }
  const advanced = textAt(config, 'advancedConfig');
  if (advanced !== undefined && splitOverlays(textOf('advancedConfig')).text === advanced) {
    result['advancedConfig'] = textOf('advancedConfig');
  }
  return result;
}

/** A merge patch after which RabbitMQ's pods have that image; undefined where they have. */
export function imagePatch(cluster: KubeObject, image: string): JsonObject | undefined {
  const before = valueAt(cluster, 'spec');
  const spec: JsonObject = isObject(before) ? copy(before) : {};
  putImage(spec, image);
  const patch = difference(before, spec);
  return isObject(patch) ? { spec: patch } : undefined;
}

/** A merge patch by which the webhook puts the proxy in, or takes it out unless something else asks for it. */
export function injectPatch(isRequired: boolean): JsonObject {
  return { metadata: { annotations: { [ANNOTATION.inject]: isRequired ? 'true' : null } } };
}

/** A merge patch that says that storage was wiped. The container stays: without it the pods would restart. */
export function finishPatch(): JsonObject {
  return { metadata: { annotations: { [UPGRADE_ANNOTATION.storageWipeNeeded]: null } } };
}
