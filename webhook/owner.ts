import { KIND } from '../common/contract.ts';
import { objectsAt, textAt, valueAt } from './json.ts';
import type { KubeObject, OwnerFacts } from './types.ts';

/** A kind that is asked for, with the parts of its path in the API. */
interface Resource {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
}

const RABBITMQ: Resource = { ...KIND.rabbitMq, version: 'v1beta1', plural: 'rabbitmqs' };
const CLUSTER: Resource = { ...KIND.cluster, version: 'v1beta1', plural: 'rabbitmqclusters' };

/** What the webhook's account must be allowed to "get". */
export const RESOURCES = [RABBITMQ, CLUSTER].map(({ group, plural }) => `${plural}.${group}`);

/** Fetches one object; undefined when it, or its kind, does not exist (404). */
export type Get = (resource: Resource, namespace: string, name: string) => Promise<KubeObject | undefined>;

/** Gets the object's owner of a kind: undefined when it refers to none, `gone` when that one does not exist (any more). */
async function getOwner(
  get: Get,
  object: KubeObject,
  kind: Resource,
  namespace: string,
): Promise<KubeObject | 'gone' | undefined> {
  const reference = objectsAt(object, 'metadata', 'ownerReferences').find(
    (owner) => owner['kind'] === kind.kind && textAt(owner, 'apiVersion')?.startsWith(`${kind.group}/`),
  );
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
