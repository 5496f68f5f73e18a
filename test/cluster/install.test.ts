import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { ANNOTATION, INSTALL, NAMESPACE_LABEL, PROXY_CONTAINER } from '../../common/contract.ts';
import { RABBITMQ_CRD } from '../../common/crd.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import { installFileFor, kubectlApply } from '../support/install-file.ts';
import { eventually } from '../support/kube-api.ts';
import type { KubeObject } from '../support/kube-api.ts';
import { startCluster } from '../support/kube.ts';
import type { Cluster } from '../support/kube.ts';
import {
  MANIFESTS,
  fetchManifestTools,
  helmApply,
  helmTemplate,
  helmUninstall,
  objectsOf,
} from '../support/manifests.ts';
import { freePort } from '../support/ports.ts';
import { HOME } from '../support/processes.ts';
import { Service } from '../support/service.ts';

const NAMESPACE = 'openstack';
const ASKING = { [ANNOTATION.enableProxy]: 'true' };

async function configurationsOf(cluster: Cluster): Promise<Configuration[]> {
  const kinds = ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration'];
  const metadata = { name: INSTALL.configuration };
  return Promise.all(
    kinds.map((kind) =>
      cluster.api.read<Configuration>({ apiVersion: 'admissionregistration.k8s.io/v1', kind, metadata }),
    ),
  );
}

interface Configuration extends KubeObject {
  webhooks: { name: string; clientConfig: { url?: string; caBundle?: string; service?: { path: string } } }[];
}

interface Deployment extends KubeObject {
  spec: {
    replicas: number;
    template: { spec: { containers: { args: string[]; env: { name: string }[] }[] } };
  };
  status?: { availableReplicas?: number };
}

function rabbitMq(name: string, spec: Record<string, unknown>, namespace = NAMESPACE): KubeObject {
  return {
    apiVersion: 'rabbitmq.openstack.org/v1beta1',
    kind: 'RabbitMq',
    metadata: { namespace, name },
    spec,
  };
}

function rabbitmqCluster(
  name: string,
  annotations: Record<string, string>,
  namespace = NAMESPACE,
): KubeObject {
  const metadata = { namespace, name, annotations };
  return { apiVersion: 'rabbitmq.com/v1beta1', kind: 'RabbitmqCluster', metadata, spec: { replicas: 1 } };
}

function statefulSet(name: string, metadata: Record<string, unknown>): KubeObject {
  const labels = { app: name };
  const template = {
    metadata: { labels },
    spec: { containers: [{ name: 'rabbitmq', image: 'registry.invalid/r' }] },
  };
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { namespace: NAMESPACE, name, ...metadata },
    spec: { replicas: 0, serviceName: name, selector: { matchLabels: labels }, template },
  };
}

const RABBITMQ_LABELS = {
  'app.kubernetes.io/component': 'rabbitmq',
  'app.kubernetes.io/part-of': 'rabbitmq',
};

/** What an API server has that the file has not, as paths. */
function additions(stored: unknown, written: unknown, path = ''): string[] {
  if (Array.isArray(stored) && Array.isArray(written))
    return stored.flatMap((one, index) => additions(one, written[index], `${path}[${index}]`));
  if (typeof stored !== 'object' || stored === null || typeof written !== 'object' || written === null)
    return stored === written ? [] : [path];
  return Object.entries(stored).flatMap(([key, one]) =>
    additions(one, (written as Record<string, unknown>)[key], `${path}.${key}`),
  );
}

/** What kubectl says it changed. The selector of a budget it always sends (patchStrategy replace), which changes nothing. */
function changedIn(said: string): string[] {
  const lines = said.split('\n').filter((line) => !line.endsWith(' unchanged'));
  return lines.filter((line) => !line.startsWith('poddisruptionbudget.policy/'));
}

