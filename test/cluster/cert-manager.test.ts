import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { ANNOTATION, INSTALL, PROXY_CONTAINER } from '../../common/contract.ts';
import { startCertManager } from '../support/cluster-addons.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import { eventually } from '../support/kube-api.ts';
import type { KubeObject } from '../support/kube-api.ts';
import { startCluster } from '../support/kube.ts';
import type { Cluster } from '../support/kube.ts';
import { MANIFESTS, objectsOf } from '../support/manifests.ts';
import { MountedSecret } from '../support/mounted-secret.ts';
import { freePort } from '../support/ports.ts';
import { Service } from '../support/service.ts';

const NAMESPACE = INSTALL.namespace;
const CERT_MANAGER = 'cert-manager.io/v1';

interface Configuration extends KubeObject {
  webhooks: { name: string; clientConfig: { url?: string; caBundle?: string; service?: { path: string } } }[];
}

interface Certificate extends KubeObject {
  status?: {
    revision?: number;
    conditions?: { type: string; status: string; reason?: string }[];
  };
}

interface Secret extends KubeObject {
  data: Record<string, string>;
}

interface Deployment extends KubeObject {
  spec: {
    template: {
      spec: {
        containers: { args: string[]; volumeMounts: { name: string; mountPath: string }[] }[];
        volumes: { name: string; secret: { secretName: string } }[];
      };
    };
  };
}

const named = (apiVersion: string, kind: string, name: string): KubeObject => ({
  apiVersion,
  kind,
  metadata: { namespace: NAMESPACE, name },
});
const LEAF = named(CERT_MANAGER, 'Certificate', INSTALL.secret);
const CA = named(CERT_MANAGER, 'Certificate', 'quorumbridge-webhook-ca');
const SECRET = named('v1', 'Secret', INSTALL.secret);

/** A RabbitmqCluster that is injected; it is shown to the webhook and not stored. */
function asking(name: string): KubeObject {
  const metadata = { namespace: 'default', name, annotations: { [ANNOTATION.enableProxy]: 'true' } };
  return { apiVersion: 'rabbitmq.com/v1beta1', kind: 'RabbitmqCluster', metadata, spec: { replicas: 1 } };
}

