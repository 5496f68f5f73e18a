import { afterAll, beforeAll, expect, it } from 'vitest';
import { INSTALL, NAME_LABEL, RABBITMQ_SELECTOR } from '../../common/contract.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import { installFileFor, kubectlApply } from '../support/install-file.ts';
import { type KubeApi, type KubeObject, eventually } from '../support/kube-api.ts';
import { startCluster } from '../support/kube.ts';
import type { Cluster } from '../support/kube.ts';
import { type ReconcilerProcess, startReconcilerProcess } from '../support/reconciler-process.ts';

const NAMESPACE = 'openstack';

interface Deployment extends KubeObject {
  spec: { template: { spec: { containers: { args: string[] }[] } } };
}

function rabbitMq(name: string, spec: Record<string, unknown> = {}): KubeObject {
  const metadata = { namespace: NAMESPACE, name };
  return { apiVersion: 'rabbitmq.openstack.org/v1beta1', kind: 'RabbitMq', metadata, spec };
}

function rabbitmqCluster(name: string, replicas: number): KubeObject {
  const metadata = { namespace: NAMESPACE, name };
  return { apiVersion: 'rabbitmq.com/v1beta1', kind: 'RabbitmqCluster', metadata, spec: { replicas } };
}

await describeCluster('the reconciler, as its service account', { operator: true }, ({ lacks }) => {
  const unsupported = lacks('installation');
  let cluster: Cluster;
  let reconciler: ReconcilerProcess;
  let account: KubeApi;

  beforeAll(async () => {
    cluster = await startCluster({ operator: true });
    await cluster.createNamespace(NAMESPACE);
    const all = await installFileFor(cluster);
    // The webhook runs in other tests: here nothing must wait for it.
    const objects = all.filter(({ kind }) => !kind.endsWith('WebhookConfiguration'));
    await kubectlApply(cluster, objects);
    const deployment = objects.find(
      ({ kind, metadata }) => kind === 'Deployment' && metadata.name === INSTALL.reconciler,
    ) as Deployment;
    const [container] = deployment.spec.template.spec.containers;
    const [, ...args] = container!.args.map((arg) => arg.replaceAll('$(POD_NAMESPACE)', INSTALL.namespace));
    await cluster.api.create(rabbitmqCluster('governed', 2));
    await cluster.api.create(rabbitMq('governed'));
    const token = await cluster.tokenOf(INSTALL.namespace, INSTALL.reconciler);
    reconciler = await startReconcilerProcess(await cluster.writeKubeconfig('reconciler', token), args);
    account = cluster.api.as(`system:serviceaccount:${INSTALL.namespace}:${INSTALL.reconciler}`);
  });
  afterAll(async () => {
    await reconciler?.stop();
    await cluster?.stop();
  });

  it('takes the Lease in its own namespace and works', async () => {
    await eventually('the Lease', () => reconciler.leads());
    const metadata = { namespace: INSTALL.namespace, name: INSTALL.reconciler };
    const lease = await cluster.api.read<KubeObject>({
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata,
    });
    expect(lease['spec']).toMatchObject({ leaseDurationSeconds: 15, holderIdentity: expect.any(String) });
  });

  it('finds pods, claims and StatefulSets of the cluster operator by their labels', async () => {
    const selector = encodeURIComponent(`${RABBITMQ_SELECTOR},${NAME_LABEL}=governed`);
    for (const [path, count] of [
      [`/api/v1/namespaces/${NAMESPACE}/pods`, 2],
      [`/api/v1/namespaces/${NAMESPACE}/persistentvolumeclaims`, 2],
      [`/apis/apps/v1/namespaces/${NAMESPACE}/statefulsets`, 1],
    ] as const) {
      await eventually(path, async () => {
        const { body } = await cluster.api.call<{ items: unknown[] }>(
          'GET',
          `${path}?labelSelector=${selector}`,
        );
        return body.items.length === count;
      });
    }
  });

  it.skipIf(unsupported !== '')(
    `says in the status of a RabbitMq how its cluster is, and tells of it${unsupported}`,
    async () => {
      const status = await eventually('a status', async () => {
        const { status } = (await cluster.api.read(rabbitMq('governed'))) as KubeObject & {
          status?: { conditions?: { type: string; status: string }[]; currentVersion?: string };
        };
        return status?.conditions?.some(({ type }) => type === 'Ready') && status;
      });
      expect(status.currentVersion).toMatch(/^\d+\.\d+/);
      await eventually('an Event', async () => {
        const events = await cluster.api.list<KubeObject>('events.k8s.io/v1', 'Event', NAMESPACE);
        return events.some(({ reportingController }) => reportingController === 'quorumbridge.io/reconciler');
      });
    },
  );

  it.skipIf(unsupported !== '')(`makes the cluster that a RabbitMq describes${unsupported}`, async () => {
    await cluster.api.create(
      rabbitMq('described', { targetVersion: '4.2', queueType: 'Quorum', replicas: 1 }),
    );
    const made = await eventually('a RabbitmqCluster', () =>
      cluster.api.find(rabbitmqCluster('described', 1)),
    );
    expect(made['spec']).toMatchObject({ replicas: 1 });
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: NAMESPACE, name: 'described-server-0' },
    };
    await eventually('its pod', () => cluster.api.find(pod));
  });

  it('sees all that it watches, and was refused nothing', async () => {
    const metrics = await (await fetch(`${reconciler.adminUrl}/metrics`)).text();
    const watching = [
      ...metrics.matchAll(/^quorumbridge_reconciler_watching\{resource="([\w.]+)"\} (\d)$/gm),
    ];
    expect(watching.map(([, resource, value]) => [resource, value])).toEqual([
      ['rabbitmqs.rabbitmq.openstack.org', '1'],
      ['rabbitmqclusters.rabbitmq.com', '1'],
      ['statefulsets.apps', '1'],
      ['pods', '1'],
      ['persistentvolumeclaims', '1'],
    ]);
    expect(
      reconciler.log().filter((line) => /answered 40[13]|forbidden/i.test(JSON.stringify(line))),
    ).toEqual([]);
  });

  it('has no right to more', async () => {
    const refused = async (asked: Promise<unknown>): Promise<void> => {
      await expect(asked).rejects.toThrow('403');
    };
    const secret = (namespace: string, name: string): KubeObject => ({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { namespace, name },
    });
    await refused(account.list('v1', 'Secret', NAMESPACE));
    await refused(account.remove(secret(NAMESPACE, 'governed-default-user')));
    await refused(account.list('v1', 'ConfigMap', NAMESPACE));
    await refused(account.list('coordination.k8s.io/v1', 'Lease', INSTALL.namespace));
    const other = { namespace: INSTALL.namespace, name: 'other' };
    await refused(account.read({ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: other }));
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: NAMESPACE, name: 'governed-server-0' },
    };
    await refused(account.create({ ...pod, metadata: { namespace: NAMESPACE, name: 'own' }, spec: {} }));
    const set = { apiVersion: 'apps/v1', kind: 'StatefulSet' };
    const server = { ...set, metadata: { namespace: NAMESPACE, name: 'governed-server' } };
    await refused(account.remove(server));
    await refused(account.patch(server, { metadata: { labels: { own: 'label' } } }));
    await refused(account.remove(rabbitMq('governed')));
    await refused(account.create(rabbitMq('own')));
    const claim = { namespace: NAMESPACE, name: 'persistence-governed-server-0' };
    await refused(account.remove({ apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: claim }));
  });

  it('gives the Lease back when it is told to end', async () => {
    expect(await reconciler.stop()).toBe(0);
    const metadata = { namespace: INSTALL.namespace, name: INSTALL.reconciler };
    const lease = await cluster.api.read<KubeObject>({
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata,
    });
    expect(lease['spec']).toMatchObject({ holderIdentity: '', leaseDurationSeconds: 1 });
  });
});
