// Kubernetes' strategic merge patch, as its Go package of that name does it, for patches without directives.
import { isObject } from '../../common/kube/json.ts';
import type { Json, JsonObject } from '../../common/kube/types.ts';

/** The lists whose items are merged, by what they are found; any other list is replaced as a whole. */
export const POD_SPEC_KEYS: MergeKeys = {
  containers: 'name',
  env: 'name',
  ephemeralContainers: 'name',
  hostAliases: 'ip',
  imagePullSecrets: 'name',
  initContainers: 'name',
  ports: 'containerPort',
  resourceClaims: 'name',
  schedulingGates: 'name',
  topologySpreadConstraints: 'topologyKey',
  volumeDevices: 'devicePath',
  volumeMounts: 'mountPath',
  volumes: 'name',
};

export const SERVICE_SPEC_KEYS: MergeKeys = { ports: 'port' };

type MergeKeys = Readonly<Record<string, string>>;

/** `original` with `patch` over it; neither is changed. */
export function strategicMerge(original: JsonObject, patch: JsonObject, keys: MergeKeys): JsonObject {
  const result: JsonObject = { ...original };
  for (const [field, value] of Object.entries(patch)) {
    const before = original[field];
    if (value === null) delete result[field];
    else if (isObject(value)) result[field] = strategicMerge(isObject(before) ? before : {}, value, keys);
    else if (Array.isArray(value) && keys[field] !== undefined)
      result[field] = mergeLists(Array.isArray(before) ? before : [], value, keys[field], keys);
    else result[field] = value;
  }
  return result;
}

/**
 * The items of the patch in its order, each over the one of the same key, and the others among them: in front of the
 * first item of the patch that they were in front of before, else at the end.
 */
function mergeLists(original: Json[], patch: Json[], key: string, keys: MergeKeys): Json[] {
  const keyOf = (item: Json): Json | undefined => (isObject(item) ? item[key] : undefined);
  const place = (item: Json): number => original.findIndex((one) => keyOf(one) === keyOf(item));
  const patched = patch.filter(isObject).map((item) => {
    const before = original[place(item)];
    return strategicMerge(isObject(before) ? before : {}, item, keys);
  });
  const others = original.filter((item) => !patch.some((one) => keyOf(one) === keyOf(item)));
  const result: Json[] = [];
  for (const item of patched) {
    const own = place(item);
    const left = others.findIndex((other) => own < 0 || place(other) > own);
    result.push(...others.splice(0, left < 0 ? others.length : left), item);
  }
  return [...result, ...others];
}
