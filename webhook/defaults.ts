import fastJsonPatch from 'fast-json-patch';
import type { Operation } from 'fast-json-patch';
import { isDeleting } from '../common/kube/facts.ts';
import { copy, isObject, valueAt } from '../common/kube/json.ts';
import { QUEUE_TYPES, majorAhead, queueTypeOf, targetOf } from '../common/kube/rabbitmq.ts';
import type { KubeObject } from '../common/kube/types.ts';

/** What becomes of a RabbitMq at its admission, and why. docs/webhook.md explains each key. */
export const DEFAULT_REASONS = {
  'queue-type-forced': 'RabbitMQ 4 has no mirrored queues: spec.queueType is Quorum there',
  'queue-type-default': 'a new RabbitMq has quorum queues unless it says otherwise',
  'nothing-to-default': 'spec.queueType is as it has to be',
} as const;

export interface Defaulted {
  readonly reason: keyof typeof DEFAULT_REASONS;
  readonly patch: Operation[];
  readonly warnings: string[];
}

/**
 * The mutating side of RabbitMq: only spec.queueType. It is Quorum wherever the version that is aimed at (or, without a
 * target, the one that runs) is 4 or later, and on new objects that say nothing. A value that is no queue type stays, for
 * the validating side to refuse: what was meant is not known. Pure; its own result is left alone.
 */
export function defaultRabbitMq(object: KubeObject, oldObject: KubeObject | undefined): Defaulted {
  const given = queueTypeOf(object);
  const spec = valueAt(object, 'spec') ?? {};
  const nothing: Defaulted = { reason: 'nothing-to-default', patch: [], warnings: [] };
  const isKnown = given === undefined || QUEUE_TYPES.some((type) => type === given);
  if (isDeleting(object) || given === 'Quorum' || !isKnown || !isObject(spec)) return nothing;

  const isForced = (majorAhead(object, oldObject) ?? 0) >= 4;
  const isNew = oldObject === undefined && given === undefined;
  if (!isForced && !isNew) return nothing;
  const result = copy(object);
  result['spec'] = { ...copy(spec), queueType: 'Quorum' };
  const version = targetOf(object)?.text ?? 'the version that runs';
  return {
    reason: isForced ? 'queue-type-forced' : 'queue-type-default',
    patch: fastJsonPatch.compare(object, result),
    warnings:
      given === undefined
        ? []
        : [
            `spec.queueType: ${JSON.stringify(given)} became "Quorum", the only one on ${version}: write it so`,
          ],
  };
}
