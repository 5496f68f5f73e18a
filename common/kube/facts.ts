import { ANNOTATION, KIND, NAMESPACE_LABEL } from '../contract.ts';
import { objectsAt, textAt, valueAt } from './json.ts';
import type { JsonObject, KubeObject } from './types.ts';
import { parseVersion } from '../version.ts';

/** True for the kind in any version of its group, as owner references and manifests name it. */
export function isKind(object: JsonObject, { group, kind }: { group: string; kind: string }): boolean {
  return object['kind'] === kind && (textAt(object, 'apiVersion') ?? '').startsWith(`${group}/`);
}

/** An annotation of an object; undefined when it has none of this name. */
export function annotationOf(object: KubeObject | undefined, key: string): string | undefined {
  return textAt(object, 'metadata', 'annotations', key);
}

/** True for a StatefulSet that the cluster operator manages: the RabbitmqCluster is its controller. */
export function isControlledByCluster(object: KubeObject): boolean {
  return objectsAt(object, 'metadata', 'ownerReferences').some(
    (owner) => owner['controller'] === true && isKind(owner, KIND.cluster),
  );
}

export function isDeleting(object: KubeObject): boolean {
  return textAt(object, 'metadata', 'deletionTimestamp') !== undefined;
}

export function isNamespaceDisabled(namespace: KubeObject | undefined): boolean {
  return textAt(namespace, 'metadata', 'labels', NAMESPACE_LABEL.key) === NAMESPACE_LABEL.disabled;
}

/** status.proxyRequired: a boolean here, the text "True" in later versions of the infra operator. */
export function isProxyRequired(rabbitmq: KubeObject): boolean {
  const required = valueAt(rabbitmq, 'status', 'proxyRequired');
  return required === true || required === 'True';
}

/** True during an upgrade of the RabbitMq from 3.x to 4.x or later with quorum queues. */
export function isUpgradeToQuorum(rabbitmq: KubeObject): boolean {
  const target =
    annotationOf(rabbitmq, ANNOTATION.targetVersion) ?? textAt(rabbitmq, 'spec', 'targetVersion');
  return (
    (textAt(rabbitmq, 'status', 'upgradePhase') ?? '') !== '' &&
    textAt(rabbitmq, 'spec', 'queueType') === 'Quorum' &&
    parseVersion(textAt(rabbitmq, 'status', 'currentVersion'))?.major === 3 &&
    (parseVersion(target)?.major ?? 0) >= 4
  );
}
