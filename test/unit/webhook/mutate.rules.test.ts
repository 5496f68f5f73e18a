// What the annotations mode, preset and rules make of the proxy's container and its pod.
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { describe, expect, it } from 'vitest';
import { canonical, fingerprint, named, objectsAt, valueAt } from '../../../common/kube/json.ts';
import type { JsonObject, KubeObject } from '../../../common/kube/types.ts';
import {
  CLUSTER_TEMPLATE,
  ENABLE,
  RECONFIGURED,
  allowed,
  annotated,
  cluster,
  denied,
  proxyOf,
  rabbitmq,
  statefulSet,
} from './objects.ts';

const OWN_VOLUME = { name: 'v', emptyDir: {} };
const RULES = { ...ENABLE, 'quorumbridge.io/rules': 'amqp-rules' };
const ALL = { ...RULES, 'quorumbridge.io/mode': 'observe', 'quorumbridge.io/preset': 'celery' };

function templateOf(object: KubeObject): string[] {
  return object.kind === 'StatefulSet' ? ['spec', 'template'] : CLUSTER_TEMPLATE;
}

function podSpecOf(object: KubeObject): JsonObject {
  return valueAt(object, ...templateOf(object), 'spec') as JsonObject;
}

function rulesVolumeOf(object: KubeObject): JsonObject | undefined {
  return named(objectsAt(podSpecOf(object), 'volumes'), 'amqp-proxy-rules');
}

function argsOf(object: KubeObject): string[] {
  return proxyOf(object)['args'] as string[];
}

/** Both kinds, with a volume of their own in the pod. */
const KINDS: [string, KubeObject][] = [
  [
    'a RabbitmqCluster',
    cluster({
      override: {
        statefulSet: { spec: { template: { spec: { containers: [], volumes: [OWN_VOLUME] } } } },
      },
    }),
  ],
  ['a StatefulSet', statefulSet({}, { volumes: [OWN_VOLUME] })],
];

