// The CustomResourceDefinition of RabbitMq. `npm run manifests` writes it to manifests/crd and into the chart.
import { KIND, UPGRADE_PHASES } from './contract.ts';

const { group, kind } = KIND.rabbitMq;
const plural = 'rabbitmqs';

/** The part of OpenAPI that a structural schema may use, as far as it is used here. */
export interface Schema {
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'boolean';
  readonly description?: string;
  readonly format?: 'int32' | 'int64' | 'date-time';
  readonly pattern?: string;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maxItems?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  /** Fields that are not listed are kept in place of being dropped: they are others'. */
  readonly 'x-kubernetes-preserve-unknown-fields'?: true;
  readonly 'x-kubernetes-list-type'?: 'map' | 'atomic';
  readonly 'x-kubernetes-list-map-keys'?: readonly string[];
}

const foreign = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } as const;

const time: Schema = { type: 'string', format: 'date-time' };

/** metav1.Condition, with its bounds. */
const condition: Schema = {
  type: 'object',
  required: ['type', 'status', 'lastTransitionTime', 'reason', 'message'],
  properties: {
    type: { type: 'string', maxLength: 316 },
    status: { type: 'string', enum: ['True', 'False', 'Unknown'] },
    observedGeneration: { type: 'integer', format: 'int64', minimum: 0 },
    lastTransitionTime: { ...time, description: 'When status changed last.' },
    reason: {
      type: 'string',
      minLength: 1,
      maxLength: 1024,
      pattern: '^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$',
    },
    message: { type: 'string', maxLength: 32_768 },
  },
};

const spec: Schema = {
  ...foreign,
  description:
    'What is wanted. Fields that are not described here belong to the infra operator and are kept.',
  properties: {
    targetVersion: {
      type: 'string',
      pattern: String.raw`^\d+\.\d+(\.\d+)?$`,
      description:
        'The version of RabbitMQ to run, such as 4.2. The annotation rabbitmq.openstack.org/target-version wins over it.',
    },
    queueType: {
      type: 'string',
      enum: ['Mirrored', 'Quorum', 'None'],
      description:
        'How queues are replicated: Mirrored (by policy; not on RabbitMQ 4, where it becomes Quorum), Quorum, or None.',
    },
    replicas: {
      type: 'integer',
      format: 'int32',
      minimum: 0,
      description: 'Nodes of the cluster; never fewer than before.',
    },
    messagingTopology: {
      type: 'object',
      description: 'Exchanges, queues and bindings that are declared behind an upgrade.',
      properties: {
        configMapRef: {
          type: 'object',
          description: 'A ConfigMap of the same namespace with a messaging configuration.',
          required: ['name'],
          properties: {
            name: { type: 'string', minLength: 1, maxLength: 253, description: 'Its name.' },
            key: {
              type: 'string',
              maxLength: 253,
              description: 'The key whose text is the configuration; messaging.yaml where none is given.',
            },
          },
        },
      },
    },
    override: {
      ...foreign,
      description: 'Changes to the objects that are made of this one.',
      properties: {
        statefulSet: { ...foreign, description: 'A strategic merge patch for the StatefulSet.' },
      },
    },
  },
};

const clients: Schema = {
  ...foreign,
  description: 'Who still needs the proxy, as the proxies of all pods have seen it.',
  properties: {
    needProxy: { type: 'integer', format: 'int32', minimum: 0, description: 'How many clients need it.' },
    top: {
      type: 'array',
      maxItems: 20,
      items: { type: 'string', maxLength: 256 },
      'x-kubernetes-list-type': 'atomic',
      description: 'The names of those that need it most.',
    },
    noneSince: {
      ...time,
      description: 'Since when none needs it; absent while some do, or while not every proxy could be asked.',
    },
    pods: { type: 'integer', format: 'int32', minimum: 0, description: 'Pods whose proxies were asked.' },
    unreachable: {
      type: 'integer',
      format: 'int32',
      minimum: 0,
      description: 'How many of them did not answer.',
    },
    why: { type: 'string', maxLength: 256, description: 'Why the first of them did not.' },
  },
};

const count: Schema = { type: 'integer', format: 'int32', minimum: 0 };

