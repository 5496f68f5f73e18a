// Tries the new cluster out before the old one is deleted: what the API server, the cluster operator or the webhook refuse
// has to be known while there is still something to keep.
import { type Api, ApiFailure } from '../common/kube/api.ts';
import { CLUSTER } from '../common/kube/resources.ts';
import type { KubeObject } from '../common/kube/types.ts';
import { desiredCluster } from './cluster.ts';
import type { ObservedRabbitMq, Rehearsal, UpgradeRecord } from './types.ts';

/** What the new cluster would be made of. */
export interface RehearsalPlan {
  readonly rabbitmq: ObservedRabbitMq;
  /** The RabbitmqCluster that would be replaced. */
  readonly cluster: KubeObject;
  readonly image: string;
  readonly record: Pick<UpgradeRecord, 'from' | 'to' | 'sequence' | 'reason'>;
  readonly proxyRequired: boolean;
}

/** Names have at most 52 characters, and this one must be no other object's. */
const NAME_MAX = 30;

/**
 * Asks for the new cluster to be made, under another name, by a dry run: everything is checked and nothing is stored.
 * Rejects with ApiFailure when the API server does not answer at all.
 */
export async function rehearse(api: Api, plan: RehearsalPlan, signal: AbortSignal): Promise<Rehearsal> {
  const { rabbitmq, cluster, image, record, proxyRequired } = plan;
  try {
    const { object } = desiredCluster({
      snapshot: cluster,
      rabbitmq: rabbitmq.object,
      version: record.to,
      image,
      queueType: rabbitmq.queueType ?? 'Quorum',
      record,
      proxyRequired,
    });
    const name = `${rabbitmq.name.slice(0, NAME_MAX)}-dry-run-${record.sequence}`;
    await api.dryRun(CLUSTER, { ...object, metadata: { ...object.metadata, name } }, signal);
    return { state: 'accepted' };
  } catch (error) {
    if (error instanceof ApiFailure && error.code === undefined) throw error;
    return { state: 'refused', why: error instanceof Error ? error.message : 'unknown' };
  }
}
