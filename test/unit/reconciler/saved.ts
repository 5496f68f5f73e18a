// What backups in tests are made of.
import { createHash, randomBytes } from 'node:crypto';
import { RABBITMQ } from '../../../common/kube/resources.ts';
import type { JsonObject, KubeObject } from '../../../common/kube/types.ts';
import type { BackupContent } from '../../../reconciler/backup.ts';
import { sha256Of } from '../../../reconciler/broker/definitions.ts';
import { DEFINITION_KINDS, countDefinitions } from '../../../reconciler/broker/kinds.ts';
import type { UpgradeRecord } from '../../../reconciler/types.ts';

export const NAMESPACE = 'openstack';
export const NAME = 'rabbit';

/** Definitions with so many queues, each with an argument that no compression makes smaller. */
export function definitionsOf(queues: number, noise = 0): JsonObject {
  const names = Array.from({ length: queues }, (_, at) => ({
    name: `reply_${createHash('md5').update(String(at)).digest('hex')}`,
    vhost: '/',
    durable: true,
    auto_delete: false,
    arguments: noise === 0 ? {} : { noise: randomBytes(noise).toString('base64') },
  }));
  const empty = Object.fromEntries(DEFINITION_KINDS.map((kind) => [kind, []]));
  return { rabbitmq_version: '3.10.8', ...empty, queues: names };
}

export function rabbitmqOf(uid = 'uid-of-rabbitmq'): KubeObject {
  return {
    apiVersion: `${RABBITMQ.group}/${RABBITMQ.version}`,
    kind: RABBITMQ.kind,
    metadata: { namespace: NAMESPACE, name: NAME, uid },
  };
}

export function secretOf(password: string, username = 'default_user_x'): KubeObject {
  const encode = (text: string): string => Buffer.from(text).toString('base64');
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { namespace: NAMESPACE, name: `${NAME}-default-user` },
    data: {
      username: encode(username),
      password: encode(password),
      'default_user.conf': encode(`default_user = ${username}\ndefault_pass = ${password}\n`),
      port: encode('5672'),
    },
  };
}

export function recordOf(sequence = 1): UpgradeRecord {
  return {
    sequence,
    from: '3.10',
    to: '4.0',
    reason: 'VersionUpgrade',
    clusterUid: 'uid-of-cluster',
    replicas: 1,
    isOwned: false,
    proxyBefore: false,
    gracePeriodSeconds: 60,
    startedAt: '2026-11-21T12:00:00Z',
    phaseStartedAt: '2026-11-21T12:00:00Z',
  };
}

export function contentOf(definitions: JsonObject, more: Partial<BackupContent> = {}): BackupContent {
  const text = JSON.stringify(definitions);
  return {
    rabbitmq: rabbitmqOf(),
    cluster: {
      apiVersion: 'rabbitmq.com/v1beta1',
      kind: 'RabbitmqCluster',
      metadata: {
        namespace: NAMESPACE,
        name: NAME,
        uid: 'uid-of-cluster',
        resourceVersion: '7',
        labels: { mine: 'yes' },
        managedFields: [{ manager: 'kubectl' }],
      },
      spec: { replicas: 3, rabbitmq: { additionalConfig: 'vm_memory_high_watermark.relative = 0.5' } },
      status: { conditions: [] },
    },
    defaultUser: secretOf('old password'),
    record: recordOf(),
    now: new Date('2026-11-21T12:01:00Z'),
    definitions: {
      text,
      sha256: sha256Of(text),
      brokerVersion: '3.10.8',
      counts: countDefinitions(definitions),
    },
    inventory: { messages: 7, holding: [{ vhost: '/', name: 'orders', messages: 7 }] },
    ...more,
  };
}
