import { ANNOTATION } from '../contract.ts';
import { annotationOf } from './facts.ts';
import { textAt, valueAt } from './json.ts';
import type { KubeObject } from './types.ts';
import { parseVersion } from '../version.ts';

/** The values of a RabbitMq's spec.queueType. */
export const QUEUE_TYPES = ['Quorum', 'Mirrored', 'None'] as const;

/** The version that a RabbitMq is to have, and the field that says so: the annotation goes before the spec. */
export function targetOf(rabbitmq: KubeObject | undefined): { path: string[]; text: string } | undefined {
  const annotation = annotationOf(rabbitmq, ANNOTATION.targetVersion);
  if (annotation !== undefined)
    return { path: ['metadata', 'annotations', ANNOTATION.targetVersion], text: annotation };
  const text = textAt(rabbitmq, 'spec', 'targetVersion');
  // "" is how the Go types of others write none.
  return text === undefined || text === '' ? undefined : { path: ['spec', 'targetVersion'], text };
}

/** The first number of the version that the RabbitMq is to have or, without a target, has. */
export function majorAhead(rabbitmq: KubeObject, stored: KubeObject | undefined): number | undefined {
  const text = targetOf(rabbitmq)?.text ?? textAt(stored, 'status', 'currentVersion');
  return parseVersion(text)?.major;
}

/** spec.queueType; undefined where there is none, or an empty one. */
export function queueTypeOf(rabbitmq: KubeObject | undefined): string | undefined {
  return textAt(rabbitmq, 'spec', 'queueType') || undefined;
}

/** The step of an upgrade that is under way; undefined where there is none. */
export function phaseOf(rabbitmq: KubeObject | undefined): string | undefined {
  return textAt(rabbitmq, 'status', 'upgradePhase') || undefined;
}

/** spec.replicas, 1 where it says nothing; undefined for what is no count. */
export function replicasOf(rabbitmq: KubeObject | undefined): number | undefined {
  const replicas = valueAt(rabbitmq, 'spec', 'replicas') ?? 1;
  return Number.isSafeInteger(replicas) ? (replicas as number) : undefined;
}
