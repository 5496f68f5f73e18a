/**
 * The names and numbers that the webhook, the reconciler, the manifests and the documentation share.
 * Nothing here may be changed without migrating objects that carry the old value.
 */

/** Name of the injected container, in RabbitmqCluster overrides and in StatefulSets. */
export const PROXY_CONTAINER = 'amqp-proxy';

/** Name of RabbitMQ's own container, as the RabbitMQ cluster operator and the infra operator name it. */
export const RABBITMQ_CONTAINER = 'rabbitmq';

/** Name of the cluster operator's own init container. */
export const SETUP_CONTAINER = 'setup-container';

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
  logLevel: 'quorumbridge.io/log-level',
  sidecarMode: 'quorumbridge.io/sidecar-mode',
  backendHost: 'quorumbridge.io/backend-host',
  tlsPort: 'quorumbridge.io/tls-port',
  allowDowngrade: 'quorumbridge.io/allow-downgrade',
  status: 'quorumbridge.io/status',
  advancedConfig: 'quorumbridge.io/rabbitmq-advanced-config',
  conf: 'quorumbridge.io/rabbitmq-conf',
} as const;

/** Annotations about an upgrade, which the reconciler reads; switches are on by the exact value "true". */
export const UPGRADE_ANNOTATION = {
  /** On the RabbitmqCluster that is made anew, until it is ready: its storage is wiped. */
  storageWipeNeeded: 'rabbitmq.openstack.org/storage-wipe-needed',
  approved: 'quorumbridge.io/upgrade-approved',
  acceptDataLoss: 'quorumbridge.io/accept-data-loss',
  autoRemoveAfter: 'quorumbridge.io/auto-remove-proxy-after',
  targetImage: 'quorumbridge.io/target-image',
  /** On the RabbitmqCluster that an upgrade made and on the objects it saved: the upgrade's sequence number. */
  stamp: 'quorumbridge.io/upgrade',
} as const;

/** On a RabbitMq, with the value "true": the reconciler leaves it alone. */
export const PAUSE_LABEL = 'rabbitmq.openstack.org/pauseReconciliation';

/** On a pod, with any value: RabbitMQ's preStop hook, as the cluster operator writes it, ends at once. */
export const SKIP_PRESTOP_LABEL = 'skipPreStopChecks';

/** Keeps a RabbitMq until the cluster that the reconciler made for it is gone. */
export const FINALIZER = 'rabbitmq.openstack.org/amqp-proxy';

/** Name of the init container that empties storage once per upgrade. */
export const WIPE_CONTAINER = 'wipe-data';

/** As both operators label StatefulSets, pods and volume claims of RabbitMQ. */
export const RABBITMQ_SELECTOR = 'app.kubernetes.io/component=rabbitmq,app.kubernetes.io/part-of=rabbitmq';

/** Label of those objects with the name of the RabbitmqCluster, which is the RabbitMq's too. */
export const NAME_LABEL = 'app.kubernetes.io/name';

/** Prefix of Quorumbridge's own annotations and labels. */
export const PREFIX = 'quorumbridge.io/';

/** Namespaces that carry this label with this value are never injected. */
export const NAMESPACE_LABEL = { key: 'quorumbridge.io/injection', disabled: 'disabled' } as const;

/** TCP ports: clients' 5672 and 5671 belong to the proxy, RabbitMQ moves to `backend` on the loopback address. */
export const PORT = { amqp: 5672, amqps: 5671, backend: 5673, admin: 15_695 } as const;

/** The loopback addresses that RabbitMQ can listen on behind the proxy. The first is the default. */
export const BACKEND_HOSTS = ['127.0.0.1', '::1'] as const;

/** Where the proxy offers TLS: 5672 means there too, in place of the plain listener. The first is the default. */
export const TLS_PORTS = ['5671', '5672'] as const;

/** Where the TLS files are mounted in the proxy's container; file names as in a kubernetes.io/tls Secret. */
export const TLS_FOLDER = '/etc/rabbitmq-tls';

/** Where the CA is mounted when it is no part of the volume at `TLS_FOLDER`. */
export const TLS_CA_FOLDER = '/etc/rabbitmq-tls-ca';

/**
 * What the proxy does: rewrites declarations that RabbitMQ 4 refuses, rewrites nothing, or rewrites and shares
 * connections to the broker between clients. The first is the default.
 */
export const MODES = ['transparent', 'observe', 'pool'] as const;

/**
 * How the proxy's container stands in the pod: among the others, as an init container that goes on running
 * (restartPolicy Always), or the latter where the cluster can. The first is the default.
 */
export const SIDECAR_MODES = ['plain', 'native', 'auto'] as const;

/** Least severe log lines to write, from the most to the least talkative. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

/** The presets of rules that the proxy brings along. The first is the default. */
export const PRESETS = ['generic', 'openstack', 'celery'] as const;

/** What is done when clients-reconfigured is set while clients need the proxy. The first is the default. */
export const CLIENTS_CHECKS = ['warn', 'deny', 'off'] as const;

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

/** `status.upgradePhase` of a RabbitMq, in this order; empty while there is no upgrade. */
export const UPGRADE_PHASES = ['', 'DeletingResources', 'WaitingForPods', 'WaitingForCluster'] as const;

/** Names of what is installed into a cluster; the manifests and the chart use exactly these. */
export const INSTALL = {
  namespace: 'quorumbridge-system',
  /** Deployment, ServiceAccount, Service, roles: all of the webhook's own objects begin with it. */
  name: 'quorumbridge-webhook',
  /** The MutatingWebhookConfiguration and the ValidatingWebhookConfiguration. */
  configuration: 'quorumbridge',
  /** The webhooks in both configurations. */
  webhook: {
    cluster: 'rabbitmqcluster.quorumbridge.io',
    statefulSet: 'statefulset.quorumbridge.io',
    rabbitMq: 'rabbitmq.quorumbridge.io',
  },
  path: { mutate: '/mutate', validate: '/validate' },
  /** The Secret with the serving certificate: tls.crt, tls.key and ca.crt. */
  secret: 'quorumbridge-webhook-cert',
  /** Deployment, ServiceAccount, Service, roles and Lease of the reconciler. */
  reconciler: 'quorumbridge-reconciler',
} as const;
