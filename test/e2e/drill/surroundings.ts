// What a drill runs in: a cluster with operator and pods, our webhook, and our reconciler.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { INSTALL } from '../../../common/contract.ts';
import { RABBITMQ_CRD } from '../../../common/crd.ts';
import { eventually } from '../../support/kube-api.ts';
import type { KubeObject } from '../../support/kube-api.ts';
import { startCluster } from '../../support/kube.ts';
import type { Cluster } from '../../support/kube.ts';
import type { ReclaimPolicy } from '../../support/pods/claims.ts';
import { Pods } from '../../support/pods/kubelet.ts';
import { freePort } from '../../support/ports.ts';
import { Service } from '../../support/service.ts';
import { startWebhookProcess } from '../../support/webhook-process.ts';
import type { WebhookProcess } from '../../support/webhook-process.ts';

export interface Surroundings extends AsyncDisposable {
  cluster: Cluster;
  pods: Pods;
  /** The last lines that the reconciler logged as warnings or errors, and what the pods' keeper complains about. */
  complaints(): string[];
}

/**
 * @param reclaim what becomes of stored data when its claim is deleted
 * @param tell told what pods do and how starting goes on, a line each
 */
export async function startSurroundings(
  namespace: string,
  reclaim: ReclaimPolicy,
  tell: { progress: (line: string) => void; pod: (line: string) => void },
): Promise<Surroundings> {
  await using resources = new AsyncDisposableStack();
  const cluster = resources.use(await startCluster({ operator: true, kubelet: false }));
  tell.progress(`Kubernetes ${cluster.version} and the cluster-operator run`);
  const pods = resources.use(await Pods.start(cluster, { reclaim, onEvent: tell.pod }));
  await cluster.createNamespace(namespace);
  await cluster.api.create(RABBITMQ_CRD);
  const webhook = resources.use(await startWebhookProcess(cluster.kubeconfig));
  for (const kind of ['Mutating', 'Validating'] as const)
    await cluster.api.create(registration(kind, webhook));
  await eventually('the CRD of RabbitMq', () =>
    cluster.api.list('rabbitmq.openstack.org/v1beta1', 'RabbitMq'),
  );
  const admin = `127.0.0.1:${await freePort()}`;
  const reconciler = new Service(
    [
      'reconciler',
      `--kubeconfig=${cluster.kubeconfig}`,
      `--admin-listen=${admin}`,
      '--no-leader-election',
      '--clients-interval=5',
    ],
    join(cluster.folder, 'reconciler.log'),
  );
  resources.defer(async () => void (await reconciler.stop()));
  await reconciler.ready(`http://${admin}/readyz`);
  tell.progress('webhook and reconciler are ready');
  const all = resources.move();
  const complaints = (): string[] => {
    const log = readFileSync(reconciler.logFile, 'utf8').split('\n');
    const bad = log.filter((line) => /"level":"(?:warn|error|fatal)"/.test(line)).slice(-5);
    return pods.trouble instanceof Error ? [...bad, pods.trouble.message] : bad;
  };
  return { cluster, pods, complaints, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

function registration(kind: 'Mutating' | 'Validating', webhook: WebhookProcess): KubeObject {
  const path = kind === 'Mutating' ? INSTALL.path.mutate : INSTALL.path.validate;
  const entry = (name: string, apiGroup: string, resource: string) => ({
    name,
    clientConfig: {
      url: new URL(path, webhook.url).href,
      caBundle: Buffer.from(webhook.ca).toString('base64'),
    },
    rules: [
      {
        apiGroups: [apiGroup],
        apiVersions: ['v1beta1'],
        operations: ['CREATE', 'UPDATE'],
        resources: [resource],
      },
    ],
    failurePolicy: 'Fail',
    sideEffects: 'None',
    timeoutSeconds: 10,
    admissionReviewVersions: ['v1'],
  });
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: `${kind}WebhookConfiguration`,
    metadata: { name: INSTALL.configuration },
    webhooks: [
      entry(INSTALL.webhook.cluster, 'rabbitmq.com', 'rabbitmqclusters'),
      entry(INSTALL.webhook.rabbitMq, 'rabbitmq.openstack.org', 'rabbitmqs'),
    ],
  };
}
