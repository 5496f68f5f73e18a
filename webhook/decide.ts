import { ANNOTATION, KIND } from '../common/contract.ts';
import {
  annotationOf,
  isControlledByCluster,
  isDeleting,
  isKind,
  isNamespaceDisabled,
  isProxyRequired,
  isUpgradeToQuorum,
} from '../common/kube/facts.ts';
import { textAt, valueAt } from '../common/kube/json.ts';
import { REASONS } from './reasons.ts';
import type { Reason } from './reasons.ts';
import type { KubeObject } from '../common/kube/types.ts';
import type { Decision, OwnerFacts } from './types.ts';

/** What a decision is made of. */
export interface DecideInput {
  object: KubeObject;
  /** Whether the object is stored already: while its owner can't be read, a stored object stays as it is. */
  stored: boolean;
  owner: OwnerFacts;
  namespace: KubeObject | undefined;
  /** The kind of resource that put a proxy into the object; undefined when none did. */
  injectedBy: string | undefined;
}

/** Whether the object has to carry the proxy: the first of these rules that holds. */
export function decide(input: DecideInput): Decision {
  const { object, owner, stored } = input;
  if (isDeleting(object)) return decision('deleting');
  if (!isKind(object, KIND.cluster) && !isKind(object, KIND.statefulSet)) return decision('other-kind');
  if (isGoverned(input)) return decision('governed-by-rabbitmqcluster');

  const rabbitmq = owner.state === 'found' ? owner.rabbitmq : undefined;
  const off = whyOff(object, rabbitmq, input.namespace);
  if (off !== undefined) return decision(off);
  if (owner.state === 'unknown' && stored) return decision('owner-unknown', owner.why);
  const on = whyOn(object, rabbitmq);
  if (on !== undefined) return decision(on);
  return owner.state === 'unknown' ? decision('owner-unknown', owner.why) : decision('not-required');
}

function decision(reason: Reason, detail?: string): Decision {
  const { inject, text } = REASONS[reason];
  return { inject, reason, message: detail === undefined ? text : `${text} (${detail})` };
}

/** The cluster operator copies annotations to its StatefulSets and never removes them: they decide nothing there. */
function isGoverned({ object, injectedBy }: DecideInput): boolean {
  if (!isKind(object, KIND.statefulSet)) return false;
  return isControlledByCluster(object) || injectedBy === KIND.cluster.kind;
}

function whyOff(
  object: KubeObject,
  rabbitmq: KubeObject | undefined,
  namespace: KubeObject | undefined,
): Reason | undefined {
  const injects = [object, rabbitmq].map((holder) => annotationOf(holder, ANNOTATION.inject));
  if (injects.includes('false')) return 'inject-false';
  if (isNamespaceDisabled(namespace)) return 'namespace-disabled';
  if (isSwitchedOn(ANNOTATION.clientsReconfigured, object, rabbitmq)) return 'clients-reconfigured';
  return undefined;
}

function whyOn(object: KubeObject, rabbitmq: KubeObject | undefined): Reason | undefined {
  if (isSwitchedOn(ANNOTATION.enableProxy, object, rabbitmq)) return 'enable-proxy';
  if ([object, rabbitmq].some((holder) => annotationOf(holder, ANNOTATION.inject) === 'true'))
    return 'inject-true';
  if (rabbitmq === undefined) return undefined;
  const upgrade = valueAt(rabbitmq, 'status', 'upgrade');
  const uid = textAt(object, 'metadata', 'uid');
  // It is about to be deleted: with a proxy its pods would be replaced while what they hold is being saved.
  if (uid !== undefined && uid === textAt(upgrade, 'clusterUid'))
    return valueAt(upgrade, 'proxyBefore') === true ? 'proxy-required' : undefined;
  if (isProxyRequired(rabbitmq)) return 'proxy-required';
  return isUpgradeToQuorum(rabbitmq) ? 'upgrade-to-quorum' : undefined;
}

/** The RabbitMq's annotation counts, and the object's where the RabbitMq has none of this name. */
function isSwitchedOn(key: string, object: KubeObject, rabbitmq: KubeObject | undefined): boolean {
  return (annotationOf(rabbitmq, key) ?? annotationOf(object, key)) === 'true';
}

/** Warnings about what people wrote and the decision did not follow. */
export function decisionWarnings({ object, owner }: DecideInput, decided: Decision): string[] {
  const rabbitmq = owner.state === 'found' ? owner.rabbitmq : undefined;
  const warnings: string[] = [];
  for (const [key, values] of SWITCHES) {
    const value = annotationOf(object, key);
    if (value !== undefined && !values.includes(value)) {
      warnings.push(
        `annotation ${key}: ${JSON.stringify(value.slice(0, 40))} is ignored, expected ${values.map((v) => `"${v}"`).join(' or ')}`,
      );
    }
  }
  const optedOut = decided.reason === 'inject-false' || decided.reason === 'namespace-disabled';
  if (optedOut && rabbitmq !== undefined && isProxyRequired(rabbitmq)) {
    warnings.push(`the RabbitMq requires the proxy, but ${decided.message}: 3.x clients will fail on 4.x`);
  }
  if (decided.reason === 'owner-unknown') warnings.push(`${decided.message}: the proxy stays as it was`);
  return warnings;
}

const SWITCHES: readonly [string, readonly string[]][] = [
  [ANNOTATION.inject, ['true', 'false']],
  [ANNOTATION.enableProxy, ['true', 'false']],
  [ANNOTATION.clientsReconfigured, ['true', 'false']],
  [ANNOTATION.allowDowngrade, ['true', 'false']],
];
