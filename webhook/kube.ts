// Asks the API server which RabbitMq stands behind an object. The only file of this room that loads the Kubernetes
// client, and only when there is a cluster to ask: loading it takes about 100 MB.
import type * as Client from '@kubernetes/client-node';
import { UsageError, messageOf } from '../common/errors.ts';
import type { ClusterAccess } from './access.ts';
import { isObject, textAt } from './json.ts';
import { type Get, RESOURCES, findOwner } from './owner.ts';
import type { Json, KubeObject, OwnerFacts } from './types.ts';

/** Looks up owners by live requests: what was patched a moment ago must be seen. */
export interface OwnerLookup {
  /** The API server's address. */
  readonly server: string;
  /** Never rejects: what can't be found out within the time limit is `unknown`, and says why. */
  find(object: KubeObject, namespace: string | undefined): Promise<OwnerFacts>;
  close(): Promise<void>;
}

/** Why a question has no answer; the message is fit for users and logs. */
class LookupFailure extends Error {}

function explain(error: unknown, what: string): LookupFailure {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 401 || code === 403) {
    return new LookupFailure(
      `the API server answered ${code} to GET ${what}: grant the webhook's account "get" on ${RESOURCES.join(' and ')}`,
    );
  }
  if (typeof code === 'number') return new LookupFailure(`the API server answered ${code} to GET ${what}`);
  // The parser quotes what it could not read.
  const why = error instanceof SyntaxError ? 'the answer is not valid JSON' : messageOf(error);
  return new LookupFailure(`GET ${what} failed: ${why}`);
}

interface Closable {
  /** Ends once the requests under way are done. */
  close(): Promise<void>;
  /** Ends now. */
  destroy(): Promise<void>;
}

/**
 * Makes the client reuse one connection pool until the TLS files change. By itself client-node 2.0 makes an undici
 * Agent, and so a TLS handshake, for every request; the method is private in its types only.
 */
function memoiseDispatcher(config: Client.KubeConfig): { destroy(): Promise<void> } {
  const create = Reflect.get(config, 'createDispatcher') as (
    cluster: unknown,
    options: TlsMaterial,
  ) => Closable;
  let current: { fingerprint: string; dispatcher: Closable | undefined } | undefined;
  const memoised = (cluster: unknown, options: TlsMaterial): Closable | undefined => {
    const fingerprint = [options.ca, options.cert, options.key].map(String).join('\n');
    if (current?.fingerprint !== fingerprint) {
      void current?.dispatcher?.close();
      current = { fingerprint, dispatcher: create.call(config, cluster, options) };
    }
    return current.dispatcher;
  };
  Object.defineProperty(config, 'createDispatcher', { value: memoised });
  return { destroy: async () => current?.dispatcher?.destroy() };
}

interface TlsMaterial {
  readonly ca?: unknown;
  readonly cert?: unknown;
  readonly key?: unknown;
}

type ClientModule = typeof Client;

function loadConfig(client: ClientModule, cluster: ClusterAccess): Client.KubeConfig {
  const config = new client.KubeConfig();
  if (cluster.from === 'service account') {
    config.loadFromCluster();
    return config;
  }
  for (const file of cluster.files) {
    const part = new client.KubeConfig();
    try {
      part.loadFromFile(file);
      // As kubectl merges: the first file that says something wins.
      const context = config.getCurrentContext() || part.getCurrentContext();
      config.mergeConfig(part);
      config.setCurrentContext(context);
    } catch (error) {
      throw new UsageError(`option --kubeconfig: ${file} is not a usable kubeconfig: ${firstLine(error)}`);
    }
  }
  return config;
}

/** The YAML parser's message goes on with an excerpt of the file, which holds credentials. */
function firstLine(error: unknown): string {
  return messageOf(error).split('\n', 1)[0] ?? '';
}

/** What can be a name: no object has one that would lead a path elsewhere (apimachinery IsValidPathSegmentName). */
const pathSegment = /^(?!\.\.?$)[^/%]+$/;

/** Whether the answer is the object that was asked for. */
function isObjectAskedFor(value: Json, kind: string, name: string): value is KubeObject {
  return (
    isObject(value) &&
    typeof value['apiVersion'] === 'string' &&
    value['kind'] === kind &&
    textAt(value, 'metadata', 'name') === name
  );
}

function makeGet(client: ClientModule, api: Client.CustomObjectsApi, signal: AbortSignal): Get {
  const json = client.setHeaderMiddleware('Accept', 'application/json');
  const middleware: Client.ObservableMiddleware = {
    pre(context) {
      context.setSignal(signal);
      return json.pre(context);
    },
    post: (context) => json.post(context),
  };
  return async ({ group, version, kind, plural }, namespace, name) => {
    if (!pathSegment.test(name) || !pathSegment.test(namespace)) return undefined;
    const what = `${plural}.${group} ${namespace}/${name}`;
    let found: Json;
    try {
      found = (await api.getNamespacedCustomObject(
        { group, version, namespace, plural, name },
        { middleware: [middleware], middlewareMergeStrategy: 'append' },
      )) as Json;
    } catch (error) {
      if (error instanceof client.ApiException && error.code === 404) return undefined;
      throw explain(error, what);
    }
    if (!isObjectAskedFor(found, kind, name)) {
      throw new LookupFailure(`the API server answered GET ${what} with something else`);
    }
    return found;
  };
}

/**
 * Loads the Kubernetes client and makes a lookup that takes at most `timeoutMs` for each object, however many
 * requests that needs. No request is made yet.
 * @throws UsageError when the kubeconfig is not usable.
 */
export async function connectOwnerLookup(cluster: ClusterAccess, timeoutMs: number): Promise<OwnerLookup> {
  const client = await import('@kubernetes/client-node');
  const config = loadConfig(client, cluster);
  const server = config.getCurrentCluster()?.server;
  if (server === undefined) {
    throw new UsageError(
      'option --kubeconfig: its current-context names no cluster: set one by kubectl config use-context',
    );
  }
  const pool = memoiseDispatcher(config);
  const api = config.makeApiClient(client.CustomObjectsApi);
  return {
    server,
    async find(object, namespace) {
      if (namespace === undefined) return { state: 'absent' };
      const deadline = Promise.withResolvers<OwnerFacts>();
      const abort = new AbortController();
      const timer = setTimeout(() => {
        deadline.resolve({ state: 'unknown', why: `the API server did not answer within ${timeoutMs} ms` });
        abort.abort();
      }, timeoutMs);
      try {
        return await Promise.race([
          findOwner(makeGet(client, api, abort.signal), object, namespace),
          deadline.promise,
        ]);
      } catch (error) {
        return { state: 'unknown', why: messageOf(error) };
      } finally {
        clearTimeout(timer);
      }
    },
    close: () => pool.destroy(),
  };
}
