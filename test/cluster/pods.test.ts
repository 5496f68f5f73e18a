import { connect } from 'amqplib';
import type { ChannelModel, GetMessage } from 'amqplib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ANNOTATION, INSTALL, PORT, PROXY_CONTAINER, RABBITMQ_CONTAINER } from '../../common/contract.ts';
import { LegacyClient } from '../e2e/legacy-client.ts';
import { KubeError, eventually } from '../support/kube-api.ts';
import type { KubeObject } from '../support/kube-api.ts';
import { startCluster } from '../support/kube.ts';
import type { Cluster } from '../support/kube.ts';
import { ManagementClient } from '../support/management.ts';
import { describePods } from '../support/pods/describe-pods.ts';
import { Pods } from '../support/pods/kubelet.ts';
import { NODE_ADDRESS } from '../support/pods/types.ts';
import type { PodObject } from '../support/pods/types.ts';
import { startWebhookProcess } from '../support/webhook-process.ts';
import type { WebhookProcess } from '../support/webhook-process.ts';

const NAMESPACE = 'openstack';
/** A broker starts within some seconds of two idle cores. */
const PATIENCE_MS = 150_000;

interface RabbitmqCluster extends KubeObject {
  status?: { conditions?: { type: string; status: string; reason: string }[] };
}

function rabbitmqCluster(name: string, version: string, replicas: number): RabbitmqCluster {
  return {
    apiVersion: 'rabbitmq.com/v1beta1',
    kind: 'RabbitmqCluster',
    metadata: { namespace: NAMESPACE, name, annotations: {} },
    spec: {
      image: `rabbitmq:${version}-management`,
      replicas,
      delayStartSeconds: 1,
      terminationGracePeriodSeconds: 60,
    },
  };
}

function registration(kind: 'Mutating' | 'Validating', webhook: WebhookProcess): KubeObject {
  const path = kind === 'Mutating' ? INSTALL.path.mutate : INSTALL.path.validate;
  const rule = {
    apiGroups: ['rabbitmq.com'],
    apiVersions: ['v1beta1'],
    operations: ['CREATE', 'UPDATE'],
    resources: ['rabbitmqclusters'],
  };
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: `${kind}WebhookConfiguration`,
    metadata: { name: INSTALL.configuration },
    webhooks: [
      {
        name: INSTALL.webhook.cluster,
        clientConfig: {
          url: new URL(path, webhook.url).href,
          caBundle: Buffer.from(webhook.ca).toString('base64'),
        },
        rules: [rule],
        failurePolicy: 'Fail',
        sideEffects: 'None',
        timeoutSeconds: 10,
        admissionReviewVersions: ['v1'],
      },
    ],
  };
}