/** What every object gets, and no file can have. */
const OWN = ['uid', 'resourceVersion', 'generation', 'creationTimestamp', 'managedFields'].map(
  (key) => `.metadata.${key}`,
);
const OF_KIND: Record<string, string[]> = {
  CustomResourceDefinition: ['.status'],
  // The annotation is deployment.kubernetes.io/revision; older versions say that the time is null.
  Deployment: ['.status', '.metadata.annotations', '.spec.template.metadata.creationTimestamp'],
  Namespace: ['.spec', '.status', '.metadata.labels.kubernetes.io/metadata.name'],
  PodDisruptionBudget: ['.status'],
  ServiceAccount: ['.secrets'], // up to Kubernetes 1.23
  Service: ['.status', '.spec.clusterIP', '.spec.clusterIPs', '.spec.ipFamilies', '.spec.ipFamilyPolicy'],
};

await describeCluster('dist/install.yaml in a real cluster', { operator: true }, ({ lacks }) => {
  const [noStrict, noPodSecurity] = [lacks('fieldValidation'), lacks('podSecurity')];
  const noConditions = lacks('matchConditions');
  let cluster: Cluster;
  let objects: KubeObject[];
  const read = (object: KubeObject): Promise<KubeObject> => cluster.api.read(object);
  const versions = async (): Promise<Record<string, unknown>> => {
    const entries = objects.map(async (object): Promise<[string, unknown]> => {
      const { uid, generation, resourceVersion } = (await read(object)).metadata;
      // The controllers of a Deployment and of a budget write their status when they like.
      const counts = ['Deployment', 'PodDisruptionBudget'].includes(object.kind)
        ? generation
        : resourceVersion;
      return [`${object.kind} ${object.metadata.name}`, [uid, counts]];
    });
    return Object.fromEntries(await Promise.all(entries));
  };

  beforeAll(async () => {
    cluster = await startCluster({ operator: true });
    await cluster.createNamespace(NAMESPACE);
    await cluster.createNamespace('opted-out', { [NAMESPACE_LABEL.key]: NAMESPACE_LABEL.disabled });
    objects = await installFileFor(cluster);
    await kubectlApply(cluster, objects);
  });
  afterAll(() => cluster?.stop());

  it.skipIf(noStrict !== '')(
    `is taken whole, and a strict second look finds neither an unknown field nor anything to warn of${noStrict}`,
    async () => {
      expect(objects).toHaveLength(26);
      for (const object of objects) {
        const path = await cluster.api.path(object);
        const { warnings } = await cluster.api.call('PATCH', path, {
          body: object,
          type: 'application/apply-patch+yaml',
          query: { dryRun: 'All', fieldManager: 'test', fieldValidation: 'Strict', force: 'true' },
        });
        expect(warnings).toEqual([]);
      }
    },
  );

  it.skipIf(noPodSecurity !== '')(
    `gets its pods through pod security of the level restricted${noPodSecurity}`,
    async () => {
      const namespace = await read(objects.find(({ kind }) => kind === 'Namespace')!);
      expect(namespace.metadata.labels).toHaveProperty(['pod-security.kubernetes.io/enforce'], 'restricted');
      const deployments = objects.filter(({ kind }) => kind === 'Deployment');
      expect(new Set(deployments.map(({ metadata }) => metadata.name))).toEqual(
        new Set([INSTALL.name, INSTALL.reconciler]),
      );
      for (const deployment of deployments) {
        await eventually(`two pods of ${deployment.metadata.name}`, async () => {
          const { status } = (await read(deployment)) as Deployment;
          return status?.availableReplicas === 2;
        });
      }
    },
  );

  it.skipIf(noConditions !== '')(
    `is changed by nothing when it is applied again, by kubectl or on the server by another manager${noConditions}`,
    async () => {
      const before = await versions();
      const said = await kubectlApply(cluster, objects);
      expect(changedIn(said)).toEqual([]);
      expect(await versions()).toEqual(before);
      for (const object of objects) {
        const stored = (await read(object)) as KubeObject & { spec?: unknown };
        const tried = (await cluster.api.apply(object, 'gitops', { dryRun: 'All' })) as typeof stored;
        expect(tried.spec).toEqual(stored.spec);
        expect(tried.metadata.generation).toBe(stored.metadata.generation);
      }
    },
  );

  it('is stored as it is written: API servers fill in nothing that a tool would call a difference', async () => {
    for (const object of objects) {
      const stored = await read(object);
      delete stored.metadata.annotations?.['kubectl.kubernetes.io/last-applied-configuration'];
      if (Object.keys(stored.metadata.annotations ?? {}).length === 0) delete stored.metadata.annotations;
      const known = [...OWN, ...(OF_KIND[object.kind] ?? [])];
      const more = additions(stored, object).filter((path) => !known.some((one) => path.startsWith(one)));
      expect(more, `additions to ${object.kind}`).toEqual([]);
    }
  });

  it('has a CRD that is established and structural, with its columns', async () => {
    const crd = objects.find(({ kind }) => kind === 'CustomResourceDefinition')!;
    const conditions = await eventually('the CRD', async () => {
      const { status } = (await read(crd)) as KubeObject & {
        status?: { conditions?: { type: string; status: string; message: string }[] };
      };
      return status?.conditions?.some(({ type }) => type === 'Established') && status.conditions;
    });
    const wrong = conditions.filter(
      ({ type, status }) => (type === 'NonStructuralSchema') === (status === 'True'),
    );
    expect(wrong).toEqual([]);
    await cluster.api.create(
      rabbitMq('shown', { targetVersion: '4.2', replicas: 3, others: { kept: 1 } }, 'opted-out'),
    );
    const status = {
      currentVersion: '3.9',
      targetVersion: '4.2',
      upgradePhase: 'WaitingForPods',
      proxyRequired: true,
      clients: { needProxy: 7 },
    };
    const shown = rabbitMq('shown', {}, 'opted-out');
    const stored = await cluster.api.patch<KubeObject>(shown, { status }, { subresource: 'status' });
    expect(stored).toMatchObject({ spec: { others: { kept: 1 } }, status });
    const table = (await cluster.kubectl(['get', 'rabbitmqs', '-n', 'opted-out'])).split('\n');
    expect(table[0]!.split(/ {2,}/).map((title) => title.trim())).toEqual([
      'NAME',
      ...RABBITMQ_CRD.spec.versions[0].additionalPrinterColumns.map(({ name }) => name.toUpperCase()),
    ]);
    expect(table[1]).toMatch(/^shown +3\.9 +4\.2 +WaitingForPods +true +7 +\d+s/);
    // Which is the category of the cluster operator, too.
    expect(await cluster.kubectl(['get', 'rabbitmq', '-n', 'opted-out'])).toMatch(
      /\/shown +3\.9 +4\.2 +Wait/,
    );
  });

  it.each([
    [{ targetVersion: 'v4.2' }, /spec\.targetVersion/],
    [{ queueType: 'Classic' }, /spec\.queueType/],
    [{ replicas: -1 }, /spec\.replicas/],
    [{ override: 'none' }, /spec\.override/],
  ])('has a CRD that refuses %j', async (spec, field) => {
    await expect(cluster.api.create(rabbitMq('refused', spec, 'opted-out'))).rejects.toThrow(field);
  });

  it('has a CRD that refuses proxyRequired as a text', async () => {
    await cluster.api.create(rabbitMq('text', {}, 'opted-out'));
    const patch = { status: { proxyRequired: 'True' } };
    const patched = cluster.api.patch(rabbitMq('text', {}, 'opted-out'), patch, { subresource: 'status' });
    await expect(patched).rejects.toThrow(/status\.proxyRequired.*must be of type boolean/);
  });

  it('lets all that is none of its business pass while no webhook answers', async () => {
    const create = async (object: KubeObject): Promise<void> => {
      const began = performance.now();
      await cluster.api.create(object);
      expect(performance.now() - began).toBeLessThan(2500);
    };
    await create({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { namespace: NAMESPACE, name: 'unrelated' },
    });
    await create(statefulSet('unlabelled', {}));
    await create(rabbitmqCluster('opted-out', ASKING, 'opted-out'));
    const owned = {
      apiVersion: 'rabbitmq.com/v1beta1',
      kind: 'RabbitmqCluster',
      name: 'owner',
      uid: 'a-uid',
    };
    const ownerReferences = [{ ...owned, controller: true }];
    if (cluster.hasMatchConditions)
      await create(statefulSet('controlled', { labels: RABBITMQ_LABELS, ownerReferences }));
    const kept = await cluster.api.list('apps/v1', 'StatefulSet', NAMESPACE);
    expect(kept.map(({ metadata }) => metadata.name)).toContain('unlabelled');
  });

  it.each([
    ['RabbitmqCluster', rabbitmqCluster('refused', {}), INSTALL.webhook.cluster],
    [
      'StatefulSet of RabbitMQ',
      statefulSet('refused', { labels: RABBITMQ_LABELS }),
      INSTALL.webhook.statefulSet,
    ],
    ['RabbitMq', rabbitMq('refused', {}), INSTALL.webhook.rabbitMq],
  ])('fails the creation of a %s while no webhook answers', async (_, object, webhook) => {
    await expect(cluster.api.create(object)).rejects.toThrow(`failed calling webhook "${webhook}"`);
  });

  it.skipIf(noConditions !== '')(
    `lets go of a RabbitMq, and of its finalizer and labels, while no webhook answers${noConditions}`,
    async () => {
      // It was stored before there was a webhook: through the namespace's label.
      const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'opted-out' } };
      const object = rabbitMq('leaving', {}, 'opted-out');
      object.metadata['finalizers'] = ['example.com/wait'];
      await cluster.api.create(object);
      await cluster.api.patch(namespace, { metadata: { labels: { [NAMESPACE_LABEL.key]: null } } });
      try {
        await eventually('a webhook for the namespace', async () => {
          const tried = cluster.api.patch(object, { spec: { replicas: 1 } }, { query: { dryRun: 'All' } });
          return tried.then(
            () => false,
            (error: Error) => error.message.includes('failed calling webhook'),
          );
        });
        await cluster.api.patch(object, { metadata: { labels: { some: 'label' } } });
        await cluster.api.remove(object);
        await cluster.api.patch(object, { metadata: { finalizers: null } });
        expect(await cluster.api.find(object)).toBeUndefined();
      } finally {
        const labels = { [NAMESPACE_LABEL.key]: NAMESPACE_LABEL.disabled };
        await cluster.api.patch(namespace, { metadata: { labels } });
      }
    },
  );

  it('is gone by the commands of the documentation, and nothing waits from the first one on', async () => {
    const doc = readFileSync(join(HOME, 'docs/install.md'), 'utf8').split('## Uninstallation')[1]!;
    const commands = [...doc.matchAll(/^ *kubectl (delete .*)$/gm)].map(([, command]) => command!.split(' '));
    expect(commands).toHaveLength(4);
    await cluster.kubectl(commands[0]!);
    const answer = async (): Promise<boolean> => cluster.api.create(rabbitMq('free', {})).then(() => true);
    await eventually('a RabbitMq without a webhook', answer);
    for (const command of commands.slice(1)) await cluster.kubectl(command);
    await eventually('the end of all objects', async () => {
      const left = await Promise.all(objects.map((object) => cluster.api.find(object)));
      return left.every((object) => object === undefined);
    });
  });
});

