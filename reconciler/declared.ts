// Compares what somebody declares with what is there, as server-side apply would: only what is declared counts.
import { PROXY_CONTAINER, RABBITMQ_CONTAINER } from '../common/contract.ts';
import { copy, isObject, named, objectsAt, same, textAt } from '../common/kube/json.ts';
import { quantity } from '../common/kube/quantity.ts';
import type { Json, JsonObject } from '../common/kube/types.ts';

/** Lists whose entries are told apart by a key, which every entry has (the x-kubernetes-list-map-keys of pods). */
const KEYS: Readonly<Record<string, string>> = {
  containers: 'name',
  initContainers: 'name',
  volumes: 'name',
  env: 'name',
  imagePullSecrets: 'name',
  volumeMounts: 'mountPath',
  volumeDevices: 'devicePath',
};

/** Fields below which texts are amounts: the same amount may be written in several ways. */
const AMOUNTS = new Set(['limits', 'requests', 'storage', 'sizeLimit']);

/** The injection puts its own in their place, and the user's back when it goes. */
const PROBES = ['readinessProbe', 'livenessProbe', 'startupProbe'];

/**
 * A merge patch (RFC 7386) after which `actual` has everything of `declared`; undefined where it has that already. Fields that
 * are not declared stay, null declares nothing, and entries of lists of named ones are compared one by one, in whatever
 * order. Where the injected proxy is, the probes of RabbitMQ's container are the injection's, and no difference.
 */
export function difference(actual: Json | undefined, declared: Json | undefined): Json | undefined {
  return differ(actual, declared, { field: '', isAmount: false });
}

interface Place {
  /** The field that the values stand in; that of the list for its entries. */
  readonly field: string;
  readonly isAmount: boolean;
}

function differ(actual: Json | undefined, declared: Json | undefined, place: Place): Json | undefined {
  if (declared === undefined || declared === null) return undefined;
  if (isObject(declared)) {
    const patch = objectDifference(isObject(actual) ? actual : {}, declared, place);
    return patch ?? (isObject(actual) ? undefined : {});
  }
  if (Array.isArray(declared)) return listDifference(actual, declared, place);
  if (same(actual, declared)) return undefined;
  const amount = place.isAmount ? quantity(declared) : undefined;
  return amount !== undefined && quantity(actual) === amount ? undefined : declared;
}

function objectDifference(actual: JsonObject, declared: JsonObject, place: Place): JsonObject | undefined {
  const isInjected = named(objectsAt(actual, 'containers'), PROXY_CONTAINER) !== undefined;
  const patch: JsonObject = {};
  for (const [field, value] of Object.entries(declared)) {
    const isAmount = place.isAmount || AMOUNTS.has(field);
    const wanted = isInjected || isNativeIn(actual) ? withoutProbes(field, value) : value;
    const change = differ(actual[field], wanted, { field, isAmount });
    if (change !== undefined) patch[field] = change;
  }
  return Object.keys(patch).length === 0 ? undefined : patch;
}

function isNativeIn(podSpec: JsonObject): boolean {
  return named(objectsAt(podSpec, 'initContainers'), PROXY_CONTAINER) !== undefined;
}

function withoutProbes(field: string, value: Json | undefined): Json | undefined {
  if (field !== 'containers' || !Array.isArray(value)) return value;
  return value.map((entry) =>
    isObject(entry) && entry['name'] === RABBITMQ_CONTAINER
      ? Object.fromEntries(Object.entries(entry).filter(([key]) => !PROBES.includes(key)))
      : entry,
  );
}

/** A merge patch replaces lists: the result is the whole of it. */
function listDifference(actual: Json | undefined, declared: Json[], place: Place): Json[] | undefined {
  // Programs in Go leave empty lists out when they write an object back; only `containers` has to be there.
  if (declared.length === 0 && actual === undefined && place.field !== 'containers') return undefined;
  const before = Array.isArray(actual) ? actual : [];
  const key = keyOf(place.field, declared);
  if (key === undefined) {
    const isSame =
      Array.isArray(actual) &&
      before.length === declared.length &&
      declared.every((entry, index) => differ(before[index], entry, place) === undefined);
    return isSame ? undefined : copy(declared);
  }
  const result = [...before];
  let isChanged = !Array.isArray(actual);
  for (const entry of declared) {
    const at = result.findIndex((each) => textAt(each, key) === textAt(entry, key));
    const change = differ(result[at], entry, { ...place, field: '' });
    if (change === undefined) continue;
    isChanged = true;
    if (at < 0) result.push(copy(entry));
    else result[at] = merged(result[at], change);
  }
  return isChanged ? result : undefined;
}

/** The field by which the entries are told apart; undefined where they can't be. */
function keyOf(field: string, declared: Json[]): string | undefined {
  const key = KEYS[field];
  if (key === undefined) return undefined;
  const names = declared.map((entry) => textAt(entry, key));
  return new Set(names).size === names.length && !names.includes(undefined) ? key : undefined;
}

/** What a merge patch makes of a value; shares nothing with either. */
export function merged(value: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return copy(patch);
  const result: JsonObject = isObject(value) ? copy(value) : {};
  for (const [field, change] of Object.entries(patch)) {
    if (change === null) delete result[field];
    else if (change !== undefined) result[field] = merged(result[field], change);
  }
  return result;
}
