// Writes the status of a RabbitMq: only what is new of it, and only over what was read.
import { isDeepStrictEqual } from 'node:util';
import { type Api, ApiFailure } from '../common/kube/api.ts';
import { isObject, valueAt } from '../common/kube/json.ts';
import { RABBITMQ } from '../common/kube/resources.ts';
import type { Json, JsonObject } from '../common/kube/types.ts';
import { mergeConditions } from './conditions.ts';
import type { ConditionNow, Observed, StatusPatch } from './types.ts';

/**
 * Writes what the patch and the conditions change.
 * @returns false when somebody else wrote the RabbitMq since it was read: nothing is written then.
 */
export async function writeStatus(
  api: Api,
  { rabbitmq, now }: Observed,
  status: StatusPatch,
  conditions: readonly ConditionNow[],
  signal: AbortSignal,
): Promise<boolean> {
  const { namespace, name, resourceVersion, uid, object, generation } = rabbitmq;
  const merged = mergeConditions(object, conditions, now, generation);
  const patch: JsonObject = {
    ...status,
    targetVersion: rabbitmq.target?.text ?? null,
    ...(merged === undefined ? {} : { conditions: merged }),
  };
  const news = newsOf(valueAt(object, 'status'), patch);
  if (news === undefined) return true;
  const metadata = { resourceVersion, uid };
  try {
    await api.patch(
      RABBITMQ,
      { namespace, name },
      { metadata, status: news },
      { subresource: 'status' },
      signal,
    );
    return true;
  } catch (error) {
    if (isConflict(error)) return false;
    throw error;
  }
}

/** Whether somebody else was faster. */
export function isConflict(error: unknown): boolean {
  return error instanceof ApiFailure && error.code === 409;
}

/** The part of a merge patch that would change something; undefined when none would. */
export function newsOf(before: Json | undefined, patch: JsonObject): JsonObject | undefined {
  const news = Object.entries(patch).flatMap(([key, value]): [string, Json][] => {
    const old = isObject(before) ? before[key] : undefined;
    if (value === undefined || (value === null && old === undefined)) return [];
    if (isObject(value) && isObject(old)) {
      const inner = newsOf(old, value);
      return inner === undefined ? [] : [[key, inner]];
    }
    return isDeepStrictEqual(old, value) ? [] : [[key, value]];
  });
  return news.length === 0 ? undefined : Object.fromEntries(news);
}