/** What one upgrade has to remember; reconciler/types.ts has the same as a type. */
const upgrade: Schema = {
  type: 'object',
  description: 'An upgrade: what it is about, and what it has done so far.',
  required: ['sequence', 'from', 'to', 'reason', 'clusterUid', 'startedAt', 'phaseStartedAt'],
  properties: {
    sequence: { ...count, description: 'Counts the upgrades of this RabbitMq; what they save carries it.' },
    from: { type: 'string', description: 'The version before.' },
    to: { type: 'string', description: 'The version after.' },
    reason: { type: 'string', enum: ['VersionUpgrade', 'QueueTypeMigration'] },
    clusterUid: { type: 'string', description: 'The RabbitmqCluster that is replaced.' },
    newClusterUid: { type: 'string', description: 'The one in its place.' },
    replicas: count,
    isOwned: { type: 'boolean', description: 'Whether the RabbitmqCluster is deleted with the RabbitMq.' },
    proxyBefore: { type: 'boolean', description: 'proxyRequired before the upgrade.' },
    gracePeriodSeconds: { type: 'integer', format: 'int64', minimum: 0 },
    startedAt: time,
    phaseStartedAt: time,
    importedAt: { ...time, description: 'When the definitions were brought back.' },
    finishedAt: time,
    backup: {
      type: 'object',
      description: 'What was saved before anything was deleted.',
      required: ['secret', 'sha256', 'takenAt', 'messages', 'queues'],
      properties: {
        secret: { type: 'string', description: 'The Secret with the index of what was saved.' },
        sha256: { type: 'string', description: 'Of the definitions.' },
        takenAt: time,
        messages: {
          type: 'integer',
          format: 'int64',
          minimum: 0,
          description: 'Persistent messages that the wipe lost.',
        },
        queues: { ...count, description: 'Queues that held them.' },
      },
    },
    definitions: {
      type: 'object',
      description: 'Definitions that came back as they were, otherwise, not, and those that were refused.',
      properties: {
        kept: count,
        changed: count,
        dropped: count,
        refused: count,
        differences: {
          type: 'array',
          maxItems: 20,
          items: { type: 'string', maxLength: 256 },
          'x-kubernetes-list-type': 'atomic',
          description: 'What was not kept and why; quorumbridge upgrade report has everything.',
        },
      },
    },
  },
};

const status: Schema = {
  ...foreign,
  description: 'What is there.',
  properties: {
    currentVersion: { type: 'string', description: 'The version of RabbitMQ that runs, such as 3.9.' },
    targetVersion: { type: 'string', description: 'The version that is wanted, wherever that is said.' },
    queueType: { type: 'string', description: 'How queues are replicated now.' },
    upgradePhase: {
      type: 'string',
      enum: UPGRADE_PHASES,
      description: 'How far an upgrade is; empty when there is none.',
    },
    wipeReason: {
      type: 'string',
      description: 'Why storage is wiped: VersionUpgrade or QueueTypeMigration; empty when it is not.',
    },
    // The infra operator's own CRD has a string here, "True" or "False", which readers understand too. A structural
    // schema has no union of the two, and without a type nothing would refuse a "yes": this CRD has the boolean alone.
    proxyRequired: { type: 'boolean', description: 'Whether clients need the proxy.' },
    clients,
    messagingTopology: {
      type: 'object',
      description: 'Where the file of spec.messagingTopology was declared last, or tried to be.',
      required: ['sha256', 'clusterUid', 'isDeclared', 'triedAt'],
      properties: {
        sha256: { type: 'string', description: "Of the file's text." },
        clusterUid: { type: 'string', description: 'The RabbitmqCluster.' },
        isDeclared: { type: 'boolean', description: 'Whether all of it was declared.' },
        triedAt: time,
      },
    },
    upgradeSequence: { ...count, description: 'The latest upgrade, also one that was called off.' },
    upgrade: { ...upgrade, description: 'The upgrade that is under way.' },
    lastUpgrade: { ...upgrade, description: 'The last one that finished.' },
    conditions: {
      type: 'array',
      items: condition,
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['type'],
    },
    observedGeneration: {
      type: 'integer',
      format: 'int64',
      minimum: 0,
      description: 'The generation that this status is about.',
    },
  },
};

interface Column {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'boolean' | 'date';
  readonly jsonPath: string;
  readonly description: string;
}

/** What `kubectl get rabbitmq` shows besides the name. */
const columns: readonly Column[] = [
  {
    name: 'Version',
    type: 'string',
    jsonPath: '.status.currentVersion',
    description: 'The version that runs',
  },
  {
    name: 'Target',
    type: 'string',
    jsonPath: '.status.targetVersion',
    description: 'The version that is wanted',
  },
  { name: 'Phase', type: 'string', jsonPath: '.status.upgradePhase', description: 'How far an upgrade is' },
  {
    name: 'Proxy',
    type: 'boolean',
    jsonPath: '.status.proxyRequired',
    description: 'Whether clients need the proxy',
  },
  {
    name: 'Clients',
    type: 'integer',
    jsonPath: '.status.clients.needProxy',
    description: 'How many clients need it',
  },
  { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'How old it is' },
];

/** The object that is applied. All that an API server would fill in is given. */
export const RABBITMQ_CRD = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: {
    name: `${plural}.${group}`,
    labels: { 'app.kubernetes.io/name': 'quorumbridge', 'app.kubernetes.io/part-of': 'quorumbridge' },
  },
  spec: {
    group,
    scope: 'Namespaced',
    // The cluster operator has a category of that name, which kubectl takes for `kubectl get rabbitmq` before the singular.
    names: { kind, listKind: `${kind}List`, plural, singular: 'rabbitmq', categories: ['rabbitmq'] },
    conversion: { strategy: 'None' },
    versions: [
      {
        name: 'v1beta1',
        served: true,
        storage: true,
        subresources: { status: {} },
        additionalPrinterColumns: columns,
        schema: {
          openAPIV3Schema: {
            type: 'object',
            description:
              'A RabbitMQ cluster, the version it should have, and how far it is on the way there.',
            properties: {
              apiVersion: { type: 'string' },
              kind: { type: 'string' },
              metadata: { type: 'object' },
              spec,
              status,
            },
          } satisfies Schema,
        },
      },
    ],
  },
} as const;
