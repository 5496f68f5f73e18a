import { eventOf } from '../common/kube/events.ts';
import { valueAt } from '../common/kube/json.ts';
import type { Examination } from './examine.ts';
import type { KubeObject } from '../common/kube/types.ts';

/** What Events are written about, by their reason. docs/webhook.md lists them. */
export const EVENTS = {
  ProxyInjected: 'Normal',
  ProxyRemoved: 'Normal',
  ProxyOptedOut: 'Warning',
  ProxyMissing: 'Warning',
  ProxyLeft: 'Warning',
  ProxyRefused: 'Warning',
} as const;

export type EventReason = keyof typeof EVENTS;

/** Something to be told about an object. */
export interface Telling {
  readonly reason: EventReason;
  readonly note: string;
}

const REPORTER = { controller: 'quorumbridge.io/webhook', action: 'Admission' } as const;

/**
 * What an object's examination is worth an Event, given whether it carried the proxy when it was last seen (undefined:
 * it is new). What is as everybody expects it has none.
 */
export function tellingOf(
  { decision, proxy, admission, warnings }: Examination,
  carried: boolean | undefined,
): Telling | undefined {
  const why = `${decision.message} [${decision.reason}]`;
  if (admission.would === 'be denied') {
    if (admission.code === 503) return undefined;
    return {
      reason: 'ProxyRefused',
      note: `the proxy can not be kept here, the next write would be denied: ${admission.message}`,
    };
  }
  const carries = proxy?.isOurs === true;
  if (admission.would === 'inject') {
    return {
      reason: 'ProxyMissing',
      note: `the proxy is missing, though ${why}: any write of this object injects it`,
    };
  }
  if (admission.would === 'remove' && carries) {
    return {
      reason: 'ProxyLeft',
      note: `the proxy is still there, though ${why}: any write of this object takes it out`,
    };
  }
  if (carries && carried !== true) {
    return { reason: 'ProxyInjected', note: `the proxy ${proxy.image} was injected, for ${why}` };
  }
  if (!carries && carried === true)
    return { reason: 'ProxyRemoved', note: `the proxy was taken out, for ${why}` };
  const surprising = decision.reason === 'inject-false' && warnings.length > 0;
  if (!carries && carried === undefined && surprising) {
    return {
      reason: 'ProxyOptedOut',
      note: `the proxy was not injected, for ${why}; ${warnings.join('; ')}`,
    };
  }
  return undefined;
}

/**
 * The Event. Its name says what it tells of which generation: the replicas that see the same make the same Event, of which
 * the API server keeps one.
 */
export function eventAbout(object: KubeObject, { reason, note }: Telling, now: Date): KubeObject {
  const generation = valueAt(object, 'metadata', 'generation') ?? null;
  return eventOf(object, { type: EVENTS[reason], reason, note }, REPORTER, now, generation);
}
