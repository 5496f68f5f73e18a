import { access } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { UsageError } from '../errors.ts';

const SERVICE_ACCOUNT_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';

const ADVICE = 'name a kubeconfig, or give --no-cluster to decide from the objects alone';

/** How to reach the API server. */
export type ClusterAccess = { from: 'kubeconfig'; files: readonly string[] } | { from: 'service account' };

export interface ClusterSearch {
  /** `--kubeconfig`: one path, or several as KUBECONFIG has them. */
  readonly kubeconfig: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where kubectl looks when told nothing; default: ~/.kube/config. */
  readonly defaultKubeconfig?: string;
  readonly tokenFile?: string;
  /** What to do about a kubeconfig that can't be read. */
  readonly advice?: string;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/**
 * Finds a cluster to ask: the kubeconfig that was named, else the pod's service account, else the user's own
 * kubeconfig; undefined when there is none of them.
 * @throws UsageError when the kubeconfig that was named does not exist.
 */
export async function findCluster(search: ClusterSearch): Promise<ClusterAccess | undefined> {
  if (search.kubeconfig !== undefined) {
    const named = search.kubeconfig.split(delimiter).filter((path) => path !== '');
    const files: string[] = [];
    for (const path of named) if (await exists(path)) files.push(path);
    if (files.length === 0) {
      throw new UsageError(
        `option --kubeconfig: ${search.kubeconfig} cannot be read: ${search.advice ?? ADVICE}`,
      );
    }
    return { from: 'kubeconfig', files };
  }
  const token = search.tokenFile ?? SERVICE_ACCOUNT_TOKEN;
  if (search.env['KUBERNETES_SERVICE_HOST'] && (await exists(token))) return { from: 'service account' };
  const standard = search.defaultKubeconfig ?? join(homedir(), '.kube', 'config');
  return (await exists(standard)) ? { from: 'kubeconfig', files: [standard] } : undefined;
}
