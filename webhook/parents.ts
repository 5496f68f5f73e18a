import { isObject, valueAt } from '../common/kube/json.ts';
import { Refusal } from './refusal.ts';
import type { Json, JsonObject } from '../common/kube/types.ts';

/**
 * What stood at the places that the injection had to fill before it could put something there: nothing, or null.
 * By field name below the object, such as "spec.override"; what had to be made below such a place is not listed.
 */
export type CreatedParents = Record<string, 'absent' | 'null'>;

/** Walks down an object along keys, makes what is missing, and notes it. */
export class Parents {
  private readonly root: JsonObject;
  readonly created: CreatedParents = {};

  constructor(root: JsonObject) {
    this.root = root;
  }

  /** The object at `path`; made when missing. Throws Refusal when something else is there. */
  object(path: string[]): JsonObject {
    return this.walk(path, () => ({}), isObject, 'an object');
  }

  /** The list of objects at `path`; made when missing. Throws Refusal when something else is there. */
  list(path: string[]): JsonObject[] {
    return this.walk(path, () => [], isObjectList, 'a list of objects');
  }

  /** The text at `path`, "" when missing. Throws Refusal when something else is there. */
  text(path: string[]): string {
    return this.walk(path, () => '', isText, 'a text');
  }

  private walk<T extends Json>(
    path: string[],
    make: () => T,
    is: (value: Json | undefined) => value is T,
    expected: string,
  ): T {
    const key = path.at(-1)!;
    const holder = path.length === 1 ? this.root : this.object(path.slice(0, -1));
    const value = Object.hasOwn(holder, key) ? holder[key] : undefined;
    if (value === undefined || value === null) {
      if (!path.some((_step, depth) => path.slice(0, depth).join('.') in this.created)) {
        this.created[path.join('.')] = value === null ? 'null' : 'absent';
      }
      const made = make();
      holder[key] = made;
      return made;
    }
    if (!is(value)) throw new Refusal(path, `is not ${expected}: correct it`);
    return value;
  }
}

/**
 * Takes away what `Parents` made, where nothing of anybody else's has come to stand in it.
 * @param places the paths that the injection fills.
 */
export function pruneParents(root: JsonObject, created: CreatedParents, places: string[][]): void {
  const prefixes = places.flatMap((path) => path.map((_step, depth) => path.slice(0, depth + 1)));
  for (const path of prefixes.sort((a, b) => b.length - a.length)) {
    const isMade = path.some((_step, depth) => path.slice(0, depth + 1).join('.') in created);
    const holder = valueAt(root, ...path.slice(0, -1));
    const key = path.at(-1)!;
    if (!isMade || !isObject(holder) || !Object.hasOwn(holder, key) || !isEmpty(holder[key])) continue;
    if (created[path.join('.')] === 'null') holder[key] = null;
    else delete holder[key];
  }
}

function isEmpty(value: Json | undefined): boolean {
  if (value === '' || value === undefined || value === null) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

function isText(value: Json | undefined): value is string {
  return typeof value === 'string';
}

function isObjectList(value: Json | undefined): value is JsonObject[] {
  return Array.isArray(value) && value.every(isObject);
}
