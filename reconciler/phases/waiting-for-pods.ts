// Waits until nothing of the old cluster is left: with pods of two versions on one volume, or in one cluster, data is lost.
import { condition } from '../conditions.ts';
import type { ConditionNow, ObservedPod, Plan, Telling } from '../types.ts';
import { POLL_MS, type UnderWay, enter, fine, upgrading, wait } from './transition.ts';
import { telling } from '../tellings.ts';

const PHASE = 'WaitingForPods';
/** What may pass beyond the grace period until a pod counts as stuck. */
const SLACK_MS = 60_000;

export function waitingForPods(observed: UnderWay): Plan {
  const { cluster, upgrade, rabbitmq } = observed;
  const stuck = observed.pods.filter((pod) => isStuck(pod, observed));
  const left = leftovers(observed);
  if (left.length === 0) {
    const note = 'nothing of the old cluster is left: a new one is made, with empty storage';
    return enter('WaitingForCluster', observed, upgrade, {}, [telling('StorageWipeComplete', note)]);
  }
  const isForeign = cluster !== undefined && cluster.uid !== upgrade.clusterUid;
  const text = `waiting until these are gone: ${left.join(', ')}`;
  const conditions: ConditionNow[] = [upgrading(PHASE, upgrade, text)];
  const tell: Telling[] = [];
  if (isForeign) {
    const foreign = recreated(observed);
    conditions.push(foreign);
    tell.push(telling('ClusterRecreated', foreign.message));
  } else if (stuck.length > 0) {
    const names = stuck.map(({ name }) => name).join(', ');
    const message =
      `pods ${names} were to end in ${graceOf(stuck[0]!)} s and are still there: look at their node and at their ` +
      `last lines (kubectl -n ${rabbitmq.namespace} describe pod ${stuck[0]!.name}); delete them by force only if their node is lost for good`;
    conditions.push(condition('Degraded', true, 'PodsStuck', message));
    tell.push(telling('PodTerminationSlow', message));
  } else conditions.push(fine());
  return wait(conditions, POLL_MS, tell);
}

function graceOf({ deleting }: ObservedPod): number {
  return deleting?.graceSeconds ?? 0;
}

/** A pod that is not being deleted at all is the StatefulSet's, which is on its way out: it is not stuck yet. */
function isStuck({ deleting }: ObservedPod, { now }: UnderWay): boolean {
  return (
    deleting !== undefined &&
    now.getTime() > deleting.since.getTime() + deleting.graceSeconds * 1000 + SLACK_MS
  );
}

/** What is still there, as people name it. */
function leftovers({ cluster, statefulSet, pods, claims, rabbitmq }: UnderWay): string[] {
  return [
    ...(cluster === undefined ? [] : [`RabbitmqCluster ${rabbitmq.name}`]),
    ...(statefulSet === undefined ? [] : [`StatefulSet ${rabbitmq.name}-server`]),
    ...pods.map(({ name }) => `pod ${name}`),
    // A claim that nobody owns is kept on purpose: its storage is wiped. One that is going, or will be collected with what
    // owned it, would take the new pod's data with it.
    ...claims
      .filter(({ isDeleting, owners }) => isDeleting || owners.length > 0)
      .map(({ name }) => `volume claim ${name}`),
  ];
}

/** Somebody, such as a GitOps controller, has made the cluster again. Which of both is wanted is not for us to say. */
export function recreated({ rabbitmq, upgrade }: UnderWay): ConditionNow {
  const { name } = rabbitmq;
  const message =
    `somebody else made a new RabbitmqCluster ${name} after the old one was deleted, without the wipe that ${upgrade.to} needs: ` +
    'pause what applies it (GitOps), or let it apply the new image, then delete the RabbitmqCluster; the upgrade goes on by itself';
  return condition('Degraded', true, 'ClusterRecreated', message);
}
