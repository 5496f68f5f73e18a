import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { splitPem } from '../../common/certificate-watch.ts';
import { INSTALL } from '../../common/contract.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import { type KubeObject, eventually } from '../support/kube-api.ts';
import { type Cluster, startCluster } from '../support/kube.ts';
import { freePort } from '../support/ports.ts';
import { Service } from '../support/service.ts';

const NAMESPACE = INSTALL.namespace;
const SECRET = { apiVersion: 'v1', kind: 'Secret', metadata: { namespace: NAMESPACE, name: INSTALL.secret } };
const ADMISSION = 'admissionregistration.k8s.io';
const PLURALS = ['mutatingwebhookconfigurations', 'validatingwebhookconfigurations'];

interface Webhook {
  name: string;
  clientConfig: { url: string; caBundle?: string };
}

interface Configuration extends KubeObject {
  webhooks: Webhook[];
}

interface Secret extends KubeObject {
  data: Record<string, string>;
}

interface Replica {
  url: string;
  adminUrl: string;
  service: Service;
  /** Lines of its log. */
  log: () => Record<string, unknown>[];
}

/** What docs/webhook.md says that the account needs for its certificates, and what it needs besides. */
function roles(account: string, verbs: { secrets: string[]; registrations: string[] }): KubeObject[] {
  const rbac = 'rbac.authorization.k8s.io';
  const subjects = [{ kind: 'ServiceAccount', name: account, namespace: NAMESPACE }];
  const role = { namespace: NAMESPACE, name: account };
  const [named, create] = [
    verbs.secrets.filter((verb) => verb !== 'create'),
    verbs.secrets.includes('create'),
  ];
  const owners = [
    ['rabbitmq.openstack.org', 'rabbitmqs'],
    ['rabbitmq.com', 'rabbitmqclusters'],
    ['apps', 'statefulsets'],
  ].map(([group, plural]) => ({ apiGroups: [group], resources: [plural], verbs: ['get', 'list', 'watch'] }));
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: role },
    {
      apiVersion: `${rbac}/v1`,
      kind: 'Role',
      metadata: role,
      rules: [
        { apiGroups: [''], resources: ['secrets'], resourceNames: [INSTALL.secret], verbs: named },
        ...(create ? [{ apiGroups: [''], resources: ['secrets'], verbs: ['create'] }] : []),
      ],
    },
    {
      apiVersion: `${rbac}/v1`,
      kind: 'RoleBinding',
      metadata: role,
      roleRef: { apiGroup: rbac, kind: 'Role', name: account },
      subjects,
    },
    {
      apiVersion: `${rbac}/v1`,
      kind: 'ClusterRole',
      metadata: { name: account },
      rules: [
        {
          apiGroups: [ADMISSION],
          resources: PLURALS,
          resourceNames: [INSTALL.configuration],
          verbs: verbs.registrations,
        },
        ...owners,
      ],
    },
    {
      apiVersion: `${rbac}/v1`,
      kind: 'ClusterRoleBinding',
      metadata: { name: account },
      roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: account },
      subjects,
    },
  ];
}

/** Each StatefulSet is shown to every replica, none of which is left out. */
function registration(kind: string, urls: readonly string[]): Configuration {
  return {
    apiVersion: `${ADMISSION}/v1`,
    kind,
    metadata: { name: INSTALL.configuration },
    webhooks: urls.map((url, index) => ({
      name: `replica-${index}.quorumbridge.io`,
      clientConfig: { url },
      rules: [
        { apiGroups: ['apps'], apiVersions: ['v1'], operations: ['CREATE'], resources: ['statefulsets'] },
      ],
      // Nothing but what this test creates, and only while it has the label.
      objectSelector: { matchLabels: { shown: 'yes' } },
      failurePolicy: 'Fail',
      sideEffects: 'None',
      timeoutSeconds: 5,
      admissionReviewVersions: ['v1'],
    })),
  };
}

function statefulSet(name: string): KubeObject {
  const labels = { shown: 'yes' };
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { namespace: 'default', name, labels },
    spec: {
      serviceName: name,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: 'one', image: 'example.com/one:1' }] } },
    },
  };
}

