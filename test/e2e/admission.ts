// What an API server does with a mutating webhook: sends an AdmissionReview over verified TLS and applies the patch.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import fastJsonPatch from 'fast-json-patch';
import type { Operation } from 'fast-json-patch';
import { parseAllDocuments } from 'yaml';
import { HOME } from '../support/processes.ts';

/** A container of a pod template, as far as the demo reads it. */
export interface Container {
  name: string;
  image?: string;
  args?: string[];
}

/** A RabbitmqCluster, as far as the demo reads it. */
export interface Cluster {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    annotations?: Record<string, string>;
    [key: string]: unknown;
  };
  spec: {
    rabbitmq?: { additionalConfig?: string; advancedConfig?: string };
    override?: { statefulSet?: { spec?: { template?: { spec?: { containers?: Container[] } } } } };
    [key: string]: unknown;
  };
}

export interface Admission {
  patch: Operation[];
  warnings: string[];
  object: Cluster;
}

/** The RabbitmqCluster of a manifest of this repository. */
export function readCluster(path: string): Cluster {
  const documents = parseAllDocuments(readFileSync(join(HOME, path), 'utf8')).map(
    (document) => document.toJS() as Cluster,
  );
  const cluster = documents.find((object) => object.kind === 'RabbitmqCluster');
  if (cluster === undefined) throw new Error(`${path} has no RabbitmqCluster`);
  return cluster;
}

/** The object as the API server completes it before it asks webhooks. */
export function asStored(object: Cluster): Cluster {
  const system = {
    namespace: 'openstack',
    uid: randomUUID(),
    generation: 1,
    creationTimestamp: new Date().toISOString(),
  };
  return { ...object, metadata: { ...system, ...object.metadata } };
}

/** Sends the review for a CREATE, or for an UPDATE when `oldObject` is given, and applies the answer's patch. */
export async function admit(
  webhook: { url: string; ca: string },
  object: Cluster,
  oldObject?: Cluster,
): Promise<Admission> {
  const uid = randomUUID();
  const kind = { group: 'rabbitmq.com', version: 'v1beta1', kind: 'RabbitmqCluster' };
  const resource = { group: 'rabbitmq.com', version: 'v1beta1', resource: 'rabbitmqclusters' };
  const operation = oldObject === undefined ? 'CREATE' : 'UPDATE';
  const review = {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid,
      kind,
      resource,
      requestKind: kind,
      requestResource: resource,
      name: object.metadata.name,
      namespace: object.metadata.namespace,
      operation,
      userInfo: { username: 'kubernetes-admin', groups: ['system:masters', 'system:authenticated'] },
      object,
      oldObject: oldObject ?? null,
      dryRun: false,
      options: {
        apiVersion: 'meta.k8s.io/v1',
        kind: oldObject === undefined ? 'CreateOptions' : 'UpdateOptions',
      },
    },
  };
  const answer = (await post(webhook, JSON.stringify(review))) as {
    apiVersion?: string;
    kind?: string;
    response?: {
      uid?: string;
      allowed?: boolean;
      status?: { message?: string };
      patch?: string;
      patchType?: string;
      warnings?: string[];
    };
  };
  const { response } = answer;
  if (answer.kind !== 'AdmissionReview' || answer.apiVersion !== review.apiVersion || response?.uid !== uid) {
    throw new Error(`the webhook's answer is not the review's: ${JSON.stringify(answer).slice(0, 300)}`);
  }
  if (response.allowed !== true)
    throw new Error(`the webhook denied: ${response.status?.message ?? 'without a reason'}`);
  const warnings = response.warnings ?? [];
  if (response.patch === undefined) return { patch: [], warnings, object };
  if (response.patchType !== 'JSONPatch')
    throw new Error(`patchType is ${String(response.patchType)}, not JSONPatch`);
  const patch = JSON.parse(Buffer.from(response.patch, 'base64').toString('utf8')) as Operation[];
  const patched = fastJsonPatch.applyPatch(structuredClone(object), patch, true).newDocument;
  return { patch, warnings, object: patched };
}

/** The injected container, or undefined. */
export function proxyContainer(cluster: Cluster): Container | undefined {
  const containers = cluster.spec.override?.statefulSet?.spec?.template?.spec?.containers ?? [];
  return containers.find((container) => container.name === 'amqp-proxy');
}

function post(webhook: { url: string; ca: string }, body: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const outgoing = request(webhook.url, {
      method: 'POST',
      ca: webhook.ca,
      headers,
      agent: false,
      timeout: 10_000,
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error('the webhook did not answer within 10 s')));
    outgoing.on('error', reject);
    outgoing.on('response', (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.on('error', reject);
      incoming.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        if (incoming.statusCode === 200) resolve(JSON.parse(text));
        else reject(new Error(`the webhook answered ${incoming.statusCode}: ${text.slice(0, 300)}`));
      });
    });
    outgoing.end(body);
  });
}
