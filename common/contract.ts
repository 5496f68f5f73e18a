/**
 * The names and numbers that the webhook, the reconciler, the manifests and the documentation share.
 * Nothing here may be changed without migrating objects that carry the old value.
 */

/** Name of the injected container, in RabbitmqCluster overrides and in StatefulSets. */
export const PROXY_CONTAINER = 'amqp-proxy';

/** Name of RabbitMQ's own container, as the RabbitMQ cluster operator and the infra operator name it. */
export const RABBITMQ_CONTAINER = 'rabbitmq';

/** Annotation keys. Switches are on by the exact value "true"; `inject` also knows "false". */
export const ANNOTATION = {
  enableProxy: 'rabbitmq.openstack.org/enable-proxy',
  clientsReconfigured: 'rabbitmq.openstack.org/clients-reconfigured',
  targetVersion: 'rabbitmq.openstack.org/target-version',
  inject: 'quorumbridge.io/inject',
  proxyImage: 'quorumbridge.io/proxy-image',
  proxyResources: 'quorumbridge.io/proxy-resources',
  proxyArgs: 'quorumbridge.io/proxy-args',
  proxyProtocol: 'quorumbridge.io/proxy-protocol',
  mode: 'quorumbridge.io/mode',
  preset: 'quorumbridge.io/preset',
  rules: 'quorumbridge.io/rules',
  status: 'quorumbridge.io/status',
  advancedConfig: 'quorumbridge.io/rabbitmq-advanced-config',
  conf: 'quorumbridge.io/rabbitmq-conf',
} as const;

/** Prefix of Quorumbridge's own annotations and labels. */
export const PREFIX = 'quorumbridge.io/';

/** Namespaces that carry this label with this value are never injected. */
export const NAMESPACE_LABEL = { key: 'quorumbridge.io/injection', disabled: 'disabled' } as const;

/** TCP ports: clients' 5672 and 5671 belong to the proxy, RabbitMQ moves to `backend` on the loopback address. */
export const PORT = { amqp: 5672, amqps: 5671, backend: 5673, admin: 15_695 } as const;

/** The address RabbitMQ listens on behind the proxy. */
export const BACKEND_HOST = '127.0.0.1';

/** Where the TLS files are mounted in the proxy's container; file names as in a kubernetes.io/tls Secret. */
export const TLS_FOLDER = '/etc/rabbitmq-tls';

/** Where the CA is mounted when it is no part of the volume at `TLS_FOLDER`. */
export const TLS_CA_FOLDER = '/etc/rabbitmq-tls-ca';

/** What the proxy does with declarations that RabbitMQ 4 refuses. The first is the default. */
export const MODES = ['transparent', 'observe'] as const;

/** The presets of rules that the proxy brings along. The first is the default. */
export const PRESETS = ['generic', 'openstack', 'celery'] as const;

/** Where a ConfigMap with rules is mounted in the proxy's container. */
export const RULES_FOLDER = '/etc/quorumbridge';

/** The rules' file in `RULES_FOLDER`, and their key in the ConfigMap unless another is named. */
export const RULES_FILE = 'rules.yaml';

/** API groups and kinds of the resources that decide about the proxy or carry it. */
export const KIND = {
  rabbitMq: { group: 'rabbitmq.openstack.org', kind: 'RabbitMq' },
  cluster: { group: 'rabbitmq.com', kind: 'RabbitmqCluster' },
  statefulSet: { group: 'apps', kind: 'StatefulSet' },
} as const;
