// Requests to an API server: objects as plain JSON, every request with an end in time, every failure in one line.
import { messageOf } from '../errors.ts';
import { objectsAt, textAt, valueAt } from './json.ts';
import { isKubeObject, linesOf } from './objects.ts';
import type { OpenCluster } from './open.ts';
import { type Resource, apiVersionOf, resourceName } from './resources.ts';
import type { Json, JsonObject, KubeObject } from './types.ts';

/** Why a request has no result; the message is fit for users and logs. */
export class ApiFailure extends Error {
  override readonly name = 'ApiFailure';
  /** The HTTP status that was answered; undefined when there was no answer that could be read. */
  readonly code: number | undefined;
  /** The API server's word for it, such as AlreadyExists or Conflict, where it gave one. */
  readonly reason: string | undefined;

  constructor(message: string, code?: number, reason?: string) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

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
  /** A JSON merge patch (RFC 7386); metadata.uid and metadata.resourceVersion in it are preconditions (409). */
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
/** Of what an API server says when it refuses, which may be long; in characters. */
const MESSAGE_MAX = 500;
/** API servers send a bookmark about once a minute: a watch that is silent for longer hangs. */
const WATCH_SILENCE_MS = 120_000;
const WATCH_SECONDS = 600;

interface Asked {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** As RBAC calls it. */
  readonly verb: string;
  readonly resource: Resource;
  readonly namespace?: string | undefined;
  readonly name?: string;
  readonly subresource?: string | undefined;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: Json;
  /** Of the body; default application/json. */
  readonly type?: string;
  /** In place of the resource's, for what is none. */
  readonly path?: string;
}

function describe({ method, resource, namespace, name, path }: Asked): string {
  if (path !== undefined) return `${method} ${path}`;
  const place = [namespace, name].filter((part) => part !== undefined).join('/');
  return `${method} ${resourceName(resource)}${place === '' ? '' : ` ${place}`}`;
}

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

function failed(asked: Asked, error: unknown): ApiFailure {
  if (error instanceof ApiFailure) return error;
  // The parser quotes what it could not read.
  const why = error instanceof SyntaxError ? 'the answer is not valid JSON' : messageOf(error);
  return new ApiFailure(`${describe(asked)} failed: ${why}`);
}

/** What the API server says of it. Of Secrets nothing is repeated: what it says may quote them. */
function saidOf(asked: Asked, answer: string): { message: string; reason: string | undefined } {
  let status: Json;
  try {
    status = JSON.parse(answer) as Json;
  } catch {
    return { message: '', reason: undefined };
  }
  const message = asked.resource.plural === 'secrets' ? undefined : textAt(status, 'message');
  return {
    message: message === undefined ? '' : `: ${message.slice(0, MESSAGE_MAX)}`,
    reason: textAt(status, 'reason'),
  };
}

function refused(asked: Asked, code: number, answer: string): ApiFailure {
  const { message, reason } = saidOf(asked, answer);
  const what = `the API server answered ${code} to ${describe(asked)}`;
  // Admission refuses with 403, too, and then has more to say than which right is missing.
  const isRight =
    code === 401 ||
    (code === 403 && !/^: (?:admission webhook|.*(?:exceeded quota|violates PodSecurity))/.test(message));
  const resource = `${resourceName(asked.resource)}${asked.subresource === undefined ? '' : `/${asked.subresource}`}`;
  const advice = isRight ? `: grant this account "${asked.verb}" on ${resource}` : message;
  return new ApiFailure(`${what}${advice}`, code, reason);
}

/** Speaks to the API server of a cluster that was opened; it closes nothing. */
export function connectApi({ client, config, server }: OpenCluster): Api {
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
      throw refused(asked, answer.httpStatusCode, await answer.body.text().catch(() => ''));
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
          const event = readEvent(asked, JSON.parse(line) as Json);
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

    patch(resource, { namespace, name }, patch, { subresource }, signal) {
      const type = 'application/merge-patch+json';
      const asked: Asked = {
        method: 'PATCH',
        verb: 'patch',
        resource,
        namespace,
        name,
        subresource,
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
function readEvent(asked: Asked, event: Json): WatchEvent | undefined {
  const type = textAt(event, 'type');
  const object = valueAt(event, 'object');
  if (type === 'ERROR') {
    const code = valueAt(object, 'code');
    throw refused(asked, typeof code === 'number' ? code : 500, JSON.stringify(object ?? null));
  }
  if (type === 'BOOKMARK') {
    const resourceVersion = textAt(object, 'metadata', 'resourceVersion');
    return resourceVersion === undefined ? undefined : { type: 'bookmark', resourceVersion };
  }
  if (object === undefined || !isKubeObject(object)) return undefined;
  return { type: type === 'DELETED' ? 'delete' : 'put', object };
}
