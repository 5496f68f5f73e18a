// What has to be true before an upgrade deletes anything. Each gate that refuses says what is wrong and the way out.
import { UPGRADE_ANNOTATION } from '../common/contract.ts';
import { textAt } from '../common/kube/json.ts';
import type { KubeObject } from '../common/kube/types.ts';
import { parseVersion } from '../common/version.ts';
import type { CONDITION_REASONS } from './conditions.ts';
import { type ImageChoice, imageFor } from './image.ts';
import type { ObservedBroker, Observed, PlanSettings } from './types.ts';
import { versionPath } from './versions.ts';

export interface Refusal {
  readonly reason: keyof (typeof CONDITION_REASONS)['UpgradeAllowed'];
  readonly message: string;
}

/** True for what passes by itself within seconds: nobody has to be told. */
export function isBrief({ reason }: Refusal): boolean {
  return reason === 'MessagesNotCounted';
}

/**
 * The image that the target version runs by, or why it is not known.
 * @param snapshot the RabbitmqCluster that was, where it is gone
 */
export function targetImage(
  { rabbitmq, cluster }: Pick<Observed, 'rabbitmq' | 'cluster'>,
  version: string,
  snapshot?: KubeObject,
): ImageChoice {
  return imageFor({
    version,
    annotation: rabbitmq.annotations[UPGRADE_ANNOTATION.targetImage],
    clusterImage: cluster?.image ?? textAt(snapshot, 'spec', 'image'),
    specImages: ['image', 'containerImage'].map((field) => textAt(rabbitmq.object, 'spec', field)),
  });
}

/**
 * The first gate that refuses an upgrade to `target`; undefined when none does. They stand in the order in which a person
 * would mend things: what can't be done at all first, what only needs a word last.
 */
export function refusalOf(observed: Observed, target: string, settings: PlanSettings): Refusal | undefined {
  return (
    pathRefusal(observed, target) ??
    clusterRefusal(observed) ??
    storageRefusal(observed) ??
    credentialsRefusal(observed) ??
    rehearsalRefusal(observed) ??
    brokerRefusal(observed) ??
    messagesRefusal(observed, settings) ??
    approvalRefusal(observed, settings)
  );
}

function pathRefusal(observed: Observed, target: string): Refusal | undefined {
  const path = versionPath(observed.rabbitmq.status.currentVersion, target);
  if (!path.ok) return { reason: 'UnsupportedPath', message: path.why };
  const image = targetImage(observed, target);
  return image.ok ? undefined : { reason: 'ImageUnknown', message: image.why };
}

function clusterRefusal({ rabbitmq, cluster, statefulSet, pods }: Observed): Refusal | undefined {
  const refused = (message: string): Refusal => ({ reason: 'ClusterNotHealthy', message });
  const what = `RabbitmqCluster ${rabbitmq.name}`;
  if (cluster === undefined) return refused(`there is no ${what}`);
  if (cluster.isDeleting) return refused(`${what} is being deleted by somebody else`);
  const label = 'rabbitmq.com/pauseReconciliation';
  if (textAt(cluster.object, 'metadata', 'labels', label) === 'true') {
    return {
      reason: 'OperatorPaused',
      message: `${what} has the label ${label}: "true", with which the cluster operator would never let it go: remove the label`,
    };
  }
  const sick = pods.filter((pod) => !pod.isReady || pod.deleting !== undefined).map(({ name }) => name);
  if (sick.length > 0) return refused(`not ready: ${sick.join(', ')}: mend the cluster first`);
  if (statefulSet === undefined) return refused(`${what} has no StatefulSet yet`);
  const { replicas } = cluster;
  const counts = [statefulSet.replicas, statefulSet.readyReplicas, statefulSet.updatedReplicas, pods.length];
  if (!statefulSet.isCurrent || counts.some((count) => count !== replicas)) {
    return refused(
      `${what} wants ${replicas} nodes, and of its pods ${statefulSet.readyReplicas} are ready, ` +
        `${statefulSet.updatedReplicas} up to date and ${pods.length} there at all`,
    );
  }
  if (!cluster.allReplicasReady) return refused(`${what} does not have the condition AllReplicasReady`);
  return undefined;
}

