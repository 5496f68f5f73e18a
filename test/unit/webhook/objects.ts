import * as fc from 'fast-check';
import { objectsAt, valueAt } from '../../../common/kube/json.ts';
import { mutate } from '../../../webhook/mutate.ts';
import type { JsonObject, KubeObject } from '../../../common/kube/types.ts';
import type { MutateInput, MutateResult } from '../../../webhook/types.ts';

export const IMAGE = 'registry.example/amqp-proxy:1.0';
export const ENABLE = { 'rabbitmq.openstack.org/enable-proxy': 'true' };
export const RECONFIGURED = { 'rabbitmq.openstack.org/clients-reconfigured': 'true' };
export const CLUSTER_TEMPLATE = ['spec', 'override', 'statefulSet', 'spec', 'template'];

/** A RabbitmqCluster with the injection asked for, unless `annotations` says otherwise. */
export function cluster(spec: JsonObject = {}, annotations: JsonObject = ENABLE): KubeObject {
  return {
    apiVersion: 'rabbitmq.com/v1beta1',
    kind: 'RabbitmqCluster',
    metadata: { name: 'mq', namespace: 'openstack', annotations },
    spec: { replicas: 3, ...spec },
  };
}

/** A StatefulSet with RabbitMQ's container; `container` adds to it and `pod` to the pod's spec. */
export function statefulSet(
  container: JsonObject = {},
  pod: JsonObject = {},
  annotations: JsonObject = ENABLE,
): KubeObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name: 'mq-server', namespace: 'openstack', annotations },
    spec: {
      replicas: 3,
      template: {
        metadata: { labels: { app: 'mq' } },
        spec: { containers: [{ name: 'rabbitmq', ...container }], ...pod },
      },
    },
  };
}

export function rabbitmq(
  status: JsonObject = {},
  spec: JsonObject = {},
  annotations: JsonObject = {},
): KubeObject {
  return {
    apiVersion: 'rabbitmq.openstack.org/v1beta1',
    kind: 'RabbitMq',
    metadata: { name: 'mq', namespace: 'openstack', annotations },
    spec,
    status,
  };
}

/** One pass with no RabbitMq behind the object. */
export function pass(object: KubeObject, more: Partial<MutateInput> = {}): MutateResult {
  return mutate({ object, owner: { state: 'absent' }, settings: { image: IMAGE }, ...more });
}

/** The result of a pass that must be allowed. */
export function allowed(
  object: KubeObject,
  more: Partial<MutateInput> = {},
): MutateResult & { allowed: true } {
  const result = pass(object, more);
  if (!result.allowed) throw new Error(`denied: ${result.message}`);
  return result;
}

/** The result of a pass that must be denied. */
export function denied(
  object: KubeObject,
  more: Partial<MutateInput> = {},
): MutateResult & { allowed: false } {
  const result = pass(object, more);
  if (result.allowed) throw new Error(`allowed: ${result.decision.message}`);
  return result;
}

/** The object with its annotations replaced. */
export function annotated(object: KubeObject, annotations: JsonObject): KubeObject {
  return { ...object, metadata: { ...object.metadata, annotations } };
}

export function initContainersOf(object: KubeObject): JsonObject[] {
  const template = object.kind === 'StatefulSet' ? ['spec', 'template'] : CLUSTER_TEMPLATE;
  return objectsAt(object, ...template, 'spec', 'initContainers');
}

/** The pod template's containers: of a RabbitmqCluster those in the override. */
export function containersOf(object: KubeObject): JsonObject[] {
  const template = object.kind === 'StatefulSet' ? ['spec', 'template'] : CLUSTER_TEMPLATE;
  return objectsAt(object, ...template, 'spec', 'containers');
}

export function proxyOf(object: KubeObject): JsonObject {
  const proxy = containersOf(object).find((container) => container['name'] === 'amqp-proxy');
  if (proxy === undefined) throw new Error('there is no amqp-proxy');
  return proxy;
}

