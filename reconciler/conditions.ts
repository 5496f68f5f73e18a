// The conditions of a RabbitMq: every type with every reason that it can have.
import { isObject, objectsAt, textAt } from '../common/kube/json.ts';
import type { Json, JsonObject, KubeObject } from '../common/kube/types.ts';
import type { ConditionNow, ConditionType } from './types.ts';

/** What each reason means; docs/upgrade.md has the same table. */
export const CONDITION_REASONS = {
  Ready: {
    ClusterReady: 'every node is up to date and ready',
    ClusterNotReady: 'the RabbitmqCluster, or a pod of it, is not ready yet',
    NoCluster: 'there is no RabbitmqCluster of that name',
    UpgradeUnderWay: 'an upgrade has taken it down',
    Paused: 'the label rabbitmq.openstack.org/pauseReconciliation is set: nothing is done',
    Deleting: 'the RabbitMq is being deleted',
  },
  Upgrading: {
    NoUpgrade: 'the version that runs is the one that is wanted',
    Blocked: 'an upgrade is wanted and something is in its way: UpgradeAllowed says what',
    DeletingResources: 'everything is saved, then the old cluster is deleted',
    WaitingForPods: 'the pods of the old cluster are ending',
    WaitingForCluster: 'the new cluster is coming up',
    Complete: 'the last upgrade has finished',
    CalledOff: 'the target was taken back before anything was deleted',
  },
  UpgradeAllowed: {
    GatesPassed: 'nothing is in the way of the upgrade',
    UnsupportedPath: 'there is no way from the version that runs to the one that is wanted',
    ImageUnknown: 'the image of the target version is not known',
    ClusterNotHealthy: 'a node is missing or not ready: all are needed before anything is deleted',
    OperatorPaused: 'the cluster operator is told to leave the cluster alone, and would not delete it',
    StorageNotHealthy: 'a volume claim is not bound, or is being deleted',
    CredentialsMissing: 'the Secret with the default user has no username and password to save',
    ClusterRefused: 'the new RabbitmqCluster would not be taken as it is to be',
    BrokerUnreachable: 'the management API does not answer, so that nothing can be saved',
    VersionMismatch: 'the broker says another version than status.currentVersion',
    MessagesWouldBeLost: 'queues hold messages that the wipe loses, and nobody has accepted that',
    MessagesNotCounted: 'the broker has not counted the messages of a queue yet',
    BackupIncomplete: 'not everything is saved and read back yet',
    ApprovalRequired: 'somebody has to approve',
  },
  CredentialsPreserved: {
    Saved: 'the credentials of the default user are saved and read back',
    Restored: 'the new cluster lets the old credentials in',
  },
  DefinitionsPreserved: {
    Saved: 'the definitions are saved and read back',
    Restored: 'the definitions are back; the report says what was changed',
    PartlyRestored: 'the new broker did not take all definitions; the report says which',
  },
  TopologyApplied: {
    Applied: 'the exchanges, queues and bindings of the file are declared',
    Waiting: 'the file is declared behind the upgrade',
    NoFile: 'the ConfigMap of spec.messagingTopology, or its key, is not there',
    InvalidFile: 'the file is no messaging configuration',
    Conflict: 'something exists otherwise than the file has it: nothing was declared',
    Refused: 'the broker did not take all of the file',
    BrokerUnreachable: 'the management API does not answer, so that nothing could be declared',
    NotWanted: 'spec.messagingTopology was taken out',
  },
  ProxyActive: {
    Required: 'clients of 3.x reach RabbitMQ 4 through the proxy',
    NotInjected: 'the proxy is required, but the pods do not have it',
    Leaving: 'the proxy is not required any more and is being taken out',
    NotRequired: 'the pods have no proxy and need none',
    ByAnnotation: 'the pods have the proxy, as an annotation or another owner wants it',
  },
  ProxyRemovable: {
    ClientsNeedProxy: 'clients still need the proxy',
    NoneSeen: 'no client has needed the proxy for a while',
    NotYet: 'no client needs the proxy now, but one did not long ago',
    NotKnown: 'not every proxy could be asked',
    NoProxy: 'there is no proxy',
    InvalidAnnotation: 'quorumbridge.io/auto-remove-proxy-after is no duration',
  },
  Degraded: {
    AsExpected: 'nothing is wrong',
    PodsStuck: 'pods of the old cluster do not end in their grace period',
    ClusterRecreated: 'somebody else made a RabbitmqCluster of that name while the old one was going',
    ClusterVanished: 'the RabbitmqCluster went before everything was saved',
    BackupLost: 'what was saved is not there any more, or is not what was saved',
    ClusterNotReadyInTime: 'the new cluster was not ready in --ready-timeout',
    ProxyMissing: 'the new cluster has to have the proxy and has none',
    UnknownUpgrade: 'status.upgradePhase is set by somebody else: nothing is done',
    StepFailed: 'a step failed and is tried again',
  },
} as const satisfies Record<ConditionType, Readonly<Record<string, string>>>;

type Reasons = typeof CONDITION_REASONS;

/** A condition whose reason is one of its type's. */
export function condition<T extends ConditionType>(
  type: T,
  status: boolean | 'Unknown',
  reason: keyof Reasons[T] & string,
  message?: string,
): ConditionNow {
  const text = message ?? (CONDITION_REASONS[type] as Readonly<Record<string, string>>)[reason]!;
  return {
    type,
    status: status === 'Unknown' ? status : status ? 'True' : 'False',
    reason,
    message: bounded(text),
  };
}

/** Of a message that names objects: enough to act on, well below what the API server takes (32768). */
const MESSAGE_MAX = 2000;

function bounded(text: string): string {
  return text.length <= MESSAGE_MAX ? text : `${text.slice(0, MESSAGE_MAX - 1)}…`;
}

/**
 * status.conditions with these in it: those of other types stay, and a status that is the same keeps its
 * lastTransitionTime. Undefined when nothing would change.
 */
export function mergeConditions(
  rabbitmq: KubeObject,
  conditions: readonly ConditionNow[],
  now: Date,
  generation: number,
): Json[] | undefined {
  const before = objectsAt(rabbitmq, 'status', 'conditions');
  const after = before.map((old) => {
    const next = conditions.find(({ type }) => type === old['type']);
    return next === undefined ? old : merged(old, next, now, generation);
  });
  for (const next of conditions) {
    if (!before.some((old) => old['type'] === next.type))
      after.push(merged(undefined, next, now, generation));
  }
  const isSame = after.length === before.length && after.every((each, i) => each === before[i]);
  return isSame ? undefined : after;
}

/** The old one itself when nothing about it changes but the generation it was seen at. */
function merged(old: JsonObject | undefined, next: ConditionNow, now: Date, generation: number): JsonObject {
  const { type, status, reason, message } = next;
  const isSame =
    isObject(old) && old['status'] === status && old['reason'] === reason && old['message'] === message;
  if (isSame) return old;
  const since = old?.['status'] === status ? textAt(old, 'lastTransitionTime') : undefined;
  return {
    type,
    status,
    reason,
    message,
    observedGeneration: generation,
    lastTransitionTime: since ?? seconds(now),
  };
}

/** ISO 8601 without a fraction, as Kubernetes writes times. */
export function seconds(time: Date): string {
  return time.toISOString().replace(/\.\d+Z$/, 'Z');
}
