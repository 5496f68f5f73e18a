import { messageOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { Api } from '../common/kube/api.ts';
import { trimmed } from '../common/kube/objects.ts';
import { textAt } from '../common/kube/json.ts';
import { type Get, findOwner, namesOwner } from './owner.ts';
import { type Follower, type Reflector, startReflector } from '../common/kube/reflector.ts';
import { RABBITMQ } from '../common/kube/resources.ts';
import type { KubeObject } from '../common/kube/types.ts';
import type { OwnerFacts } from './types.ts';

/** All RabbitMqs, as a watch keeps them. */
export interface OwnerCache extends Pick<Reflector, 'synced' | 'watching' | 'failures' | 'trouble' | 'stop'> {
  readonly size: number;
  get(namespace: string, name: string): KubeObject | undefined;
}

/** What was found out about an owner, and where. */
export interface FoundOwner {
  readonly owner: OwnerFacts;
  readonly source: 'cache' | 'live';
}

export interface OwnerLookup {
  /**
   * The RabbitMq behind an object. Never rejects: what can't be found out within the time limit is `unknown`, and says why.
   * @param stored true for an object that exists: the cache may answer. A new one was made by somebody who has just
   *   written to the RabbitMq, which the cache may not know yet, so that the API server is asked.
   */
  find(object: KubeObject, namespace: string | undefined, stored: boolean): Promise<FoundOwner>;
}

function keyOf(object: KubeObject): string {
  return `${textAt(object, 'metadata', 'namespace')}/${textAt(object, 'metadata', 'name')}`;
}

/** Starts to keep all RabbitMqs in memory, by list and watch. */
export function startOwnerCache(
  api: Api,
  log: Logger,
  backoff?: { firstMs: number; maxMs: number },
): OwnerCache {
  const objects = new Map<string, KubeObject>();
  const follower: Follower = {
    replace(all) {
      objects.clear();
      for (const object of all) follower.put(object);
    },
    put: (object) => void objects.set(keyOf(object), trimmed(object)),
    remove: (object) => void objects.delete(keyOf(object)),
  };
  const reflector = startReflector({ api, resource: RABBITMQ, follower, log, ...(backoff && { backoff }) });
  return {
    get synced() {
      return reflector.synced;
    },
    get watching() {
      return reflector.watching;
    },
    get failures() {
      return reflector.failures;
    },
    get trouble() {
      return reflector.trouble;
    },
    get size() {
      return objects.size;
    },
    get: (namespace, name) => objects.get(`${namespace}/${name}`),
    stop: () => reflector.stop(),
  };
}

/**
 * Looks up owners, each in at most `timeoutMs` however many requests that needs.
 * @param cache absent: every question goes to the API server
 */
export function ownerLookup(api: Api, timeoutMs: number, cache?: OwnerCache): OwnerLookup {
  const live = async (object: KubeObject, namespace: string): Promise<OwnerFacts> => {
    const deadline = Promise.withResolvers<OwnerFacts>();
    const abort = new AbortController();
    const timer = setTimeout(() => {
      deadline.resolve({ state: 'unknown', why: `the API server did not answer within ${timeoutMs} ms` });
      abort.abort();
    }, timeoutMs);
    const get: Get = (resource, inNamespace, name) => api.get(resource, inNamespace, name, abort.signal);
    try {
      return await Promise.race([findOwner(get, object, namespace), deadline.promise]);
    } catch (error) {
      return { state: 'unknown', why: messageOf(error) };
    } finally {
      clearTimeout(timer);
    }
  };
  const known = async (object: KubeObject, namespace: string): Promise<OwnerFacts | undefined> => {
    if (cache?.watching !== true) return undefined;
    let asked = false;
    const owner = await findOwner(
      (resource, inNamespace, name) => {
        if (resource !== RABBITMQ) asked = true;
        return Promise.resolve(resource === RABBITMQ ? cache.get(inNamespace, name) : undefined);
      },
      object,
      namespace,
    );
    // Of an owner that the object names, or that only its RabbitmqCluster knows, absence is to be seen live.
    return owner.state !== 'found' && (asked || namesOwner(object)) ? undefined : owner;
  };
  return {
    async find(object, namespace, stored) {
      if (namespace === undefined) return { owner: { state: 'absent' }, source: 'live' };
      const owner = stored ? await known(object, namespace) : undefined;
      if (owner !== undefined) return { owner, source: 'cache' };
      return { owner: await live(object, namespace), source: 'live' };
    },
  };
}