/** What the kubelet does with a Secret's volume, in a quicker loop; a Secret that is gone leaves the files as they are. */
function keepMounted(mounted: MountedSecret, read: () => Promise<Record<string, string>>): AsyncDisposable {
  const state = { ended: false, last: '' };
  const loop = async (): Promise<void> => {
    while (!state.ended) {
      const files = await read().catch(() => undefined);
      if (files?.['tls.crt'] !== undefined && JSON.stringify(files) !== state.last) {
        await mounted.update(files);
        state.last = JSON.stringify(files);
      }
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  };
  const running = loop();
  return {
    async [Symbol.asyncDispose]() {
      state.ended = true;
      await running;
    },
  };
}

const NEEDS = { operator: true, since: 'fieldValidation', addon: 'cert-manager' } as const;

await describeCluster('the overlay for cert-manager', NEEDS, () => {
  let cluster: Cluster;
  let objects: KubeObject[];
  let service: Service;
  const cleanup = new AsyncDisposableStack();

  const find = (kind: string, name: string): KubeObject =>
    objects.find((one) => one.kind === kind && one.metadata.name === name)!;
  const configurations = (): Promise<Configuration[]> =>
    Promise.all(
      objects
        .filter(({ kind }) => kind.endsWith('WebhookConfiguration'))
        .map((one) => cluster.api.read<Configuration>(one)),
    );
  const bundles = async (): Promise<string[]> =>
    (await configurations()).flatMap(({ webhooks }) =>
      webhooks.map(({ clientConfig }) => Buffer.from(clientConfig.caBundle ?? '', 'base64').toString()),
    );
  const files = async (): Promise<Record<string, string>> => {
    const { data } = await cluster.api.read<Secret>(SECRET);
    return Object.fromEntries(
      Object.entries(data).map(([name, text]) => [name, Buffer.from(text, 'base64').toString()]),
    );
  };
  const isReady = async (certificate: KubeObject): Promise<boolean> => {
    const { status } = await cluster.api.read<Certificate>(certificate);
    return status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
  };
  /** What `cmctl renew` writes. */
  const renew = async (certificate: KubeObject): Promise<void> => {
    const { status } = await cluster.api.read<Certificate>(certificate);
    const issuing = { type: 'Issuing', status: 'True', reason: 'ManuallyTriggered', message: 'by the test' };
    const conditions = [...(status?.conditions ?? []), issuing];
    await cluster.api.patch(certificate, { status: { conditions } }, { subresource: 'status' });
  };
  const review = async (): Promise<void> => {
    await cluster.api.create(asking('shown'), { dryRun: 'All' });
  };
  const log = (): Record<string, unknown>[] =>
    readFileSync(service.logFile, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  /** Reviews without a pause while `act` runs; what failed. */
  const underLoad = async (act: () => Promise<void>): Promise<{ failures: unknown[]; reviews: number }> => {
    const load = { done: false, reviews: 0 };
    const failures: unknown[] = [];
    const worker = async (): Promise<void> => {
      while (!load.done) {
        await review().catch((error: unknown) => failures.push(error));
        load.reviews++;
      }
    };
    const workers = [worker(), worker()];
    try {
      await act();
    } finally {
      load.done = true;
      await Promise.all(workers);
    }
    return { failures, reviews: load.reviews };
  };

  beforeAll(async () => {
    cluster = cleanup.use(await startCluster({ operator: true }));
    cleanup.use(await startCertManager(cluster));
    const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-cert-manager-'));
    cleanup.defer(() => rmSync(folder, { recursive: true, force: true }));
    const listen = `127.0.0.1:${await freePort()}`;
    const admin = `127.0.0.1:${await freePort()}`;
    // An API server that runs outside of any cluster reaches no Service.
    objects = objectsOf(await cluster.kubectl(['kustomize', join(MANIFESTS, 'overlays/cert-manager')]));
    for (const { webhooks } of objects as Partial<Configuration>[]) {
      for (const { clientConfig } of webhooks ?? []) {
        clientConfig.url = `https://${listen}${clientConfig.service!.path}`;
        delete clientConfig.service;
      }
    }
    const leaf = find('Certificate', INSTALL.secret);
    (leaf['spec'] as Record<string, unknown>)['ipAddresses'] = ['127.0.0.1'];
    await cluster.kubectl(['apply', '-f', '-'], objects.map((object) => stringify(object)).join('---\n'));

    await eventually('the Secret', async () => Object.keys(await files()).includes('tls.key'), 60_000);
    // The kubelet's part: the volumes of the Deployment.
    const deployment = find('Deployment', INSTALL.name) as Deployment;
    const { containers } = deployment.spec.template.spec;
    const { args, volumeMounts } = containers[0]!;
    const mounted = cleanup.use(await MountedSecret.mount(await files()));
    cleanup.use(keepMounted(mounted, files));
    const token = await cluster.tokenOf(NAMESPACE, INSTALL.name);
    service = new Service(
      [
        ...args.map((arg) => arg.replace(`${volumeMounts[0]!.mountPath}/`, `${mounted.folder}/`)),
        `--listen=${listen}`,
        `--admin-listen=${admin}`,
        `--kubeconfig=${await cluster.writeKubeconfig('webhook', token)}`,
        '--shutdown-delay=0',
      ],
      join(folder, 'log'),
    );
    cleanup.defer(async () => void (await service.stop()));
    await service.ready(`http://${admin}/readyz`);
  }, 180_000);
  afterAll(() => cleanup.disposeAsync());

  it('is taken as it is by a strict API server with the CRDs of cert-manager', async () => {
    expect(objects.map(({ apiVersion }) => apiVersion).filter((one) => one === CERT_MANAGER)).toHaveLength(4);
    for (const object of objects) {
      const { warnings } = await cluster.api.call('PATCH', await cluster.api.path(object), {
        body: object,
        type: 'application/apply-patch+yaml',
        query: { dryRun: 'All', fieldManager: 'test', fieldValidation: 'Strict', force: 'true' },
      });
      expect(warnings).toEqual([]);
    }
  });

  it('mounts the Secret of the Certificate', () => {
    const deployment = find('Deployment', INSTALL.name) as Deployment;
    const leaf = find('Certificate', INSTALL.secret);
    const { volumes } = deployment.spec.template.spec;
    expect(leaf['spec']).toMatchObject({ secretName: SECRET.metadata.name });
    expect(volumes.map(({ secret }) => secret.secretName)).toEqual([SECRET.metadata.name]);
  });

  it('gets both Certificates ready, and its CA into every webhook', async () => {
    await eventually('both Certificates', async () => (await isReady(CA)) && (await isReady(LEAF)));
    const { 'ca.crt': ca } = await files();
    const found = await eventually('every caBundle', async () => {
      const all = await bundles();
      return all.every((one) => one !== '') && all;
    });
    expect(found).toEqual(Array(4).fill(ca));
    const leaf = new X509Certificate((await files())['tls.crt']!);
    const host = `${INSTALL.name}.${NAMESPACE}.svc`;
    expect(leaf.checkHost(host)).toBe(host);
    expect(leaf.verify(new X509Certificate(ca!).publicKey)).toBe(true);
  });

  it('injects a RabbitmqCluster by the certificate that cert-manager made', async () => {
    const stored = await eventually('an injection', () => cluster.api.create(asking('stored')));
    const containers = ['spec', 'override', 'statefulSet', 'spec', 'template', 'spec', 'containers'];
    expect(stored).toHaveProperty([...containers, 1, 'name'], PROXY_CONTAINER);
  });

  it.each([
    ['is renewed', () => renew(LEAF)],
    ['is made anew because its Secret was deleted', () => cluster.api.remove(SECRET)],
  ])(
    'goes on without a failed review while the certificate %s',
    async (_, act) => {
      await eventually('the first review', () => review().then(() => true));
      const before = (await files())['tls.crt'];
      const used = log().filter(({ msg }) => msg === 'new serving certificate in use').length;
      const { failures, reviews } = await underLoad(async () => {
        await act();
        await eventually('another certificate', async () => (await files())['tls.crt'] !== before);
        await eventually(
          'its use',
          async () => log().filter(({ msg }) => msg === 'new serving certificate in use').length > used,
          40_000,
        );
        await new Promise((resolve) => setTimeout(resolve, 2000));
      });
      expect(failures).toEqual([]);
      expect(reviews).toBeGreaterThan(50);
      expect(log().filter(({ level }) => level === 'error')).toEqual([]);
    },
    120_000,
  );

  it('goes on without a failed review while the CA is renewed, which keeps its key', async () => {
    const before = (await bundles())[0];
    const { failures } = await underLoad(async () => {
      await renew(CA);
      const ca = named('v1', 'Secret', CA.metadata.name!);
      await eventually('another CA', async () => {
        const { data } = await cluster.api.read<Secret>(ca);
        return Buffer.from(data['tls.crt']!, 'base64').toString() !== before;
      });
      // From now on certificates are by the new one, and caBundle follows the leaf's Secret.
      await renew(LEAF);
      await eventually('its caBundle', async () => !(await bundles()).includes(before!), 40_000);
      await new Promise((resolve) => setTimeout(resolve, 15_000));
    });
    expect(failures).toEqual([]);
  }, 120_000);

  it('lets a server-side apply drop a webhook, though the CA injector has written to it', async () => {
    const mutating = find('MutatingWebhookConfiguration', INSTALL.configuration) as Configuration;
    const wanted = { ...mutating, metadata: { ...mutating.metadata, name: 'dropping' } };
    await cluster.api.apply(wanted, 'gitops');
    await eventually('its caBundle', async () => {
      const { webhooks } = await cluster.api.read<Configuration>(wanted);
      return webhooks.every(({ clientConfig }) => clientConfig.caBundle !== undefined);
    });
    const rest = wanted.webhooks.slice(1);
    const { webhooks } = await cluster.api.apply({ ...wanted, webhooks: rest }, 'gitops');
    expect(webhooks.map(({ name }) => name)).toEqual(rest.map(({ name }) => name));
    await cluster.api.remove(wanted);
  });
});
