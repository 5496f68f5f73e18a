// An API server in memory, as far as the reconciler uses one: for tests that run an upgrade thousands of times. What it is
// to be like is shown by test/cluster, where the same code runs against a real one.
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { type Api, ApiFailure, type Target } from '../../common/kube/api.ts';
import { isObject, objectsAt, textAt, valueAt } from '../../common/kube/json.ts';
import { type Resource, resourceName } from '../../common/kube/resources.ts';
import type { Json, JsonObject, KubeObject } from '../../common/kube/types.ts';

/** A write that was asked for. */
export interface Write {
  readonly verb: 'create' | 'patch' | 'delete' | 'replace';
  readonly resource: Resource;
  readonly target: Target;
  readonly body: JsonObject;
  /** What was stored before. */
  readonly before: KubeObject | undefined;
}

/** Thrown in place of an answer, as if the process had ended there. */
export class Crash extends Error {
  override readonly name = 'Crash';
}

function merge(base: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const result: JsonObject = isObject(base) ? { ...base } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null || value === undefined) delete result[key];
    else result[key] = merge(result[key], value);
  }
  return result;
}

function fail(code: number, reason: string, what: string): never {
  throw new ApiFailure(`the API server answered ${code} to ${what}`, code, reason);
}

export class MemoryApi implements Api {
  readonly server = 'memory';
  readonly #objects = new Map<string, { resource: Resource; object: KubeObject }>();
  #version = 0;
  /** Called for every write before it is done; what it throws is the answer. */
  before: (write: Write) => void = () => {};
  /** Called for every write that was done, whether it has changed anything or not; what it throws is the answer. */
  after: (write: Write, hasChanged: boolean) => void = () => {};
  /** Called for every read. */
  reading: () => void = () => {};
  now: () => Date = () => new Date();

