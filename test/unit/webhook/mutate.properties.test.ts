import fastJsonPatch from 'fast-json-patch';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonical, copy, isObject, valueAt } from '../../../common/kube/json.ts';
import type { Json, JsonObject, KubeObject } from '../../../common/kube/types.ts';
import {
  CLUSTER_TEMPLATE,
  RECONFIGURED,
  allowed,
  annotated,
  clusters,
  pass,
  rabbitmq,
  statefulSets,
} from './objects.ts';

/** Objects that get the proxy; the few that are refused (a configuration with no place for it) are not of interest here. */
function injectable(objects: fc.Arbitrary<KubeObject>): fc.Arbitrary<KubeObject> {
  return objects.filter((object) => pass(object).allowed);
}

function injected(object: KubeObject): KubeObject {
  const result = pass(object);
  if (!result.allowed) throw new Error(result.message);
  return result.object;
}

function removed(object: KubeObject): KubeObject {
  return injected(annotated(object, RECONFIGURED));
}

/** Takes the tombstone away, and the maps above it that are there for it alone. */
function withoutTombstone(object: KubeObject, original: KubeObject): KubeObject {
  const result = copy(object);
  const path = [...CLUSTER_TEMPLATE, 'metadata', 'annotations'];
  const annotations = valueAt(result, ...path) as JsonObject;
  expect(annotations['quorumbridge.io/status']).toBe('{"state":"removed","version":1}');
  delete annotations['quorumbridge.io/status'];
  for (let depth = path.length; depth > 1; depth--) {
    const holder = valueAt(result, ...path.slice(0, depth - 1)) as JsonObject;
    const key = path[depth - 1]!;
    const before = valueAt(original, ...path.slice(0, depth));
    const value = holder[key];
    if (isObject(before) || !isObject(value) || Object.keys(value).length > 0) break;
    if (before === null) holder[key] = null;
    else delete holder[key];
  }
  return result;
}

/** The same value with every object's keys in reverse order. */
function reordered<T>(value: T): T {
  if (Array.isArray(value)) return value.map(reordered) as T;
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, inner]) => [key, reordered(inner)] as const);
  return Object.fromEntries(entries.reverse()) as T;
}

const RUNS = { numRuns: 300 };

