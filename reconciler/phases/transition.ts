// Transitions between phases: the only writes of status.upgradePhase.
import type { JsonObject } from '../../common/kube/types.ts';
import { CONDITION_REASONS, condition, seconds } from '../conditions.ts';
import type {
  ConditionNow,
  Observed,
  Plan,
  StatusPatch,
  Step,
  Telling,
  UpgradePhase,
  UpgradeRecord,
} from '../types.ts';

/** An observation with the record of the upgrade that is under way. */
export type UnderWay = Observed & { readonly upgrade: UpgradeRecord };

/** A phase other than "". */
export type Phase = Exclude<UpgradePhase, ''>;

/** How often is looked though no event says so, in milliseconds: what is waited for may have no event. */
export const POLL_MS = 2000;

/** The plan that only waits. */
export function wait(
  conditions: readonly ConditionNow[],
  afterMs = POLL_MS,
  tell: readonly Telling[] = [],
): Plan {
  return { step: { do: 'wait', afterMs, tell }, conditions };
}

export function write(
  status: StatusPatch,
  tell: readonly Telling[],
  conditions: readonly ConditionNow[],
): Plan {
  return { step: { do: 'write status', status, tell }, conditions };
}

/** A plan with a step that is neither. */
export function act(step: Step, conditions: readonly ConditionNow[]): Plan {
  return { step, conditions };
}

/** A record as status carries it. */
export function recorded(record: UpgradeRecord): JsonObject {
  return JSON.parse(JSON.stringify(record)) as JsonObject;
}

/** Persists the next phase, with what is known of the upgrade now. */
export function enter(
  phase: Phase,
  observed: Observed,
  record: UpgradeRecord,
  status: StatusPatch,
  tell: readonly Telling[],
): Plan {
  const upgrade = recorded({ ...record, phaseStartedAt: seconds(observed.now) });
  return write({ ...status, upgradePhase: phase, upgrade }, tell, [upgrading(phase, record), notReady()]);
}

export function notReady(): ConditionNow {
  return condition('Ready', false, 'UpgradeUnderWay');
}

/** The condition Upgrading during a phase, in one sentence. */
export function upgrading(phase: Phase, { from, to }: UpgradeRecord, detail?: string): ConditionNow {
  const text = detail ?? CONDITION_REASONS.Upgrading[phase];
  return condition('Upgrading', true, phase, `${from} to ${to}: ${text}`);
}

export function fine(): ConditionNow {
  return condition('Degraded', false, 'AsExpected');
}

/** Milliseconds since the phase began. */
export function phaseAge({ now, upgrade }: UnderWay): number {
  return now.getTime() - Date.parse(upgrade.phaseStartedAt);
}
