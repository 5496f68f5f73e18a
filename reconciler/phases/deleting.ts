// The RabbitMq is being deleted: what it owns goes with it, what it only looked after stays.
import { condition } from '../conditions.ts';
import type { Observed, Plan } from '../types.ts';
import { withoutFinalizer } from './steady.ts';
import { act, wait } from './transition.ts';

/** Undefined while an upgrade has to be finished, or called off, before: its cluster is not the RabbitMq's to delete. */
export function deleting(observed: Observed): Plan | undefined {
  const { rabbitmq, cluster } = observed;
  if (!rabbitmq.hasFinalizer) return { step: { do: 'wait' }, conditions: [] };
  const { upgrade, upgradePhase } = rabbitmq.status;
  if (upgradePhase !== '' && upgrade?.isOwned === false) return undefined;
  if (cluster === undefined || !cluster.isOwned) return withoutFinalizer(observed);
  const conditions = [condition('Ready', false, 'Deleting')];
  if (cluster.isDeleting) return wait(conditions);
  // Otherwise RabbitMQ's preStop hook waits for a quorum that never comes again.
  const pods = observed.pods.filter((pod) => !pod.hasSkipLabel).map(({ name }) => name);
  if (pods.length > 0) return act({ do: 'label pods', pods }, conditions);
  return act({ do: 'delete cluster', uid: cluster.uid }, conditions);
}
