// Reads everything about one RabbitMq that a plan needs, live: a plan that deletes must not be made of a cache.
import { isDeepStrictEqual } from 'node:util';
import {
  ANNOTATION,
  FINALIZER,
  PAUSE_LABEL,
  PROXY_CONTAINER,
  SKIP_PRESTOP_LABEL,
  UPGRADE_ANNOTATION,
  UPGRADE_PHASES,
} from '../common/contract.ts';
import { versionOfImage } from '../common/image.ts';
import type { Api } from '../common/kube/api.ts';
import { annotationOf, isDeleting, isProxyRequired } from '../common/kube/facts.ts';
import { isObject, named, objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { phaseOf, queueTypeOf, replicasOf, targetOf } from '../common/kube/rabbitmq.ts';
import {
  CLAIM,
  CLUSTER,
  MIRROR_POLICIES,
  POD,
  RABBITMQ,
  SECRET,
  STATEFUL_SET,
} from '../common/kube/resources.ts';
import type { Json, JsonObject, KubeObject } from '../common/kube/types.ts';
import { readBackup } from './backup.ts';
import { targetImage } from './gates.ts';
import { intentOf } from './intent.ts';
import { rehearse } from './rehearsal.ts';
import { readTopology } from './topology.ts';
import type {
  Observed,
  ObservedBackup,
  ObservedBroker,
  ObservedClaim,
  ObservedCluster,
  ObservedPod,
  ObservedRabbitMq,
  ObservedSecret,
  ObservedStatefulSet,
  Rehearsal,
  TopologyRecord,
  UpgradeRecord,
} from './types.ts';

/** How the broker of a cluster is asked. Never rejects: what went wrong is said. */
export type AskBroker = (
  cluster: KubeObject,
  pods: readonly ObservedPod[],
  defaultUser: KubeObject,
  signal: AbortSignal,
) => Promise<ObservedBroker>;

const NOT_ASKED: ObservedBroker = { state: 'unknown', why: 'it was not asked' };
const ABSENT = { state: 'absent' } as const;

/** Reads all that the phase of the RabbitMq needs. Rejects with ApiFailure when something can't be read. */
export async function observe(
  api: Api,
  object: KubeObject,
  askBroker: AskBroker,
  now: Date,
  signal: AbortSignal,
): Promise<Observed> {
  const rabbitmq = readRabbitMq(object);
  const { namespace, name } = rabbitmq;
  const selection = {
    namespace,
    labelSelector: `app.kubernetes.io/name=${name},app.kubernetes.io/component=rabbitmq`,
  };
  const [clusterObject, statefulSet, podList, claimList] = await Promise.all([
    api.get(CLUSTER, namespace, name, signal),
    api.get(STATEFUL_SET, namespace, `${name}-server`, signal),
    api.list(POD, selection, signal),
    api.list(CLAIM, selection, signal),
  ]);
  const pods = podList.items.map(readPod);
  const { upgradePhase, upgrade, currentVersion } = rabbitmq.status;
  const isUnderWay = upgradePhase !== '';
  const isAsked =
    upgradePhase === 'DeletingResources' || (!isUnderWay && (currentVersion === '' || isWanting(rabbitmq)));
  const hasSaved = upgrade !== undefined && isUnderWay && upgradePhase !== 'WaitingForPods';

  const secretObject =
    isAsked || isUnderWay ? await api.get(SECRET, namespace, `${name}-default-user`, signal) : undefined;
  const backup: ObservedBackup = hasSaved
    ? await readBackup(api, { namespace, name, uid: rabbitmq.uid, sequence: upgrade.sequence }, signal)
    : ABSENT;
  const saved = hasSaved
    ? await api.get(SECRET, namespace, `${name}-default-user-backup`, signal)
    : undefined;
  const broker =
    isAsked && clusterObject !== undefined && secretObject !== undefined
      ? await askBroker(clusterObject, pods, secretObject, signal)
      : NOT_ASKED;
  const cluster = clusterObject && readCluster(clusterObject, rabbitmq.uid);
  // During an upgrade it is needed when all else is back.
  const isBack =
    upgradePhase === 'WaitingForCluster' &&
    (upgrade?.importedAt !== undefined || upgrade?.backup === undefined);
  return {
    now,
    rabbitmq,
    cluster,
    statefulSet: statefulSet && readStatefulSet(statefulSet),
    pods,
    claims: claimList.items.map(readClaim),
    defaultUser: readSecret(secretObject, saved),
    backup,
    broker,
    hasMirrorPolicy: upgradePhase === 'DeletingResources' && (await hasMirrorPolicy(api, rabbitmq, signal)),
    topology: isUnderWay && !isBack ? { state: 'not read' } : await readTopology(api, object, signal),
    rehearsal: isAsked ? await tryCluster(api, rabbitmq, cluster, signal) : { state: 'not tried' },
  };
}

/** Tries the cluster that the RabbitMq asks for, where its image is known: without one the gates say so. */
async function tryCluster(
  api: Api,
  rabbitmq: ObservedRabbitMq,
  cluster: ObservedCluster | undefined,
  signal: AbortSignal,
): Promise<Rehearsal> {
  const intent = intentOf(rabbitmq);
  const image = intent && targetImage({ rabbitmq, cluster }, intent.record.to);
  if (intent === undefined || cluster === undefined || image?.ok !== true) return { state: 'not tried' };
  return rehearse(api, { rabbitmq, cluster: cluster.object, image: image.image, ...intent }, signal);
}

/** Whether the steady phase may want to begin an upgrade, and so has to know the broker. */
function isWanting({ target, status, queueType }: ObservedRabbitMq): boolean {
  return (
    (target !== undefined && target.text !== status.currentVersion) ||
    (status.queueType === 'Mirrored' && queueType === 'Quorum')
  );
}

/** Name of the policy that mirrors queues, as the infra operator makes it. */
export function mirrorPolicyName(name: string): string {
  return `${name}-ha-all`;
}

async function hasMirrorPolicy(
  api: Api,
  { namespace, name }: ObservedRabbitMq,
  signal: AbortSignal,
): Promise<boolean> {
  for (const resource of MIRROR_POLICIES) {
    const policy = await api.get(resource, namespace, mirrorPolicyName(name), signal);
    if (policy !== undefined && !isDeleting(policy)) return true;
  }
  return false;
}

/**
 * Reads the RabbitMq once more, which somebody else has written.
 * @returns undefined where what the reconciler goes by isn't what it was
 */
export async function readAgain(
  api: Api,
  before: ObservedRabbitMq,
  signal: AbortSignal,
): Promise<ObservedRabbitMq | undefined> {
  const object = await api.get(RABBITMQ, before.namespace, before.name, signal);
  if (object === undefined) return undefined;
  const after = readRabbitMq(object);
  const { object: _before, resourceVersion: _then, ...known } = before;
  const { object: _after, resourceVersion: _now, ...present } = after;
  return isDeepStrictEqual(known, present) ? after : undefined;
}

function readRabbitMq(object: KubeObject): ObservedRabbitMq {
  const metadata = (key: string): string => textAt(object, 'metadata', key) ?? '';
  const target = targetOf(object);
  const phase = phaseOf(object) ?? '';
  const finalizers = valueAt(object, 'metadata', 'finalizers');
  const upgrade = valueAt(object, 'status', 'upgrade');
  const topology = valueAt(object, 'status', 'messagingTopology');
  return {
    namespace: metadata('namespace'),
    name: metadata('name'),
    uid: metadata('uid'),
    resourceVersion: metadata('resourceVersion'),
    generation: numberAt(object, 'metadata', 'generation'),
    isDeleting: isDeleting(object),
    isPaused: textAt(object, 'metadata', 'labels', PAUSE_LABEL) === 'true',
    hasFinalizer: Array.isArray(finalizers) && finalizers.includes(FINALIZER),
    target: target && { text: target.text, from: target.path[0] === 'spec' ? 'spec' : 'annotation' },
    specTarget: textAt(object, 'spec', 'targetVersion') || undefined,
    queueType: queueTypeOf(object),
    replicas: replicasOf(object) ?? 1,
    annotations: Object.fromEntries(
      [...Object.values(ANNOTATION), ...Object.values(UPGRADE_ANNOTATION)].flatMap((key) => {
        const value = annotationOf(object, key);
        return value === undefined ? [] : [[key, value]];
      }),
    ),
    status: {
      currentVersion: textAt(object, 'status', 'currentVersion') ?? '',
      queueType: textAt(object, 'status', 'queueType') ?? '',
      upgradePhase: UPGRADE_PHASES.find((known) => known === phase) ?? '',
      wipeReason: textAt(object, 'status', 'wipeReason') ?? '',
      proxyRequired: isProxyRequired(object),
      // Only this controller writes it, and the CRD's schema holds it.
      upgrade: isObject(upgrade) ? (upgrade as unknown as UpgradeRecord) : undefined,
      upgradeSequence: numberAt(object, 'status', 'upgradeSequence'),
      messagingTopology: isObject(topology) ? (topology as unknown as TopologyRecord) : undefined,
    },
    object,
  };
}

function numberAt(root: Json | undefined, ...path: (string | number)[]): number {
  const value = valueAt(root, ...path);
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : 0;
}

function hasContainer(podSpec: Json | undefined, name: string): boolean {
  return ['containers', 'initContainers'].some((list) => named(objectsAt(podSpec, list), name) !== undefined);
}

function controllerOf(object: KubeObject): JsonObject | undefined {
  return objectsAt(object, 'metadata', 'ownerReferences').find((owner) => owner['controller'] === true);
}

/** As the cluster operator's CRD has it: a week. */
const DEFAULT_GRACE_SECONDS = 604_800;

function readCluster(object: KubeObject, rabbitmqUid: string): ObservedCluster {
  const image = textAt(object, 'spec', 'image');
  const conditions = objectsAt(object, 'status', 'conditions');
  const sequence = Number(annotationOf(object, UPGRADE_ANNOTATION.stamp) ?? Number.NaN);
  const grace = valueAt(object, 'spec', 'terminationGracePeriodSeconds');
  const replicas = valueAt(object, 'spec', 'replicas');
  return {
    uid: textAt(object, 'metadata', 'uid') ?? '',
    isDeleting: isDeleting(object),
    generation: numberAt(object, 'metadata', 'generation'),
    observedGeneration: numberAt(object, 'status', 'observedGeneration'),
    replicas: typeof replicas === 'number' ? replicas : 1,
    image,
    version:
      annotationOf(object, 'rabbitmq.com/version') ??
      (image === undefined ? undefined : versionOfImage(image)),
    allReplicasReady: conditions.some(
      (each) => each['type'] === 'AllReplicasReady' && each['status'] === 'True',
    ),
    sequence: Number.isSafeInteger(sequence) ? sequence : undefined,
    inject: annotationOf(object, ANNOTATION.inject),
    hasWipeAnnotation: annotationOf(object, UPGRADE_ANNOTATION.storageWipeNeeded) !== undefined,
    hasProxy: hasContainer(
      valueAt(object, 'spec', 'override', 'statefulSet', 'spec', 'template', 'spec'),
      PROXY_CONTAINER,
    ),
    isOwned: controllerOf(object)?.['uid'] === rabbitmqUid,
    gracePeriodSeconds: typeof grace === 'number' ? grace : DEFAULT_GRACE_SECONDS,
    object,
  };
}

function readStatefulSet(object: KubeObject): ObservedStatefulSet {
  const status = (key: string): number => numberAt(object, 'status', key);
  const replicas = valueAt(object, 'spec', 'replicas');
  const clusterUid = controllerOf(object)?.['uid'];
  return {
    uid: textAt(object, 'metadata', 'uid') ?? '',
    isDeleting: isDeleting(object),
    clusterUid: typeof clusterUid === 'string' ? clusterUid : undefined,
    isCurrent: status('observedGeneration') === numberAt(object, 'metadata', 'generation'),
    replicas: typeof replicas === 'number' ? replicas : 1,
    readyReplicas: status('readyReplicas'),
    updatedReplicas: status('updatedReplicas'),
    currentRevision: textAt(object, 'status', 'currentRevision') ?? '',
    updateRevision: textAt(object, 'status', 'updateRevision') ?? '',
    hasProxy: hasContainer(valueAt(object, 'spec', 'template', 'spec'), PROXY_CONTAINER),
  };
}

function readPod(object: KubeObject): ObservedPod {
  const since = textAt(object, 'metadata', 'deletionTimestamp');
  const graceSeconds = numberAt(object, 'metadata', 'deletionGracePeriodSeconds');
  const conditions = objectsAt(object, 'status', 'conditions');
  return {
    name: textAt(object, 'metadata', 'name') ?? '',
    uid: textAt(object, 'metadata', 'uid') ?? '',
    ip: textAt(object, 'status', 'podIP') || undefined,
    isReady: conditions.some((each) => each['type'] === 'Ready' && each['status'] === 'True'),
    // The API server's time is the one by which the pod has to be gone: the grace period is in it.
    deleting:
      since === undefined
        ? undefined
        : { since: new Date(Date.parse(since) - graceSeconds * 1000), graceSeconds },
    hasSkipLabel: textAt(object, 'metadata', 'labels', SKIP_PRESTOP_LABEL) !== undefined,
    hasProxy: hasContainer(valueAt(object, 'spec'), PROXY_CONTAINER),
  };
}

function readClaim(object: KubeObject): ObservedClaim {
  return {
    name: textAt(object, 'metadata', 'name') ?? '',
    isBound: textAt(object, 'status', 'phase') === 'Bound',
    isDeleting: isDeleting(object),
    owners: objectsAt(object, 'metadata', 'ownerReferences')
      .filter(({ kind }) => kind === CLUSTER.kind || kind === STATEFUL_SET.kind)
      .map((owner) => textAt(owner, 'uid') ?? ''),
  };
}

function readSecret(object: KubeObject | undefined, saved: KubeObject | undefined): ObservedSecret {
  if (object === undefined) return { state: 'absent' };
  const missing = ['username', 'password'].filter((key) => !textAt(object, 'data', key));
  if (missing.length > 0) return { state: 'unusable', why: `has no ${missing.join(' and no ')}` };
  const owner = objectsAt(object, 'metadata', 'ownerReferences').find(
    (each) => each['kind'] === CLUSTER.kind,
  );
  const isAsSaved =
    saved &&
    ['username', 'password'].every((key) => textAt(object, 'data', key) === textAt(saved, 'data', key));
  return { state: 'usable', ownerUid: owner && textAt(owner, 'uid'), isAsSaved };
}
