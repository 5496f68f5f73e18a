import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { Server } from 'node:https';
import { json } from 'node:stream/consumers';
import fastJsonPatch from 'fast-json-patch';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeCa, makeServingCertificate } from '../../certs/certificates.ts';
import { ANNOTATION, PROXY_CONTAINER, RABBITMQ_CONTAINER, SETUP_CONTAINER } from '../../common/contract.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import { eventually } from '../support/kube-api.ts';
import type { KubeAnswer, KubeMetadata, KubeObject } from '../support/kube-api.ts';
import { startCluster } from '../support/kube.ts';
import type { Cluster } from '../support/kube.ts';
import type { Pod, PodContainer } from '../support/kubelet.ts';
import { freePort } from '../support/ports.ts';
import { startWebhookProcess } from '../support/webhook-process.ts';
import type { WebhookProcess } from '../support/webhook-process.ts';

const NAMESPACE = 'openstack';
const STRICT = 'strict';
const ASKING = { [ANNOTATION.enableProxy]: 'true' };
/** The label by which an object chooses the other webhook that it wants to meet. */
const MEETS = 'example.com/meets';
const METRICS: PodContainer = { name: 'metrics', image: 'metrics:1' };

interface Template {
  metadata?: KubeMetadata;
  spec: { containers: PodContainer[]; initContainers?: PodContainer[]; volumes?: { name: string }[] };
}

interface RabbitmqCluster extends KubeObject {
  spec: {
    image?: string;
    rabbitmq?: { advancedConfig?: string };
    override?: { statefulSet?: { spec?: { template?: Template } } };
    [key: string]: unknown;
  };
}

interface StatefulSet extends KubeObject {
  spec: { template: Template };
}

function rabbitmqCluster(
  name: string,
  annotations: Record<string, string>,
  spec: RabbitmqCluster['spec'] = {},
  namespace = NAMESPACE,
): RabbitmqCluster {
  const metadata = { namespace, name, annotations };
  return { apiVersion: 'rabbitmq.com/v1beta1', kind: 'RabbitmqCluster', metadata, spec };
}

/** A spec whose override has these containers. */
function overriding(...containers: PodContainer[]): RabbitmqCluster['spec'] {
  return { override: { statefulSet: { spec: { template: { spec: { containers } } } } } };
}

function statefulSet(namespace: string, name: string): KubeObject {
  return { apiVersion: 'apps/v1', kind: 'StatefulSet', metadata: { namespace, name } };
}

function containersOf(object: RabbitmqCluster): PodContainer[] {
  return object.spec.override?.statefulSet?.spec?.template?.spec.containers ?? [];
}

function namesOf(containers: PodContainer[] | undefined): string[] {
  return (containers ?? []).map(({ name }) => name);
}

function hasProxy({ containers, initContainers = [] }: Template['spec']): boolean {
  return namesOf([...containers, ...initContainers]).includes(PROXY_CONTAINER);
}

function proxyOf(object: RabbitmqCluster): PodContainer {
  const found = containersOf(object).find(({ name }) => name === PROXY_CONTAINER);
  if (found === undefined) throw new Error(`there is no ${PROXY_CONTAINER}`);
  return found;
}

function rule(apiGroup: string, apiVersion: string, resource: string): Record<string, unknown> {
  return {
    apiGroups: [apiGroup],
    apiVersions: [apiVersion],
    operations: ['CREATE', 'UPDATE'],
    resources: [resource],
  };
}

/** Configurations are called in the order of their names. */
function registration(
  name: string,
  { url, ca }: { url: string; ca: string },
  more: Record<string, unknown>,
): KubeObject {
  const entry = {
    name: `${name}.example.com`,
    clientConfig: { url, caBundle: Buffer.from(ca).toString('base64') },
    rules: [rule('rabbitmq.com', 'v1beta1', 'rabbitmqclusters'), rule('apps', 'v1', 'statefulsets')],
    failurePolicy: 'Fail',
    sideEffects: 'None',
    reinvocationPolicy: 'IfNeeded',
    timeoutSeconds: 5,
    admissionReviewVersions: ['v1'],
    ...more,
  };
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name },
    webhooks: [entry],
  };
}

/** Somebody else's webhook: a label, a container in the override, and a variable in each of its containers. */
interface OtherWebhook {
  url: string;
  ca: string;
  server: Server;
}

const VARIABLE = { name: 'OTHER', value: 'yes' };