await describeCluster('the installed webhook, as its service account', { operator: true }, ({ lacks }) => {
  const noConditions = lacks('matchConditions');
  let cluster: Cluster;
  let service: Service;
  let folder: string;
  let objects: KubeObject[];
  const log = (): string => readFileSync(service.logFile, 'utf8');

  beforeAll(async () => {
    cluster = await startCluster({ operator: true });
    await cluster.createNamespace(NAMESPACE);
    folder = mkdtempSync(join(tmpdir(), 'quorumbridge-install-'));
    const listen = `127.0.0.1:${await freePort()}`;
    const admin = `127.0.0.1:${await freePort()}`;
    // An API server that runs outside of any cluster reaches no Service.
    objects = await installFileFor(cluster);
    for (const { webhooks } of objects as Partial<Configuration>[]) {
      for (const { clientConfig } of webhooks ?? []) {
        clientConfig.url = `https://${listen}${clientConfig.service!.path}`;
        delete clientConfig.service;
      }
    }
    await kubectlApply(cluster, objects);
    const deployment = objects.find(
      ({ kind, metadata }) => kind === 'Deployment' && metadata.name === INSTALL.name,
    ) as Deployment;
    const [container] = deployment.spec.template.spec.containers;
    const args = container!.args.map((arg) => arg.replaceAll('$(POD_NAMESPACE)', INSTALL.namespace));
    const token = await cluster.tokenOf(INSTALL.namespace, INSTALL.name);
    const kubeconfig = await cluster.writeKubeconfig('webhook', token);
    // As in a pod, whose account has a namespace.
    const config = parse(readFileSync(kubeconfig, 'utf8')) as {
      contexts: { context: { namespace?: string } }[];
    };
    config.contexts[0]!.context.namespace = INSTALL.namespace;
    writeFileSync(kubeconfig, stringify(config));
    const own = [
      `--listen=${listen}`,
      `--admin-listen=${admin}`,
      `--kubeconfig=${kubeconfig}`,
      '--shutdown-delay=0',
    ];
    service = new Service([...args, ...own], join(folder, 'log'));
    await service.ready(`http://${admin}/readyz`);
  });
  afterAll(async () => {
    await service?.stop();
    await cluster?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('makes its certificate, and every entry of both configurations gets the CA', async () => {
    const bundles = await eventually('caBundle everywhere', async () => {
      const all = (await configurationsOf(cluster)).flatMap(({ webhooks }) => webhooks);
      const found = all.map(({ clientConfig }) => clientConfig.caBundle ?? '');
      return !found.includes('') && found;
    });
    expect(bundles).toHaveLength(4);
    expect(Buffer.from(bundles[0]!, 'base64').toString()).toContain('BEGIN CERTIFICATE');
    const ref = { namespace: INSTALL.namespace, name: INSTALL.secret };
    const secret = await cluster.api.read<KubeObject>({ apiVersion: 'v1', kind: 'Secret', metadata: ref });
    expect(Object.keys(secret['data'] as object)).toEqual(
      expect.arrayContaining(['tls.crt', 'tls.key', 'ca.crt']),
    );
  });

  it('injects a RabbitmqCluster that asks for it, and leaves the one that does not as it is', async () => {
    const override = ['spec', 'override', 'statefulSet', 'spec', 'template', 'spec', 'containers'];
    const injected = await eventually('an injection', () =>
      cluster.api.create(rabbitmqCluster('asking', ASKING)),
    );
    expect(injected).toHaveProperty([...override, 1, 'name'], PROXY_CONTAINER);
    expect(await cluster.api.create(rabbitmqCluster('plain', {}))).not.toHaveProperty(override);
  });

  it('can find out about native sidecars, and tell of an injection by an Event', async () => {
    const annotations = { ...ASKING, [ANNOTATION.sidecarMode]: 'auto' };
    const stored = await cluster.api.create(rabbitmqCluster('auto', annotations));
    const form = cluster.hasNativeSidecars ? 'initContainers' : 'containers';
    const template = ['spec', 'override', 'statefulSet', 'spec', 'template', 'spec', form];
    expect(stored).toHaveProperty(
      template,
      expect.arrayContaining([expect.objectContaining({ name: PROXY_CONTAINER })]),
    );
    await eventually('an Event', async () => {
      const events = await cluster.api.list<KubeObject>('events.k8s.io/v1', 'Event', NAMESPACE);
      return events.some(({ regarding }) => (regarding as { name: string }).name === 'asking');
    });
  });

  it('takes the samples', async () => {
    for (const sample of ['rabbitmq', 'rabbitmqcluster', 'rabbitmqcluster-rules', 'statefulset']) {
      const text = readFileSync(join(MANIFESTS, `samples/${sample}.yaml`), 'utf8');
      for (const object of objectsOf(text)) {
        const { warnings } = await cluster.api.createVerbosely(object, {
          dryRun: 'All',
          fieldValidation: 'Strict',
        });
        // Two containers of a pod have a port of the same number: RabbitMQ's own declaration can't be taken out.
        const others = warnings.filter((warning) => !warning.includes('duplicate port definition'));
        expect(others, `warnings about ${sample}`).toEqual([]);
      }
    }
  });

  it.skipIf(noConditions !== '')(
    `keeps the CA when the manifest is applied again${noConditions}`,
    async () => {
      const before = await configurationsOf(cluster);
      expect(changedIn(await kubectlApply(cluster, objects))).toEqual([]);
      const after = await configurationsOf(cluster);
      expect(after.map(({ webhooks }) => webhooks)).toEqual(before.map(({ webhooks }) => webhooks));
      const gitops = ['apply', '--server-side', '--force-conflicts', '--field-manager=gitops', '-f', '-'];
      await cluster.kubectl(gitops, objects.map((object) => stringify(object)).join('---\n'));
      const forced = await configurationsOf(cluster);
      expect(forced.map(({ webhooks }) => webhooks)).toEqual(before.map(({ webhooks }) => webhooks));
      expect(after.map(({ metadata }) => metadata.resourceVersion)).toEqual(
        before.map(({ metadata }) => metadata.resourceVersion),
      );
    },
  );

  it('was refused nothing that it asked the API server for, and has no right to more', async () => {
    expect(log()).not.toMatch(/answered 40[13]|forbidden/i);
    const account = cluster.api.as(`system:serviceaccount:${INSTALL.namespace}:${INSTALL.name}`);
    await expect(account.list('v1', 'Secret', INSTALL.namespace)).rejects.toThrow('403');
    await expect(account.list('v1', 'Secret', NAMESPACE)).rejects.toThrow('403');
    await expect(account.list('v1', 'Pod', NAMESPACE)).rejects.toThrow('403');
    await expect(account.create(rabbitmqCluster('own', {}))).rejects.toThrow('403');
  });
});

const noHelm = await fetchManifestTools().then(
  () => '',
  (error: Error) => ` (${error.message.replaceAll(/\s+/g, ' ')})`,
);

await describeCluster('the chart in a real cluster', { controllers: true, since: 'installation' }, () => {
  it.skipIf(noHelm !== '')(
    `is installed, changed by values alone, and gone but for the CRD${noHelm}`,
    async () => {
      await using cluster = await startCluster();
      const { kubeconfig } = cluster;
      const objects = objectsOf(await helmTemplate([], INSTALL.namespace));
      await helmApply(kubeconfig, 'install', [], INSTALL.namespace);
      const versions = async (): Promise<unknown[]> => {
        const stored = objects.filter(({ kind }) => kind !== 'Deployment' && kind !== 'PodDisruptionBudget');
        return Promise.all(stored.map(async (one) => (await cluster.api.read(one)).metadata.resourceVersion));
      };
      const first = await versions();
      await helmApply(kubeconfig, 'upgrade', [], INSTALL.namespace);
      expect(await versions()).toEqual(first);

      // As the webhook itself writes it.
      const caBundle = Buffer.from('a CA').toString('base64');
      const [mutating] = await configurationsOf(cluster);
      const webhooks = mutating!.webhooks.map(({ name }) => ({ name, clientConfig: { caBundle } }));
      const query = { fieldManager: 'quorumbridge-certificates' };
      await cluster.api.patch(mutating!, { webhooks }, { type: 'strategic', query });
      await helmApply(kubeconfig, 'upgrade', ['webhooks.timeoutSeconds=4'], INSTALL.namespace);
      const [changed] = await configurationsOf(cluster);
      expect(changed!.webhooks).toMatchObject(
        webhooks.map(({ name }) => ({ name, timeoutSeconds: 4, clientConfig: { caBundle } })),
      );

      await helmUninstall(kubeconfig, INSTALL.namespace);
      const left = await Promise.all(objects.map((object) => cluster.api.find(object)));
      expect(left.flatMap((object) => (object === undefined ? [] : [object.kind]))).toEqual([
        'CustomResourceDefinition',
      ]);
    },
  );
});
