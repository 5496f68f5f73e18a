// ConfigMaps and Secrets as pods use them.
import type { KubeApi, KubeObject } from '../kube-api.ts';

/** The values of a ConfigMap or Secret by key; undefined where there is none of that name. */
export async function readData(
  api: KubeApi,
  kind: 'ConfigMap' | 'Secret',
  namespace: string,
  name: string,
): Promise<Map<string, Buffer> | undefined> {
  const object = await api.find<KubeObject>({ apiVersion: 'v1', kind, metadata: { namespace, name } });
  if (object === undefined) return undefined;
  const entries = (field: string) => Object.entries((object[field] ?? {}) as Record<string, string>);
  const encoded = kind === 'Secret' ? entries('data') : entries('binaryData');
  const plain = kind === 'Secret' ? [] : entries('data');
  return new Map([
    ...plain.map(([key, value]) => [key, Buffer.from(value)] as const),
    ...encoded.map(([key, value]) => [key, Buffer.from(value, 'base64')] as const),
  ]);
}

/** The same; rejects, as a kubelet does, where it is missing and not optional. */
export async function needData(
  api: KubeApi,
  kind: 'ConfigMap' | 'Secret',
  namespace: string,
  name: string,
  optional = false,
): Promise<Map<string, Buffer>> {
  const data = await readData(api, kind, namespace, name);
  if (data === undefined && !optional) throw new Error(`${kind.toLowerCase()} "${name}" not found`);
  return data ?? new Map();
}
