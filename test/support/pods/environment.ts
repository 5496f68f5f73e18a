// A container's environment, as a kubelet puts it together.
import type { KubeApi, KubeObject } from '../kube-api.ts';
import { needData } from './objects.ts';
import { fieldOf } from './types.ts';
import type { ContainerSpec, EnvVar, PodObject } from './types.ts';

interface Service extends KubeObject {
  spec: { clusterIP?: string; ports?: { name?: string; port: number; protocol?: string }[] };
}

/** Variables by name: those of the services, of envFrom and of env, later ones first; `$(NAME)` is expanded. */
export async function environmentOf(
  api: KubeApi,
  pod: PodObject,
  container: ContainerSpec,
  podIP: string,
): Promise<Record<string, string>> {
  const { namespace } = pod.metadata;
  const result = await serviceLinks(api, namespace, pod.spec.enableServiceLinks !== false);
  for (const { prefix = '', secretRef, configMapRef } of container.envFrom ?? []) {
    const { name, optional } = secretRef ?? configMapRef ?? { name: '' };
    const kind = secretRef === undefined ? 'ConfigMap' : 'Secret';
    for (const [key, value] of await needData(api, kind, namespace, name, optional))
      result[prefix + key] = value.toString();
  }
  for (const variable of container.env ?? []) {
    const value = await valueOf(api, pod, variable, podIP);
    if (value !== undefined) result[variable.name] = expand(value, result);
  }
  return result;
}

/** `$(NAME)` by its value, where there is one; `$$` is a `$`. */
export function expand(text: string, environment: Readonly<Record<string, string>>): string {
  return text.replaceAll(/\$(?:\$|\(([^()]+)\))/g, (whole, name: string | undefined) =>
    name === undefined ? '$' : (environment[name] ?? whole),
  );
}

async function valueOf(
  api: KubeApi,
  pod: PodObject,
  { name, value = '', valueFrom }: EnvVar,
  podIP: string,
): Promise<string | undefined> {
  if (valueFrom === undefined) return value;
  const { fieldRef, secretKeyRef, configMapKeyRef } = valueFrom;
  if (fieldRef !== undefined) return fieldOf(pod, fieldRef.fieldPath, podIP);
  const ref = secretKeyRef ?? configMapKeyRef;
  if (ref === undefined)
    throw new Error(`env "${name}": ${Object.keys(valueFrom).join()} is nothing that test pods know`);
  const kind = secretKeyRef === undefined ? 'ConfigMap' : 'Secret';
  const found = (await needData(api, kind, pod.metadata.namespace, ref.name, ref.optional)).get(ref.key);
  if (found === undefined && ref.optional !== true)
    throw new Error(`couldn't find key ${ref.key} in ${kind} ${pod.metadata.namespace}/${ref.name}`);
  return found?.toString();
}

/** NAME_SERVICE_HOST and so on of the namespace's services, and of `kubernetes` in any case. */
async function serviceLinks(
  api: KubeApi,
  namespace: string,
  links: boolean,
): Promise<Record<string, string>> {
  const kubernetes = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'default', name: 'kubernetes' },
  };
  const services = [
    ...(links ? await api.list<Service>('v1', 'Service', namespace) : []),
    await api.read<Service>(kubernetes),
  ];
  const result: Record<string, string> = {};
  for (const { metadata, spec } of services) {
    const { clusterIP = 'None', ports = [] } = spec;
    if (clusterIP === 'None' || ports.length === 0) continue;
    const prefix = shout(metadata.name!);
    result[`${prefix}_SERVICE_HOST`] = clusterIP;
    result[`${prefix}_SERVICE_PORT`] = String(ports[0]!.port);
    result[`${prefix}_PORT`] = `tcp://${clusterIP}:${ports[0]!.port}`;
    for (const { name, port, protocol = 'TCP' } of ports) {
      if (name !== undefined && name !== '') result[`${prefix}_SERVICE_PORT_${shout(name)}`] = String(port);
      const one = `${prefix}_PORT_${port}_${protocol}`;
      result[one] = `${protocol.toLowerCase()}://${clusterIP}:${port}`;
      result[`${one}_PROTO`] = protocol.toLowerCase();
      result[`${one}_PORT`] = String(port);
      result[`${one}_ADDR`] = clusterIP;
    }
  }
  return result;
}

function shout(name: string): string {
  return name.toUpperCase().replaceAll('-', '_');
}
