import { KIND } from '../contract.ts';

/** A kind of objects, with the parts of its path in the API. */
export interface Resource {
  /** "" for the core group. */
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
}

export const RABBITMQ: Resource = { ...KIND.rabbitMq, version: 'v1beta1', plural: 'rabbitmqs' };
export const CLUSTER: Resource = { ...KIND.cluster, version: 'v1beta1', plural: 'rabbitmqclusters' };
export const STATEFUL_SET: Resource = { ...KIND.statefulSet, version: 'v1', plural: 'statefulsets' };
export const NAMESPACE: Resource = { group: '', version: 'v1', kind: 'Namespace', plural: 'namespaces' };
export const POD: Resource = { group: '', version: 'v1', kind: 'Pod', plural: 'pods' };
export const CRD: Resource = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  kind: 'CustomResourceDefinition',
  plural: 'customresourcedefinitions',
};
export const EVENT: Resource = { group: 'events.k8s.io', version: 'v1', kind: 'Event', plural: 'events' };
export const ENDPOINT_SLICE: Resource = {
  group: 'discovery.k8s.io',
  version: 'v1',
  kind: 'EndpointSlice',
  plural: 'endpointslices',
};

/** As in RBAC rules and in what people read: `rabbitmqs.rabbitmq.openstack.org`. */
export function resourceName({ group, plural }: Resource): string {
  return group === '' ? plural : `${plural}.${group}`;
}

/** `rabbitmq.openstack.org/v1beta1`, as objects have it. */
export function apiVersionOf({ group, version }: Resource): string {
  return group === '' ? version : `${group}/${version}`;
}
