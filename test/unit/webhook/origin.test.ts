// What the infra-operator, which put such a proxy into its clusters first, tests about the injection, run on ours.
// docs/injection.md ("What the origin tests") says where the rest is.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { defaultRabbitMq } from '../../../webhook/defaults.ts';
import { valueAt } from '../../../common/kube/json.ts';
import type { JsonObject, KubeObject } from '../../../common/kube/types.ts';
import { validate } from '../../../webhook/validate.ts';
import {
  ENABLE,
  IMAGE,
  RECONFIGURED,
  advancedOf,
  allowed,
  annotated,
  cluster,
  containersOf,
  proxyOf,
  rabbitmq,
  statefulSet,
} from './objects.ts';

const TLS = { tls: { secretName: 'rabbitmq-tls' } };
const UPGRADING = { upgradePhase: 'WaitingForCluster', currentVersion: '3.9' };

function behind(
  status: JsonObject,
  spec: JsonObject = {},
  annotations: JsonObject = {},
): { owner: { state: 'found'; rabbitmq: KubeObject } } {
  return { owner: { state: 'found', rabbitmq: rabbitmq(status, spec, annotations) } };
}

function namesOf(object: KubeObject): unknown[] {
  return containersOf(object).map(({ name }) => name);
}

function hasProxy(object: KubeObject, more: Parameters<typeof allowed>[1] = {}): boolean {
  return namesOf(allowed(object, more).object).includes('amqp-proxy');
}

function args(spec: JsonObject, annotations: JsonObject = ENABLE): string[] {
  return proxyOf(allowed(cluster(spec, annotations)).object)['args'] as string[];
}

const listens = (all: string[]): string[] => all.filter((arg) => arg.startsWith('--listen='));

describe('whether there is a proxy, as the origin decides it', () => {
  const quorum = { queueType: 'Quorum' };
  it.each<[string, boolean, JsonObject, JsonObject?, JsonObject?]>([
    ['yes: proxyRequired is true', true, { proxyRequired: true }],
    ['yes: proxyRequired is "True", as a text', true, { proxyRequired: 'True' }],
    [
      'yes: an upgrade from 3.x to 4.x is under way, with Quorum',
      true,
      UPGRADING,
      { ...quorum, targetVersion: '4.2' },
    ],
    [
      'no: an upgrade from 4.0 to 4.2',
      false,
      { ...UPGRADING, currentVersion: '4.0' },
      { ...quorum, targetVersion: '4.2' },
    ],
    ['no: the queue type is not Quorum', false, UPGRADING, { queueType: 'Mirrored', targetVersion: '4.2' }],
    ['no: the target is not 4.x', false, UPGRADING, { ...quorum, targetVersion: '3.13' }],
    ['no: there is no target', false, UPGRADING, quorum],
    ['yes: enable-proxy, without an upgrade', true, {}, {}, ENABLE],
    ['no: clients-reconfigured, whatever the status says', false, { proxyRequired: true }, {}, RECONFIGURED],
    ['no: proxyRequired is false', false, { proxyRequired: false }],
    ['no: proxyRequired is "False", as a text', false, { proxyRequired: 'False' }],
    [
      'no: Quorum on 4.x already, in a phase',
      false,
      { ...UPGRADING, currentVersion: '4.2', queueType: 'Quorum' },
      { ...quorum, targetVersion: '4.2' },
    ],
  ])('%s', (_, expected, status, spec, annotations) => {
    expect(hasProxy(cluster({}, {}), behind(status, spec, annotations))).toBe(expected);
  });
});

describe('what is injected, as the origin has it', () => {
  it('a container amqp-proxy with an image, RabbitMQ behind it at 5673, 5671 with the TLS files mounted', () => {
    const proxy = proxyOf(allowed(cluster(TLS)).object);
    expect(proxy).toMatchObject({ name: 'amqp-proxy', image: IMAGE });
    expect(proxy['args']).toEqual(
      expect.arrayContaining([
        '--backend=127.0.0.1:5673',
        '--listen=amqps://0.0.0.0:5671',
        '--tls-cert=/etc/rabbitmq-tls/tls.crt',
        '--tls-key=/etc/rabbitmq-tls/tls.key',
      ]),
    );
    expect(proxy['volumeMounts']).toEqual([
      { name: 'rabbitmq-tls', mountPath: '/etc/rabbitmq-tls', readOnly: true },
    ]);
  });

  it('RabbitMQ listens at 127.0.0.1:5673', () => {
    expect(advancedOf(allowed(cluster()).object)).toContain('{tcp_listeners,[{"127.0.0.1",5673}]}');
  });

  it.each<[string, JsonObject, JsonObject, string[], string]>([
    ['plain, IPv4', {}, {}, ['--listen=amqp://0.0.0.0:5672'], '127.0.0.1'],
    ['plain, IPv6', {}, { 'quorumbridge.io/backend-host': '::1' }, ['--listen=amqp://[::]:5672'], '[::1]'],
    [
      'TLS alone: one port',
      { tls: { ...TLS.tls, disableNonTLSListeners: true } },
      {},
      ['--listen=amqps://0.0.0.0:5671'],
      '127.0.0.1',
    ],
  ])('listens and connects: %s', (_, spec, annotations, listen, backend) => {
    const all = args(spec, { ...ENABLE, ...annotations });
    expect(listens(all)).toEqual(listen);
    expect(all).toContain(`--backend=${backend}:5673`);
  });

  it('TLS arguments and the mount if and only if there is TLS', () => {
    for (const spec of [{}, TLS]) {
      const proxy = proxyOf(allowed(cluster(spec)).object);
      const isTls = spec === TLS;
      expect((proxy['args'] as string[]).some((arg) => arg.startsWith('--tls-'))).toBe(isTls);
      expect(Object.hasOwn(proxy, 'volumeMounts')).toBe(isTls);
    }
  });

  it('two containers during an upgrade, amqp-proxy among them', () => {
    const more = behind(UPGRADING, { queueType: 'Quorum', targetVersion: '4.2' });
    for (const object of [cluster({}, {}), statefulSet({}, {}, {})])
      expect(namesOf(allowed(object, more).object)).toEqual(['rabbitmq', 'amqp-proxy']);
  });

  it('clients-reconfigured takes the sidecar out: RabbitMQ is alone again', () => {
    const plain = statefulSet({ image: 'rabbitmq:4.2' });
    const { object } = allowed(annotated(allowed(plain).object, RECONFIGURED));
    expect(containersOf(object)).toEqual([{ name: 'rabbitmq', image: 'rabbitmq:4.2' }]);
    const gone = allowed(annotated(allowed(cluster()).object, RECONFIGURED)).object;
    expect(containersOf(gone)).toEqual([]);
  });
});

