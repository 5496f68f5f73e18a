import { isObject, textAt, valueAt } from '../../common/kube/json.ts';
import type { Json, JsonObject } from '../../common/kube/types.ts';
import type { Version } from '../../common/version.ts';
import {
  type Definition,
  DEFINITION_KINDS,
  type DefinitionKind,
  definitionsOf,
  idOf,
  isBrokersOwn,
  nameOf,
  vhostOf,
} from './kinds.ts';
import { formPolicy, policyBody } from './policy-form.ts';
import { type Change, type Formed, formExchange, formQueue, type QueueForm } from './queue-form.ts';

/** What became of one object that was saved. */
export interface Outcome {
  /** As `idOf` gives it for the object, saved or brought in. */
  readonly id: string;
  readonly kind: DefinitionKind;
  /** undefined for what is in no virtual host. */
  readonly vhost: string | undefined;
  readonly name: string;
  /** `refused` by the new broker; `different`: there, but not as it was brought in; `missing`: not there. */
  readonly result: 'kept' | 'changed' | 'dropped' | 'refused' | 'different' | 'missing';
  /** Of what is not kept or changed. */
  readonly why: string;
  readonly changes: readonly Change[];
}

export interface Translation {
  /** What is brought in. */
  readonly definitions: JsonObject;
  /** One for each object that was saved, in order. */
  readonly outcomes: readonly Outcome[];
}

export interface TranslationSettings {
  readonly form: QueueForm;
  /** The version of the broker that gets the definitions. */
  readonly target: Version;
}

/** What the management API writes where a value is no text: it can't be told from the text that it writes. */
const NOT_UTF8 = 'Not UTF-8, base64 is: ';

/** Global parameters that are a cluster's own. */
const CLUSTERS_OWN = ['internal_cluster_id', 'cluster_name'];

type Verdict = Formed | { readonly dropped: string };

/** The definitions of an older broker as a newer one takes them in, and what became of each object. */
export function translateDefinitions(saved: JsonObject, settings: TranslationSettings): Translation {
  const outcomes: Outcome[] = [];
  const definitions: JsonObject = {};
  const gone = new Set<string>();
  for (const kind of DEFINITION_KINDS) {
    const taken: JsonObject[] = [];
    for (const object of definitionsOf(saved, kind)) {
      const definition = { kind, object };
      const verdict = judge(definition, saved, settings, gone);
      outcomes.push(outcomeOf(definition, verdict));
      if ('dropped' in verdict) gone.add(idOf(definition));
      else taken.push(verdict.object);
    }
    definitions[kind] = taken;
  }
  return { definitions, outcomes };
}

function outcomeOf(definition: Definition, verdict: Verdict): Outcome {
  const { kind, object } = definition;
  const place = { id: idOf(definition), kind, vhost: vhostOf(object), name: nameOf(definition) };
  if ('dropped' in verdict) return { ...place, result: 'dropped', why: verdict.dropped, changes: [] };
  const { changes } = verdict;
  return { ...place, result: changes.length === 0 ? 'kept' : 'changed', why: '', changes };
}

/** @param gone ids of what was dropped before */
function judge(
  { kind, object }: Definition,
  saved: JsonObject,
  { form, target }: TranslationSettings,
  gone: ReadonlySet<string>,
): Verdict {
  const kept = { object, changes: [] };
  if (hasUnreadable(object['arguments'])) {
    return { dropped: 'one of its arguments is not UTF-8, which definitions cannot carry' };
  }
  switch (kind) {
    case 'vhosts':
      return { object: formVhost(object), changes: [] };
    case 'global_parameters':
      return CLUSTERS_OWN.includes(textAt(object, 'name') ?? '')
        ? { dropped: 'the new cluster has its own' }
        : kept;
    case 'parameters':
      return object['component'] === 'operator_policy'
        ? judgePolicy({ kind, object }, saved, form, target)
        : kept;
    case 'policies':
      return judgePolicy({ kind, object }, saved, form, target);
    case 'queues':
      return isBrokersOwn(textAt(object, 'name') ?? '')
        ? { dropped: 'the broker named it, for a client that gets another one when it comes back' }
        : formQueue(object, form, target);
    case 'exchanges':
      return isBrokersOwn(textAt(object, 'name') ?? '')
        ? { dropped: 'every broker makes it itself' }
        : formExchange(object);
    case 'bindings': {
      const missing = endsOf(object).find((id) => gone.has(id));
      return missing === undefined ? kept : { dropped: 'what it binds is not brought back' };
    }
    default:
      return kept;
  }
}

