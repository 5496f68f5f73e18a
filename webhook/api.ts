// Requests to an API server: objects as plain JSON, every request with an end in time, every failure in one line.
import { messageOf } from '../common/errors.ts';
import { isObject, objectsAt, textAt, valueAt } from './json.ts';
import type { OpenCluster } from './kube.ts';
import { type Resource, apiVersionOf, resourceName } from './resources.ts';
import type { Json, KubeObject } from './types.ts';

/** Why a request has no result; the message is fit for users and logs. */
export class ApiFailure extends Error {
  override readonly name = 'ApiFailure';
  /** The HTTP status that was answered; undefined when there was no answer that could be read. */
  readonly code: number | undefined;

  constructor(message: string, code?: number) {
    super(message);
    this.code = code;
  }
}

/** Which objects of a kind: of all namespaces unless one is given. */
export interface Selection {
  readonly namespace?: string;
  readonly labelSelector?: string;
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
}

/** What can be a name: no object has one that would lead a path elsewhere (apimachinery IsValidPathSegmentName). */
const pathSegment = /^(?!\.\.?$)[^/%]+$/;

const PAGE = 500;
/** API servers send a bookmark about once a minute: a watch that is silent for longer hangs. */
const WATCH_SILENCE_MS = 120_000;
const WATCH_SECONDS = 600;

interface Asked {
  /** GET or POST. */
  readonly method: 'GET' | 'POST';
  /** As RBAC calls it. */
  readonly verb: string;
  readonly resource: Resource;
  readonly namespace?: string | undefined;
  readonly name?: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: Json;
  /** In place of the resource's, for what is none. */
  readonly path?: string;
}

function describe({ method, resource, namespace, name, path }: Asked): string {
  if (path !== undefined) return `${method} ${path}`;
  const place = [namespace, name].filter((part) => part !== undefined).join('/');
  return `${method} ${resourceName(resource)}${place === '' ? '' : ` ${place}`}`;
}

function urlOf(server: string, { resource, namespace, name, query = {}, path }: Asked): string {
  const base = server.replace(/\/+$/, '');
  if (path !== undefined) return `${base}${path}`;
  const { group, version, plural } = resource;
  const steps = [
    ...(group === '' ? ['api'] : ['apis', group]),
    version,
    ...(namespace === undefined ? [] : ['namespaces', namespace]),
    plural,
    ...(name === undefined ? [] : [name]),
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

function refused(asked: Asked, code: number): ApiFailure {
  const grant = `: grant this account "${asked.verb}" on ${resourceName(asked.resource)}`;
  const denied = code === 401 || code === 403;
  return new ApiFailure(`the API server answered ${code} to ${describe(asked)}${denied ? grant : ''}`, code);
}

/** Speaks to the API server of a cluster that was opened; it closes nothing. */
export function connectApi({ client, config, server }: OpenCluster): Api {
  const library = new client.IsomorphicFetchHttpLibrary();

  const send = async (asked: Asked, signal: AbortSignal) => {
    const context = new client.RequestContext(
      urlOf(server, asked),
      asked.method === 'GET' ? client.HttpMethod.GET : client.HttpMethod.POST,
    );
    context.setHeaderParam('Accept', 'application/json');
    if (asked.body !== undefined) {
      context.setHeaderParam('Content-Type', 'application/json');
      context.setBody(JSON.stringify(asked.body));
    }
    await config.applySecurityAuthentication(context);
    context.setSignal(signal);
    const answer = await library.send(context).toPromise();
    if (answer.httpStatusCode >= 300) {
      await answer.body.text().catch(() => '');
      throw refused(asked, answer.httpStatusCode);
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

    async list(resource, { namespace, labelSelector }, signal) {
      const items: KubeObject[] = [];
      let next: string | undefined;
      for (;;) {
        const query = { limit: `${PAGE}`, labelSelector, continue: next };
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

    async watch(resource, { namespace, labelSelector, resourceVersion }, handlers, signal) {
      const query = {
        watch: 'true',
        allowWatchBookmarks: 'true',
        timeoutSeconds: `${Math.round(WATCH_SECONDS * (0.5 + Math.random() / 2))}`,
        resourceVersion,
        labelSelector,
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

    async dryRun(resource, object, signal) {
      const namespace = textAt(object, 'metadata', 'namespace');
      const query = { dryRun: 'All' };
      const asked: Asked = { method: 'POST', verb: 'create', resource, namespace, query, body: object };
      const made = await ask(asked, signal);
      if (isKubeObject(made) && made.kind === resource.kind) return made;
      throw new ApiFailure(`the API server answered ${describe(asked)} with something else`);
    },

    async create(resource, object, signal) {
      const namespace = textAt(object, 'metadata', 'namespace');
      const asked: Asked = { method: 'POST', verb: 'create', resource, namespace, body: object };
      try {
        await ask(asked, signal);
        return 'created';
      } catch (error) {
        if (error instanceof ApiFailure && error.code === 409) return 'exists';
        throw error;
      }
    },
  };
}

function isKubeObject(value: Json): value is KubeObject {
  return (
    isObject(value) &&
    typeof value['apiVersion'] === 'string' &&
    typeof value['kind'] === 'string' &&
    isObject(value['metadata'])
  );
}

/** undefined for what says nothing. Throws ApiFailure for the error that ends a watch, such as 410. */
function readEvent(asked: Asked, event: Json): WatchEvent | undefined {
  const type = textAt(event, 'type');
  const object = valueAt(event, 'object');
  if (type === 'ERROR') {
    const code = valueAt(object, 'code');
    throw refused(asked, typeof code === 'number' ? code : 500);
  }
  if (type === 'BOOKMARK') {
    const resourceVersion = textAt(object, 'metadata', 'resourceVersion');
    return resourceVersion === undefined ? undefined : { type: 'bookmark', resourceVersion };
  }
  if (object === undefined || !isKubeObject(object)) return undefined;
  return { type: type === 'DELETED' ? 'delete' : 'put', object };
}

async function* linesOf(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  onData: () => void,
): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of chunks) {
    onData();
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    yield* lines.filter((line) => line !== '');
  }
}

/** The object without what is large and nobody here reads. */
export function trimmed(object: KubeObject): KubeObject {
  const { managedFields: _managed, annotations, ...metadata } = object.metadata;
  if (!isObject(annotations)) return { ...object, metadata };
  const { 'kubectl.kubernetes.io/last-applied-configuration': _applied, ...kept } = annotations;
  return { ...object, metadata: { ...metadata, annotations: kept } };
}
