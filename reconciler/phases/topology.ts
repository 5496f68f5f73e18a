// When the file of spec.messagingTopology is declared: once for each content of the file on each cluster, and again where that
// was in vain.
import { condition } from '../conditions.ts';
import { unreadiness } from '../readiness.ts';
import { telling } from '../tellings.ts';
import { conditionReason, isNews } from '../topology.ts';
import type { ConditionNow, Observed, Plan } from '../types.ts';
import { isFourOrLater } from '../versions.ts';
import { act, wait, write } from './transition.ts';

/** How often the ConfigMap is looked at, which nothing watches. */
const LOOK_MS = 30_000;
const RETRY_MS = 60_000;

/** Reasons that tell of a try. */
const TRIED: ReadonlySet<string> = new Set([
  'Applied',
  'Conflict',
  'Refused',
  'InvalidFile',
  'BrokerUnreachable',
]);

/** The step that declares the file, where this content was not tried on this cluster yet. */
export function untriedTopology(observed: Observed, conditions: readonly ConditionNow[]): Plan | undefined {
  const { topology } = observed;
  if (topology.state !== 'found' || isTried(observed)) return undefined;
  return act({ do: 'declare topology', topology }, conditions);
}

function isTried({ topology, cluster, rabbitmq }: Observed): boolean {
  const { messagingTopology: record } = rabbitmq.status;
  return (
    topology.state === 'found' &&
    record?.sha256 === topology.sha256 &&
    record.clusterUid === cluster?.uid &&
    TRIED.has(conditionReason(rabbitmq.object, 'TopologyApplied'))
  );
}

/** Without an upgrade, in place of a plan that has nothing to do. */
export function steadyTopology(observed: Observed, rest: Plan): Plan {
  const { topology, rabbitmq, now } = observed;
  if (topology.state === 'not wanted') return takenOut(observed) ?? rest;
  if (topology.state === 'missing') {
    const message = `${topology.why}: make it, or take spec.messagingTopology out; ${LOOK_MS / 1000} s later it is looked at again`;
    return waiting(observed, rest, condition('TopologyApplied', false, 'NoFile', message));
  }
  if (!isMeant(observed)) {
    const message = `RabbitMQ ${rabbitmq.status.currentVersion} was there before: the file is declared behind its upgrade`;
    return waiting(observed, rest, condition('TopologyApplied', 'Unknown', 'Waiting', message));
  }
  const again = waiting(observed, rest);
  if (topology.state !== 'found' || unreadiness(observed) !== '') return again;
  const { messagingTopology: record } = rabbitmq.status;
  const isDue = record?.isDeclared !== true && now.getTime() - Date.parse(record?.triedAt ?? '') >= RETRY_MS;
  if (isDue) return act({ do: 'declare topology', topology }, rest.conditions);
  return untriedTopology(observed, rest.conditions) ?? again;
}

/** Clusters of 3.x that were there before are left as they are until their upgrade. */
function isMeant({ rabbitmq, cluster }: Observed): boolean {
  return (
    cluster?.isOwned === true ||
    cluster?.sequence !== undefined ||
    isFourOrLater(rabbitmq.status.currentVersion)
  );
}

/** What was said of a file that nobody wants any more is taken back; what it has declared stays. */
function takenOut({ rabbitmq }: Observed): Plan | undefined {
  const reason = conditionReason(rabbitmq.object, 'TopologyApplied');
  if (reason === '' || reason === 'NotWanted') return undefined;
  return write({ messagingTopology: null }, [], [condition('TopologyApplied', 'Unknown', 'NotWanted')]);
}

/** The plan that waits, no longer than until the ConfigMap is looked at again. */
function waiting({ rabbitmq }: Observed, { step, conditions }: Plan, said?: ConditionNow): Plan {
  if (step.do !== 'wait') return { step, conditions };
  const { afterMs = Infinity, tell = [] } = step;
  const isTold = said?.status === 'False' && isNews(rabbitmq.object, said);
  return wait(
    said === undefined ? conditions : [...conditions, said],
    Math.min(afterMs, LOOK_MS),
    isTold ? [...tell, telling('TopologyNotApplied', said.message)] : tell,
  );
}
