import { ANNOTATION, RULES_FILE, RULES_FOLDER } from '../common/contract.ts';
import { named, objectsAt, same, textAt } from '../common/kube/json.ts';
import type { Parents } from './parents.ts';
import { Refusal } from './refusal.ts';
import type { Json, JsonObject } from '../common/kube/types.ts';

/** Name of the pod's volume that carries the proxy's rules. */
export const RULES_VOLUME = 'amqp-proxy-rules';

/** A key of a ConfigMap in the object's namespace. */
export interface RulesSource {
  configMap: string;
  key: string;
}

/**
 * Reads `NAME` or `NAME/KEY`. Throws Error for a name or key that Kubernetes would not take, which is told here rather
 * than by a pod that never starts (k8s.io/apimachinery/pkg/util/validation).
 */
export function parseRulesSource(text: string): RulesSource {
  const slash = text.indexOf('/');
  const configMap = slash < 0 ? text : text.slice(0, slash);
  const key = slash < 0 ? RULES_FILE : text.slice(slash + 1);
  if (!isSubdomain(configMap)) {
    throw new Error(
      'the name of a ConfigMap has at most 253 lower case letters, digits, "-" and ".", and each part between dots ' +
        'begins and ends with a letter or digit',
    );
  }
  if (!isKey(key)) {
    throw new Error(
      'the key of a ConfigMap has 1 to 253 letters, digits, "-", "_" and ".", and is not "." and does not begin with ".."',
    );
  }
  return { configMap, key };
}

function isSubdomain(text: string): boolean {
  return text.length <= 253 && text.split('.').every((label) => /^[a-z\d](?:[a-z\d-]*[a-z\d])?$/.test(label));
}

function isKey(text: string): boolean {
  return text.length <= 253 && /^[\w.-]+$/.test(text) && text !== '.' && !text.startsWith('..');
}

/** The pod's volume, with what the API server would add by default. */
export function rulesVolume({ configMap, key }: RulesSource): JsonObject {
  return {
    name: RULES_VOLUME,
    configMap: { name: configMap, defaultMode: 0o644, items: [{ key, path: RULES_FILE }] },
  };
}

/** The mount in the proxy's container: of the folder, since a single file of a ConfigMap would never be renewed. */
export function rulesMount(): JsonObject {
  return { name: RULES_VOLUME, mountPath: RULES_FOLDER, readOnly: true };
}

/** The volume of that name in a pod's spec, whoever put it there. */
export function rulesVolumeIn(podSpec: Json | undefined): JsonObject | undefined {
  return named(objectsAt(podSpec, 'volumes'), RULES_VOLUME);
}

/**
 * True for a volume as `rulesVolume` makes it: the status of an object that an older webhook, which does not know of
 * rules, has seen meanwhile says nothing of it.
 */
export function isRulesVolume(volume: JsonObject): boolean {
  const configMap = textAt(volume, 'configMap', 'name');
  const key = textAt(volume, 'configMap', 'items', 0, 'key');
  return configMap !== undefined && key !== undefined && same(volume, rulesVolume({ configMap, key }));
}

/** Puts the volume at the end of the list at `path`. Throws Refusal when there is another of its name. */
export function addRulesVolume(parents: Parents, path: string[], volume: JsonObject): void {
  const volumes = parents.list(path);
  if (named(volumes, RULES_VOLUME) !== undefined) {
    throw new Refusal(
      path,
      `there is a volume named ${RULES_VOLUME} that was not injected: rename it, or take the annotation ` +
        `${ANNOTATION.rules} away`,
      409,
    );
  }
  volumes.push(volume);
}
