import { afterAll, beforeAll, expect, it } from 'vitest';
import { ANNOTATION, PROXY_CONTAINER } from '../../common/contract.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import { eventually } from '../support/kube-api.ts';
import type { KubeMetadata, KubeObject } from '../support/kube-api.ts';
import { startCluster } from '../support/kube.ts';
import type { Cluster } from '../support/kube.ts';
import type { PodContainer } from '../support/kubelet.ts';
import { startWebhookProcess } from '../support/webhook-process.ts';
import type { WebhookProcess } from '../support/webhook-process.ts';

const NAMESPACE = 'openstack';

interface PodTemplate {
  metadata?: KubeMetadata;
  spec: { containers: PodContainer[] };
}

interface RabbitmqCluster extends KubeObject {
  spec: {
    rabbitmq?: { advancedConfig?: string };
    override?: { statefulSet?: { spec?: { template?: PodTemplate } } };
    [key: string]: unknown;
  };
}

interface StatefulSet extends KubeObject {
  spec: { template: PodTemplate };
  status?: { readyReplicas?: number };
}

function rabbitmqCluster(name: string, annotations: Record<string, string> = {}): RabbitmqCluster {
  const metadata = { namespace: NAMESPACE, name, annotations };
  return { apiVersion: 'rabbitmq.com/v1beta1', kind: 'RabbitmqCluster', metadata, spec: { replicas: 1 } };
}

function statefulSetOf({ metadata }: RabbitmqCluster): KubeObject {
  const name = `${metadata.name}-server`;
  return { apiVersion: 'apps/v1', kind: 'StatefulSet', metadata: { namespace: NAMESPACE, name } };
}

function containersOf(template: PodTemplate | undefined): string[] {
  return (template?.spec.containers ?? []).map(({ name }) => name);
}

function registration(webhook: WebhookProcess): KubeObject {
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: 'quorumbridge' },
    webhooks: [
      {
        name: 'rabbitmqcluster.quorumbridge.io',
        clientConfig: { url: webhook.url, caBundle: Buffer.from(webhook.ca).toString('base64') },
        rules: [
          {
            apiGroups: ['rabbitmq.com'],
            apiVersions: ['v1beta1'],
            operations: ['CREATE', 'UPDATE'],
            resources: ['rabbitmqclusters'],
            scope: 'Namespaced',
          },
        ],
        failurePolicy: 'Fail',
        sideEffects: 'None',
        reinvocationPolicy: 'IfNeeded',
        timeoutSeconds: 5,
        admissionReviewVersions: ['v1'],
      },
    ],
  };
}

await describeCluster('admission by a real API server', { operator: true }, () => {
  let cluster: Cluster;
  let webhook: WebhookProcess;
  const asking = { [ANNOTATION.enableProxy]: 'true' };

  beforeAll(async () => {
    cluster = await startCluster({ operator: true });
    await cluster.createNamespace(NAMESPACE);
    webhook = await startWebhookProcess(cluster.kubeconfig);
    await cluster.api.create(registration(webhook));
    // API servers notice new registrations after a moment.
    await eventually('the first injection', async () => {
      const answer = await cluster.api.create(rabbitmqCluster('first', asking), { dryRun: 'All' });
      return answer.spec.override !== undefined;
    });
  });
  afterAll(async () => {
    await cluster?.stop();
    await webhook?.stop();
  });

  it('injects a RabbitmqCluster with the annotation, and the operator makes a StatefulSet with the proxy', async () => {
    const stored = await cluster.api.create(rabbitmqCluster('asked', asking));
    expect(containersOf(stored.spec.override?.statefulSet?.spec?.template)).toEqual([
      'rabbitmq',
      PROXY_CONTAINER,
    ]);
    expect(stored.spec.rabbitmq?.advancedConfig).toContain('{tcp_listeners,[{"127.0.0.1",5673}]}');
    const set = await eventually('a ready StatefulSet', async () => {
      const made = await cluster.api.find<StatefulSet>(statefulSetOf(stored));
      return made?.status?.readyReplicas === 1 && made;
    });
    expect(containersOf(set.spec.template)).toEqual(['rabbitmq', PROXY_CONTAINER]);
    expect(set.spec.template.metadata?.annotations).toHaveProperty([ANNOTATION.status]);
    const [rabbitmq] = set.spec.template.spec.containers;
    expect(rabbitmq).toHaveProperty('readinessProbe.exec');
    expect(rabbitmq).not.toHaveProperty('readinessProbe.tcpSocket');
  });

  it('keeps the proxy over five reconciliations, each after an update, without a new generation', async () => {
    const object = rabbitmqCluster('kept', asking);
    await cluster.api.create(object);
    const read = () => cluster.api.find<StatefulSet>(statefulSetOf(object));
    const first = await eventually('its StatefulSet', read);
    // The operator has filled in its default image by now.
    const stored = await cluster.api.read<RabbitmqCluster>(object);
    for (let round = 1; round <= 5; round += 1) {
      const annotations = { 'example.com/round': String(round) };
      const updated = await cluster.api.patch<RabbitmqCluster>(object, { metadata: { annotations } });
      expect(updated.metadata.generation).toBe(stored.metadata.generation);
      // The operator copies annotations: it has reconciled when the StatefulSet has this one.
      const set = await eventually(`reconciliation ${round}`, async () => {
        const made = await read();
        return made?.metadata.annotations?.['example.com/round'] === String(round) && made;
      });
      expect(set.metadata.generation).toBe(first.metadata.generation);
      expect(set.spec.template).toEqual(first.spec.template);
      expect(containersOf(set.spec.template)).toContain(PROXY_CONTAINER);
    }
  });

  it('leaves one without the annotation as it is', async () => {
    const stored = await cluster.api.create(rabbitmqCluster('plain'));
    expect(stored.spec.override).toBeUndefined();
    const set = await eventually('its StatefulSet', () =>
      cluster.api.find<StatefulSet>(statefulSetOf(stored)),
    );
    expect(containersOf(set.spec.template)).toEqual(['rabbitmq']);
  });

  it('shows a dry run what would be stored, and stores nothing', async () => {
    const object = rabbitmqCluster('tried', asking);
    const shown = await cluster.api.create(object, { dryRun: 'All' });
    expect(containersOf(shown.spec.override?.statefulSet?.spec?.template)).toContain(PROXY_CONTAINER);
    expect(await cluster.api.find(object)).toBeUndefined();
    expect(await cluster.api.find(statefulSetOf(object))).toBeUndefined();
  });

  it('changes nothing when the injected object is applied again', async () => {
    const object = rabbitmqCluster('applied', asking);
    await cluster.api.apply(object, 'kubectl');
    await eventually('its StatefulSet', () => cluster.api.find<StatefulSet>(statefulSetOf(object)));
    // The operator has filled in its default image by now.
    const first = await cluster.api.read<RabbitmqCluster>(object);
    const second = await cluster.api.apply(object, 'kubectl');
    // Its finalizer and status may still come in between: only the generation counts changes of the spec.
    expect(second.metadata.generation).toBe(first.metadata.generation);
    expect(second.spec).toEqual(first.spec);
  });

  it('fails the creation while the webhook is down, and lets unrelated objects pass', async () => {
    await webhook.stop();
    await expect(cluster.api.create(rabbitmqCluster('refused', asking))).rejects.toThrow(
      /500 .*failed calling webhook "rabbitmqcluster\.quorumbridge\.io"/,
    );
    const unrelated: KubeObject = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { namespace: NAMESPACE, name: 'unrelated' },
    };
    expect((await cluster.api.create(unrelated)).metadata.uid).toBeDefined();
  });
});