export function advancedOf(object: KubeObject): string {
  return valueAt(object, 'spec', 'rabbitmq', 'advancedConfig') as string;
}

const probe = fc.constantFrom<JsonObject>(
  { tcpSocket: { port: 'amqp' }, periodSeconds: 7 },
  { tcpSocket: { port: 5671 } },
  { exec: { command: ['rabbitmq-diagnostics', 'ping'] }, timeoutSeconds: 9 },
  { httpGet: { path: '/', port: 15_672 } },
);
const resources = fc.constantFrom<JsonObject>(
  { limits: { cpu: '1', memory: '1Gi' } },
  { requests: { cpu: '1000m', memory: '1Gi' }, limits: { cpu: 1, memory: '1024Mi' } },
  { requests: { cpu: '10m' } },
);
const probes = fc.record(
  { readinessProbe: probe, livenessProbe: probe, startupProbe: probe },
  { requiredKeys: [] },
);

/** Where something can be missing, empty or null on the way to the pod template. */
function maybe(inner: fc.Arbitrary<JsonObject>): fc.Arbitrary<JsonObject | null | undefined> {
  return fc.option(fc.option(inner, { nil: null, freq: 6 }), { nil: undefined, freq: 4 });
}

function field(name: string, value: fc.Arbitrary<JsonObject | null | undefined>): fc.Arbitrary<JsonObject> {
  return value.map((inner) => (inner === undefined ? {} : { [name]: inner }));
}

function both(...parts: fc.Arbitrary<JsonObject>[]): fc.Arbitrary<JsonObject> {
  return fc.tuple(...parts).map((all) => Object.assign({}, ...all) as JsonObject);
}

const clusterContainers = fc
  .tuple(
    fc.option(both(fc.constant({ name: 'rabbitmq' }), probes, field('resources', maybe(resources)))),
    fc.subarray(['metrics', 'shovel-helper', 'vault']),
    fc.nat(3),
  )
  .map(([own, names, at]) => {
    const list: JsonObject[] = names.map((name) => ({ name, image: `${name}:1` }));
    if (own !== null) list.splice(at, 0, own);
    return { containers: list };
  });

const initContainers = fc.constantFrom<JsonObject>(
  {},
  {},
  { initContainers: null },
  { initContainers: [] },
  { initContainers: [{ name: 'wipe', image: 'wipe:1' }] },
  {
    initContainers: [
      { name: 'setup-container', env: [] },
      { name: 'wipe', image: 'wipe:1' },
    ],
  },
);

/** What users write into advancedConfig, valid in every case. */
export const advancedConfig = fc.constantFrom(
  '',
  '\n\n',
  '%% nothing yet',
  '[].',
  '[]. % end',
  '[{rabbit, []}].\n',
  '[\n {kernel, [{a, "]}\\""}]}, % {rabbit,[\n {\'rabbit\', [\n  {tcp_listeners, [5672]}, {x, $]} % last\n ]}\n].\n',
  '[{rabbitmq_management,[{listener,[{port,15672},{ssl,false}]}]},{rabbit,[{b,<<"x"/utf8>>},{m,#{k=>[1,-2.5e3,16#ff]}}]}].',
  '[{rabbit,[{f,fun lists:map/2}]},{log,[]}].',
  '[{rabbit,\r\n [{ssl_options,[{verify,verify_none}]}]}].\r\n',
);

/** Annotations that ask for the injection, and some for rules of one's own. */
const annotations = fc
  .subarray<[string, string]>([
    ['quorumbridge.io/mode', 'observe'],
    ['quorumbridge.io/preset', 'celery'],
    ['quorumbridge.io/rules', 'amqp-rules/nova.json'],
    ['quorumbridge.io/proxy-args', '["--max-connections=9"]'],
    ['quorumbridge.io/log-level', 'debug'],
    ['quorumbridge.io/sidecar-mode', 'native'],
    ['quorumbridge.io/sidecar-mode', 'auto'],
    ['quorumbridge.io/backend-host', '::1'],
  ])
  .map((chosen): JsonObject => ({ ...ENABLE, ...Object.fromEntries(chosen) }));

