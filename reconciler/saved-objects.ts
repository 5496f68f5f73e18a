// Secrets and ConfigMaps of an upgrade: what they carry beside their data, and how they are written.
import { PREFIX, UPGRADE_ANNOTATION } from '../common/contract.ts';
import type { Api } from '../common/kube/api.ts';
import { annotationOf } from '../common/kube/facts.ts';
import { objectsAt, same, textAt } from '../common/kube/json.ts';
import { type Resource, apiVersionOf } from '../common/kube/resources.ts';
import type { KubeObject } from '../common/kube/types.ts';

/** Which upgrade of which RabbitMq. */
export interface UpgradeRef {
  readonly namespace: string;
  readonly name: string;
  /** metadata.uid of the RabbitMq: what an earlier one of its name has saved is not taken for its own. */
  readonly uid: string;
  readonly sequence: number;
}

/** Why a backup can't be written or used; the message is fit for conditions and logs and has no secrets. */
export class BackupFailure extends Error {
  override readonly name = 'BackupFailure';
}

/** Names of what an upgrade saves and reports. */
export function namesOf({ name, sequence }: Pick<UpgradeRef, 'name' | 'sequence'>): {
  index: string;
  credentials: string;
  report: string;
} {
  const index = `${name}-upgrade-${sequence}`;
  return { index, credentials: `${name}-default-user-backup`, report: `${index}-report` };
}

export function metaOf(object: KubeObject, key: string): string | undefined {
  return textAt(object, 'metadata', key);
}

/** An object of an upgrade: it goes with the RabbitMq. */
export function ownedObject(
  resource: Resource,
  rabbitmq: KubeObject,
  sequence: number,
  name: string,
): KubeObject {
  const owner = {
    apiVersion: rabbitmq.apiVersion,
    kind: rabbitmq.kind,
    name: metaOf(rabbitmq, 'name'),
    uid: metaOf(rabbitmq, 'uid'),
  };
  return {
    apiVersion: apiVersionOf(resource),
    kind: resource.kind,
    metadata: {
      namespace: metaOf(rabbitmq, 'namespace'),
      name,
      labels: {
        'app.kubernetes.io/managed-by': 'quorumbridge',
        [`${PREFIX}rabbitmq`]: metaOf(rabbitmq, 'name'),
      },
      annotations: { [UPGRADE_ANNOTATION.stamp]: String(sequence) },
      ownerReferences: [owner],
    },
  };
}

/** Whether an object is of this upgrade: of this RabbitMq, not of an earlier one that had its name. */
export function isOf(object: KubeObject, { uid, sequence }: Pick<UpgradeRef, 'uid' | 'sequence'>): boolean {
  const owners = objectsAt(object, 'metadata', 'ownerReferences');
  return owners.some((owner) => owner['uid'] === uid) && sequenceOf(object) === String(sequence);
}

export function sequenceOf(object: KubeObject): string | undefined {
  return annotationOf(object, UPGRADE_ANNOTATION.stamp);
}

/** Creates the object or, where there is one of another content, puts it in its place. */
export async function write(
  api: Api,
  resource: Resource,
  object: KubeObject,
  signal: AbortSignal,
): Promise<void> {
  const name = metaOf(object, 'name') ?? '';
  if ((await api.create(resource, object, signal)) === 'created') return;
  const stored = await api.get(resource, metaOf(object, 'namespace'), name, signal);
  if (stored === undefined) throw new BackupFailure(`${resource.kind} ${name} went while it was written`);
  if (textAt(stored, 'metadata', 'labels', 'app.kubernetes.io/managed-by') !== 'quorumbridge') {
    throw new BackupFailure(`${resource.kind} ${name} is not Quorumbridge's: delete or rename it`);
  }
  const isAsWanted =
    same(stored['data'], object['data']) &&
    same(stored.metadata['ownerReferences'], object.metadata['ownerReferences']) &&
    sequenceOf(stored) === sequenceOf(object);
  if (!isAsWanted) await replace(api, resource, object, stored, signal);
}

export async function replace(
  api: Api,
  resource: Resource,
  object: KubeObject,
  stored: KubeObject,
  signal: AbortSignal,
): Promise<void> {
  const resourceVersion = metaOf(stored, 'resourceVersion');
  await api.replace(resource, { ...object, metadata: { ...object.metadata, resourceVersion } }, signal);
}