describePods('Pods with real brokers, of clusters by the real cluster-operator', () => {
  let cluster: Cluster;
  let pods: Pods;
  const events: string[] = [];

  beforeAll(async () => {
    cluster = await startCluster({ operator: true, kubelet: false });
    pods = await Pods.start(cluster, { onEvent: (line) => events.push(line) });
    await cluster.createNamespace(NAMESPACE);
  });
  afterAll(async () => {
    await pods?.stop();
    await cluster?.stop();
  });

  const condition = async (object: RabbitmqCluster, type: string): Promise<string | undefined> =>
    (await cluster.api.read<RabbitmqCluster>(object)).status?.conditions?.find((one) => one.type === type)
      ?.status;
  const create = async (object: RabbitmqCluster): Promise<void> => {
    await cluster.api.create(object);
    for (const type of ['AllReplicasReady', 'ReconcileSuccess']) {
      const told = () =>
        `${type} of ${object.metadata.name}; ${String(pods.trouble)}; ${events.slice(-5).join('\n')}`;
      await eventually(type, async () => (await condition(object, type)) === 'True', PATIENCE_MS).catch(
        (error: unknown) => {
          throw new Error(told(), { cause: error });
        },
      );
    }
  };
  const podNames = async (): Promise<string[]> =>
    (await cluster.api.list<PodObject>('v1', 'Pod', NAMESPACE)).map(({ metadata }) => metadata.name);
  const pod = (name: string): Promise<PodObject> =>
    cluster.api.read<PodObject>({ apiVersion: 'v1', kind: 'Pod', metadata: { namespace: NAMESPACE, name } });
  const isReady = async (name: string): Promise<boolean> =>
    (await pod(name)).status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ??
    false;
  const credentials = async (name: string): Promise<{ user: string; password: string }> => {
    const metadata = { namespace: NAMESPACE, name: `${name}-default-user` };
    const { data } = await cluster.api.read<KubeObject & { data: Record<string, string> }>({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata,
    });
    const text = (key: string) => Buffer.from(data[key] ?? '', 'base64').toString();
    return { user: text('username'), password: text('password') };
  };
  const amqp = async (name: string, host: string): Promise<string> => {
    const { user, password } = await credentials(name);
    return `amqp://${user}:${password}@${host}:5672/`;
  };
  const management = async (name: string, host: string): Promise<ManagementClient> =>
    new ManagementClient({ url: `http://${host}:15672`, ...(await credentials(name)), vhost: '/' });
  const fetched = async (connection: ChannelModel, queue: string): Promise<string> => {
    const channel = await connection.createChannel();
    const message = (await channel.get(queue, { noAck: true })) as GetMessage;
    await channel.close();
    return message.content.toString();
  };

  it('run RabbitMQ 3.10 as the operator wants it, reached at their address and by the Service', async () => {
    const single = rabbitmqCluster('single', '3.10', 1);
    await create(single);
    const address = pods.address(NAMESPACE, 'single-server-0');
    const api = await management('single', address);
    expect(await api.version()).toMatch(/^3\.10\./);

    const connection = await connect(await amqp('single', address));
    const channel = await connection.createConfirmChannel();
    await channel.assertQueue('kept', { durable: true });
    channel.sendToQueue('kept', Buffer.from('a message'), { persistent: true });
    await channel.waitForConfirms();
    await connection.close();

    const service = await cluster.api.read<KubeObject & { spec: { clusterIP: string } }>({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { namespace: NAMESPACE, name: 'single' },
    });
    const onward = await eventually('the Service', async () =>
      connect(await amqp('single', service.spec.clusterIP)),
    );
    expect(await fetched(onward, 'kept')).toBe('a message');
    await onward.close();
  });

  it('keep what is stored when a container is killed, and say that they are not ready meanwhile', async () => {
    const address = pods.address(NAMESPACE, 'single-server-0');
    const publisher = await connect(await amqp('single', address));
    publisher.on('error', () => {});
    const channel = await publisher.createConfirmChannel();
    channel.sendToQueue('kept', Buffer.from('survivor'), { persistent: true });
    await channel.waitForConfirms();
    // RabbitMQ 3.10 itself may lose what it was told in its last two seconds.
    const synced = ['rabbitmqctl', 'eval', 'mnesia:sync_log().'];
    expect(await pods.exec(NAMESPACE, 'single-server-0', RABBITMQ_CONTAINER, synced)).toMatchObject({
      code: 0,
    });
    await pods.crash(NAMESPACE, 'single-server-0', RABBITMQ_CONTAINER);
    await eventually('the pod that is not ready', async () => !(await isReady('single-server-0')));
    await eventually('the pod that is ready again', () => isReady('single-server-0'), PATIENCE_MS);
    const { status } = await pod('single-server-0');
    expect(status).toMatchObject({
      phase: 'Running',
      podIP: address,
      containerStatuses: [{ restartCount: 1, lastState: { terminated: { exitCode: 137 } } }],
    });
    const again = await connect(await amqp('single', address));
    expect(await fetched(again, 'kept')).toBe('survivor');
    await again.close();
  });

  it('end with the hook, SIGTERM and a clean stop, and their storage ends with the claims', async () => {
    const single = rabbitmqCluster('single', '3.10', 1);
    await cluster.api.remove(single);
    await eventually('the end of the pods', async () => (await podNames()).length === 0, PATIENCE_MS);
    expect(events.join('\n')).toMatch(/single-server-0: rabbitmq: the preStop hook ended after \d+ ms/);
    expect(events.join('\n')).toMatch(/single-server-0: rabbitmq ended with 0 /);
    expect(pods.log(NAMESPACE, 'single-server-0', RABBITMQ_CONTAINER)).toMatch(
      /SIGTERM received - shutting down[^]*msg_store_persistent' is stopped/,
    );
    await eventually('the end of the claims', async () => {
      const claims = await cluster.api.list('v1', 'PersistentVolumeClaim', NAMESPACE);
      return claims.length === 0;
    });
  });

  describePods('injected by the real webhook', () => {
    const trio = rabbitmqCluster('trio', '4.3', 3);
    const names = [0, 1, 2].map((number) => `trio-server-${number}`);
    let webhook: WebhookProcess;
    let client: LegacyClient;

    beforeAll(async () => {
      webhook = await startWebhookProcess(cluster.kubeconfig, ['--no-events']);
      for (const kind of ['Mutating', 'Validating'] as const)
        await cluster.api.create(registration(kind, webhook));
      trio.metadata.annotations = { [ANNOTATION.enableProxy]: 'true' };
      await eventually('the webhook', async () => {
        const tried = await cluster.api.create(trio, { dryRun: 'All' });
        return JSON.stringify(tried).includes(PROXY_CONTAINER);
      });
      await create(trio);
      const url = await amqp('trio', pods.address(NAMESPACE, 'trio-server-1'));
      client = new LegacyClient({ url, exchange: 'openstack', topic: 'conductor' });
    });
    afterAll(async () => {
      await client?.close().catch(() => {}); // the test may have failed before
      await webhook?.stop();
    });

    it('become one cluster of RabbitMQ 4.3, behind proxies that take legacy declarations', async () => {
      const addresses = names.map((name) => pods.address(NAMESPACE, name));
      expect(new Set(addresses).size).toBe(3);
      await client.start();
      expect(await client.round(20)).toEqual({ sent: 100, confirmed: 100, received: 100, lost: 0 });
      const api = await management('trio', addresses[2]!);
      expect(await api.version()).toMatch(/^4\.3\./);
      const queue = (await api.queue('conductor')) as unknown as { type: string; members: string[] };
      expect(queue.type).toBe('quorum');
      expect(queue.members.toSorted()).toEqual(names.map((name) => `rabbit@${name}.trio-nodes.${NAMESPACE}`));
    });

    it('tell the broker the address of the client, by the PROXY protocol', async () => {
      const api = await management('trio', pods.address(NAMESPACE, 'trio-server-0'));
      const connections = await eventually('the client’s connections', async () => {
        const all = await api.connections();
        return all.length >= 2 && all;
      });
      expect(new Set(connections.map(({ peer_host }) => peer_host))).toEqual(new Set([NODE_ADDRESS]));
    });

    it('have proxies whom the webhook asks before they may go', async () => {
      const annotated = await cluster.api.call('PATCH', await cluster.api.path(trio), {
        body: { metadata: { annotations: { [ANNOTATION.clientsReconfigured]: 'true' } } },
        type: 'application/merge-patch+json',
        query: { dryRun: 'All' },
      });
      expect(annotated.warnings.join('\n')).toMatch(/pod trio-server-1: .*client/);
      expect(annotated.warnings.join('\n')).not.toContain('could not be asked');
      const proxy = await fetch(`http://${pods.address(NAMESPACE, 'trio-server-1')}:${PORT.admin}/clients`);
      expect(JSON.stringify(await proxy.json())).toContain('conductor');
    });

    it('are not ready while the broker behind the proxy is away', async () => {
      await pods.crash(NAMESPACE, 'trio-server-0', RABBITMQ_CONTAINER);
      await eventually('the pod that is not ready', async () => !(await isReady('trio-server-0')));
      const admin = `http://${pods.address(NAMESPACE, 'trio-server-0')}:${PORT.admin}`;
      expect((await fetch(`${admin}/livez`)).status).toBe(200);
      await eventually('the pod that is ready again', () => isReady('trio-server-0'), PATIENCE_MS);
      expect((await fetch(`${admin}/readyz`)).status).toBe(200);
    });

    it('lose the sidecar one by one when clients-reconfigured is set', async () => {
      await client.close();
      const annotations = { [ANNOTATION.clientsReconfigured]: 'true' };
      await cluster.api.patch(trio, { metadata: { annotations } });
      await eventually(
        'three ready pods without the proxy',
        async () => {
          const all = await Promise.all(names.map((name) => pod(name).catch(absent)));
          return all.every(
            (one) =>
              one !== undefined &&
              one.metadata.deletionTimestamp === undefined &&
              one.spec.containers.length === 1 &&
              one.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True'),
          );
        },
        PATIENCE_MS,
      );
      const connection = await connect(await amqp('trio', pods.address(NAMESPACE, 'trio-server-0')));
      const channel = await connection.createChannel();
      expect(await channel.checkQueue('conductor')).toMatchObject({ messageCount: 0 });
      await connection.close();
    });
  });
});

function absent(error: unknown): undefined {
  if (!(error instanceof KubeError && error.code === 404)) throw error;
  return undefined;
}
