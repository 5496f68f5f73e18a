import { objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { CLUSTER, RABBITMQ, type Resource } from '../common/kube/resources.ts';
import type { JsonObject, KubeObject } from '../common/kube/types.ts';
import type { OwnerFacts } from './types.ts';

/** Fetches one object; undefined when it, or its kind, does not exist (404). */
export type Get = (resource: Resource, namespace: string, name: string) => Promise<KubeObject | undefined>;

function referenceTo(object: KubeObject, { group, kind }: Resource): JsonObject | undefined {
  return objectsAt(object, 'metadata', 'ownerReferences').find(
    (owner) => owner['kind'] === kind && textAt(owner, 'apiVersion')?.startsWith(`${group}/`),
  );
}

/** Whether the object says who owns it, so that not to find that one is worth a second look. */
export function namesOwner(object: KubeObject): boolean {
  return [RABBITMQ, CLUSTER].some((kind) => referenceTo(object, kind) !== undefined);
}

/** Gets the object's owner of a kind: undefined when it refers to none, `gone` when that one does not exist (any more). */
async function getOwner(
  get: Get,
  object: KubeObject,
  kind: Resource,
  namespace: string,
): Promise<KubeObject | 'gone' | undefined> {
  const reference = referenceTo(object, kind);
  const name = textAt(reference, 'name');
  if (!name) return undefined;
  const found = await get(kind, namespace, name);
  // A namesake made after the owner was deleted has another uid: it is not the owner.
  return found !== undefined && valueAt(found, 'metadata', 'uid') === reference?.['uid'] ? found : 'gone';
}

function facts(found: KubeObject | 'gone' | undefined): OwnerFacts {
  return found === undefined || found === 'gone' ? { state: 'absent' } : { state: 'found', rabbitmq: found };
}

/**
 * Finds the RabbitMq behind an object: by owner references, also through the RabbitmqCluster of a StatefulSet; else
 * the RabbitMq of the same name. Rejects as `get` does.
 */
export async function findOwner(get: Get, object: KubeObject, namespace: string): Promise<OwnerFacts> {
  const rabbitmq = await getOwner(get, object, RABBITMQ, namespace);
  if (rabbitmq !== undefined) return facts(rabbitmq);
  const cluster = await getOwner(get, object, CLUSTER, namespace);
  if (cluster !== undefined)
    return cluster === 'gone' ? { state: 'absent' } : findOwner(get, cluster, namespace);
  const name = textAt(object, 'metadata', 'name');
  return facts(name ? await get(RABBITMQ, namespace, name) : undefined);
}
