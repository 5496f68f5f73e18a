// The CRD of RabbitmqCluster for where the cluster operator's own can't be had: its defaults, the lists of its override
// that server-side apply merges, and the limits that this project knows of. All that it has besides is kept unchecked.
import type { KubeObject } from './kube-api.ts';

type Schema = Readonly<Record<string, unknown>>;

const TEXT: Schema = { type: 'string' };
const COUNT: Schema = { type: 'integer', format: 'int32', minimum: 0 };
const QUANTITY: Schema = {
  anyOf: [{ type: 'integer' }, { type: 'string' }],
  'x-kubernetes-int-or-string': true,
};

/** An object with these fields and any others. */
function open(properties: Record<string, Schema>, more: Schema = {}): Schema {
  return { type: 'object', 'x-kubernetes-preserve-unknown-fields': true, properties, ...more };
}

/** A list whose items are known by these fields. */
function mapOf(keys: string[], properties: Record<string, Schema>): Schema {
  const required = keys.filter((key) => !Object.hasOwn(properties[key]!, 'default'));
  const items = open(properties, { required });
  return { type: 'array', items, 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': keys };
}

const CONTAINERS = mapOf(['name'], {
  name: TEXT,
  image: TEXT,
  restartPolicy: TEXT,
  env: mapOf(['name'], { name: TEXT }),
  ports: mapOf(['containerPort', 'protocol'], {
    containerPort: COUNT,
    protocol: { ...TEXT, default: 'TCP' },
  }),
  volumeDevices: mapOf(['devicePath'], { devicePath: TEXT }),
  volumeMounts: mapOf(['mountPath'], { mountPath: TEXT }),
});

const POD_SPEC = open(
  {
    containers: CONTAINERS,
    initContainers: CONTAINERS,
    volumes: mapOf(['name'], { name: TEXT }),
  },
  { required: ['containers'] },
);

const MEMORY = '2Gi';
const SPEC = open({
  replicas: { ...COUNT, default: 1 },
  image: TEXT,
  delayStartSeconds: { ...COUNT, default: 30 },
  terminationGracePeriodSeconds: { type: 'integer', format: 'int64', minimum: 0, default: 604_800 },
  persistence: open({ storage: { ...QUANTITY, default: '10Gi' } }, { default: { storage: '10Gi' } }),
  resources: open(
    {},
    { default: { limits: { cpu: '2', memory: MEMORY }, requests: { cpu: '1', memory: MEMORY } } },
  ),
  service: open({ type: { ...TEXT, default: 'ClusterIP' } }, { default: { type: 'ClusterIP' } }),
  rabbitmq: open({
    additionalConfig: { ...TEXT, maxLength: 100_000 },
    advancedConfig: { ...TEXT, maxLength: 100_000 },
    envConfig: { ...TEXT, maxLength: 100_000 },
    additionalPlugins: { type: 'array', maxItems: 100, items: { ...TEXT, pattern: String.raw`^\w+$` } },
  }),
  tls: open({ secretName: TEXT, caSecretName: TEXT, disableNonTLSListeners: { type: 'boolean' } }),
  override: open({ statefulSet: open({ spec: open({ template: open({ spec: POD_SPEC }) }) }) }),
});

function columnOf(condition: string): Schema {
  const jsonPath = `.status.conditions[?(@.type == '${condition}')].status`;
  return { name: condition, type: 'string', jsonPath };
}

export const RABBITMQCLUSTER_CRD: KubeObject = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'rabbitmqclusters.rabbitmq.com' },
  spec: {
    group: 'rabbitmq.com',
    scope: 'Namespaced',
    names: {
      kind: 'RabbitmqCluster',
      listKind: 'RabbitmqClusterList',
      plural: 'rabbitmqclusters',
      singular: 'rabbitmqcluster',
      shortNames: ['rmq'],
      categories: ['all', 'rabbitmq'],
    },
    versions: [
      {
        name: 'v1beta1',
        served: true,
        storage: true,
        subresources: { status: {} },
        additionalPrinterColumns: [
          columnOf('AllReplicasReady'),
          columnOf('ReconcileSuccess'),
          { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
        ],
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              apiVersion: TEXT,
              kind: TEXT,
              metadata: { type: 'object' },
              spec: SPEC,
              status: open({ conditions: { type: 'array', items: open({ type: TEXT, status: TEXT }) } }),
            },
          },
        },
      },
    ],
  },
};
