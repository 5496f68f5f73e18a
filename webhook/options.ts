import { CLIENTS_CHECKS, INSTALL } from '../common/contract.ts';
import {
  type OptionTable,
  filePath,
  flag,
  hostPort,
  namespacedName,
  oneOf,
  seconds,
  text,
} from '../common/options.ts';
import { serverOptions } from '../common/server-options.ts';

/** Options of `quorumbridge webhook`; docs/configuration.md is the reference. */
export const webhookOptions = {
  listen: {
    name: 'listen',
    argument: 'HOST:PORT',
    env: 'QUORUMBRIDGE_LISTEN',
    description: 'Address of the HTTPS server that API servers call; port 0 lets the system choose.',
    default: { host: '0.0.0.0', port: 9443 },
    hiddenDefault: '0.0.0.0:9443',
    parse: hostPort({ defaultHost: '0.0.0.0' }),
  },
  tlsCert: {
    name: 'tls-cert',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_TLS_CERT',
    description: 'Serving certificate in PEM, with its chain. Read again when it changes; needs --tls-key.',
    parse: filePath(),
  },
  tlsKey: {
    name: 'tls-key',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_TLS_KEY',
    description: 'Private key of --tls-cert in PEM, without a passphrase.',
    parse: filePath(),
  },
  tlsSecret: {
    name: 'tls-secret',
    argument: 'NAMESPACE/NAME',
    env: 'QUORUMBRIDGE_TLS_SECRET',
    description:
      'Secret in which the replicas make, share and renew a CA and a serving certificate of their own, in place of --tls-cert and --tls-key.',
    parse: namespacedName(),
  },
  webhookConfiguration: {
    name: 'webhook-configuration',
    argument: 'NAME',
    env: 'QUORUMBRIDGE_WEBHOOK_CONFIGURATION',
    description:
      'With --tls-secret: the MutatingWebhookConfiguration and ValidatingWebhookConfiguration whose caBundle is kept.',
    repeatable: true,
    default: [INSTALL.configuration],
    hiddenDefault: INSTALL.configuration,
    parse: text(),
  },
  caLifetime: {
    name: 'ca-lifetime',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_CA_LIFETIME',
    description: 'With --tls-secret: how long a CA lasts. At two thirds of it the next one takes over.',
    default: 31_536_000,
    hiddenDefault: '8760h',
    parse: seconds({ min: 10, max: 315_360_000 }),
  },
  certLifetime: {
    name: 'cert-lifetime',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_CERT_LIFETIME',
    description:
      'With --tls-secret: how long a serving certificate lasts. It is renewed at two thirds of it.',
    default: 7_776_000,
    hiddenDefault: '2160h',
    parse: seconds({ min: 10, max: 315_360_000 }),
  },
  selfSigned: {
    name: 'self-signed',
    env: 'QUORUMBRIDGE_SELF_SIGNED',
    description:
      'Make a CA and a serving certificate at start, in place of --tls-cert and --tls-key; needs --ca-out.',
    parse: flag(),
  },
  caOut: {
    name: 'ca-out',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_CA_OUT',
    description:
      "Where --self-signed writes its CA's certificate: the caBundle of the webhook's registration.",
    parse: filePath(),
  },
  dnsName: {
    name: 'dns-name',
    argument: 'NAME',
    env: 'QUORUMBRIDGE_DNS_NAME',
    description:
      "A name in the certificates of --self-signed and --tls-secret besides localhost, 127.0.0.1 and ::1, such as the Service's.",
    repeatable: true,
    parse: text(),
  },
  adminListen: serverOptions.adminListen,
  proxyImage: {
    name: 'proxy-image',
    argument: 'IMAGE',
    env: 'QUORUMBRIDGE_PROXY_IMAGE',
    description: 'Image of the injected amqp-proxy container, where no annotation names another.',
    default: 'quorumbridge/proxy:0.1.0',
    parse: text(),
  },
  noCluster: {
    name: 'no-cluster',
    env: 'QUORUMBRIDGE_NO_CLUSTER',
    description: 'Never ask an API server: decide from the objects alone.',
    parse: flag(),
  },
  kubeconfig: {
    name: 'kubeconfig',
    argument: 'FILE',
    env: 'KUBECONFIG',
    description: 'Kubeconfig of the API server to ask for the RabbitMq behind an object.',
    hiddenDefault: "the pod's service account, else ~/.kube/config, else none (as with --no-cluster)",
    parse: text(),
  },
  noEvents: {
    name: 'no-events',
    env: 'QUORUMBRIDGE_NO_EVENTS',
    description:
      'Write no Events about injections: the account then needs no right to follow StatefulSets and RabbitmqClusters.',
    parse: flag(),
  },
  clientsReconfiguredCheck: {
    name: 'clients-reconfigured-check',
    argument: 'ACTION',
    env: 'QUORUMBRIDGE_CLIENTS_RECONFIGURED_CHECK',
    description: `What is done when clients-reconfigured is set while clients need the proxy: ${CLIENTS_CHECKS.join(', ')}.`,
    default: CLIENTS_CHECKS[0],
    parse: oneOf(...CLIENTS_CHECKS),
  },
  shutdownDelay: serverOptions.shutdownDelay,
  logLevel: serverOptions.logLevel,
} as const satisfies OptionTable;
