// Requests to an API server: objects as plain JSON, every request with an end in time, every failure in one line.
import { objectsAt, textAt, valueAt } from './json.ts';
import { isKubeObject, linesOf } from './objects.ts';
import type { OpenCluster } from './open.ts';
import { type Advise, ApiFailure, type Asked, GRANT, describe, failed, refused } from './refusal.ts';
import { type Resource, apiVersionOf } from './resources.ts';
import type { Json, JsonObject, KubeObject } from './types.ts';

export { ApiFailure } from './refusal.ts';

/** Which objects of a kind: of all namespaces unless one is given. */
export interface Selection {
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
}

/** Which object of a kind. */
export interface Target {
  readonly namespace?: string;
  readonly name: string;
}

/** What the object has to be still: otherwise the answer is 409. */
export interface Precondition {
  readonly uid?: string;
  readonly resourceVersion?: string;
}

export interface PatchOptions {
  /** `status`: only that is written, and nothing else can write it. */
  readonly subresource?: 'status';
  /**
   * `merge`, the default, is RFC 7386. `strategic` merges a list by the key of its entries; only kinds that are built
   * into API servers have it.
   */
  readonly type?: 'merge' | 'strategic';
  /** Who then owns what is changed; the default is made of the program's name. */
  readonly manager?: string;
}

export interface List {
  readonly items: KubeObject[];
  /** What a watch goes on from. */
  readonly resourceVersion: string;
}

export type WatchEvent =
  | { type: 'put' | 'delete'; object: KubeObject }
  | { type: 'bookmark'; resourceVersion: string };

/** Every method rejects with ApiFailure and ends when the signal does. */
export interface Api {
  /** The API server's address. */
  readonly server: string;
  /** undefined when the object, or its kind, does not exist (404). */
  get(
    resource: Resource,
    namespace: string | undefined,
    name: string,
    signal: AbortSignal,
  ): Promise<KubeObject | undefined>;
  list(resource: Resource, selection: Selection, signal: AbortSignal): Promise<List>;
  /** Calls `onOpen` once, then `onEvent` for each change; ends when the API server ends it, which it does now and then. */
  watch(
    resource: Resource,
    selection: Selection & { resourceVersion: string },
    handlers: { onOpen(): void; onEvent(event: WatchEvent): void },
    signal: AbortSignal,
  ): Promise<void>;
  /** What GET /version says. */
  version(signal: AbortSignal): Promise<Json>;
  /** The object as it would be stored, defaults and admission included; nothing is. */
  dryRun(resource: Resource, object: KubeObject, signal: AbortSignal): Promise<KubeObject>;
  /** 'exists' when there is an object of that name already (409). */
  create(resource: Resource, object: KubeObject, signal: AbortSignal): Promise<'created' | 'exists'>;
  /** Writes the whole object; by its resourceVersion only over what was read (409 otherwise). Resolves to what is stored. */
  replace(resource: Resource, object: KubeObject, signal: AbortSignal): Promise<KubeObject>;
  /**
   * Server-side apply: `manager` then owns exactly the fields given, whoever had them before. Creates what isn't there.
   * Resolves to what is stored.
   */
  apply(resource: Resource, object: KubeObject, manager: string, signal: AbortSignal): Promise<KubeObject>;
  /** Changes what the patch has; metadata.uid and metadata.resourceVersion in it are preconditions (409). */
  patch(
    resource: Resource,
    target: Target,
    patch: JsonObject,
    options: PatchOptions,
    signal: AbortSignal,
  ): Promise<KubeObject>;
  /** 'absent' when there was none. What depends on it is collected in the background. */
  remove(
    resource: Resource,
    target: Target,
    options: Precondition & { gracePeriodSeconds?: number },
    signal: AbortSignal,
  ): Promise<'accepted' | 'absent'>;
}

/** What can be a name: no object has one that would lead a path elsewhere (apimachinery IsValidPathSegmentName). */
const pathSegment = /^(?!\.\.?$)[^/%]+$/;

const PAGE = 500;
/** API servers send a bookmark about once a minute: a watch that is silent for longer hangs. */
const WATCH_SILENCE_MS = 120_000;
const WATCH_SECONDS = 600;

