// dist/install.yaml in a test cluster, whatever its version: an old kubectl knows no components, and refuses fields that
// came later, which its API server would leave out.
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { KubeObject } from './kube-api.ts';
import { SINCE } from './kube-versions.ts';
import type { Cluster } from './kube.ts';
import { MANIFESTS, kustomize, objectsOf } from './manifests.ts';

/** The file's objects as the cluster takes them, rendered by the kubectl of its own version where that can. */
export async function installFileFor(cluster: Cluster): Promise<KubeObject[]> {
  const overlay = join(MANIFESTS, 'overlays/self-signed');
  const text = await (isOld(cluster) ? kustomize(overlay) : cluster.kubectl(['kustomize', overlay]));
  return objectsOf(text).map((object) => cluster.adapted(object));
}

/** `kubectl apply -f` with these objects; what it says of each. */
export async function kubectlApply(cluster: Cluster, objects: readonly KubeObject[]): Promise<string> {
  const text = objects.map((object) => stringify(object)).join('---\n');
  return cluster.kubectl(['apply', ...(isOld(cluster) ? ['--validate=false'] : []), '-f', '-'], text);
}

function isOld({ minor }: Cluster): boolean {
  return minor < SINCE.stableApis[0];
}
