import { INSTALL } from '../common/contract.ts';
import {
  type OptionTable,
  filePath,
  flag,
  integer,
  namespaceName,
  namespacedName,
  oneOf,
  seconds,
  text,
} from '../common/options.ts';
import { serverOptions } from '../common/server-options.ts';
import { parseVersion } from '../common/version.ts';

function version(text: string): string {
  if (parseVersion(text) === undefined) throw new Error('expected a version such as 4.2 or 4.2.1');
  return text;
}

/** Options of `quorumbridge reconciler`; docs/configuration.md is the reference. */
export const reconcilerOptions = {
  kubeconfig: {
    name: 'kubeconfig',
    argument: 'FILE',
    env: 'KUBECONFIG',
    description: 'Kubeconfig of the cluster whose RabbitMqs are reconciled.',
    hiddenDefault: "the pod's service account, else ~/.kube/config",
    parse: text(),
  },
  namespace: {
    name: 'namespace',
    argument: 'NAMESPACE',
    env: 'QUORUMBRIDGE_NAMESPACE',
    description: 'Reconcile the RabbitMqs of this namespace only.',
    repeatable: true,
    hiddenDefault: 'all namespaces',
    parse: namespaceName(),
  },
  requireApproval: {
    name: 'require-approval',
    env: 'QUORUMBRIDGE_REQUIRE_APPROVAL',
    description: 'Begin no upgrade before its RabbitMq has the annotation quorumbridge.io/upgrade-approved.',
    parse: flag(),
  },
  wipePolicy: {
    name: 'wipe-policy',
    argument: 'POLICY',
    env: 'QUORUMBRIDGE_WIPE_POLICY',
    description:
      'What becomes of an upgrade whose wipe would lose persistent messages, unless its RabbitMq has the annotation quorumbridge.io/accept-data-loss: refuse, accept.',
    default: 'refuse',
    parse: oneOf('refuse', 'accept'),
  },
  readyTimeout: {
    name: 'ready-timeout',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_READY_TIMEOUT',
    description:
      'How long a new cluster may take to be ready before the condition Degraded says that it takes too long.',
    default: 1800,
    parse: seconds({ min: 1, max: 86_400 }),
  },
  defaultVersion: {
    name: 'default-version',
    argument: 'VERSION',
    env: 'QUORUMBRIDGE_DEFAULT_VERSION',
    description: 'Version of RabbitMQ for a new cluster whose RabbitMq names none.',
    default: '4.2',
    parse: version,
  },
  clientsInterval: {
    name: 'clients-interval',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_CLIENTS_INTERVAL',
    description: 'How often the proxies of a cluster are asked who still needs them.',
    default: 30,
    parse: seconds({ min: 1, max: 3600 }),
  },
  workers: {
    name: 'workers',
    argument: 'NUMBER',
    env: 'QUORUMBRIDGE_WORKERS',
    description: 'RabbitMqs that are reconciled at the same time.',
    default: 2,
    parse: integer({ min: 1, max: 64 }),
  },
  eventsConfig: {
    name: 'events-config',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_EVENTS_CONFIG',
    description:
      'Messaging configuration whose connection upgrade events are published by: of a broker that is none of those that are upgraded.',
    hiddenDefault: 'none are published',
    parse: filePath(),
  },
  lease: {
    name: 'lease',
    argument: 'NAMESPACE/NAME',
    env: 'QUORUMBRIDGE_LEASE',
    description: 'Lease by which the replicas agree on the one that works.',
    default: { namespace: INSTALL.namespace, name: INSTALL.reconciler },
    hiddenDefault: `${INSTALL.namespace}/${INSTALL.reconciler}`,
    parse: namespacedName(),
  },
  leaseDuration: {
    name: 'lease-duration',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_LEASE_DURATION',
    description:
      'How long the Lease of a replica that has vanished keeps others from working. It is renewed every seventh or eighth of that.',
    default: 15,
    parse: seconds({ min: 3, max: 300 }),
  },
  noLeaderElection: {
    name: 'no-leader-election',
    env: 'QUORUMBRIDGE_NO_LEADER_ELECTION',
    description: 'Work without a Lease: for a single replica outside of the cluster.',
    parse: flag(),
  },
  adminListen: serverOptions.adminListen,
  logLevel: serverOptions.logLevel,
} as const satisfies OptionTable;
