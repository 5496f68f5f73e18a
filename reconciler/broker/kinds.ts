// The kinds of objects that a broker's definitions hold.
import { canonical, isObject, objectsAt, textAt, valueAt } from '../../common/kube/json.ts';
import type { JsonObject } from '../../common/kube/types.ts';

/** In the order in which RabbitMQ takes them in: each needs those before it. */
export const DEFINITION_KINDS = [
  'users',
  'vhosts',
  'permissions',
  'topic_permissions',
  'parameters',
  'global_parameters',
  'policies',
  'queues',
  'exchanges',
  'bindings',
] as const;

export type DefinitionKind = (typeof DEFINITION_KINDS)[number];

/** The fields that tell one object of a kind from the others. */
const KEYS: Readonly<Record<DefinitionKind, readonly string[]>> = {
  users: ['name'],
  vhosts: ['name'],
  permissions: ['vhost', 'user'],
  topic_permissions: ['vhost', 'user', 'exchange'],
  parameters: ['vhost', 'component', 'name'],
  global_parameters: ['name'],
  policies: ['vhost', 'name'],
  queues: ['vhost', 'name'],
  exchanges: ['vhost', 'name'],
  bindings: ['vhost', 'source', 'destination_type', 'destination', 'routing_key', 'arguments'],
};

/** One object of the definitions. */
export interface Definition {
  readonly kind: DefinitionKind;
  readonly object: JsonObject;
}

/** The objects of a kind; none where there is no such list. */
export function definitionsOf(definitions: JsonObject, kind: DefinitionKind): JsonObject[] {
  return objectsAt(definitions, kind);
}

/** Equal for the same object of a broker, whatever else is different about it. */
export function idOf({ kind, object }: Definition): string {
  return canonical([kind, ...KEYS[kind].map((key) => valueAt(object, key) ?? null)]);
}

/** The virtual host of an object that is in one. */
export function vhostOf(object: JsonObject): string | undefined {
  return textAt(object, 'vhost');
}

/** What people call it, without its virtual host. */
export function nameOf({ kind, object }: Definition): string {
  const at = (key: string): string => textAt(object, key) ?? '';
  switch (kind) {
    case 'permissions':
      return at('user');
    case 'topic_permissions':
      return `${at('user')} on ${at('exchange')}`;
    case 'parameters':
      return `${at('component')} ${at('name')}`;
    case 'bindings': {
      const args = valueAt(object, 'arguments');
      const key = at('routing_key') === '' ? '' : ` by ${at('routing_key')}`;
      const more = isObject(args) && Object.keys(args).length > 0 ? ' with arguments' : '';
      return `${at('source')} to ${at('destination_type')} ${at('destination')}${key}${more}`;
    }
    default:
      return at('name');
  }
}

/** Definitions of these objects alone. */
export function pickDefinitions(objects: readonly Definition[]): JsonObject {
  const lists = DEFINITION_KINDS.map((kind) => [
    kind,
    objects.filter((definition) => definition.kind === kind).map(({ object }) => object),
  ]);
  return Object.fromEntries(lists) as JsonObject;
}

/** How many objects of each kind there are. */
export function countDefinitions(definitions: JsonObject): Record<DefinitionKind, number> {
  const counts = DEFINITION_KINDS.map((kind) => [kind, definitionsOf(definitions, kind).length] as const);
  return Object.fromEntries(counts) as Record<DefinitionKind, number>;
}

/** Whether a queue or exchange of this name is made by the broker alone: the default exchange and amq.*. */
export function isBrokersOwn(name: string): boolean {
  return name === '' || name.startsWith('amq.');
}
