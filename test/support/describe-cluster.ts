import { describe } from 'vitest';
import { type BrokerVersion, fetchBrokers } from './broker.ts';
import { type AddonName, fetchAddon } from './cluster-addons.ts';
import { SINCE, minorOf } from './kube-versions.ts';
import { fetchKube } from './kube.ts';

/** What a suite needs besides etcd and kube-apiserver. */
export interface ClusterNeeds {
  /** kube-controller-manager. */
  controllers?: boolean;
  /** RabbitMQ's cluster-operator, which needs controllers too; where only a stand-in will not do, the real one. */
  operator?: boolean | 'real';
  /** A Kubernetes that has this. */
  since?: keyof typeof SINCE;
  /** Something that clusters have besides; the suite starts or installs it by cluster-addons.ts. */
  addon?: AddonName;
  /** Real brokers of these versions. */
  brokers?: BrokerVersion[];
}

export interface ClusterFacts {
  /**
   * Empty where the Kubernetes of the tests has this; else the reason, for the name of a test that is skipped for it:
   * `it.skipIf(why !== '')(`…${why}`)`.
   */
  lacks: (what: keyof typeof SINCE) => string;
}

/**
 * A suite against a real control plane, skipped by name with the reason where it, or what else the suite needs, cannot
 * be had. To be called at the top level of a test file, with await; the suite starts its own by `startCluster`.
 */
export async function describeCluster(
  name: string,
  needs: ClusterNeeds,
  define: (facts: ClusterFacts) => void,
): Promise<void> {
  const { operator = false, controllers = operator !== false, since, addon, brokers } = needs;
  let why = '';
  let version = '';
  const lacks: ClusterFacts['lacks'] = (what) => {
    const [minor, feature] = SINCE[what];
    return minorOf(version) >= minor
      ? ''
      : ` (needs Kubernetes 1.${minor} for ${feature}, and this is ${version})`;
  };
  try {
    const onProgress = (line: string) => process.stderr.write(`${line}\n`); // a build takes minutes
    const tools = await fetchKube({ operator: operator !== false }, onProgress);
    ({ version } = tools.controlPlane);
    if (since !== undefined) why = lacks(since);
    if (operator === 'real' && tools.operator === undefined)
      why = ` (beside Kubernetes ${version} there is no real cluster-operator)`;
    if (controllers && !tools.controllers)
      why = ` (${tools.controlPlane.folder} has no kube-controller-manager)`;
    if (why === '' && addon !== undefined) await fetchAddon(addon, onProgress);
    if (why === '' && brokers !== undefined) await fetchBrokers(brokers, onProgress);
  } catch (error) {
    why = ` (${(error as Error).message.replaceAll(/\s+/g, ' ')})`;
  }
  describe.skipIf(why !== '')(`${name}${why}`, () => {
    define({ lacks });
  });
}
