import { isObject, same, textAt, valueAt } from '../../common/kube/json.ts';
import type { Json, JsonObject } from '../../common/kube/types.ts';
import { type Definition, DEFINITION_KINDS, type DefinitionKind, definitionsOf, idOf } from './kinds.ts';
import type { Management } from './management.ts';

/** An object that is not on the broker as it was brought in. */
export interface Difference {
  readonly definition: Definition;
  /** Fields that are otherwise; undefined: the object is not there. */
  readonly fields: readonly string[] | undefined;
}

/** The fields that have to be equal, beside those that name the object. */
const COMPARED: Readonly<Record<DefinitionKind, readonly string[]>> = {
  users: ['password_hash', 'hashing_algorithm', 'tags', 'limits'],
  vhosts: ['description', 'tags', 'default_queue_type'],
  permissions: ['configure', 'write', 'read'],
  topic_permissions: ['write', 'read'],
  parameters: ['value'],
  global_parameters: ['value'],
  policies: ['pattern', 'apply-to', 'definition', 'priority'],
  queues: ['durable', 'auto_delete', 'arguments'],
  exchanges: ['type', 'durable', 'auto_delete', 'internal', 'arguments'],
  bindings: [],
};

/**
 * Reads the definitions of a broker and holds them against what was brought in: RabbitMQ says that all is well also where
 * it has left out an object (4.3 transient queues). What else is there, by clients that have come back, is no difference.
 */
export async function compareDefinitions(
  management: Management,
  wanted: JsonObject,
  signal: AbortSignal,
): Promise<Difference[]> {
  const found = await management.definitions(signal);
  // 4.3 has no internal exchanges in its definitions.
  const exchanges = await management.list('exchanges', signal);
  return DEFINITION_KINDS.flatMap((kind) => {
    const objects = kind === 'exchanges' ? exchanges : definitionsOf(found, kind);
    const there = new Map(objects.map((object) => [idOf({ kind, object }), object]));
    return definitionsOf(wanted, kind).flatMap((object): Difference[] => {
      const definition = { kind, object };
      const other = there.get(idOf(definition));
      if (other === undefined) return [{ definition, fields: undefined }];
      const fields = COMPARED[kind].filter((field) => !isEqual(kind, field, object, other));
      return fields.length === 0 ? [] : [{ definition, fields }];
    });
  });
}

function isEqual(kind: DefinitionKind, field: string, wanted: JsonObject, found: JsonObject): boolean {
  const [a, b] = [wanted, found].map((object) => comparable(kind, field, object));
  // What isn't said the broker is free to choose.
  return a === undefined || same(a, b);
}

/** The value as versions have it in common. */
function comparable(kind: DefinitionKind, field: string, object: JsonObject): Json | undefined {
  const value = kind === 'vhosts' ? valueAt(object, 'metadata', field) : object[field];
  if (field === 'tags') return tagsOf(value);
  if (kind === 'queues' && field === 'arguments') return { 'x-queue-type': 'classic', ...objectOf(value) };
  // A missing list and an empty one are the same, whatever either version writes.
  if (field === 'limits' || field === 'arguments') return objectOf(value);
  return value ?? textAt(object, field);
}

function objectOf(value: Json | undefined): JsonObject {
  return isObject(value) ? value : {};
}

/** A list, or, in old definitions, a text with commas. */
function tagsOf(value: Json | undefined): Json | undefined {
  if (typeof value === 'string') return value.split(',').filter((tag) => tag !== '');
  return Array.isArray(value) ? value : undefined;
}