describe('the steps of the origin that concern the proxy, on a cluster', () => {
  it('migration of the queue type: none while Mirrored; there when required; gone by the annotation', () => {
    const before = cluster({}, {});
    expect(allowed(before, behind({ currentVersion: '3.9' }, { queueType: 'Mirrored' })).patch).toEqual([]);
    const required = { proxyRequired: true, currentVersion: '4.2', upgradePhase: '' };
    const { object } = allowed(before, behind(required, { queueType: 'Quorum' }));
    expect(namesOf(object)).toContain('amqp-proxy');
    const done = allowed(object, behind(required, { queueType: 'Quorum' }, RECONFIGURED)).object;
    expect(namesOf(done)).toEqual([]);
    expect(valueAt(done, 'spec', 'rabbitmq')).toBeUndefined();
  });

  it('upgrade of a Mirrored one: Quorum is forced, which passes validation, and then there is a proxy', () => {
    const old = rabbitmq({ currentVersion: '3.9' }, { queueType: 'Mirrored' });
    const asked = rabbitmq({ currentVersion: '3.9' }, { queueType: 'Mirrored', targetVersion: '4.2' });
    expect(validate(old, asked).errors.map(({ rule }) => rule)).toEqual(['queue-type-4']);
    const { reason, patch } = defaultRabbitMq(asked, old);
    expect(reason).toBe('queue-type-forced');
    expect(patch).toEqual([{ op: 'replace', path: '/spec/queueType', value: 'Quorum' }]);
    const forced = rabbitmq(UPGRADING, { queueType: 'Quorum', targetVersion: '4.2' });
    expect(validate(old, forced).errors).toEqual([]);
    expect(hasProxy(cluster({}, {}), { owner: { state: 'found', rabbitmq: forced } })).toBe(true);
  });

  it('upgrade from 3.9 with Quorum: there in the phases, and after them while it is required', () => {
    const spec = { queueType: 'Quorum', targetVersion: '4.2' };
    for (const upgradePhase of ['DeletingResources', 'WaitingForPods', 'WaitingForCluster'])
      expect(hasProxy(cluster({}, {}), behind({ ...UPGRADING, upgradePhase }, spec))).toBe(true);
    const done = { currentVersion: '4.2', upgradePhase: '' };
    expect(hasProxy(cluster({}, {}), behind({ ...done, proxyRequired: true }, spec))).toBe(true);
    expect(hasProxy(cluster({}, {}), behind(done, spec))).toBe(false);
  });

  it('upgrade without TLS: the first port is 5672, and no argument names a certificate', () => {
    const proxy = proxyOf(allowed(cluster()).object);
    expect((proxy['ports'] as JsonObject[])[0]).toMatchObject({ containerPort: 5672 });
    expect((proxy['args'] as string[]).join(' ')).not.toContain('tls-cert');
  });

  it('coexistence: a RabbitmqCluster without a RabbitMq is left untouched', () => {
    expect(allowed(cluster(TLS, {})).patch).toEqual([]);
  });
});

describe('docs/injection.md, "What the origin tests"', () => {
  it('names files of tests that are there', () => {
    const doc = readFileSync(new URL('../../../docs/injection.md', import.meta.url), 'utf8');
    const section = doc.split('## What the origin tests\n')[1]!.split('\n## ')[0]!;
    const files = [...section.matchAll(/`(test\/[\w./-]+\.ts)`/g)].map(([, file]) => file!);
    expect(files.length).toBeGreaterThan(3);
    for (const file of files)
      expect(readFileSync(new URL(`../../../${file}`, import.meta.url), 'utf8')).toContain('describe');
  });
});