function meddle(object: RabbitmqCluster): RabbitmqCluster {
  const result = structuredClone(object);
  result.metadata.labels = { ...result.metadata.labels, 'example.com/other': 'was-here' };
  const override = (result.spec.override ??= {});
  const template = (((override.statefulSet ??= {}).spec ??= {}).template ??= { spec: { containers: [] } });
  template.spec ??= { containers: [] };
  const containers = (template.spec.containers ??= []);
  if (!namesOf(containers).includes('other')) containers.push({ name: 'other', image: 'other:1' });
  for (const container of containers) {
    const env = (container['env'] ??= []) as { name: string }[];
    if (!env.some(({ name }) => name === VARIABLE.name)) env.push(VARIABLE);
  }
  return result;
}

async function startOtherWebhook(): Promise<OtherWebhook> {
  const ca = await makeCa({ commonName: 'other', days: 1 });
  const leaf = await makeServingCertificate({ ca, dnsNames: ['localhost'], ips: ['127.0.0.1'], days: 1 });
  const answer = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const body = (await json(incoming)) as { request: { uid: string; object: RabbitmqCluster } };
    const { request, ...review } = body;
    const patch = JSON.stringify(fastJsonPatch.compare(request.object, meddle(request.object)));
    const encoded = { patchType: 'JSONPatch', patch: Buffer.from(patch).toString('base64') };
    const response = { uid: request.uid, allowed: true, ...encoded };
    outgoing.setHeader('content-type', 'application/json').end(JSON.stringify({ ...review, response }));
  };
  const server = createServer(
    { cert: leaf.cert, key: leaf.key },
    (incoming, outgoing) => void answer(incoming, outgoing),
  );
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return { url: `https://127.0.0.1:${port}/`, ca: ca.cert, server };
}

