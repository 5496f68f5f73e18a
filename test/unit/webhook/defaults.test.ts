import { describe, expect, it } from 'vitest';
import { ANNOTATION } from '../../../common/contract.ts';
import { defaultRabbitMq } from '../../../webhook/defaults.ts';
import type { Json, KubeObject } from '../../../common/kube/types.ts';
import { validate } from '../../../webhook/validate.ts';

function rabbitMq(
  target: string | undefined,
  queueType: string | undefined,
  status?: Record<string, Json>,
): KubeObject {
  return {
    apiVersion: 'rabbitmq.openstack.org/v1beta1',
    kind: 'RabbitMq',
    metadata: {
      name: 'r',
      namespace: 'n',
      ...(target !== undefined && { annotations: { [ANNOTATION.targetVersion]: target } }),
    },
    spec: { replicas: 3, ...(queueType !== undefined && { queueType }) },
    ...(status !== undefined && { status }),
  };
}

const NEW = undefined;
const ON_3 = { currentVersion: '3.9' };
const ON_4 = { currentVersion: '4.2' };

type Row = [
  what: string,
  old: Record<string, Json> | undefined,
  target: string | undefined,
  given: string | undefined,
  expected: string | undefined,
  reason: string,
];

describe('the queue type of RabbitMqs', () => {
  it.each<Row>([
    ['a new object without one', NEW, undefined, undefined, 'Quorum', 'queue-type-default'],
    ['a new object with an empty one', NEW, '3.9', '', 'Quorum', 'queue-type-default'],
    ['a new object that says Mirrored', NEW, '3.9', 'Mirrored', 'Mirrored', 'nothing-to-default'],
    ['a new object that says Mirrored for 4.x', NEW, '4.0', 'Mirrored', 'Quorum', 'queue-type-forced'],
    ['a new object without one for 4.x', NEW, '4.2.1', undefined, 'Quorum', 'queue-type-forced'],
    ['an object on 3.x without one', ON_3, undefined, undefined, undefined, 'nothing-to-default'],
    ['an object on 3.x that says Mirrored', ON_3, undefined, 'Mirrored', 'Mirrored', 'nothing-to-default'],
    ['an object on 3.x that gets a 4.x target', ON_3, '4.2', 'Mirrored', 'Quorum', 'queue-type-forced'],
    [
      'an object on 3.x without one that gets a 4.x target',
      ON_3,
      '4.2',
      undefined,
      'Quorum',
      'queue-type-forced',
    ],
    [
      'an object on 3.x that says None and gets a 5.x target',
      ON_3,
      '5.0',
      'None',
      'Quorum',
      'queue-type-forced',
    ],
    ['an object on 3.x that gets a 3.x target', ON_3, '3.13', 'Mirrored', 'Mirrored', 'nothing-to-default'],
    ['an object on 4.x that says Mirrored', ON_4, undefined, 'Mirrored', 'Quorum', 'queue-type-forced'],
    ['an object on 4.x without one', ON_4, undefined, undefined, 'Quorum', 'queue-type-forced'],
    ['an object that says Quorum', ON_3, '4.2', 'Quorum', 'Quorum', 'nothing-to-default'],
    [
      'an unknown value, which is for the validating side',
      NEW,
      '4.2',
      'quorum',
      'quorum',
      'nothing-to-default',
    ],
  ])('of %s', async (_what, status, target, given, expected, reason) => {
    const { default: jsonPatch } = await import('fast-json-patch');
    const old = status && rabbitMq(undefined, given, status);
    const object = rabbitMq(target, given);
    const found = defaultRabbitMq(object, old);
    expect(found.reason).toBe(reason);
    const after = jsonPatch.applyPatch(structuredClone(object), found.patch).newDocument;
    expect(after).toEqual({
      ...object,
      spec: { replicas: 3, ...(expected !== undefined && { queueType: expected }) },
    });
    expect(found.warnings).toHaveLength(Number(Boolean(given) && expected !== given));
    expect(defaultRabbitMq(after, old).patch).toEqual([]);
    expect(validate(old, after).errors.map(({ rule }) => rule)).toEqual(
      given === 'quorum' ? ['queue-type'] : [],
    );
  });

  it('is left alone on objects that are being deleted, and on specs that are no objects', () => {
    const deleting = rabbitMq('4.2', 'Mirrored');
    deleting.metadata['deletionTimestamp'] = '2026-01-01T00:00:00Z';
    expect(defaultRabbitMq(deleting, undefined).patch).toEqual([]);
    expect(defaultRabbitMq({ ...rabbitMq('4.2', undefined), spec: 'x' }, undefined).patch).toEqual([]);
  });

  it('is added with the spec where there is none', () => {
    const { spec: _spec, ...object } = rabbitMq(undefined, undefined);
    expect(defaultRabbitMq(object, undefined).patch).toEqual([
      { op: 'add', path: '/spec', value: { queueType: 'Quorum' } },
    ]);
  });
});
