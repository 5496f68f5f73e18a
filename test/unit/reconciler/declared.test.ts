import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { copy } from '../../../common/kube/json.ts';
import type { Json, JsonObject } from '../../../common/kube/types.ts';
import { difference, merged } from '../../../reconciler/declared.ts';

function after(actual: Json, declared: Json): Json {
  const patch = difference(actual, declared);
  return patch === undefined ? actual : merged(actual, patch);
}

describe('what is declared and what is there', () => {
  it.each<[string, Json, Json]>([
    ['the same in another order', { a: 1, b: { c: [1, 2] } }, { b: { c: [1, 2] }, a: 1 }],
    ['less', { a: 1, b: { c: 1, d: 2 } }, { b: { d: 2 } }],
    ['nothing', { a: 1 }, {}],
    ['null, which declares nothing', { a: 1 }, { a: null, b: null }],
    [
      'the same amount',
      { limits: { cpu: '1000m', memory: '1Gi' } },
      { limits: { cpu: 1, memory: '1024Mi' } },
    ],
    ['the same amount of storage', { storage: '10Gi' }, { storage: '10240Mi' }],
    [
      'an entry with less, in another place',
      { containers: [{ name: 'a', x: 1, y: 2 }, { name: 'b' }] },
      { containers: [{ name: 'b' }, { name: 'a', y: 2 }] },
    ],
    [
      'an element with what the API server adds',
      { ports: [{ port: 1, protocol: 'TCP' }] },
      { ports: [{ port: 1 }] },
    ],
    [
      'probes of RabbitMQ where the proxy is',
      { containers: [{ name: 'rabbitmq', readinessProbe: { exec: {} } }, { name: 'amqp-proxy' }] },
      { containers: [{ name: 'rabbitmq', readinessProbe: { tcpSocket: {} } }] },
    ],
    [
      'the same where it is a native sidecar',
      { containers: [{ name: 'rabbitmq', startupProbe: 1 }], initContainers: [{ name: 'amqp-proxy' }] },
      { containers: [{ name: 'rabbitmq', startupProbe: 2 }] },
    ],
  ])('is no difference: %s', (_name, actual, declared) => {
    expect(difference(actual, declared)).toBeUndefined();
  });

  it.each<[string, Json, Json, Json]>([
    ['another value', { a: 1, b: 2 }, { a: 2 }, { a: 2 }],
    ['a field more, and only that', { a: { b: 1 } }, { a: { b: 1, c: 2 } }, { a: { c: 2 } }],
    ['another amount', { limits: { cpu: '1' } }, { limits: { cpu: '1001m' } }, { limits: { cpu: '1001m' } }],
    ['the same number as a text, where it is no amount', { a: '1' }, { a: 1 }, { a: 1 }],
    ['a list of another length', { a: [1, 2] }, { a: [1] }, { a: [1] }],
    ['an empty object in place of a text', { a: 'x' }, { a: {} }, { a: {} }],
    ['containers, which have to be there, also none', {}, { containers: [] }, { containers: [] }],
    [
      'an entry: with all the others, in their order',
      { containers: [{ name: 'rabbitmq' }, { name: 'a', image: '1', x: 1 }, { name: 'amqp-proxy' }] },
      { containers: [{ name: 'new' }, { name: 'a', image: '2' }] },
      {
        containers: [
          { name: 'rabbitmq' },
          { name: 'a', image: '2', x: 1 },
          { name: 'amqp-proxy' },
          { name: 'new' },
        ],
      },
    ],
    [
      'a second mount of the same volume',
      { volumeMounts: [{ name: 'v', mountPath: '/a' }] },
      { volumeMounts: [{ name: 'v', mountPath: '/b' }] },
      {
        volumeMounts: [
          { name: 'v', mountPath: '/a' },
          { name: 'v', mountPath: '/b' },
        ],
      },
    ],
    [
      'RabbitMQ’s probes where no proxy is',
      { containers: [{ name: 'rabbitmq', readinessProbe: 1 }] },
      { containers: [{ name: 'rabbitmq', readinessProbe: 2 }] },
      { containers: [{ name: 'rabbitmq', readinessProbe: 2 }] },
    ],
  ])('is a difference: %s', (_name, actual, declared, patch) => {
    expect(difference(actual, declared)).toEqual(patch);
  });

  const leaf = fc.oneof(
    fc.integer(),
    fc.constantFrom('1', '1000m', '2Gi', 'x', ''),
    fc.boolean(),
    fc.constant(null),
  );
  const key = fc.constantFrom('a', 'b', 'limits', 'containers', 'env', 'volumeMounts', 'name', 'mountPath');
  const { value: json } = fc.letrec<{ value: Json }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4, withCrossShrink: true },
      leaf,
      fc.dictionary(key, tie('value'), { maxKeys: 4 }),
      fc.array(tie('value'), { maxLength: 3 }),
    ),
  }));

  it('is none after the patch, which touches nothing that is not declared', () => {
    const objects = fc.dictionary(key, json) as fc.Arbitrary<JsonObject>;
    fc.assert(
      fc.property(objects, objects, (actual, declared) => {
        const [before, wish] = [copy(actual), copy(declared)];
        const result = after(before, wish);
        expect([before, wish]).toEqual([actual, declared]);
        expect(difference(result, wish)).toBeUndefined();
        const others = Object.keys(actual).filter((each) => !(each in declared));
        for (const each of others) expect((result as JsonObject)[each]).toEqual(actual[each]);
      }),
      { numRuns: 500 },
    );
  });
});
