// What the reconciler publishes of upgrades, for who consumes it.
import type { Schema } from './consumer/handler.ts';

/** The topic exchange of upgrade events; their routing keys are NAMESPACE.NAME.PHASE. */
export const UPGRADE_EXCHANGE = 'quorumbridge.upgrade';

/** Phases of an upgrade in their order, and how it ends. */
export const UPGRADE_EVENT_PHASES = [
  'DeletingResources',
  'WaitingForPods',
  'WaitingForCluster',
  'Complete',
  'CalledOff',
] as const;

/** The JSON of one event. The same event may come more than once, and then has the same messageId. */
export interface UpgradeEvent {
  /** Of the RabbitMq that is upgraded. */
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** Counts the upgrades of this RabbitMq, from 1. */
  readonly sequence: number;
  readonly phase: (typeof UPGRADE_EVENT_PHASES)[number];
  /** The version before. */
  readonly from: string;
  /** The version after; null of an upgrade that was called off. */
  readonly to: string | null;
  /** Why storage is wiped, VersionUpgrade or QueueTypeMigration; null of an upgrade that was called off. */
  readonly reason: string | null;
  /** When the phase began, ISO 8601; null of an upgrade that was called off. */
  readonly since: string | null;
}

/** For a handler of upgrade events. Fields that it doesn't know are left out: later versions may have more. */
export const upgradeEvent: Schema<UpgradeEvent> = {
  parse(value) {
    if (typeof value !== 'object' || value === null) throw new Error('expected an object');
    const of = value as Readonly<Record<string, unknown>>;
    const { sequence } = of;
    if (typeof sequence !== 'number' || !Number.isSafeInteger(sequence) || sequence < 1)
      throw new Error('sequence: expected a whole number from 1');
    const phase = UPGRADE_EVENT_PHASES.find((known) => known === of['phase']);
    if (phase === undefined) throw new Error(`phase: expected ${UPGRADE_EVENT_PHASES.join(', ')}`);
    return {
      namespace: text(of, 'namespace'),
      name: text(of, 'name'),
      uid: text(of, 'uid'),
      sequence,
      phase,
      from: text(of, 'from'),
      to: textOrNull(of, 'to'),
      reason: textOrNull(of, 'reason'),
      since: textOrNull(of, 'since'),
    };
  },
};

function text(of: Readonly<Record<string, unknown>>, field: string): string {
  const value = of[field];
  if (typeof value === 'string' && value !== '') return value;
  throw new Error(`${field}: expected a text that is not empty`);
}

function textOrNull(of: Readonly<Record<string, unknown>>, field: string): string | null {
  return of[field] === null ? null : text(of, field);
}