const clusterSpecs: fc.Arbitrary<JsonObject> = both(
  field(
    'override',
    maybe(
      both(
        field('service', maybe(fc.constant({ spec: { type: 'LoadBalancer' } }))),
        field(
          'statefulSet',
          maybe(
            field(
              'spec',
              maybe(
                field(
                  'template',
                  maybe(
                    both(
                      field(
                        'metadata',
                        maybe(field('annotations', maybe(fc.constantFrom({}, { note: 'a/b~c' })))),
                      ),
                      field(
                        'spec',
                        maybe(
                          both(
                            clusterContainers,
                            initContainers,
                            fc.constantFrom<JsonObject>(
                              {},
                              { volumes: [{ name: 'v', emptyDir: {} }] },
                              { volumes: [] },
                              { volumes: null },
                            ),
                          ),
                        ),
                      ),
                    ),
                  ),
                ),
              ),
            ),
          ),
        ),
      ),
    ),
  ),
  field(
    'rabbitmq',
    maybe(
      both(
        advancedConfig.map((text) => ({ advancedConfig: text })),
        fc.constantFrom({}, { additionalConfig: 'listeners.tcp.1 = 5672\n' }),
      ),
    ),
  ),
  field(
    'tls',
    maybe(
      fc.constantFrom(
        {},
        { secretName: 's' },
        { secretName: 's', caSecretName: 'c' },
        { secretName: 's', disableNonTLSListeners: true },
      ),
    ),
  ),
  field('resources', maybe(resources)),
);

/** RabbitmqClusters as users and operators write them, with the injection asked for. */
export const clusters: fc.Arbitrary<KubeObject> = fc
  .tuple(clusterSpecs, annotations)
  .map(([spec, chosen]) => cluster(spec, chosen));

const mounts = fc.subarray([
  { name: 'conf', mountPath: '/etc/rabbitmq/conf.d/90.conf', subPath: '90.conf' },
  { name: 'rabbitmq-tls', mountPath: '/etc/rabbitmq-tls/', readOnly: true },
  { name: 'ca', mountPath: '/etc/rabbitmq-tls-ca' },
  { name: 'advanced', mountPath: '/etc/rabbitmq/advanced.config', subPath: 'advanced.config' },
]);
const volumes = fc.subarray([
  { name: 'conf', configMap: { name: 'conf' } },
  {
    name: 'rabbitmq-tls',
    projected: { sources: [{ secret: { name: 's', items: [{ key: 'ca.crt', path: 'ca.crt' }] } }] },
  },
  { name: 'ca', secret: { secretName: 'ca' } },
]);

/** StatefulSets with RabbitMQ's container among others, with the injection asked for. */
export const statefulSets: fc.Arbitrary<KubeObject> = fc
  .tuple(
    both(probes, field('resources', maybe(resources))),
    fc.option(mounts, { nil: undefined }),
    fc.option(volumes, { nil: undefined }),
    fc.subarray(['first', 'second']),
    fc.nat(2),
    maybe(fc.constantFrom({}, { note: 'x' })),
    annotations,
    initContainers,
  )
  .map(([own, volumeMounts, volumes, names, at, templates, chosen, before]) => {
    const containers: JsonObject[] = names.map((name) => ({ name, image: `${name}:1` }));
    containers.splice(at, 0, { name: 'rabbitmq', ...own, ...(volumeMounts && { volumeMounts }) });
    const result = statefulSet({}, { containers, ...before, ...(volumes && { volumes }) }, chosen);
    const metadata = valueAt(result, 'spec', 'template', 'metadata') as JsonObject;
    if (templates !== undefined) metadata['annotations'] = templates;
    return result;
  });
