// How the versions of Kubernetes that tests may meet differ: the pinned one, v1.20.2 of Debian's source, or the user's own.
import type { KubeObject } from './kube-api.ts';

/** Of many controllers those that the tests have a use for; the others only cost time. Names that all versions know. */
const CONTROLLERS = [
  'clusterrole-aggregation',
  'deployment',
  'disruption',
  'endpoint',
  'endpointslice',
  'garbagecollector',
  'namespace',
  'pv-protection',
  'pvc-protection',
  'replicaset',
  'root-ca-cert-publisher',
  'serviceaccount',
  'statefulset',
];

/** Since when there is what some tests need, as minor versions, each with the name of what it is. */
export const SINCE = {
  stableApis: [21, 'discovery.k8s.io/v1, policy/v1 and namespaces labelled with their names'],
  podSecurity: [23, 'pod security admission'],
  fieldValidation: [25, 'strict field validation'],
  /** What docs/install.md asks for. Before, a merge patch stored the nulls in an object that wasn't there yet. */
  installation: [27, 'the chart and the reconciler'],
  matchConditions: [28, 'matchConditions of webhooks'],
  nativeSidecars: [29, 'native sidecars'],
} as const;

/** The oldest minor version that RabbitMQ's cluster operator and its CRD are made for. */
export const OPERATOR_SINCE = 25;

/** 34 of `v1.34.4`; 0 where it is no such version. */
export function minorOf(version: string): number {
  return Number(/^v1\.(\d+)/.exec(version)?.[1] ?? 0);
}

/** Arguments of kube-apiserver that not every version has. */
export function apiServerArgsSince(minor: number): string[] {
  const plugins = ['MutatingAdmissionWebhook', 'ValidatingAdmissionWebhook'];
  if (minor >= SINCE.podSecurity[0]) plugins.push('PodSecurity');
  return [`--enable-admission-plugins=${plugins.join(',')}`];
}

/** Arguments of kube-controller-manager that not every version has. */
export function controllerArgsSince(minor: number): string[] {
  const tokens = hasTokenSecrets(minor) ? ['serviceaccount-token'] : [];
  const insecure = minor < 24 ? ['--port=0'] : [];
  return [`--controllers=${[...CONTROLLERS, ...tokens].join(',')}`, ...insecure];
}

/** Whether pods can be created only when their service account has a Secret with a token. */
export function hasTokenSecrets(minor: number): boolean {
  return minor < 22;
}

/** The object as API servers of that minor version take it; itself where nothing has to change. */
export function adapted<T extends KubeObject>(object: T, minor: number): T {
  if (object.apiVersion === 'policy/v1' && minor < SINCE.stableApis[0])
    return { ...object, apiVersion: 'policy/v1beta1' };
  return object;
}