function storageRefusal({ claims }: Observed): Refusal | undefined {
  const bad = claims.filter((claim) => !claim.isBound || claim.isDeleting);
  if (bad.length === 0) return undefined;
  const names = bad.map(({ name, isDeleting }) => `${name} (${isDeleting ? 'being deleted' : 'not bound'})`);
  return { reason: 'StorageNotHealthy', message: `volume claims: ${names.join(', ')}` };
}

function credentialsRefusal({ rabbitmq, defaultUser }: Observed): Refusal | undefined {
  if (defaultUser.state === 'usable') return undefined;
  const why = defaultUser.state === 'absent' ? 'does not exist' : defaultUser.why;
  return {
    reason: 'CredentialsMissing',
    message: `Secret ${rabbitmq.name}-default-user ${why}: it has to hold username and password of an administrator`,
  };
}

/** Whether the new cluster would be taken; what was not tried is not known to be. */
export function rehearsalRefusal({ rehearsal }: Observed): Refusal | undefined {
  if (rehearsal.state === 'accepted') return undefined;
  const why = rehearsal.state === 'refused' ? rehearsal.why : 'it was not tried';
  return { reason: 'ClusterRefused', message: `the new RabbitmqCluster would be refused: ${why}` };
}

function brokerRefusal({ rabbitmq, broker }: Observed): Refusal | undefined {
  if (broker.state === 'unknown') return { reason: 'BrokerUnreachable', message: broker.why };
  const [says, current] = [parseVersion(broker.version), parseVersion(rabbitmq.status.currentVersion)];
  if (says?.major !== current?.major || says?.minor !== current?.minor) {
    return {
      reason: 'VersionMismatch',
      message:
        `the broker says that it is RabbitMQ ${broker.version}, and status.currentVersion is ` +
        `"${rabbitmq.status.currentVersion}": remove status.currentVersion (kubectl edit --subresource=status), it is then found anew`,
    };
  }
  if (broker.running < broker.nodes) {
    const message = `${broker.running} of ${broker.nodes} nodes of the broker run: start or forget the others first`;
    return { reason: 'ClusterNotHealthy', message };
  }
  return undefined;
}

/** Whether the messages that would be lost may be; what can't be counted counts as some. */
export function messagesRefusal(
  { rabbitmq, broker }: Observed,
  { wipePolicy }: PlanSettings,
): Refusal | undefined {
  if (wipePolicy === 'accept' || rabbitmq.annotations[UPGRADE_ANNOTATION.acceptDataLoss] === 'true') {
    return undefined;
  }
  if (broker.state === 'unknown') return { reason: 'BrokerUnreachable', message: broker.why };
  if (broker.queues === 0) return undefined;
  if (broker.messages === 0) {
    const names = broker.holding.slice(0, 10).map(({ vhost, name }) => `${vhost}/${name}`);
    return {
      reason: 'MessagesNotCounted',
      message: `the broker has not counted the messages of ${names.join(', ')} yet, which it does within seconds of a queue's first use`,
    };
  }
  return {
    reason: 'MessagesWouldBeLost',
    message: `${holding(broker)}: consume them, or accept their loss by the annotation ${UPGRADE_ANNOTATION.acceptDataLoss}: "true"`,
  };
}

/** How many messages a wipe loses, and where they are. */
export function holding({ messages, queues, holding: list }: ObservedBroker & { state: 'known' }): string {
  const named = list
    .slice(0, 10)
    .map((queue) => `${queue.vhost}/${queue.name}: ${queue.messages ?? 'not counted'}`);
  const more = queues > named.length ? ` and ${queues - named.length} more` : '';
  const what = `${messages} persistent message${messages === 1 ? '' : 's'} in ${queues} queue${queues === 1 ? '' : 's'}`;
  return `${what} would be lost (${named.join(', ')}${more})`;
}

/** The annotation asks for approval by being there, whatever the controller is told. */
function approvalRefusal({ rabbitmq }: Observed, { requireApproval }: PlanSettings): Refusal | undefined {
  const approved = rabbitmq.annotations[UPGRADE_ANNOTATION.approved];
  if (approved === 'true' || (approved === undefined && !requireApproval)) return undefined;
  return {
    reason: 'ApprovalRequired',
    message: `everything else is in order: start the upgrade by the annotation ${UPGRADE_ANNOTATION.approved}: "true"`,
  };
}
