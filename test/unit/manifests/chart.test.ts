import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { INSTALL } from '../../../common/contract.ts';
import type { KubeObject } from '../../support/kube-api.ts';
import {
  MANIFESTS,
  fetchManifestTools,
  helmLint,
  helmTemplate,
  installFile,
  kustomize,
  objectsOf,
} from '../../support/manifests.ts';
import { HOME } from '../../support/processes.ts';
import type { Configuration, Deployment, Webhook } from './sources.ts';

const why = await fetchManifestTools().then(
  () => '',
  (error: Error) => ` (${error.message.replaceAll(/\s+/g, ' ')})`,
);

type Objects = Record<string, KubeObject>;

/** Objects by kind, namespace and name, so that their order says nothing. */
function byName(objects: KubeObject[]): Objects {
  const entries = objects.map((object): [string, KubeObject] => {
    const { namespace = '', name } = object.metadata;
    return [`${object.kind} ${namespace}/${name}`, object];
  });
  expect(new Set(entries.map(([key]) => key)).size).toBe(entries.length);
  return Object.fromEntries(entries);
}

/** What kustomize makes of a kustomization in which `../quorumbridge` is this repository. */
async function built(kustomization: string): Promise<KubeObject[]> {
  mkdirSync(join(HOME, 'dist'), { recursive: true });
  const folder = mkdtempSync(join(HOME, 'dist', 'overlay-'));
  const repository = relative(folder, HOME);
  try {
    writeFileSync(
      join(folder, 'kustomization.yaml'),
      kustomization.replaceAll('../quorumbridge', repository),
    );
    return objectsOf(await kustomize(folder));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The base with these components, as a user's own overlay would have them. */
async function overlay(...components: string[]): Promise<KubeObject[]> {
  const kustomization = {
    apiVersion: 'kustomize.config.k8s.io/v1beta1',
    kind: 'Kustomization',
    resources: ['../quorumbridge/manifests/base'],
    components: components.map((component) => `../quorumbridge/manifests/components/${component}`),
  };
  return built(JSON.stringify(kustomization));
}

const chart = async (...values: string[]): Promise<KubeObject[]> =>
  objectsOf(await helmTemplate(values, INSTALL.namespace));

/** Helm makes the namespace itself, or leaves it to others. */
const withoutNamespace = (objects: KubeObject[]): KubeObject[] =>
  objects.filter(({ kind }) => kind !== 'Namespace');

const configurationsOf = (objects: KubeObject[]): Configuration[] =>
  objects.filter(({ kind }) => kind.endsWith('WebhookConfiguration')) as Configuration[];

const hooksOf = (objects: KubeObject[]): Webhook[] =>
  configurationsOf(objects).flatMap(({ webhooks }) => webhooks);

const SELF_SIGNED = 'certificates.mode=self-signed';
const CERT_MANAGER = 'certificates.mode=cert-manager';
const HA = ['replicas=3', 'spread=required'];

describe.skipIf(why !== '')(`the chart and the overlays${why}`, { timeout: 60_000 }, () => {
  it.each([
    { name: 'self-signed', values: [], count: 26 },
    { name: 'cert-manager', values: [CERT_MANAGER], count: 26 },
    { name: 'high-availability', values: [CERT_MANAGER, ...HA], count: 26 },
  ])('make the same objects: $name', async ({ name, values, count }) => {
    const overlaid = objectsOf(await kustomize(join(MANIFESTS, 'overlays', name)));
    expect(overlaid).toHaveLength(count);
    expect(byName(await chart(...values))).toEqual(byName(withoutNamespace(overlaid)));
  });

  it.each([
    { components: ['self-signed', 'monitoring'], values: ['monitoring.enabled=true'] },
    { components: ['self-signed', 'high-availability'], values: HA },
    { components: ['cert-manager', 'monitoring'], values: [CERT_MANAGER, 'monitoring.enabled=true'] },
  ])('make the same objects with $components', async ({ components, values }) => {
    const overlaid = withoutNamespace(await overlay(...components));
    expect(byName(await chart(...values))).toEqual(byName(overlaid));
  });

  it('dist/install.yaml is the overlay self-signed, with the namespace first and the webhooks last', async () => {
    const kinds = objectsOf(await installFile()).map(({ kind }) => kind);
    expect(kinds.slice(0, 2)).toEqual(['Namespace', 'CustomResourceDefinition']);
    expect(kinds.slice(-2)).toEqual(['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration']);
    expect(kinds.indexOf('Deployment')).toBeLessThan(kinds.indexOf('MutatingWebhookConfiguration'));
  });

  it('can go without the CRD, where the infra operator has its own', async () => {
    const kinds = (await overlay('self-signed', 'without-crd')).map(({ kind }) => kind);
    expect(kinds).toHaveLength(25);
    expect(kinds).not.toContain('CustomResourceDefinition');
  });

  it('can go without the reconciler, where the infra operator does its work', async () => {
    const overlaid = await overlay('self-signed', 'monitoring', 'high-availability', 'without-reconciler');
    expect(overlaid).toHaveLength(22);
    expect(JSON.stringify(overlaid)).not.toContain(INSTALL.reconciler);
    const without = await chart(...HA, 'monitoring.enabled=true', 'reconciler.enabled=false');
    expect(byName(without)).toEqual(byName(withoutNamespace(overlaid)));
  });

  it('can go without what watches proxies, and without the dashboard', async () => {
    const monitored = ['monitoring.enabled=true', 'monitoring.labels.release=prometheus'];
    const names = async (...values: string[]): Promise<string[]> =>
      (await chart(...monitored, ...values)).map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    const all = await names();
    const without = await names('monitoring.proxies=false', 'monitoring.dashboard=false');
    expect(all.filter((name) => !without.includes(name)).sort()).toEqual([
      'ConfigMap quorumbridge-proxy-dashboard',
      'PodMonitor quorumbridge-proxy',
      'PrometheusRule quorumbridge-proxy',
    ]);
    const labelled = (await chart(...monitored)).filter(({ metadata }) => metadata.labels?.['release']);
    expect(labelled.map(({ kind }) => kind).sort()).toEqual([
      'PodMonitor',
      ...Array<string>(3).fill('PrometheusRule'),
      ...Array<string>(2).fill('ServiceMonitor'),
    ]);
  });

  it('can be had with images of another registry, as the documentation shows', async () => {
    const doc = readFileSync(join(HOME, 'docs/install.md'), 'utf8');
    const example = /```yaml\n(apiVersion: kustomize[^`]*)```/.exec(doc)![1]!;
    const objects = await built(example);
    const deployment = objects.find(
      ({ kind, metadata }) => kind === 'Deployment' && metadata.name === INSTALL.name,
    ) as Deployment;
    const [container] = deployment.spec.template.spec.containers;
    expect(container.image).toBe('registry.example/quorumbridge/control:0.1.0');
    expect(container.env).toContainEqual({
      name: 'QUORUMBRIDGE_PROXY_IMAGE',
      value: 'registry.example/quorumbridge/proxy:0.1.0',
    });
    expect(container.args).toContain(`--webhook-configuration=${INSTALL.configuration}`);
    expect(objects.map(({ kind }) => kind)).toContain('PrometheusRule');
  });

  it('keep the Deployment apart on nodes for high availability, and let one of three go', async () => {
    const objects = byName(await chart(...HA));
    const key = `${INSTALL.namespace}/${INSTALL.name}`;
    expect(objects[`Deployment ${key}`]).toMatchObject({
      spec: {
        replicas: 3,
        strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } },
        template: {
          spec: {
            affinity: {
              podAntiAffinity: {
                requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: 'kubernetes.io/hostname' }],
              },
            },
          },
        },
      },
    });
    expect(objects[`PodDisruptionBudget ${key}`]).toMatchObject({ spec: { minAvailable: 2 } });
  });

  it('has the CA injected by cert-manager and caBundle left out, so that no apply takes it away', async () => {
    const objects = await chart(CERT_MANAGER);
    const configurations = configurationsOf(objects);
    const certificate = objects.find(({ metadata }) => metadata.name === INSTALL.secret);
    expect(certificate).toMatchObject({ kind: 'Certificate', spec: { secretName: INSTALL.secret } });
    const annotations = { 'cert-manager.io/inject-ca-from': `${INSTALL.namespace}/${INSTALL.secret}` };
    expect(configurations.map(({ metadata }) => metadata.annotations)).toEqual([annotations, annotations]);
    expect(JSON.stringify(configurations)).not.toContain('caBundle');
  });
});

describe.skipIf(why !== '')(`the chart${why}`, { timeout: 60_000 }, () => {
  it('has nothing that helm lint complains about', async () => {
    expect(await helmLint()).toContain('0 chart(s) failed');
  });

  it('goes into another namespace whole', async () => {
    for (const mode of [SELF_SIGNED, CERT_MANAGER]) {
      const text = await helmTemplate([mode, 'monitoring.enabled=true'], 'messaging');
      expect(text).not.toContain(INSTALL.namespace);
      expect(
        objectsOf(text).filter(({ metadata }) => metadata.namespace === 'messaging').length,
      ).toBeGreaterThan(7);
    }
  });

  it('takes a certificate of your own, and asks for its CA', async () => {
    const provided = 'certificates.mode=provided';
    await expect(chart(provided)).rejects.toThrow(/certificates\.caBundle: .* is needed/);
    const values = [provided, 'certificates.secretName=mine', 'certificates.caBundle=Q0E='];
    const objects = await chart(...values);
    const hooks = hooksOf(objects);
    expect(hooks.map(({ clientConfig }) => clientConfig.caBundle)).toEqual(Array(4).fill('Q0E='));
    const deployment = objects.find(
      ({ kind, metadata }) => kind === 'Deployment' && metadata.name === INSTALL.name,
    ) as Deployment;
    expect(deployment.spec.template.spec).toMatchObject({ volumes: [{ secret: { secretName: 'mine' } }] });
    expect(objects.map(({ kind }) => kind)).not.toContain('Certificate');
  });

  it('lets RabbitmqClusters and RabbitMqs pass without an answer if told so, StatefulSets never', async () => {
    const ignored = async (value: string): Promise<string[]> => {
      const configurations = configurationsOf(await chart(`webhooks.failurePolicy.${value}=Ignore`));
      return configurations.flatMap(({ kind, webhooks }) => {
        const passing = webhooks.filter(({ failurePolicy }) => failurePolicy === 'Ignore');
        return passing.map(({ name }) => `${kind} ${name}`);
      });
    };
    const { cluster, rabbitMq } = INSTALL.webhook;
    expect(await ignored('rabbitmqcluster')).toEqual([`MutatingWebhookConfiguration ${cluster}`]);
    expect((await ignored('rabbitmq')).sort()).toEqual([
      `MutatingWebhookConfiguration ${rabbitMq}`,
      `ValidatingWebhookConfiguration ${rabbitMq}`,
    ]);
  });

  it('puts each value where it belongs', async () => {
    const objects = byName(
      await chart(
        'image.repository=registry.example/control',
        'image.tag=1.2.3',
        'proxyImage=registry.example/proxy:1.2.3',
        'logLevel=debug',
        'extraArgs:=["--shutdown-delay=10"]',
        'imagePullSecrets:=[{"name":"registry"}]',
        'priorityClassName=high',
        'nodeSelector.pool=infra',
        'tolerations:=[{"operator":"Exists"}]',
        'webhooks.timeoutSeconds=3',
        'networkPolicy.apiServerPorts:=[8443]',
        'nativeSidecars.enabled=false',
        'reconciler.replicas=3',
        'reconciler.extraArgs:=["--require-approval"]',
        'reconciler.resources.limits.memory=1Gi',
        'reconciler.events.secretName=events',
        'reconciler.events.ports:=[5673]',
      ),
    );
    const key = `${INSTALL.namespace}/${INSTALL.name}`;
    const deployment = objects[`Deployment ${key}`] as Deployment;
    const { containers, ...pod } = deployment.spec.template.spec;
    expect(containers[0].image).toBe('registry.example/control:1.2.3');
    expect(containers[0].args.at(-1)).toBe('--shutdown-delay=10');
    expect(containers[0].env.slice(0, 2).map(({ value }) => value)).toEqual([
      'registry.example/proxy:1.2.3',
      'debug',
    ]);
    expect(pod).toMatchObject({
      imagePullSecrets: [{ name: 'registry' }],
      priorityClassName: 'high',
      nodeSelector: { pool: 'infra', 'kubernetes.io/os': 'linux' },
      tolerations: [{ operator: 'Exists' }],
    });
    expect(objects[`NetworkPolicy ${key}`]).toMatchObject({
      spec: { egress: [{ ports: [{ port: 8443 }] }, {}] },
    });
    const ofReconciler = `${INSTALL.namespace}/${INSTALL.reconciler}`;
    const reconciler = objects[`Deployment ${ofReconciler}`] as Deployment;
    expect(reconciler.spec).toMatchObject({
      replicas: 3,
      template: {
        spec: {
          imagePullSecrets: [{ name: 'registry' }],
          nodeSelector: { pool: 'infra', 'kubernetes.io/os': 'linux' },
          tolerations: [{ operator: 'Exists' }],
          containers: [
            {
              image: 'registry.example/control:1.2.3',
              args: ['reconciler', `--lease=$(POD_NAMESPACE)/${INSTALL.reconciler}`, '--require-approval'],
              resources: { limits: { memory: '1Gi' } },
            },
          ],
        },
      },
    });
    const { env } = reconciler.spec.template.spec.containers[0];
    expect(env[0]?.value).toBe('debug');
    const folder = '/etc/quorumbridge/events';
    expect(env.at(-1)).toEqual({ name: 'QUORUMBRIDGE_EVENTS_CONFIG', value: `${folder}/messaging.yaml` });
    expect(reconciler.spec.template.spec).toMatchObject({
      containers: [{ volumeMounts: [{ name: 'events', mountPath: folder, readOnly: true }] }],
      volumes: [{ name: 'events', secret: { secretName: 'events' } }],
    });
    expect(objects[`NetworkPolicy ${ofReconciler}`]).toMatchObject({
      spec: {
        egress: [
          { ports: [{ port: 8443 }] },
          {},
          { ports: [{ port: 53, protocol: 'UDP' }, { port: 53 }, { port: 5673, protocol: 'TCP' }] },
        ],
      },
    });
    const hooks = hooksOf(Object.values(objects));
    expect(hooks.map(({ timeoutSeconds }) => timeoutSeconds)).toEqual([3, 3, 3, 3]);
    expect(Object.keys(objects).filter((one) => one.includes('native-sidecars'))).toEqual([]);
  });

  it.each([
    ['webhooks.timeoutSeconds=30', /timeoutSeconds/],
    ['webhooks.failurePolicy.statefulset=Ignore', /statefulset/],
    ['certificates.mode=none', /mode/],
    ['replicas=0', /replicas/],
    ['logLevel=verbose', /logLevel/],
    ['replica=3', /replica/],
    ['reconciler.replicas=0', /replicas/],
  ])('refuses %s and names the value', async (value, named) => {
    await expect(chart(value)).rejects.toThrow(named);
  });
});