/** Ids of what a binding is between. */
function endsOf({ vhost, source, destination, destination_type: type }: JsonObject): string[] {
  const kind = type === 'exchange' ? 'exchanges' : 'queues';
  return [
    // amq.* are there without being brought in.
    ...(isBrokersOwn(typeof source === 'string' ? source : '')
      ? []
      : [idOf({ kind: 'exchanges', object: { vhost, name: source } })]),
    ...(kind === 'exchanges' && isBrokersOwn(typeof destination === 'string' ? destination : '')
      ? []
      : [idOf({ kind, object: { vhost, name: destination } })]),
  ];
}

/** Without what 3.x writes where it has nothing to say. */
function formVhost(vhost: JsonObject): JsonObject {
  const formed = { ...vhost };
  if (Array.isArray(formed['limits'])) delete formed['limits'];
  if (formed['default_queue_type'] === 'undefined') delete formed['default_queue_type'];
  if (textAt(formed, 'metadata', 'default_queue_type') === 'undefined') {
    const { default_queue_type: _none, ...metadata } = formed['metadata'] as JsonObject;
    formed['metadata'] = metadata;
  }
  return formed;
}

function judgePolicy(definition: Definition, saved: JsonObject, form: QueueForm, target: Version): Verdict {
  const { kind, object } = definition;
  const body = policyBody(object);
  const settings = isObject(body['definition']) ? body['definition'] : {};
  const { definition: formed, changes } = formPolicy(settings, form, target);
  if (Object.keys(formed).length === 0 && changes.length > 0) {
    return { dropped: `it only mirrors queues, which RabbitMQ 4 does not${uncovered(definition, saved)}` };
  }
  const newBody = { ...body, definition: formed };
  return { object: kind === 'policies' ? newBody : { ...object, value: newBody }, changes };
}

/** The policies that a policy has kept from applying: where it goes, they come. */
function uncovered({ kind, object }: Definition, saved: JsonObject): string {
  const rank = (other: JsonObject): number => Number(policyBody(other)['priority'] ?? 0);
  const others = definitionsOf(saved, kind).filter(
    (other) =>
      other !== object &&
      other['vhost'] === object['vhost'] &&
      other['component'] === object['component'] &&
      rank(other) <= rank(object) &&
      overlap(policyBody(other)['apply-to'], policyBody(object)['apply-to']),
  );
  if (others.length === 0) return '';
  const names = others.map((other) => textAt(other, 'name') ?? '').join(', ');
  return `; what it came before applies now where the patterns match: ${names}`;
}

/** Whether two policies can be for the same thing. */
function overlap(a: Json | undefined, b: Json | undefined): boolean {
  const [isForExchanges, isForQueues] = ['exchanges', 'queues'].map((kind) =>
    [a, b].map((applyTo) => typeof applyTo !== 'string' || applyTo === 'all' || applyTo.endsWith(kind)),
  );
  return isForExchanges!.every(Boolean) || isForQueues!.every(Boolean);
}

function hasUnreadable(value: Json | undefined): boolean {
  if (typeof value === 'string') return value.startsWith(NOT_UTF8);
  if (Array.isArray(value)) return value.some(hasUnreadable);
  return (
    isObject(value) &&
    Object.keys(value).some((key) => hasUnreadable(key) || hasUnreadable(valueAt(value, key)))
  );
}
