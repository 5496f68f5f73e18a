import type { BrokerVersion } from '../version.ts';

/** What becomes of a queue's declares; all declares of a name get the same, so that they stay equivalent. */
export interface QueueTreatment {
  /** The rule that decided, by its name. */
  readonly rule: string;
  /** Where that rule is: `path:line:column`, `preset NAME` or `built in`. */
  readonly where: string;
  /**
   * `quorum` a durable quorum queue · `classic-durable` a durable classic queue that keeps auto-delete and its other
   * arguments · `leave` whatever the client sends.
   */
  readonly action: 'quorum' | 'classic-durable' | 'leave';
  /**
   * Milliseconds that an unused queue lives where the client gives no x-expires; `none`: no x-expires is added, also
   * not to a queue that was auto-delete. Not given: 30 minutes for those, nothing for others.
   */
  readonly expires?: number | 'none';
  /** Arguments that the declare gets, in the place of the client's own of that key: type tag and octets. */
  readonly set: readonly (readonly [key: string, value: Uint8Array])[];
  /** Arguments that the declare loses. */
  readonly remove: readonly string[];
}

export interface ExchangeTreatment {
  readonly rule: string;
  readonly where: string;
  /** `durable` a durable exchange · `leave` whatever the client sends. */
  readonly action: 'durable' | 'leave';
}

/** The treatments for one client: a user's, in a virtual host, on a broker of some version. */
export interface Policy {
  queue(name: string): QueueTreatment;
  exchange(name: string): ExchangeTreatment;
}

/** Whom a policy is for. */
export interface PolicyScope {
  readonly virtualHost: string;
  /** undefined where the login doesn't tell. */
  readonly user: string | undefined;
  readonly broker: BrokerVersion;
}

/** The rules of a proxy: what they are for each client. */
export interface Policies {
  for(scope: PolicyScope): Policy;
}

const BUILT_IN = { rule: 'default', where: 'built in' } as const;

/** What a queue gets that no rule matches. */
export const DEFAULT_QUEUE: QueueTreatment = { ...BUILT_IN, action: 'quorum', set: [], remove: [] };

/** What an exchange gets that no rule matches. */
export const DEFAULT_EXCHANGE: ExchangeTreatment = { ...BUILT_IN, action: 'durable' };

/** Every queue a quorum queue, every exchange durable. */
export const DEFAULT_POLICY: Policy = { queue: () => DEFAULT_QUEUE, exchange: () => DEFAULT_EXCHANGE };