describe.each([
  ['a RabbitmqCluster', clusters],
  ['a StatefulSet', statefulSets],
])('injecting into %s', (_kind, objects) => {
  it('changes nothing the second time', () => {
    fc.assert(
      fc.property(injectable(objects), (object) => {
        const once = injected(object);
        const twice = pass(once);
        expect(twice).toMatchObject({ allowed: true, patch: [] });
        expect(pass(once, { oldObject: once })).toMatchObject({
          allowed: true,
          patch: [],
          warnings: twice.warnings,
        });
      }),
      RUNS,
    );
  });

  it('gives a patch that makes exactly the object, and leaves the input alone', () => {
    fc.assert(
      fc.property(injectable(objects), (object) => {
        const before = JSON.stringify(object);
        const result = pass(object);
        if (!result.allowed) throw new Error(result.message);
        expect(JSON.stringify(object)).toBe(before);
        const patched = fastJsonPatch.applyPatch(copy(object), result.patch, true).newDocument;
        expect(patched).toEqual(result.object);
      }),
      RUNS,
    );
  });

  it('gives the same bytes for the same input, and the same value whatever the order of keys', () => {
    fc.assert(
      fc.property(injectable(objects), (object) => {
        expect(JSON.stringify(pass(copy(object)))).toBe(JSON.stringify(pass(object)));
        expect(canonical(injected(reordered(object)))).toBe(canonical(injected(object)));
        const once = injected(object);
        expect(pass(reordered(once))).toMatchObject({ allowed: true, patch: [] });
      }),
      RUNS,
    );
  });

  it('is undone value for value, and a second removal changes nothing', () => {
    fc.assert(
      fc.property(injectable(objects), (object) => {
        const undone = removed(injected(object));
        const expected = annotated(object, RECONFIGURED);
        const actual = object.kind === 'RabbitmqCluster' ? withoutTombstone(undone, object) : undone;
        expect(actual).toEqual(expected);
        expect(pass(undone)).toMatchObject({ allowed: true, patch: [] });
        // Through the removed state the way leads back to the same injection, but for what the tombstone keeps in being.
        expect(removed(injected(annotated(undone, object.metadata['annotations'] as JsonObject)))).toEqual(
          undone,
        );
      }),
      RUNS,
    );
  });

  it('happens again, byte for byte, when an operator writes its own object over it', () => {
    fc.assert(
      fc.property(injectable(objects), (object) => {
        const stored = injected(object);
        const again = pass(object, { oldObject: stored });
        expect(again.allowed && canonical(again.object)).toBe(canonical(stored));
      }),
      RUNS,
    );
  });

  it('stays as it is while the RabbitMq behind it can not be read, whoever writes over it', () => {
    const required = { state: 'found', rabbitmq: rabbitmq({ proxyRequired: true }) } as const;
    const unknown = { state: 'unknown', why: 'timeout' } as const;
    fc.assert(
      fc.property(injectable(objects), (object) => {
        const { 'rabbitmq.openstack.org/enable-proxy': _, ...others } = object.metadata[
          'annotations'
        ] as JsonObject;
        const plain = annotated(object, others);
        const stored = allowed(plain, { owner: required }).object;
        for (const written of [plain, stored, annotated(stored, {})]) {
          const kept = allowed(written, { oldObject: stored, owner: unknown });
          expect(kept.decision.inject).toBe('keep');
          expect(canonical(kept.object)).toBe(canonical({ ...stored, metadata: written.metadata }));
        }
      }),
      RUNS,
    );
  });

  it('follows its annotations, whatever it was injected with before', () => {
    fc.assert(
      fc.property(injectable(objects), injectable(objects), (object, other) => {
        const annotations = other.metadata['annotations'] as JsonObject;
        const changed = annotated(injected(object), annotations);
        const result = allowed(changed, { oldObject: injected(object) });
        expect(canonical(result.object)).toBe(canonical(injected(annotated(object, annotations))));
        expect(result.warnings.join()).not.toContain('by hand');
      }),
      RUNS,
    );
  });

  it('is left alone where nothing asks for it and it never was there', () => {
    fc.assert(
      fc.property(objects, (object) => {
        const plain = annotated(object, {});
        const result = pass(plain, { oldObject: plain });
        expect(result).toMatchObject({
          allowed: true,
          patch: [],
          decision: { inject: 'no', reason: 'not-required' },
        });
        expect(result.allowed && result.object).toBe(plain);
      }),
      RUNS,
    );
  });
});

describe('whatever an object holds', () => {
  it('is answered, never thrown at', () => {
    const places = [
      'spec',
      'spec.override',
      'spec.override.statefulSet',
      'spec.rabbitmq',
      'spec.rabbitmq.advancedConfig',
      'spec.tls',
      'spec.template',
      'spec.template.spec',
      'spec.template.spec.containers',
      'spec.template.spec.volumes',
      'spec.template.metadata',
      'spec.template.metadata.annotations',
      'metadata.annotations',
      'metadata.ownerReferences',
      'spec.override.statefulSet.spec.template.spec.containers',
      'spec.resources',
    ];
    fc.assert(
      fc.property(
        fc.oneof(clusters, statefulSets),
        fc.boolean(),
        fc.constantFrom(...places),
        fc.json({ maxDepth: 3 }).map((text) => JSON.parse(text) as Json),
        (object, isInjected, place, junk) => {
          const target = copy(isInjected && pass(object).allowed ? injected(object) : object);
          const steps = place.split('.');
          const key = steps.pop()!;
          const holder = valueAt(target, ...steps);
          fc.pre(isObject(holder));
          if (isObject(holder)) holder[key] = junk;
          for (const annotations of [undefined, RECONFIGURED]) {
            const subject = annotations === undefined ? target : annotated(target, annotations);
            const result = pass(subject, { oldObject: object });
            const patched = fastJsonPatch.applyPatch(
              copy(subject),
              result.allowed ? result.patch : [],
            ).newDocument;
            expect(patched).toEqual(result.allowed ? result.object : subject);
            expect(result.allowed ? 'spec' : result.message).toMatch(/^(?:spec|metadata)/);
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});
