import { afterAll, beforeAll, expect, it } from 'vitest';
import { ANNOTATION, INSTALL, PROXY_CONTAINER } from '../../common/contract.ts';
import { RABBITMQ_CRD } from '../../common/crd.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import { type KubeApi, type KubeObject, eventually } from '../support/kube-api.ts';
import { type Cluster, startCluster } from '../support/kube.ts';
import { Child } from '../support/processes.ts';
import { type WebhookProcess, startWebhookProcess } from '../support/webhook-process.ts';

const NAMESPACE = 'openstack';
const ACCOUNT = 'webhook';
const DONE = { [ANNOTATION.clientsReconfigured]: 'true' };

interface Carrier extends KubeObject {
  spec: {
    image?: string;
    override?: { statefulSet?: { spec?: { template?: { spec?: { containers: { name: string }[] } } } } };
  };
  status?: { conditions?: object[] };
}

function rabbitMq(name: string, spec: object = {}, annotations: Record<string, string> = {}): KubeObject {
  const metadata = { namespace: NAMESPACE, name, annotations };
  return { apiVersion: 'rabbitmq.openstack.org/v1beta1', kind: 'RabbitMq', metadata, spec };
}

function carrier(name: string, annotations: Record<string, string> = {}): Carrier {
  const metadata = { namespace: NAMESPACE, name, annotations };
  return { apiVersion: 'rabbitmq.com/v1beta1', kind: 'RabbitmqCluster', metadata, spec: {} };
}

const hasProxy = ({ spec }: Carrier): boolean =>
  spec.override?.statefulSet?.spec?.template?.spec?.containers.some(({ name }) => name === PROXY_CONTAINER) ??
  false;

/** Exactly the rights that docs/webhook.md lists. */
const RIGHTS: KubeObject = {
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'ClusterRole',
  metadata: { name: 'webhook' },
  rules: [
    { apiGroups: ['rabbitmq.openstack.org'], resources: ['rabbitmqs'], verbs: ['get', 'list', 'watch'] },
    { apiGroups: ['rabbitmq.com'], resources: ['rabbitmqclusters'], verbs: ['get', 'list', 'watch'] },
    { apiGroups: ['apps'], resources: ['statefulsets'], verbs: ['list', 'watch'] },
    { apiGroups: ['events.k8s.io'], resources: ['events'], verbs: ['create'] },
    { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list'] },
  ],
};

const BINDING: KubeObject = {
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'ClusterRoleBinding',
  metadata: { name: 'webhook' },
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'webhook' },
  subjects: [{ kind: 'ServiceAccount', namespace: NAMESPACE, name: ACCOUNT }],
};

function registration(kind: 'Mutating' | 'Validating', webhook: WebhookProcess): KubeObject {
  const path = kind === 'Mutating' ? INSTALL.path.mutate : INSTALL.path.validate;
  const rule = (apiGroup: string, resource: string) => ({
    apiGroups: [apiGroup],
    apiVersions: ['v1beta1'],
    operations: ['CREATE', 'UPDATE'],
    resources: [resource],
    scope: 'Namespaced',
  });
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: `${kind}WebhookConfiguration`,
    metadata: { name: INSTALL.configuration },
    webhooks: [
      {
        name: INSTALL.webhook.rabbitMq,
        clientConfig: {
          url: new URL(path, webhook.url).href,
          caBundle: Buffer.from(webhook.ca).toString('base64'),
        },
        rules: [rule('rabbitmq.openstack.org', 'rabbitmqs'), rule('rabbitmq.com', 'rabbitmqclusters')],
        failurePolicy: 'Fail',
        sideEffects: 'None',
        timeoutSeconds: 5,
        admissionReviewVersions: ['v1'],
      },
    ],
  };
}

