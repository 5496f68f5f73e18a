// Finds an API server and how to be let in. The only file of this room that loads the Kubernetes client, and only when
// there is a cluster to ask: loading it takes about 100 MB.
import type * as Client from '@kubernetes/client-node';
import { UsageError, messageOf } from '../errors.ts';
import type { ClusterAccess } from './access.ts';

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

/** The loaded client, set up for one API server. */
export interface OpenCluster {
  readonly client: ClientModule;
  readonly config: Client.KubeConfig;
  /** The API server's address. */
  readonly server: string;
  /** Its connections, which live until they are destroyed. */
  readonly pool: { destroy(): Promise<void> };
}

/**
 * Loads the Kubernetes client and sets it up for a cluster, without asking it anything yet.
 * @throws UsageError when the kubeconfig is not usable.
 */
export async function openCluster(cluster: ClusterAccess): Promise<OpenCluster> {
  const client = await import('@kubernetes/client-node');
  const config = loadConfig(client, cluster);
  const server = config.getCurrentCluster()?.server;
  if (server === undefined) {
    throw new UsageError(
      'option --kubeconfig: its current-context names no cluster: set one by kubectl config use-context',
    );
  }
  return { client, config, server, pool: memoiseDispatcher(config) };
}

/** The YAML parser's message goes on with an excerpt of the file, which holds credentials. */
function firstLine(error: unknown): string {
  return messageOf(error).split('\n', 1)[0] ?? '';
}