describe.each(KINDS)('%s', (_kind, plain) => {
  it('says mode, preset and rules behind all other arguments, before those of proxy-args', () => {
    const without = argsOf(allowed(plain).object);
    const more = { ...ALL, 'quorumbridge.io/proxy-args': '["--max-connections=9"]' };
    expect(argsOf(allowed(annotated(plain, more)).object)).toEqual([
      ...without,
      '--mode=observe',
      '--preset=celery',
      '--rules=/etc/quorumbridge/rules.yaml',
      '--max-connections=9',
    ]);
  });

  it('says mode pool, and its options behind it', () => {
    const more = {
      ...ENABLE,
      'quorumbridge.io/mode': 'pool',
      'quorumbridge.io/proxy-args': '["--resume", "--max-upstream-connections=20"]',
    };
    expect(argsOf(allowed(annotated(plain, more)).object)).toEqual([
      ...argsOf(allowed(plain).object),
      '--mode=pool',
      '--resume',
      '--max-upstream-connections=20',
    ]);
  });

  it("mounts the ConfigMap's key read-only, by a volume at the end of the pod's", () => {
    const { object } = allowed(annotated(plain, RULES));
    expect(objectsAt(podSpecOf(object), 'volumes').at(0)).toEqual(OWN_VOLUME);
    expect(objectsAt(podSpecOf(object), 'volumes').at(-1)).toEqual({
      name: 'amqp-proxy-rules',
      configMap: {
        name: 'amqp-rules',
        defaultMode: 420,
        items: [{ key: 'rules.yaml', path: 'rules.yaml' }],
      },
    });
    expect(proxyOf(object)['volumeMounts']).toEqual([
      { name: 'amqp-proxy-rules', mountPath: '/etc/quorumbridge', readOnly: true },
    ]);
  });

  it('finds another key under the same path', () => {
    const { object } = allowed(
      annotated(plain, { ...ENABLE, 'quorumbridge.io/rules': 'site.rules/nova.json' }),
    );
    expect(rulesVolumeOf(object)?.['configMap']).toEqual({
      name: 'site.rules',
      defaultMode: 420,
      items: [{ key: 'nova.json', path: 'rules.yaml' }],
    });
    expect(argsOf(object)).toContain('--rules=/etc/quorumbridge/rules.yaml');
  });

  it('loses all of it when the annotations go, without a warning', () => {
    const stored = allowed(annotated(plain, ALL)).object;
    const result = allowed(annotated(stored, ENABLE), { oldObject: stored });
    expect(result.object).toEqual(allowed(plain).object);
    expect(result.warnings).toEqual(allowed(plain).warnings);
  });

  it('gives the volumes back as they were when the proxy is taken out, others that came meanwhile included', () => {
    const stored = allowed(annotated(plain, RULES)).object;
    const grown = structuredClone(stored);
    (podSpecOf(grown)['volumes'] as JsonObject[]).push({ name: 'later' });
    expect(podSpecOf(allowed(annotated(stored, RECONFIGURED)).object)['volumes']).toEqual([OWN_VOLUME]);
    expect(podSpecOf(allowed(annotated(grown, RECONFIGURED)).object)['volumes']).toEqual([
      OWN_VOLUME,
      { name: 'later' },
    ]);
  });

  it.each<[string, (volume: JsonObject) => JsonObject[]]>([
    ['taken out', () => []],
    ['pointed at another ConfigMap', (volume) => [{ ...volume, configMap: { name: 'other' } }]],
    ['made an emptyDir', ({ name }) => [{ name: name!, emptyDir: {} }]],
  ])('has its volume put back when it was %s by hand, with a warning', (_edit, edit) => {
    const stored = allowed(annotated(plain, RULES)).object;
    const broken = structuredClone(stored);
    const volumes = objectsAt(podSpecOf(broken), 'volumes');
    podSpecOf(broken)['volumes'] = volumes.flatMap((volume) =>
      volume['name'] === 'amqp-proxy-rules' ? edit(volume) : [volume],
    );
    const result = allowed(broken, { oldObject: stored });
    expect(result.object).toEqual(stored);
    expect(result.warnings).toContain(
      'volume amqp-proxy-rules was edited by hand and is put back: use the annotation quorumbridge.io/rules',
    );
    expect(rulesVolumeOf(allowed(annotated(broken, RECONFIGURED)).object)).toBeUndefined();
  });

  it('has a volume that was changed along with its annotation, and says nothing', () => {
    const stored = allowed(annotated(plain, RULES)).object;
    const other = { ...ENABLE, 'quorumbridge.io/rules': 'other' };
    const changed = annotated(structuredClone(stored), other);
    (rulesVolumeOf(changed)!['configMap'] as JsonObject)['name'] = 'other';
    const result = allowed(changed, { oldObject: stored });
    expect(result.object).toEqual(allowed(annotated(plain, other)).object);
    expect(result.warnings).toEqual(allowed(plain).warnings);
  });

  it('is denied rules where there is a volume of that name, and has it left alone without', () => {
    const object = structuredClone(plain);
    (podSpecOf(object)['volumes'] as JsonObject[]).push({ name: 'amqp-proxy-rules', emptyDir: {} });
    const result = denied(annotated(object, RULES));
    expect(result.code).toBe(409);
    expect(result.message).toContain('there is a volume named amqp-proxy-rules that was not injected');
    expect(result.path).toEqual([...templateOf(object), 'spec', 'volumes']);
    const without = allowed(object).object;
    expect(rulesVolumeOf(without)).toEqual({ name: 'amqp-proxy-rules', emptyDir: {} });
    expect(rulesVolumeOf(allowed(annotated(without, RECONFIGURED)).object)).toBeDefined();
  });

  it('is not locked out by what a webhook left that does not know of rules', () => {
    const stored = allowed(annotated(plain, RULES)).object;
    // Such a webhook writes container and status as without the annotation, and leaves the volume where it is.
    const seen = structuredClone(allowed(plain).object);
    (podSpecOf(seen)['volumes'] as JsonObject[]).push(rulesVolumeOf(stored)!);
    expect(allowed(annotated(seen, RULES)).object).toEqual(stored);
    expect(rulesVolumeOf(allowed(annotated(seen, RECONFIGURED)).object)).toBeUndefined();
  });

  it('keeps its rules while the RabbitMq can not be read, also when an operator drops them', () => {
    const quiet = annotated(plain, { 'quorumbridge.io/rules': 'amqp-rules' });
    const required = { state: 'found', rabbitmq: rabbitmq({ proxyRequired: true }) } as const;
    const stored = allowed(quiet, { owner: required }).object;
    const owner = { state: 'unknown', why: 'timeout' } as const;
    for (const object of [quiet, stored]) {
      expect(allowed(object, { oldObject: stored, owner }).object).toEqual(stored);
    }
  });

  it.each([
    ['mode', 'Observe', '"Observe" is not known, expected "transparent" or "observe" or "pool"'],
    ['mode', '', '"" is not known'],
    ['preset', 'nova', '"nova" is not known, expected "generic" or "openstack" or "celery"'],
    ['rules', '', '"" names no ConfigMap, expected NAME or NAME/KEY: the name of a ConfigMap'],
    ['rules', 'Rules', '"Rules" names no ConfigMap'],
    ['rules', 'a..b', 'each part between dots'],
    ['rules', '-a', 'begins and ends with a letter or digit'],
    ['rules', 'a'.repeat(254), 'at most 253'],
    ['rules', 'a/', 'the key of a ConfigMap has 1 to 253'],
    ['rules', 'a/b/c', 'the key of a ConfigMap'],
    ['rules', 'a/..', 'does not begin with ".."'],
    ['rules', 'a/.', 'is not "."'],
    ['rules', 'a/b\n', 'the key of a ConfigMap'],
    ['rules', `a/${'k'.repeat(254)}`, '1 to 253'],
  ])('is denied %s: %j', (key, value, reason) => {
    const result = denied(annotated(plain, { ...ENABLE, [`quorumbridge.io/${key}`]: value }));
    expect(result.code).toBe(422);
    expect(result.path).toEqual(['metadata', 'annotations', `quorumbridge.io/${key}`]);
    expect(result.message).toContain(`metadata.annotations[quorumbridge.io/${key}]: `);
    expect(result.message).toContain(reason);
  });

  it.each(['mode', 'preset', 'rules'])('takes --%s from one place alone', (flag) => {
    const args = { 'quorumbridge.io/proxy-args': `["--log-level=debug", "--${flag}=x"]` };
    const both = denied(annotated(plain, { ...ALL, ...args }));
    expect(both.message).toBe(
      `metadata.annotations[quorumbridge.io/proxy-args]: [1]: --${flag} is given by the annotation ` +
        `quorumbridge.io/${flag} too, take one of them out`,
    );
    expect(argsOf(allowed(annotated(plain, { ...ENABLE, ...args })).object)).toContain(`--${flag}=x`);
  });
});

describe('without these annotations', () => {
  // Another value of one of these would replace the pods of every cluster that a newer webhook sees.
  it.each([
    ['rabbitmqcluster', '972da4051c20a9e2'],
    ['statefulset', 'a7c3eb05088a1c16'],
  ])('the sample %s is injected as it was before there were any, octet by octet', (name, expected) => {
    const sample = new URL(`../../../manifests/samples/${name}.yaml`, import.meta.url);
    const { object } = allowed(parse(readFileSync(sample, 'utf8')) as KubeObject);
    expect(fingerprint(canonical(object))).toBe(expected);
  });
});