  #key(resource: Resource, namespace: string | undefined, name: string): string {
    return `${resourceName(resource)}|${namespace ?? ''}|${name}`;
  }

  #store(resource: Resource, object: KubeObject): KubeObject {
    const stored = structuredClone(object);
    stored.metadata['resourceVersion'] = `${++this.#version}`;
    const { namespace, name } = placeOf(stored);
    this.#objects.set(this.#key(resource, namespace, name), { resource, object: stored });
    return structuredClone(stored);
  }

  /** For the world around the reconciler: no hooks, no preconditions. */
  peek(resource: Resource, namespace: string, name: string): KubeObject | undefined {
    return structuredClone(this.#objects.get(this.#key(resource, namespace, name))?.object);
  }

  all(resource: Resource): KubeObject[] {
    const found = [...this.#objects.values()].filter(
      (each) => resourceName(each.resource) === resourceName(resource),
    );
    return found.map(({ object }) => structuredClone(object));
  }

  put(resource: Resource, object: KubeObject): KubeObject {
    const { namespace, name } = placeOf(object);
    const old = this.#objects.get(this.#key(resource, namespace, name))?.object;
    const metadata = { uid: randomUUID(), generation: 1, ...old?.metadata, ...object.metadata };
    return this.#store(resource, { ...object, metadata });
  }

  /** Ends an object whatever holds it, and what it owns. */
  drop(resource: Resource, namespace: string, name: string): void {
    const key = this.#key(resource, namespace, name);
    const uid = textAt(this.#objects.get(key)?.object, 'metadata', 'uid');
    this.#objects.delete(key);
    if (uid === undefined) return;
    for (const { resource: kind, object } of this.#objects.values()) {
      const owners = objectsAt(object, 'metadata', 'ownerReferences');
      const place = placeOf(object);
      if (owners.some((owner) => owner['uid'] === uid)) this.#remove(kind, place, object);
    }
  }

  #remove(resource: Resource, { namespace, name }: Target, object: KubeObject): void {
    const finalizers = valueAt(object, 'metadata', 'finalizers');
    const isHeld = (Array.isArray(finalizers) && finalizers.length > 0) || resource.kind === 'Pod';
    if (!isHeld) {
      this.drop(resource, namespace ?? '', name);
      return;
    }
    if (textAt(object, 'metadata', 'deletionTimestamp') !== undefined) return;
    const grace =
      resource.kind === 'Pod' ? Number(valueAt(object, 'spec', 'terminationGracePeriodSeconds') ?? 30) : 0;
    const deletionTimestamp = new Date(this.now().getTime() + grace * 1000).toISOString();
    const metadata = { ...object.metadata, deletionTimestamp, deletionGracePeriodSeconds: grace };
    this.#store(resource, { ...object, metadata });
  }

  async #write<T>(
    { verb, resource, target, body }: Omit<Write, 'before'>,
    perform: (before: KubeObject | undefined) => T,
  ): Promise<T> {
    await Promise.resolve();
    const write = { verb, resource, target, body };
    this.before({ ...write, before: this.peek(resource, target.namespace ?? '', target.name) });
    // The hook may have written.
    const before = this.peek(resource, target.namespace ?? '', target.name);
    const version = this.#version;
    const result = perform(before);
    this.after({ ...write, before }, this.#version !== version || verb === 'delete');
    return result;
  }

  async get(
    resource: Resource,
    namespace: string | undefined,
    name: string,
  ): Promise<KubeObject | undefined> {
    await Promise.resolve();
    this.reading();
    return this.peek(resource, namespace ?? '', name);
  }

  async list(
    resource: Resource,
    { namespace, labelSelector = '' }: { namespace?: string; labelSelector?: string },
  ) {
    await Promise.resolve();
    this.reading();
    const wanted = labelSelector.split(',').filter((part) => part !== '');
    const items = this.all(resource).filter(
      (object) =>
        (namespace === undefined || textAt(object, 'metadata', 'namespace') === namespace) &&
        wanted.every((part) => {
          const [key = '', value] = part.split('=');
          return textAt(object, 'metadata', 'labels', key) === value;
        }),
    );
    return { items, resourceVersion: `${this.#version}` };
  }

  watch(): Promise<void> {
    return Promise.reject(new Error('nothing is watched in memory'));
  }

  version(): Promise<Json> {
    return Promise.resolve({ major: '1', minor: '34' });
  }

  dryRun(_resource: Resource, object: KubeObject): Promise<KubeObject> {
    return Promise.resolve(object);
  }

  create(resource: Resource, object: KubeObject): Promise<'created' | 'exists'> {
    const target = placeOf(object);
    return this.#write({ verb: 'create', resource, target, body: object }, (before) => {
      if (before !== undefined) return 'exists';
      const { status: _status, ...rest } = object;
      const metadata = { ...object.metadata, uid: randomUUID(), generation: 1 };
      this.#store(resource, { ...rest, metadata });
      return 'created';
    });
  }

  replace(resource: Resource, object: KubeObject): Promise<KubeObject> {
    const target = placeOf(object);
    return this.#write({ verb: 'replace', resource, target, body: object }, (before) => {
      if (before === undefined) fail(404, 'NotFound', 'PUT');
      const version = textAt(object, 'metadata', 'resourceVersion');
      if (version !== undefined && version !== textAt(before, 'metadata', 'resourceVersion')) {
        fail(409, 'Conflict', 'PUT');
      }
      return this.#store(resource, { ...object, metadata: { ...before.metadata, ...object.metadata } });
    });
  }

  apply(): Promise<KubeObject> {
    return Promise.reject(new Error('nothing is applied in memory'));
  }

  patch(
    resource: Resource,
    target: Target,
    patch: JsonObject,
    { subresource }: { subresource?: 'status' },
  ): Promise<KubeObject> {
    return this.#write({ verb: 'patch', resource, target, body: patch }, (before) => {
      if (before === undefined) fail(404, 'NotFound', `PATCH ${target.name}`);
      const { uid, resourceVersion, ...metadata } = (patch['metadata'] ?? {}) as JsonObject;
      const stored = before.metadata;
      const isStale = resourceVersion !== undefined && resourceVersion !== stored['resourceVersion'];
      if (isStale || (uid !== undefined && uid !== stored['uid']))
        fail(409, 'Conflict', `PATCH ${target.name}`);
      const { status, ...rest } = patch;
      const change: JsonObject = subresource === 'status' ? { status } : { ...rest, metadata };
      const next = merge(before, change) as KubeObject;
      if (isDeepStrictEqual(next, before)) return structuredClone(before);
      if (!isDeepStrictEqual(next['spec'], before['spec'])) {
        next.metadata['generation'] = Number(stored['generation'] ?? 0) + 1;
      }
      const finalizers = next.metadata['finalizers'];
      const isHeld = Array.isArray(finalizers) && finalizers.length > 0;
      if (next.metadata['deletionTimestamp'] !== undefined && !isHeld && resource.kind !== 'Pod') {
        this.drop(resource, target.namespace ?? '', target.name);
        return next;
      }
      return this.#store(resource, next);
    });
  }

  remove(
    resource: Resource,
    target: Target,
    { uid, resourceVersion }: { uid?: string; resourceVersion?: string },
  ): Promise<'accepted' | 'absent'> {
    return this.#write({ verb: 'delete', resource, target, body: {} }, (before) => {
      if (before === undefined) return 'absent';
      const { metadata } = before;
      const isOther = uid !== undefined && uid !== metadata['uid'];
      if (isOther || (resourceVersion !== undefined && resourceVersion !== metadata['resourceVersion'])) {
        fail(409, 'Conflict', `DELETE ${target.name}`);
      }
      this.#remove(resource, target, before);
      return 'accepted';
    });
  }
}

function placeOf(object: KubeObject): { namespace: string; name: string } {
  return {
    namespace: textAt(object, 'metadata', 'namespace') ?? '',
    name: textAt(object, 'metadata', 'name') ?? '',
  };
}
