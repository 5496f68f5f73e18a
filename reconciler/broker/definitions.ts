import { createHash } from 'node:crypto';
import { isObject, textAt, valueAt } from '../../common/kube/json.ts';
import type { Json, JsonObject } from '../../common/kube/types.ts';
import {
  countDefinitions,
  DEFINITION_KINDS,
  type DefinitionKind,
  definitionsOf,
  idOf,
  isBrokersOwn,
  nameOf,
  vhostOf,
} from './kinds.ts';
import { type Management, ManagementFailure } from './management.ts';

/** A broker's definitions as they are saved. */
export interface ExportedDefinitions {
  /** JSON. */
  readonly text: string;
  /** Of the text in UTF-8, hexadecimal. */
  readonly sha256: string;
  readonly brokerVersion: string;
  readonly counts: Readonly<Record<DefinitionKind, number>>;
}

/** What the broker lists beside its definitions. */
type Listed = Readonly<Record<ListedKind, readonly JsonObject[]>>;

/** Kinds whose lists hold all that a definition does: what the definitions lack is taken from there. */
const COMPLETED = ['queues', 'exchanges', 'bindings'] as const;

/** Kinds that the definitions must have whole. */
const REQUIRED = ['users', 'vhosts', 'permissions', 'policies'] as const;

type ListedKind = (typeof COMPLETED)[number] | (typeof REQUIRED)[number];

const FIELDS: Readonly<Record<(typeof COMPLETED)[number], readonly string[]>> = {
  queues: ['name', 'vhost', 'durable', 'auto_delete', 'arguments'],
  exchanges: ['name', 'vhost', 'type', 'durable', 'auto_delete', 'internal', 'arguments'],
  bindings: ['source', 'vhost', 'destination', 'destination_type', 'routing_key', 'arguments'],
};

/**
 * Exports the definitions of all virtual hosts and holds them against what the broker lists before and behind that, so
 * that half an answer is never taken for a backup: what was there both times has to be in them. RabbitMQ leaves out some
 * of it by design (4.x internal exchanges, 3.10 what virtual hosts are called and which type their queues have): that is
 * added.
 * @throws ManagementFailure also where they lack something
 */
export async function exportDefinitions(
  management: Management,
  signal: AbortSignal,
): Promise<ExportedDefinitions> {
  const user = await management.whoami(signal);
  if (!user.isAdministrator) {
    throw new ManagementFailure(
      `definitions cannot be exported: user ${user.name} has to have the tag administrator`,
    );
  }
  const before = await listAll(management, signal);
  const exported = await management.definitions(signal);
  const after = await listAll(management, signal);
  const brokerVersion = textAt(exported, 'rabbitmq_version');
  if (brokerVersion === undefined) throw incomplete('rabbitmq_version');
  const definitions = completed(exported, before, after);
  const text = JSON.stringify(definitions);
  return { text, sha256: sha256Of(text), brokerVersion, counts: countDefinitions(definitions) };
}

/** Hexadecimal, of UTF-8. */
export function sha256Of(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function incomplete(what: string): ManagementFailure {
  return new ManagementFailure(`the exported definitions lack ${what}: they are exported again later`);
}

async function listAll(management: Management, signal: AbortSignal): Promise<Listed> {
  const shared = (await management.queues(signal)).filter(({ exclusive }) => !exclusive);
  const exchanges = await management.list('exchanges', signal);
  const bindings = await management.list('bindings', signal);
  const reachable = new Set(shared.map(({ vhost, name }) => JSON.stringify([vhost, name])));
  return {
    users: await management.list('users', signal),
    vhosts: await management.list('vhosts', signal),
    permissions: await management.list('permissions', signal),
    policies: await management.list('policies', signal),
    queues: shared.map(({ vhost, name, durable, autoDelete, arguments: args }) => ({
      vhost,
      name,
      durable,
      auto_delete: autoDelete,
      arguments: args,
    })),
    exchanges: exchanges.filter(({ name }) => typeof name === 'string' && !isBrokersOwn(name)),
    bindings: bindings.filter(
      ({ source, vhost, destination, destination_type: type }) =>
        source !== '' && (type === 'exchange' || reachable.has(JSON.stringify([vhost, destination]))),
    ),
  };
}

function completed(exported: JsonObject, before: Listed, after: Listed): JsonObject {
  const definitions: JsonObject = { ...exported };
  for (const kind of DEFINITION_KINDS) {
    // Older versions have no list where there is nothing, and none of what they don't know.
    if (!Array.isArray(definitions[kind] ?? [])) throw incomplete(`a list of ${kind}`);
    definitions[kind] = definitionsOf(exported, kind);
  }
  const missing = (kind: ListedKind): JsonObject[] => {
    const ids = (objects: readonly JsonObject[]) => new Set(objects.map((object) => idOf({ kind, object })));
    const [had, has] = [ids(before[kind]), ids(definitionsOf(definitions, kind))];
    return after[kind].filter((object) => {
      const id = idOf({ kind, object });
      return had.has(id) && !has.has(id);
    });
  };
  for (const kind of REQUIRED) {
    const [object] = missing(kind);
    if (object === undefined) continue;
    const vhost = vhostOf(object);
    const place = vhost === undefined ? '' : ` of virtual host ${vhost}`;
    throw incomplete(`${nameOf({ kind, object })} of ${kind}${place}, which the broker has`);
  }
  // 4.3 writes exchanges that it makes itself.
  definitions['exchanges'] = definitionsOf(definitions, 'exchanges').filter(
    ({ name }) => typeof name === 'string' && !isBrokersOwn(name),
  );
  for (const kind of COMPLETED) {
    const added = missing(kind).map((object) =>
      Object.fromEntries(FIELDS[kind].map((field) => [field, object[field]])),
    );
    definitions[kind] = [...definitionsOf(definitions, kind), ...added];
  }
  definitions['vhosts'] = definitionsOf(definitions, 'vhosts').map((vhost) =>
    isObject(vhost['metadata'])
      ? vhost
      : { ...vhost, ...metadataOf(after.vhosts.find(({ name }) => name === vhost['name'])) },
  );
  return definitions;
}

/** What a virtual host has besides its name, as definitions of later versions have it. */
function metadataOf(listed: JsonObject | undefined): JsonObject {
  const { description, tags, default_queue_type: queueType } = listed ?? {};
  const known: JsonObject = {
    ...(typeof description === 'string' ? { description } : {}),
    ...(Array.isArray(tags) ? { tags } : {}),
    // 3.10 has the word for what it has not.
    ...(typeof queueType === 'string' && queueType !== 'undefined' ? { default_queue_type: queueType } : {}),
  };
  return Object.keys(known).length === 0 ? {} : { metadata: known };
}

/** Whether a value is what a broker exported. */
export function isDefinitions(value: Json | undefined): value is JsonObject {
  return isObject(value) && DEFINITION_KINDS.every((kind) => Array.isArray(valueAt(value, kind)));
}