await describeCluster('injection by a real API server', { operator: true }, ({ lacks }) => {
  const noNative = lacks('nativeSidecars');
  let cluster: Cluster;
  let webhook: WebhookProcess;
  let other: OtherWebhook;

  beforeAll(async () => {
    cluster = await startCluster({ operator: true });
    await cluster.createNamespace(NAMESPACE);
    await cluster.createNamespace(STRICT, { 'pod-security.kubernetes.io/enforce': 'restricted' });
    webhook = await startWebhookProcess(cluster.kubeconfig, ['--no-events']);
    other = await startOtherWebhook();
    await cluster.api.create(registration('quorumbridge', webhook, {}));
    for (const name of ['a-other', 'z-other']) {
      const objectSelector = { matchLabels: { [MEETS]: name } };
      const rules = [rule('rabbitmq.com', 'v1beta1', 'rabbitmqclusters')];
      await cluster.api.create(registration(name, other, { objectSelector, rules }));
    }
    // API servers notice new registrations after a moment.
    for (const name of ['a-other', 'z-other']) {
      await eventually(`the webhooks, ${name} too`, async () => {
        const object = rabbitmqCluster('first', ASKING);
        object.metadata.labels = { [MEETS]: name };
        const names = namesOf(containersOf(await cluster.api.create(object, { dryRun: 'All' })));
        return names.includes('other') && names.includes(PROXY_CONTAINER);
      });
    }
  });
  afterAll(async () => {
    await cluster?.stop();
    await webhook?.stop();
    other?.server.close();
  });

  const read = (object: KubeObject) => cluster.api.read<RabbitmqCluster>(object);
  /** A change of annotations alone, which tells nothing but makes an admission. */
  const annotate = (object: KubeObject, annotations: Record<string, string>) =>
    cluster.api.patch<RabbitmqCluster>(object, { metadata: { annotations } });
  /** PUT, with its warnings; what the operator changed meanwhile is read again. */
  const edit = (object: KubeObject, change: (copy: RabbitmqCluster) => void) =>
    eventually('an edit', async (): Promise<KubeAnswer<RabbitmqCluster>> => {
      const body = await read(object);
      change(body);
      return cluster.api.call('PUT', await cluster.api.path(object), { body });
    });

  const ways: [string, string, Record<string, string>, Record<string, string>, RabbitmqCluster['spec']][] = [
    ['inject "false"', '', ASKING, { [ANNOTATION.inject]: 'false' }, {}],
    [
      'the same, where it was a native sidecar',
      noNative,
      { ...ASKING, [ANNOTATION.sidecarMode]: 'native' },
      { [ANNOTATION.inject]: 'false' },
      { replicas: 1, image: 'rabbitmq:4.3' },
    ],
    [
      'clients-reconfigured',
      '',
      ASKING,
      { [ANNOTATION.clientsReconfigured]: 'true' },
      {
        ...overriding(METRICS, { name: RABBITMQ_CONTAINER, readinessProbe: { tcpSocket: { port: 5672 } } }),
        rabbitmq: { advancedConfig: '[ {rabbit, [{tcp_listeners, [5672]} % ours\n ]} ].\n' },
        tls: { secretName: 'rabbitmq-tls' },
      },
    ],
  ];
  for (const [how, why, yes, no, spec] of ways)
    it.skipIf(why !== '')(
      `is undone by ${how}: cluster, StatefulSet and configuration are what they were${why}`,
      async () => {
        const name = `leaver-${Object.keys(spec).length}`;
        const object = rabbitmqCluster(name, {}, spec);
        const set = statefulSet(NAMESPACE, `${name}-server`);
        const config: KubeObject = {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { namespace: NAMESPACE, name: `${name}-server-conf` },
        };
        const tls = { metadata: { namespace: NAMESPACE, name: 'rabbitmq-tls' } };
        const files = { 'tls.crt': 'certificate', 'tls.key': 'key' };
        if (spec['tls'] !== undefined)
          await cluster.api.create({ apiVersion: 'v1', kind: 'Secret', ...tls, stringData: files });
        const made = async () => {
          const template = (await cluster.api.read<StatefulSet>(set)).spec.template.spec;
          return { template, files: (await cluster.api.read(config))['data'] };
        };
        await cluster.api.create(object);
        const before = { set: await eventually('its StatefulSet', made), spec: (await read(object)).spec };

        await annotate(object, yes);
        await eventually('the proxy', async () => hasProxy((await made()).template));
        expect((await made()).files).not.toEqual(before.set.files);

        const { spec: after } = await annotate(object, no);
        // What stays is the tombstone, and its parents where there were none.
        const template = after.override?.statefulSet?.spec?.template;
        expect(template?.metadata?.annotations).toEqual({
          [ANNOTATION.status]: expect.stringMatching(/^\{"state":"removed"/),
        });
        delete template?.metadata;
        expect(template?.spec).toEqual(before.spec.override?.statefulSet?.spec?.template?.spec);
        if (template?.spec === undefined) delete after.override?.statefulSet;
        expect(after).toEqual(before.spec);
        await eventually('the StatefulSet without the proxy', async () => {
          const now = await made();
          return !hasProxy(now.template) && now;
        });
        expect(await made()).toEqual(before.set);
      },
    );

  it.each(['a-other', 'z-other'])('and that of another webhook get along: %s', async (name) => {
    const object = rabbitmqCluster(name, ASKING, overriding(METRICS));
    object.metadata.labels = { [MEETS]: name };
    const stored = await cluster.api.create(object);
    expect(stored.metadata.labels).toHaveProperty(['example.com/other'], 'was-here');
    expect(namesOf(containersOf(stored))).toEqual([
      RABBITMQ_CONTAINER,
      METRICS.name,
      'other',
      PROXY_CONTAINER,
    ]);
    for (const container of containersOf(stored).slice(0, -1)) expect(container['env']).toEqual([VARIABLE]);
    expect(stored.spec.rabbitmq?.advancedConfig).toContain('{tcp_listeners,[{"127.0.0.1",5673}]}');

    const [first, again] = await eventually('a write that the operator is not in the way of', async () => {
      const now = await read(object);
      return now.spec.image !== undefined && ([now, await cluster.api.replace(now)] as const);
    });
    expect(again.spec).toEqual(first.spec);
    expect(again.metadata.generation).toBe(first.metadata.generation);
    expect(again.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
    expect((await annotate(object, { note: 'x' })).metadata.generation).toBe(first.metadata.generation);
  });

  it('survives server-side apply by another field manager, whole lists of containers included', async () => {
    const object = rabbitmqCluster('applied', ASKING, overriding(METRICS));
    const first = await cluster.api.apply(object, 'gitops');
    const partial = rabbitmqCluster('applied', {}, { replicas: 3 });
    const scaled = await cluster.api.apply(partial, 'scaler', { force: 'true' });
    expect(scaled.spec['replicas']).toBe(3);
    expect(containersOf(scaled)).toEqual(containersOf(first));

    const newer = rabbitmqCluster('applied', {}, overriding({ ...METRICS, image: 'metrics:2' }));
    const bumped = await cluster.api.apply(newer, 'bumper', { force: 'true' });
    expect(namesOf(containersOf(bumped))).toEqual([RABBITMQ_CONTAINER, METRICS.name, PROXY_CONTAINER]);
    expect(containersOf(bumped)[1]!.image).toBe('metrics:2');
    expect(proxyOf(bumped)).toEqual(proxyOf(first));
    expect(bumped.spec.rabbitmq).toEqual(first.spec.rabbitmq);
  });

  it('survives a new image of RabbitMQ, and follows the annotation for its own without a warning', async () => {
    const object = rabbitmqCluster('bumped', ASKING);
    const first = await cluster.api.create(object);
    const newer = await cluster.api.patch<RabbitmqCluster>(object, { spec: { image: 'rabbitmq:4.3' } });
    expect(newer.spec.override).toEqual(first.spec.override);
    const { body, warnings } = await edit(object, ({ metadata }) => {
      metadata.annotations![ANNOTATION.proxyImage] = 'proxy:2';
    });
    expect(proxyOf(body)).toEqual({ ...proxyOf(first), image: 'proxy:2' });
    expect(warnings).toEqual([]);
  });

  it('puts back a sidecar that was edited by hand, and says which annotation to use', async () => {
    const object = rabbitmqCluster('edited', ASKING);
    const first = await cluster.api.create(object);
    const { body, warnings } = await edit(object, (copy) => {
      proxyOf(copy).image = 'mine:1';
      proxyOf(copy)['args'] = ['--log-level=trace'];
    });
    expect(proxyOf(body)).toEqual(proxyOf(first));
    expect(warnings.join('\n')).toMatch(/amqp-proxy: .*put back: .*quorumbridge\.io\/proxy-/);
  });

  for (const [mode, why] of [
    ['plain', lacks('podSecurity')],
    ['native', noNative],
  ] as const)
    it.skipIf(why !== '')(`makes pods that pass enforce=restricted: ${mode}${why}`, async () => {
      const annotations = { ...ASKING, [ANNOTATION.sidecarMode]: mode };
      const labels = { app: mode };
      const securityContext = {
        allowPrivilegeEscalation: false,
        capabilities: { drop: ['ALL'] },
        runAsNonRoot: true,
        seccompProfile: { type: 'RuntimeDefault' },
      };
      const containers = [{ name: RABBITMQ_CONTAINER, image: 'rabbitmq:4.3', securityContext }];
      const set = statefulSet(STRICT, `set-${mode}`);
      set.metadata.annotations = annotations;
      const template = { metadata: { labels }, spec: { containers } };
      await cluster.api.create({
        ...set,
        spec: { replicas: 1, serviceName: 'mq', selector: { matchLabels: labels }, template },
      });
      // The operator's own containers break that level without a word of the user's.
      const initContainers = [{ name: SETUP_CONTAINER, securityContext }];
      const podSpec = { containers: [{ name: RABBITMQ_CONTAINER, securityContext }], initContainers };
      const override = { statefulSet: { spec: { template: { spec: podSpec } } } };
      await cluster.api.create(rabbitmqCluster(`mq-${mode}`, annotations, { override }, STRICT));
      for (const [name, own] of [
        [`set-${mode}-0`, []],
        [`mq-${mode}-server-0`, [SETUP_CONTAINER]],
      ] as const) {
        const metadata = { namespace: STRICT, name };
        const pod = await eventually(`pod ${name}`, () =>
          cluster.api.find<Pod>({ apiVersion: 'v1', kind: 'Pod', metadata }),
        );
        const lists = [namesOf(pod.spec.initContainers), namesOf(pod.spec.containers)];
        const [last, first] = mode === 'native' ? [[PROXY_CONTAINER], []] : [[], [PROXY_CONTAINER]];
        expect(lists).toEqual([
          [...own, ...last],
          [RABBITMQ_CONTAINER, ...first],
        ]);
      }
    });

  it('leaves alone what is being deleted, whatever is written to it', async () => {
    const finalizers = ['example.com/wait'];
    const injected = rabbitmqCluster('leaving', ASKING);
    const bare = rabbitmqCluster('left', {});
    for (const object of [injected, bare]) {
      object.metadata['finalizers'] = finalizers;
      await cluster.api.create(object);
      await cluster.api.remove(object);
    }
    const stays = await annotate(injected, { [ANNOTATION.inject]: 'false' });
    expect(stays.metadata.deletionTimestamp).toBeDefined();
    expect(namesOf(containersOf(stays))).toContain(PROXY_CONTAINER);
    const { body, warnings } = await edit(injected, (copy) => (proxyOf(copy).image = 'mine:1'));
    expect(proxyOf(body).image).toBe('mine:1');
    expect(warnings).toEqual([]);
    expect((await annotate(bare, ASKING)).spec.override).toBeUndefined();
    for (const object of [injected, bare]) {
      await eventually('its end', async () => {
        await cluster.api.patch(object, { metadata: { finalizers: null } }).catch(() => undefined);
        return (await cluster.api.find(object)) === undefined;
      });
    }
    expect(await cluster.api.find(injected)).toBeUndefined();
  });
});
