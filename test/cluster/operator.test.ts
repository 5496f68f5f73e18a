import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeCluster } from '../support/describe-cluster.ts';
import { eventually } from '../support/kube-api.ts';
import type { KubeMetadata, KubeObject } from '../support/kube-api.ts';
import { startCluster } from '../support/kube.ts';
import type { Cluster } from '../support/kube.ts';
import type { PodContainer } from '../support/kubelet.ts';

interface StatefulSet extends KubeObject {
  spec: {
    replicas: number;
    serviceName: string;
    podManagementPolicy: string;
    template: {
      metadata: KubeMetadata;
      spec: { containers: PodContainer[]; initContainers: PodContainer[] };
    };
  };
  status?: { readyReplicas?: number };
}

interface RabbitmqCluster extends KubeObject {
  status?: { conditions?: { type: string; status: string }[]; observedGeneration?: number };
}

const NAMESPACE = 'openstack';

function inNamespace(apiVersion: string, kind: string, name: string): KubeObject {
  return { apiVersion, kind, metadata: { namespace: NAMESPACE, name } };
}

await describeCluster("RabbitMQ's cluster-operator", { operator: true }, () => {
  let cluster: Cluster;
  const rabbit = inNamespace('rabbitmq.com/v1beta1', 'RabbitmqCluster', 'rabbitmq');
  const set = inNamespace('apps/v1', 'StatefulSet', 'rabbitmq-server');
  const readSet = () => cluster.api.read<StatefulSet>(set);

  beforeAll(async () => {
    cluster = await startCluster({ operator: true });
    await cluster.createNamespace(NAMESPACE);
    await cluster.api.create({ ...rabbit, spec: { replicas: 3, tls: { secretName: 'rabbitmq-tls' } } });
    const tls = { 'tls.crt': 'certificate', 'tls.key': 'key' };
    await cluster.api.create({ ...inNamespace('v1', 'Secret', 'rabbitmq-tls'), stringData: tls });
    await eventually('three ready replicas', async () => (await readSet()).status?.readyReplicas === 3);
  });
  afterAll(() => cluster.stop());

  it('turns a RabbitmqCluster into a StatefulSet that belongs to it', async () => {
    const [owner, made] = [await cluster.api.read(rabbit), await readSet()];
    expect(made.metadata.ownerReferences).toMatchObject([
      { kind: 'RabbitmqCluster', name: 'rabbitmq', uid: owner.metadata.uid, controller: true },
    ]);
    expect(made.metadata.labels).toMatchObject({
      'app.kubernetes.io/name': 'rabbitmq',
      'app.kubernetes.io/component': 'rabbitmq',
      'app.kubernetes.io/part-of': 'rabbitmq',
    });
    expect(made.spec).toMatchObject({
      replicas: 3,
      serviceName: 'rabbitmq-nodes',
      podManagementPolicy: 'Parallel',
      selector: { matchLabels: { 'app.kubernetes.io/name': 'rabbitmq' } },
    });
  });

  it('gives the pods the containers, ports, probe and mounts that the webhook reckons with', async () => {
    const { containers, initContainers } = (await readSet()).spec.template.spec;
    expect(initContainers.map(({ name }) => name)).toEqual(['setup-container']);
    expect(containers.map(({ name }) => name)).toEqual(['rabbitmq']);
    const [container] = containers;
    expect(container).not.toHaveProperty('command');
    expect(container).toMatchObject({ readinessProbe: { tcpSocket: { port: 'amqp' } } });
    expect(container!['ports']).toEqual(
      expect.arrayContaining([
        { name: 'amqp', containerPort: 5672, protocol: 'TCP' },
        { name: 'amqps', containerPort: 5671, protocol: 'TCP' },
        { name: 'management', containerPort: 15_672, protocol: 'TCP' },
      ]),
    );
    const mounts = container!['volumeMounts'] as { mountPath: string }[];
    expect(mounts.map(({ mountPath }) => mountPath)).toEqual(
      expect.arrayContaining([
        '/etc/rabbitmq/conf.d/10-operatorDefaults.conf',
        '/etc/rabbitmq/conf.d/90-userDefinedConfiguration.conf',
        '/etc/rabbitmq-tls/',
      ]),
    );
  });

  it('makes the other objects, with clients’ ports by number and the TLS listener in the configuration', async () => {
    const [client, nodes] = await Promise.all([
      cluster.api.read(inNamespace('v1', 'Service', 'rabbitmq')),
      cluster.api.read(inNamespace('v1', 'Service', 'rabbitmq-nodes')),
    ]);
    const ports = (client['spec'] as { ports: { name: string; targetPort: unknown }[] }).ports;
    expect(Object.fromEntries(ports.map(({ name, targetPort }) => [name, targetPort]))).toMatchObject({
      amqp: 5672,
      amqps: 5671,
      management: 15_672,
    });
    expect(nodes).toMatchObject({ spec: { clusterIP: 'None', publishNotReadyAddresses: true } });
    const secret = await cluster.api.read(inNamespace('v1', 'Secret', 'rabbitmq-default-user'));
    const port = (secret['data'] as Record<string, string>)['port'] ?? '';
    expect(Buffer.from(port, 'base64').toString()).toBe('5671');
    const config = await cluster.api.read(inNamespace('v1', 'ConfigMap', 'rabbitmq-server-conf'));
    const files = config['data'] as Record<string, string>;
    expect(files['userDefinedConfiguration.conf']).toMatch(/^listeners\.ssl\.default *= 5671$/m);
  });

  it('says that all replicas are ready', async () => {
    const condition = await eventually('AllReplicasReady', async () =>
      (await cluster.api.read<RabbitmqCluster>(rabbit)).status?.conditions?.find(
        ({ type, status }) => type === 'AllReplicasReady' && status === 'True',
      ),
    );
    expect(condition.status).toBe('True');
  });

  it('writes its own pod template over what others wrote into it', async () => {
    const { metadata, spec } = await readSet();
    const foreign = [{ name: 'foreign', image: 'registry.invalid/foreign' }];
    await cluster.api.patch(
      set,
      { spec: { template: { spec: { containers: foreign } } } },
      { type: 'strategic' },
    );
    const after = await eventually('one container again', async () => {
      const now = await readSet();
      return now.metadata.generation! > metadata.generation! + 1 && now;
    });
    expect(after.spec.template.spec).toEqual(spec.template.spec);
  });

  it('is started again after it was killed, and goes on', async () => {
    await cluster.kill('cluster-operator');
    await cluster.api.patch(rabbit, { spec: { replicas: 5 } });
    await cluster.restart('cluster-operator');
    await eventually('five replicas', async () => (await readSet()).spec.replicas === 5);
    expect((await readSet()).spec.replicas).toBe(5);
  });
});