await describeCluster('certificates of the webhook’s own, kept in a real API server', {}, () => {
  const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-certificates-'));
  const replicas: Replica[] = [];
  let cluster: Cluster;

  const start = async (kubeconfig: string, args: string[] = []): Promise<Replica> => {
    const listen = `127.0.0.1:${await freePort()}`;
    const admin = `127.0.0.1:${await freePort()}`;
    const service = new Service(
      [
        'webhook',
        `--listen=${listen}`,
        `--admin-listen=${admin}`,
        `--tls-secret=${NAMESPACE}/${INSTALL.secret}`,
        `--kubeconfig=${kubeconfig}`,
        '--cert-lifetime=20',
        '--ca-lifetime=30',
        '--shutdown-delay=0',
        '--no-events',
        ...args,
      ],
      join(folder, `${listen}.log`),
    );
    const replica: Replica = {
      url: `https://${listen}/mutate`,
      adminUrl: `http://${admin}`,
      service,
      log: () =>
        readFileSync(service.logFile, 'utf8')
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line) as Record<string, unknown>),
    };
    replicas.push(replica);
    return replica;
  };

  const account = async (
    name: string,
    verbs: { secrets: string[]; registrations: string[] },
  ): Promise<string> => {
    for (const object of roles(name, verbs)) await cluster.api.create(object);
    return cluster.writeKubeconfig(name, await cluster.tokenOf(NAMESPACE, name));
  };

  const configuration = (kind = 'MutatingWebhookConfiguration'): Promise<Configuration> =>
    cluster.api.read<Configuration>(registration(kind, []));

  /** The CAs that every webhook trusts; empty where they differ. */
  const trusted = async (): Promise<string[]> => {
    const { webhooks } = await configuration();
    const bundles = webhooks.map(({ clientConfig }) => clientConfig.caBundle ?? '');
    return new Set(bundles).size === 1 ? splitPem(Buffer.from(bundles[0]!, 'base64')) : [];
  };

  const currentCa = async (): Promise<string> => {
    const secret = await cluster.api.read<Secret>(SECRET);
    return Buffer.from(secret.data['ca.crt']!, 'base64').toString();
  };

  /** One review by each replica. */
  const review = async (name: string): Promise<void> => {
    await cluster.api.create(statefulSet(name), { dryRun: 'All' });
  };

  beforeAll(async () => {
    cluster = await startCluster({ controllers: false });
    await cluster.createNamespace(NAMESPACE);
    const kubeconfig = await account('webhook', {
      secrets: ['get', 'update', 'create'],
      registrations: ['get', 'patch'],
    });
    await Promise.all([start(kubeconfig), start(kubeconfig)]);
    const urls = replicas.map(({ url }) => url);
    await cluster.api.apply(registration('MutatingWebhookConfiguration', urls), 'kubectl');
    await Promise.all(replicas.map(({ service, adminUrl }) => service.ready(`${adminUrl}/readyz`)));
    await eventually('the first review', async () => {
      await review('first');
      return true;
    });
  });

  afterAll(async () => {
    await Promise.all(replicas.map(({ service }) => service.stop()));
    await cluster?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('share one Secret, and the caBundle is the one field that they own of the registration', async () => {
    const secret = await cluster.api.read<Secret>(SECRET);
    expect(secret['type']).toBe('kubernetes.io/tls');
    const leaf = new X509Certificate(Buffer.from(secret.data['tls.crt']!, 'base64'));
    expect(leaf.checkHost(`${INSTALL.name}.${NAMESPACE}.svc`)).toBe(`${INSTALL.name}.${NAMESPACE}.svc`);
    const begun = replicas.flatMap(({ log }) => log()).filter(({ step }) => step === 'begin');
    expect(begun).toHaveLength(1);
    const { metadata, webhooks } = await configuration();
    const managed = metadata['managedFields'] as { manager: string; operation: string; fieldsV1: unknown }[];
    const own = managed.filter(({ manager }) => manager === 'quorumbridge-certificates');
    expect(own.map(({ operation }) => operation)).toEqual(['Update']);
    expect(own[0]!.fieldsV1).toEqual({
      'f:webhooks': Object.fromEntries(
        webhooks.map(({ name }) => [`k:{"name":"${name}"}`, { 'f:clientConfig': { 'f:caBundle': {} } }]),
      ),
    });
  });

  it('leave nothing of a webhook that another one’s server-side apply drops or renames', async () => {
    const kind = 'ValidatingWebhookConfiguration';
    const urls = replicas.map(({ url }) => url);
    const first = registration(kind, urls);
    await cluster.api.apply(first, 'gitops');
    const published = async (): Promise<string[] | undefined> => {
      const { webhooks } = await configuration(kind);
      return webhooks.every(({ clientConfig }) => clientConfig.caBundle !== undefined)
        ? webhooks.map(({ name }) => name)
        : undefined;
    };
    await eventually('every caBundle', published);
    const renamed = { ...first.webhooks[1]!, name: 'renamed.quorumbridge.io' };
    await cluster.api.apply({ ...first, webhooks: [first.webhooks[0]!, renamed] }, 'gitops');
    const names = await eventually('every caBundle', published);
    expect(names).toEqual([first.webhooks[0]!.name, renamed.name]);
    await cluster.api.apply({ ...first, webhooks: [renamed] }, 'gitops');
    expect(await published()).toEqual([renamed.name]);
    await cluster.api.remove(first);
  });

  it('rotate under load without a failed review, certificates and CAs', async () => {
    const failures: unknown[] = [];
    const cas = new Set<string>();
    const leaves = new Set<string>();
    let reviews = 0;
    let most = 0;
    const load = { done: false };
    const worker = async (): Promise<void> => {
      while (!load.done) {
        await review(`load-${reviews}`).catch((error: unknown) => failures.push(error));
        reviews++;
      }
    };
    const workers = Array.from({ length: 4 }, worker);
    await eventually(
      'three CAs',
      async () => {
        const { data } = await cluster.api.read<Secret>(SECRET);
        cas.add(data['ca.crt']!);
        leaves.add(data['tls.crt']!);
        most = Math.max(most, (await trusted()).length);
        return cas.size >= 3;
      },
      100_000,
    );
    // The other replica and the API server see it too.
    await new Promise((resolve) => setTimeout(resolve, 3000));
    load.done = true;
    await Promise.all(workers);
    expect(failures).toEqual([]);
    expect(reviews).toBeGreaterThan(200);
    expect(leaves.size).toBeGreaterThanOrEqual(3);
    expect(most).toBeGreaterThanOrEqual(2);
    for (const { log } of replicas) {
      expect(log().filter(({ msg }) => msg === 'new serving certificate in use').length).toBeGreaterThan(1);
      expect(log().filter(({ level }) => level === 'error')).toEqual([]);
    }
  }, 150_000);

  it('keep the caBundle where a manifest without one is applied again, and repair it where it is wiped', async () => {
    const before = await trusted();
    expect(before.length).toBeGreaterThan(0);
    const urls = replicas.map(({ url }) => url);
    await cluster.api.apply(registration('MutatingWebhookConfiguration', urls), 'kubectl');
    expect(await trusted()).not.toEqual([]);
    const { webhooks, ...rest } = await configuration();
    const wiped = webhooks.map(({ clientConfig, ...webhook }) => ({
      ...webhook,
      clientConfig: { url: clientConfig.url },
    }));
    await cluster.api.replace({ ...rest, webhooks: wiped });
    await eventually('the caBundle', async () => (await trusted()).length > 0, 5000);
    await eventually('a review', async () => {
      await review('repaired');
      return true;
    });
  });

  it('publish to a registration that comes later', async () => {
    await cluster.api.create(registration('ValidatingWebhookConfiguration', []));
    const url = replicas[0]!.url;
    await cluster.api.apply(registration('ValidatingWebhookConfiguration', [url]), 'kubectl');
    const bundle = await eventually('its caBundle', async () => {
      const { webhooks } = await configuration('ValidatingWebhookConfiguration');
      return webhooks[0]?.clientConfig.caBundle;
    });
    expect(splitPem(Buffer.from(bundle, 'base64'))).toContain(await currentCa());
    await cluster.api.remove(registration('ValidatingWebhookConfiguration', []));
  });

  it('serve on without a failed review while the Secret is deleted and made anew', async () => {
    const before = await currentCa();
    const failures: unknown[] = [];
    const load = { done: false };
    const worker = async (): Promise<void> => {
      while (!load.done) await review('deleted').catch((error: unknown) => failures.push(error));
    };
    const workers = [worker(), worker()];
    await cluster.api.remove(SECRET);
    await eventually('another CA', async () => (await currentCa()) !== before);
    await new Promise((resolve) => setTimeout(resolve, 5000));
    load.done = true;
    await Promise.all(workers);
    expect(failures).toEqual([]);
  });

  it('publish for a replica that may not do so itself', async () => {
    const kubeconfig = await account('half', { secrets: ['get', 'update'], registrations: ['get'] });
    const replica = await start(kubeconfig);
    await replica.service.ready(`${replica.adminUrl}/readyz`);
    const url = replica.url;
    await cluster.api.create(registration('ValidatingWebhookConfiguration', [url]));
    // The others have the right, and would help.
    const { webhooks } = await eventually('a caBundle', async () => {
      const found = await configuration('ValidatingWebhookConfiguration');
      return found.webhooks[0]?.clientConfig.caBundle === undefined ? undefined : found;
    });
    expect(webhooks).toHaveLength(1);
    await cluster.api.remove(registration('ValidatingWebhookConfiguration', []));
    await replica.service.stop();
  });

  it('say in the log which right is missing, and serve as soon as they can', async () => {
    await Promise.all(replicas.map(({ service }) => service.stop()));
    await cluster.api.remove(SECRET);
    const none = await account('none', { secrets: ['get', 'update'], registrations: ['get'] });
    const replica = await start(none);
    const line = await eventually('its complaint', async () =>
      replica.log().find(({ why }) => String(why).includes('grant')),
    );
    expect(line['why']).toBe(
      `the API server answered 403 to POST secrets ${NAMESPACE}/${INSTALL.secret}: grant the webhook's account "create" on secrets, by a Role in namespace ${NAMESPACE}`,
    );
    await cluster.api.create({ ...SECRET, type: 'Opaque' });
    await replica.service.ready(`${replica.adminUrl}/readyz`);
    const complaint = await eventually('its next complaint', async () =>
      replica.log().find(({ why }) => String(why).includes('"patch"')),
    );
    expect(complaint['why']).toContain(
      `grant the webhook's account "patch" on ${PLURALS[0]}.${ADMISSION} with resourceNames [${INSTALL.configuration}], by a ClusterRole`,
    );
  });
});
