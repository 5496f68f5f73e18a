import { describe } from 'vitest';
import { fetchKube } from './kube.ts';

/** What a suite needs besides etcd and kube-apiserver. */
export interface ClusterNeeds {
  /** kube-controller-manager. */
  controllers?: boolean;
  /** RabbitMQ's cluster-operator; it needs controllers too. */
  operator?: boolean;
}

/**
 * A suite against a real control plane, skipped by name with the reason where it, or what else the suite needs, cannot
 * be had. To be called at the top level of a test file, with await; the suite starts its own by `startCluster`.
 */
export async function describeCluster(name: string, needs: ClusterNeeds, define: () => void): Promise<void> {
  const { operator = false, controllers = operator } = needs;
  let why = '';
  try {
    const tools = await fetchKube({ operator }, (line) => process.stderr.write(`${line}\n`)); // a build takes minutes
    if (controllers && !tools.controllers)
      why = ` (${tools.controlPlane.folder} has no kube-controller-manager)`;
  } catch (error) {
    why = ` (${(error as Error).message.replaceAll(/\s+/g, ' ')})`;
  }
  describe.skipIf(why !== '')(`${name}${why}`, () => {
    define();
  });
}
