// What is to be done next about a RabbitMq: one pure function of what was observed.
import { PAUSE_LABEL } from '../common/contract.ts';
import { condition } from './conditions.ts';
import { deleting } from './phases/deleting.ts';
import { deletingResources } from './phases/deleting-resources.ts';
import { steady } from './phases/steady.ts';
import { waitingForCluster } from './phases/waiting-for-cluster.ts';
import { waitingForPods } from './phases/waiting-for-pods.ts';
import type { Observed, Plan, PlanSettings } from './types.ts';

/**
 * The next step for a RabbitMq, and its conditions. Pure: the same observation gives the same plan, whoever made it and
 * whatever happened before. Nothing is deleted unless the observation shows that it was saved and read back, by the uid
 * that status.upgrade recorded.
 */
export function plan(observed: Observed, settings: PlanSettings): Plan {
  const { rabbitmq } = observed;
  if (rabbitmq.isPaused) {
    const message = `the label ${PAUSE_LABEL} is set: nothing is done until it is removed`;
    return { step: { do: 'wait' }, conditions: [condition('Ready', 'Unknown', 'Paused', message)] };
  }
  const { upgradePhase, upgrade } = rabbitmq.status;
  if (rabbitmq.isDeleting) {
    const ended = deleting(observed);
    if (ended !== undefined) return ended;
  }
  if (upgradePhase === '') return steady(observed, settings);
  if (upgrade === undefined) return foreign(upgradePhase);
  const underWay = { ...observed, upgrade };
  if (upgradePhase === 'DeletingResources') return deletingResources(underWay, settings);
  if (upgradePhase === 'WaitingForPods') return waitingForPods(underWay);
  return waitingForCluster(underWay, settings);
}

/** Phases without a record are another controller's: two that work on one cluster would destroy it. */
function foreign(phase: string): Plan {
  const message =
    `status.upgradePhase is ${phase}, but status.upgrade is not there: another controller, such as the infra operator, works on ` +
    'this RabbitMq: stop the one or the other; where there is none, clear status.upgradePhase (kubectl edit --subresource=status)';
  return { step: { do: 'wait' }, conditions: [condition('Degraded', true, 'UnknownUpgrade', message)] };
}