await describeCluster(
  'RabbitMqs and their clusters in a real API server',
  { operator: true },
  ({ lacks }) => {
    const noSlices = lacks('stableApis');
    let cluster: Cluster;
    let webhook: WebhookProcess;
    let api: KubeApi;

    beforeAll(async () => {
      // Without a kubelet no pod has an address: nobody is asked about clients outside of this machine.
      cluster = await startCluster({ operator: true, kubelet: false });
      ({ api } = cluster);
      await cluster.createNamespace(NAMESPACE);
      await api.create({
        apiVersion: 'v1',
        kind: 'ServiceAccount',
        metadata: { namespace: NAMESPACE, name: ACCOUNT },
      });
      await api.create(RIGHTS);
      await api.create(BINDING);
      await api.create(RABBITMQ_CRD);
      const token = await cluster.tokenOf(NAMESPACE, ACCOUNT);
      webhook = await startWebhookProcess(await cluster.writeKubeconfig('webhook', token));
      for (const kind of ['Mutating', 'Validating'] as const) await api.create(registration(kind, webhook));
      await eventually('the validating side', async () => {
        const refused = await api
          .create(rabbitMq('dotted.name'), { dryRun: 'All' })
          .catch((error: unknown) => error);
        return String(refused).includes('is no DNS label');
      });
      await eventually('the cache of RabbitMqs', async () =>
        /owner_cache_watching 1$/m.test(await metrics()),
      );
    });
    afterAll(async () => {
      await cluster?.stop();
      await webhook?.stop();
    });

    const metrics = async (): Promise<string> => (await fetch(`${webhook.adminUrl}/metrics`)).text();
    const eventsOf = async (name: string): Promise<KubeObject[]> => {
      const all = await api.list('events.k8s.io/v1', 'Event', NAMESPACE);
      return all.filter(
        (event) =>
          (event['regarding'] as { name?: string }).name === name &&
          event['reportingController'] === 'quorumbridge.io/webhook',
      );
    };

    it('sets the queue type of new ones, and forces it with a warning at a 4.x target', async () => {
      expect(await api.create(rabbitMq('fresh', { replicas: 3 }))).toMatchObject({
        spec: { queueType: 'Quorum', replicas: 3 },
      });
      await api.create(rabbitMq('mirrored', { queueType: 'Mirrored' }));
      const answer = await api.call<KubeObject>('PATCH', await api.path(rabbitMq('mirrored')), {
        body: { metadata: { annotations: { [ANNOTATION.targetVersion]: '4.2' } } },
        type: 'application/merge-patch+json',
      });
      expect(answer.body).toMatchObject({ spec: { queueType: 'Quorum' } });
      expect(answer.warnings.join()).toContain('spec.queueType: "Mirrored" became "Quorum"');
    });

    it('refuses with the code and the words of the rule, as kubectl shows them', async () => {
      await api.create(rabbitMq('ruled', { replicas: 3, targetVersion: '3.9' }));
      await expect(api.patch(rabbitMq('ruled'), { spec: { replicas: 1 } })).rejects.toMatchObject({
        code: 422,
        message: expect.stringContaining('denied the request: spec.replicas: 1 is less than 3'),
      });
      await api.patch(
        rabbitMq('ruled'),
        { status: { currentVersion: '4.0', upgradePhase: 'WaitingForPods' } },
        { subresource: 'status' },
      );
      const target = { metadata: { annotations: { [ANNOTATION.targetVersion]: '4.2' } } };
      await expect(api.patch(rabbitMq('ruled'), target)).rejects.toMatchObject({
        code: 409,
        message: expect.stringContaining('an upgrade is under way (status.upgradePhase is "WaitingForPods")'),
      });
      await expect(
        cluster.kubectl([
          '-n',
          NAMESPACE,
          'annotate',
          'rabbitmqs',
          'ruled',
          `${ANNOTATION.targetVersion}=3.8`,
        ]),
      ).rejects.toThrow(/"3\.8" is older than the running version, 4\.0.*name 4\.0 or a later one/);
      await api.remove(rabbitMq('ruled'));
      expect(await api.find(rabbitMq('ruled'))).toBeUndefined();
    });

    it('refuses names from which StatefulSets would be made that get no pods', async () => {
      const longest = 'a'.repeat(45);
      await api.create(rabbitMq(longest), { dryRun: 'All' });
      await expect(api.create(rabbitMq(`${longest}a`), { dryRun: 'All' })).rejects.toThrow(/use at most 45/);
      const set = (name: string): KubeObject => ({
        apiVersion: 'apps/v1',
        kind: 'StatefulSet',
        metadata: { namespace: NAMESPACE, name },
        spec: {
          serviceName: name,
          selector: { matchLabels: { for: name } },
          template: {
            metadata: { labels: { for: name } },
            spec: { containers: [{ name: 'rabbitmq', image: 'rabbitmq' }] },
          },
        },
      });
      // As the cluster operator names them.
      await api.create(set(`${longest}-server`));
      // The hash in a label of the pods has ten digits, or rarely fewer: one of these gets ten.
      const longer = ['a', 'b', 'c', 'd'].map((letter) => `${longest}${letter}-server`);
      for (const name of longer) await api.create(set(name));
      const pod = (name: string): KubeObject => ({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { namespace: NAMESPACE, name },
      });
      await eventually('the pod of the longest name', () => api.find(pod(`${longest}-server-0`)));
      const [refused, why] = await eventually('the complaint about a longer one', async () => {
        const events = await api.list('v1', 'Event', NAMESPACE, { fieldSelector: 'reason=FailedCreate' });
        return events
          .map(({ involvedObject, message }) => [(involvedObject as { name: string }).name, message] as const)
          .find(([name]) => longer.includes(name));
      });
      expect(why).toMatch(/must be no more than 63/);
      expect(await api.find(pod(`${refused}-0`))).toBeUndefined();
    });

    it.skipIf(noSlices !== '')(
      `warns that nobody could be asked about clients when clients-reconfigured is set${noSlices}`,
      async () => {
        await api.create(rabbitMq('reconfigured'));
        const answer = await api.call('PATCH', await api.path(rabbitMq('reconfigured')), {
          body: { metadata: { annotations: DONE } },
          type: 'application/merge-patch+json',
        });
        expect(answer.warnings.join()).toContain('no pod of the cluster was found to ask');
      },
    );

    it('injects by the status of the RabbitMq, live when new and from the cache afterwards, and writes Events', async () => {
      await api.create(rabbitMq('owner'));
      await api.patch(rabbitMq('owner'), { status: { proxyRequired: true } }, { subresource: 'status' });
      const tried = await api.create(carrier('owner'), { dryRun: 'All' });
      expect(hasProxy(tried)).toBe(true);
      expect(hasProxy(await api.create(carrier('owner')))).toBe(true);
      const [injected] = await eventually('the first Event', async () => {
        const events = await eventsOf('owner');
        return events.length > 0 && events;
      });
      expect(injected).toMatchObject({
        reason: 'ProxyInjected',
        type: 'Normal',
        note: expect.stringContaining('proxyRequired'),
      });

      await api.patch(rabbitMq('owner'), { status: { proxyRequired: false } }, { subresource: 'status' });
      const bare = await eventually('a write that takes the proxy out', async () => {
        const annotations = { 'example.com/time': String(Date.now()) };
        const stored = await api.patch<Carrier>(carrier('owner'), { metadata: { annotations } });
        return !hasProxy(stored) && stored;
      });
      expect(bare.spec).not.toHaveProperty('rabbitmq.advancedConfig');
      await eventually('the second Event', async () => (await eventsOf('owner')).length === 2);
      expect(
        (await eventsOf('owner')).map((event) => String(event['reason'])).sort((a, b) => a.localeCompare(b)),
      ).toEqual(['ProxyInjected', 'ProxyRemoved']);
      expect(await metrics()).toMatch(/owner_lookups_total\{result="found",source="cache"\} [1-9]/);
    });

    it('refuses the image of an old manifest, unless the annotation allows it', async () => {
      const image = 'rabbitmq:4.2-management';
      await api.create(rabbitMq('upgraded', { queueType: 'Quorum' }));
      await api.patch(
        rabbitMq('upgraded'),
        { status: { currentVersion: '4.2', upgradePhase: '' } },
        { subresource: 'status' },
      );
      const object = { ...carrier('upgraded'), spec: { image } };
      await api.create(object);
      const old = { spec: { image: 'rabbitmq:3.10-management' } };
      const put = async (annotations: Record<string, string>) =>
        api.call<KubeObject>('PATCH', await api.path(object), {
          body: { ...old, metadata: { annotations } },
          type: 'application/merge-patch+json',
          query: { dryRun: 'All' },
        });
      // The cache may be a moment behind, and then it is only warned about.
      const refused = await eventually('the refusal', () =>
        put({}).then(
          () => false as const,
          (error: unknown) => error as Error & { code: number },
        ),
      );
      expect(refused).toMatchObject({
        code: 422,
        message: expect.stringContaining(
          'denied the request: spec.image: "rabbitmq:3.10-management" is RabbitMQ 3.10, older than 4.2, which runs',
        ),
      });
      const { body, warnings } = await put({ [ANNOTATION.allowDowngrade]: 'true' });
      expect(body).toMatchObject(old);
      expect(warnings.join()).toContain('allowed by the annotation');
      expect(await api.patch(object, { spec: { image: 'rabbitmq:4.2.1' } })).toMatchObject({
        spec: { image: 'rabbitmq:4.2.1' },
      });
    });

    it('lets the cluster operator fill in the image of a new cluster, whatever ran before, and not that of an old one', async () => {
      await api.create(rabbitMq('again'));
      await api.patch(rabbitMq('again'), { status: { currentVersion: '9.9' } }, { subresource: 'status' });
      await api.create(carrier('again'));
      const { image } = await eventually('what the operator reports', async () => {
        const { spec, status } = await api.read<Carrier>(carrier('again'));
        return (status?.conditions ?? []).length > 0 && spec;
      });
      expect(image).toMatch(/rabbitmq/);
      // As `kubectl replace` does with a manifest that leaves the image to the operator, which fills in its own.
      const without = await api.patch<Carrier>(carrier('again'), { spec: { image: null } });
      expect(without.spec.image).toBeUndefined();
      await expect(api.patch(carrier('again'), { spec: { image: image! } })).rejects.toMatchObject({
        code: 422,
        message: expect.stringContaining('older than 9.9, which runs'),
      });
    });

    it('leaves no Event after a dry run', async () => {
      await api.create(carrier('tried', { [ANNOTATION.enableProxy]: 'true' }), { dryRun: 'All' });
      await api.create(carrier('stored', { [ANNOTATION.enableProxy]: 'true' }));
      await eventually('the Event of the stored one', async () => (await eventsOf('stored')).length > 0);
      expect(await eventsOf('tried')).toEqual([]);
    });

    it('explains an object by the kubeconfig', async () => {
      const explain = async (...args: string[]) => {
        const child = new Child('explain', process.execPath, [
          'cli/main.ts',
          'explain',
          ...args,
          `--kubeconfig=${cluster.kubeconfig}`,
        ]);
        child.end();
        const { code } = await child.exited;
        return { code, text: child.lines.join('\n') };
      };
      await api.create(
        carrier('explained', { [ANNOTATION.enableProxy]: 'true', [ANNOTATION.mode]: 'observe' }),
      );
      const settled = await explain('rmq', 'explained', '-n', NAMESPACE);
      expect(settled.text).toContain(`RabbitmqCluster ${NAMESPACE}/explained: has the proxy`);
      expect(settled.text).toContain('mode observe');
      expect(settled).toMatchObject({ code: 0, text: expect.stringContaining('would change nothing') });
      const set = await eventually('its StatefulSet', () =>
        explain('sts', 'explained-server', '-n', NAMESPACE).then((told) => told.code === 0 && told),
      );
      expect(set.text).toContain('[governed-by-rabbitmqcluster]');
      expect(await explain('rmq', 'nobody', '-n', NAMESPACE)).toMatchObject({ code: 2 });
    });

    it('goes on when the API server was away, and when rights were taken says 503 to new objects', async () => {
      await cluster.kill('kube-apiserver');
      await eventually('the loss', async () => /owner_cache_watching 0$/m.test(await metrics()));
      await cluster.restart('kube-apiserver');
      await eventually(
        'the watch again',
        async () => /owner_cache_watching 1$/m.test(await metrics()),
        60_000,
      );
      expect(await metrics()).toMatch(/owner_cache_failures_total [1-9]/);
      await api.remove(BINDING);
      await eventually('the refusal', async () => {
        const refused = await api
          .create(carrier('unknown'), { dryRun: 'All' })
          .catch((error: unknown) => error as Error);
        return refused instanceof Error && refused;
      });
      await expect(api.create(carrier('unknown'), { dryRun: 'All' })).rejects.toMatchObject({
        code: 503,
        message: expect.stringMatching(/403 to GET rabbitmqs.* grant this account "get"/),
      });
    });
  },
);