function urlOf(server: string, { resource, namespace, name, subresource, query = {}, path }: Asked): string {
  const base = server.replace(/\/+$/, '');
  if (path !== undefined) return `${base}${path}`;
  const { group, version, plural } = resource;
  const steps = [
    ...(group === '' ? ['api'] : ['apis', group]),
    version,
    ...(namespace === undefined ? [] : ['namespaces', namespace]),
    plural,
    ...(name === undefined ? [] : [name]),
    ...(subresource === undefined ? [] : [subresource]),
  ];
  const url = new URL(`${base}/${steps.map(encodeURIComponent).join('/')}`);
  for (const [key, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(key, value);
  return url.href;
}

/**
 * Speaks to the API server of a cluster that was opened; it closes nothing.
 * @param advise what the error of a request says for which the account has no right.
 */
export function connectApi({ client, config, server }: OpenCluster, advise = GRANT): Api {
  const library = new client.IsomorphicFetchHttpLibrary();

  const send = async (asked: Asked, signal: AbortSignal) => {
    const context = new client.RequestContext(urlOf(server, asked), client.HttpMethod[asked.method]);
    context.setHeaderParam('Accept', 'application/json');
    if (asked.body !== undefined) {
      context.setHeaderParam('Content-Type', asked.type ?? 'application/json');
      context.setBody(JSON.stringify(asked.body));
    }
    await config.applySecurityAuthentication(context);
    context.setSignal(signal);
    const answer = await library.send(context).toPromise();
    if (answer.httpStatusCode >= 300) {
      throw refused(asked, answer.httpStatusCode, await answer.body.text().catch(() => ''), advise);
    }
    return answer;
  };

  const ask = async (asked: Asked, signal: AbortSignal): Promise<Json> => {
    try {
      const answer = await send(asked, signal);
      return JSON.parse(await answer.body.text()) as Json;
    } catch (error) {
      throw failed(asked, error);
    }
  };

  const askObject = async (asked: Asked, signal: AbortSignal): Promise<KubeObject> => {
    const stored = await ask(asked, signal);
    if (isKubeObject(stored) && stored.kind === asked.resource.kind) return stored;
    throw new ApiFailure(`the API server answered ${describe(asked)} with something else`);
  };

  return {
    server,
    async get(resource, namespace, name, signal) {
      if (![name, namespace ?? 'x'].every((part) => pathSegment.test(part))) return undefined;
      const asked: Asked = { method: 'GET', verb: 'get', resource, namespace, name };
      let found: Json;
      try {
        found = await ask(asked, signal);
      } catch (error) {
        if (error instanceof ApiFailure && error.code === 404) return undefined;
        throw error;
      }
      if (!isKubeObject(found) || found.kind !== resource.kind || found.metadata['name'] !== name) {
        throw new ApiFailure(`the API server answered ${describe(asked)} with something else`);
      }
      return found;
    },

    async list(resource, { namespace, labelSelector, fieldSelector }, signal) {
      const items: KubeObject[] = [];
      let next: string | undefined;
      for (;;) {
        const query = { limit: `${PAGE}`, labelSelector, fieldSelector, continue: next };
        const asked: Asked = { method: 'GET', verb: 'list', resource, namespace, query };
        const page = await ask(asked, signal);
        const resourceVersion = textAt(page, 'metadata', 'resourceVersion');
        if (resourceVersion === undefined || !Array.isArray(valueAt(page, 'items'))) {
          throw new ApiFailure(`the API server answered ${describe(asked)} with something else`);
        }
        // Items of a list leave out what the list says for all.
        const type = { apiVersion: apiVersionOf(resource), kind: resource.kind };
        items.push(
          ...objectsAt(page, 'items')
            .map((item) => ({ ...item, ...type }))
            .filter(isKubeObject),
        );
        next = textAt(page, 'metadata', 'continue') || undefined;
        if (next === undefined) return { items, resourceVersion };
      }
    },

    async watch(resource, { namespace, labelSelector, fieldSelector, resourceVersion }, handlers, signal) {
      const query = {
        watch: 'true',
        allowWatchBookmarks: 'true',
        timeoutSeconds: `${Math.round(WATCH_SECONDS * (0.5 + Math.random() / 2))}`,
        resourceVersion,
        labelSelector,
        fieldSelector,
      };
      const asked: Asked = { method: 'GET', verb: 'watch', resource, namespace, query };
      const silence = new AbortController();
      const timer = setTimeout(() => silence.abort(new Error('it is silent')), WATCH_SILENCE_MS);
      try {
        const answer = await send(asked, AbortSignal.any([signal, silence.signal]));
        handlers.onOpen();
        for await (const line of linesOf(answer.body.stream() ?? [], () => timer.refresh())) {
          const event = readEvent(asked, JSON.parse(line) as Json, advise);
          if (event !== undefined) handlers.onEvent(event);
        }
      } catch (error) {
        throw failed(asked, error);
      } finally {
        clearTimeout(timer);
        silence.abort();
      }
    },

    version(signal) {
      const resource = { group: '', version: '', kind: 'Version', plural: '/version' };
      return ask({ method: 'GET', verb: 'get', resource, path: '/version' }, signal);
    },

    dryRun(resource, object, signal) {
      const namespace = textAt(object, 'metadata', 'namespace');
      const query = { dryRun: 'All' };
      return askObject({ method: 'POST', verb: 'create', resource, namespace, query, body: object }, signal);
    },

    async create(resource, object, signal) {
      const namespace = textAt(object, 'metadata', 'namespace');
      const asked: Asked = { method: 'POST', verb: 'create', resource, namespace, body: object };
      try {
        await ask(asked, signal);
        return 'created';
      } catch (error) {
        if (error instanceof ApiFailure && error.code === 409 && error.reason !== 'Conflict') return 'exists';
        throw error;
      }
    },

    replace(resource, object, signal) {
      return askObject({ method: 'PUT', verb: 'update', ...placeOf(resource, object), body: object }, signal);
    },

    apply(resource, object, manager, signal) {
      const query = { fieldManager: manager, force: 'true' };
      const type = 'application/apply-patch+yaml';
      const asked: Asked = {
        method: 'PATCH',
        verb: 'patch',
        ...placeOf(resource, object),
        query,
        type,
        body: object,
      };
      return askObject(asked, signal);
    },

    patch(resource, { namespace, name }, patch, { subresource, type: kind = 'merge', manager }, signal) {
      const query = { fieldManager: manager };
      const type =
        kind === 'merge' ? 'application/merge-patch+json' : 'application/strategic-merge-patch+json';
      const asked: Asked = {
        method: 'PATCH',
        verb: 'patch',
        resource,
        namespace,
        name,
        subresource,
        query,
        type,
        body: patch,
      };
      return askObject(asked, signal);
    },

    async remove(resource, { namespace, name }, { gracePeriodSeconds, ...preconditions }, signal) {
      const body: JsonObject = {
        apiVersion: 'v1',
        kind: 'DeleteOptions',
        propagationPolicy: 'Background',
        preconditions: { ...preconditions },
        ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
      };
      try {
        await ask({ method: 'DELETE', verb: 'delete', resource, namespace, name, body }, signal);
        return 'accepted';
      } catch (error) {
        if (error instanceof ApiFailure && error.code === 404) return 'absent';
        throw error;
      }
    },
  };
}

function placeOf(resource: Resource, object: KubeObject): Pick<Asked, 'resource' | 'namespace' | 'name'> {
  const name = textAt(object, 'metadata', 'name') ?? '';
  return { resource, namespace: textAt(object, 'metadata', 'namespace'), name };
}

/** undefined for what says nothing. Throws ApiFailure for the error that ends a watch, such as 410. */
function readEvent(asked: Asked, event: Json, advise: Advise): WatchEvent | undefined {
  const type = textAt(event, 'type');
  const object = valueAt(event, 'object');
  if (type === 'ERROR') {
    const code = valueAt(object, 'code');
    throw refused(asked, typeof code === 'number' ? code : 500, JSON.stringify(object ?? null), advise);
  }
  if (type === 'BOOKMARK') {
    const resourceVersion = textAt(object, 'metadata', 'resourceVersion');
    return resourceVersion === undefined ? undefined : { type: 'bookmark', resourceVersion };
  }
  if (object === undefined || !isKubeObject(object)) return undefined;
  return { type: type === 'DELETED' ? 'delete' : 'put', object };
}
