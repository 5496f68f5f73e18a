// Whether the cluster that is there is up: of the right generation and revision, every node.
import type { Observed } from './types.ts';

/**
 * Whether every node runs what the RabbitmqCluster says now. The operator's own condition alone is not enough: right after
 * a change it is still that of the pods before, and ClusterAvailable is true with pods that are not ready.
 */
export function isReady(observed: Observed): boolean {
  return unreadiness(observed) === '';
}

/** Why the cluster isn't ready, in one clause; "" when it is. */
export function unreadiness({ rabbitmq, cluster, statefulSet, pods }: Observed): string {
  if (cluster === undefined) return `there is no RabbitmqCluster ${rabbitmq.name}`;
  if (statefulSet === undefined || statefulSet.clusterUid !== cluster.uid)
    return 'the StatefulSet is not there yet';
  const { replicas, readyReplicas, updatedReplicas, currentRevision, updateRevision } = statefulSet;
  if (!statefulSet.isCurrent || replicas !== cluster.replicas) return 'the StatefulSet is not up to date yet';
  if (readyReplicas !== replicas || updatedReplicas !== replicas || currentRevision !== updateRevision) {
    const waiting = pods.filter((pod) => !pod.isReady).map(({ name }) => name);
    const named = waiting.length > 0 ? ` (not: ${waiting.join(', ')})` : '';
    return `${readyReplicas} of ${replicas} nodes are ready${named}, ${updatedReplicas} up to date`;
  }
  if (!cluster.allReplicasReady)
    return 'the RabbitmqCluster does not have the condition AllReplicasReady yet';
  // Last: it says so only behind all that it does once every node is ready.
  return cluster.observedGeneration === cluster.generation
    ? ''
    : 'the cluster operator is not done with the RabbitmqCluster yet';
}
