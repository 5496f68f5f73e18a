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

export const LEASE: Resource = {
  group: 'coordination.k8s.io',
  version: 'v1',
  kind: 'Lease',
  plural: 'leases',
};

export const CONFIG_MAP: Resource = { group: '', version: 'v1', kind: 'ConfigMap', plural: 'configmaps' };
export const SECRET: Resource = { group: '', version: 'v1', kind: 'Secret', plural: 'secrets' };
export const MUTATING_WEBHOOKS: Resource = {
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  kind: 'MutatingWebhookConfiguration',
  plural: 'mutatingwebhookconfigurations',
};
export const VALIDATING_WEBHOOKS: Resource = {
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  kind: 'ValidatingWebhookConfiguration',
  plural: 'validatingwebhookconfigurations',
};

export const CLAIM: Resource = {
  group: '',
  version: 'v1',
  kind: 'PersistentVolumeClaim',
  plural: 'persistentvolumeclaims',
};

/** Policies as objects: the infra operator's, and those of RabbitMQ's messaging topology operator. */
export const MIRROR_POLICIES: readonly Resource[] = [
  { group: 'rabbitmq.openstack.org', version: 'v1beta1', kind: 'RabbitMQPolicy', plural: 'rabbitmqpolicies' },
  { group: 'rabbitmq.com', version: 'v1beta1', kind: 'Policy', plural: 'policies' },
];

/** As in RBAC rules and in what people read: `rabbitmqs.rabbitmq.openstack.org`. */
export function resourceName({ group, plural }: Resource): string {
  return group === '' ? plural : `${plural}.${group}`;
}

/** `rabbitmq.openstack.org/v1beta1`, as objects have it. */
export function apiVersionOf({ group, version }: Resource): string {
  return group === '' ? version : `${group}/${version}`;
}
