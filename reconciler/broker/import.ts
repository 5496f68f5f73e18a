import type { JsonObject } from '../../common/kube/types.ts';
import { type Definition, DEFINITION_KINDS, definitionsOf } from './kinds.ts';
import type { Management } from './management.ts';

/** An object that the broker did not take. */
export interface Refusal {
  readonly definition: Definition;
  /** The broker's words, which may hold the object's values. */
  readonly said: string;
}

/** At a time: a request stays short, also where each queue is made on three nodes. */
const BATCH = 100;

/**
 * Brings definitions in, kind by kind. RabbitMQ gives up at the first object that it refuses, having taken some of the
 * others, so what it refuses is halved until the object is found; all others get in. Doing it again changes nothing that
 * is there.
 */
export async function importDefinitions(
  management: Management,
  definitions: JsonObject,
  signal: AbortSignal,
): Promise<Refusal[]> {
  const refusals: Refusal[] = [];
  for (const kind of DEFINITION_KINDS) {
    const objects = definitionsOf(definitions, kind);
    for (let at = 0; at < objects.length; at += BATCH) {
      const pending = [objects.slice(at, at + BATCH)];
      for (let batch = pending.pop(); batch !== undefined; batch = pending.pop()) {
        const said = await management.importDefinitions({ [kind]: batch }, signal);
        if (said === undefined) continue;
        if (batch.length === 1) refusals.push({ definition: { kind, object: batch[0]! }, said });
        else {
          const half = Math.ceil(batch.length / 2);
          pending.push(batch.slice(half), batch.slice(0, half));
        }
      }
    }
  }
  return refusals;
}
