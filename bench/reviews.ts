import { randomUUID } from 'node:crypto';
import { ANNOTATION, PROXY_CONTAINER, RABBITMQ_CONTAINER } from '../common/contract.ts';

/** A review as its octets, and whether an answer is the webhook's own to it. */
export interface Review {
  readonly body: Buffer;
  /** Throws when the answer does not repeat the uid, does not allow, or does not inject the proxy. */
  check(answer: string): void;
}

const ENVIRONMENT = 1000;
const ANNOTATIONS = 100;

/** A StatefulSet of about 200 KB: half of it is environment of RabbitMQ's container, half annotations. */
export function largeStatefulSet(): { metadata: { annotations: Record<string, string> } } {
  const numbers = (count: number) => Array.from({ length: count }, (_, i) => i);
  const env = numbers(ENVIRONMENT).map((i) => ({
    name: `RABBITMQ_SETTING_${i}`,
    value: `value-${i}-`.padEnd(60, 'v'),
  }));
  const annotations = numbers(ANNOTATIONS).map((i): [string, string] => [
    `example.com/note-${i}`,
    `note ${i}: "quoted" `.padEnd(1000, 'n'),
  ]);
  const labels = { 'app.kubernetes.io/name': 'mq', 'app.kubernetes.io/component': 'rabbitmq' };
  const object = {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: {
      name: 'mq-server',
      namespace: 'openstack',
      uid: randomUUID(),
      generation: 1,
      labels,
      annotations: Object.fromEntries(annotations),
    },
    spec: {
      replicas: 3,
      serviceName: 'mq-nodes',
      selector: { matchLabels: { 'app.kubernetes.io/name': 'mq' } },
      template: {
        metadata: { labels },
        spec: {
          containers: [
            {
              name: RABBITMQ_CONTAINER,
              image: 'rabbitmq:4.2-management',
              env,
              ports: [
                { name: 'epmd', containerPort: 4369 },
                { name: 'amqp', containerPort: 5672 },
                { name: 'management', containerPort: 15_672 },
              ],
              readinessProbe: { tcpSocket: { port: 'amqp' }, initialDelaySeconds: 10, timeoutSeconds: 5 },
              resources: { limits: { cpu: '2', memory: '2Gi' }, requests: { cpu: '1', memory: '2Gi' } },
              volumeMounts: [{ name: 'persistence', mountPath: '/var/lib/rabbitmq/mnesia/' }],
            },
          ],
          terminationGracePeriodSeconds: 604_800,
        },
      },
    },
  };
  return object;
}

/** The review of the UPDATE that asks for the proxy on `stored`: the object is in it twice. */
export function injectingReview(stored: ReturnType<typeof largeStatefulSet>): Review {
  const uid = randomUUID();
  const kind = { group: 'apps', version: 'v1', kind: 'StatefulSet' };
  const resource = { group: 'apps', version: 'v1', resource: 'statefulsets' };
  const annotations = { ...stored.metadata.annotations, [ANNOTATION.enableProxy]: 'true' };
  const request = {
    uid,
    kind,
    resource,
    requestKind: kind,
    requestResource: resource,
    name: 'mq-server',
    namespace: 'openstack',
    operation: 'UPDATE',
    userInfo: { username: 'kubernetes-admin', groups: ['system:masters', 'system:authenticated'] },
    object: { ...stored, metadata: { ...stored.metadata, annotations } },
    oldObject: stored,
    dryRun: false,
    options: { apiVersion: 'meta.k8s.io/v1', kind: 'UpdateOptions' },
  };
  const review = { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', request };
  return {
    body: Buffer.from(JSON.stringify(review)),
    check(answer) {
      const { response } = JSON.parse(answer) as {
        response?: { uid?: string; allowed?: boolean; patch?: string };
      };
      const patch = Buffer.from(response?.patch ?? '', 'base64').toString('utf8');
      if (response?.uid !== uid || response.allowed !== true || !patch.includes(`"${PROXY_CONTAINER}"`)) {
        throw new Error(`the webhook did not inject the proxy: ${answer.slice(0, 300)}`);
      }
    },
  };
}
