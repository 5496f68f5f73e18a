import { createHash } from 'node:crypto';
import type { Json, JsonObject } from './types.ts';

/** True for a JSON object: not null and not an array. */
export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The value at `path`, or undefined when a step is missing or of another shape. Never throws. */
export function valueAt(root: Json | undefined, ...path: (string | number)[]): Json | undefined {
  let value = root;
  for (const step of path) {
    if (typeof step === 'number') value = Array.isArray(value) ? value[step] : undefined;
    else value = isObject(value) && Object.hasOwn(value, step) ? value[step] : undefined;
  }
  return value;
}

/** As `valueAt`, for text: undefined unless it is a string. */
export function textAt(root: Json | undefined, ...path: (string | number)[]): string | undefined {
  const value = valueAt(root, ...path);
  return typeof value === 'string' ? value : undefined;
}

/** As `valueAt`, for a list of objects: what is no object is left out, what is no list is empty. */
export function objectsAt(root: Json | undefined, ...path: (string | number)[]): JsonObject[] {
  const value = valueAt(root, ...path);
  return Array.isArray(value) ? value.filter(isObject) : [];
}

/** The entry of a list whose `name` is `name`, as in containers, volumes and environments. */
export function named(list: JsonObject[], name: string): JsonObject | undefined {
  return list.find((entry) => entry['name'] === name);
}

/** Takes the entries named `name` out of the list `holder[key]`; whatever else is in it stays. */
export function dropNamed(holder: JsonObject, key: string, name: string): void {
  const list = holder[key];
  if (Array.isArray(list)) holder[key] = list.filter((entry) => !isObject(entry) || entry['name'] !== name);
}

/** JSON text with sorted keys: equal values give equal text, whatever order the API server sent their keys in. */
export function canonical(value: Json | undefined): string {
  return JSON.stringify(value, (_key, inner: Json) =>
    isObject(inner) ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1))) : inner,
  );
}

/** True when both are the same JSON value; the order of keys is no part of a value. */
export function same(a: Json | undefined, b: Json | undefined): boolean {
  return a === b || canonical(a) === canonical(b);
}

/** A short SHA-256 of text: 16 hexadecimal digits, enough to notice an edit. */
export function fingerprint(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/**
 * A copy that shares nothing with the original, and whose parts share nothing with each other: YAML's aliases make
 * values where one object stands in several places, and structuredClone would keep it so.
 */
export function copy<T extends Json>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}
