import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RequestError } from '../../../webhook/errors.ts';
import { type Review, readReview } from '../../../webhook/review.ts';
import type { Json } from '../../../common/kube/types.ts';
import { admissionReview, rabbitmqCluster } from './harness.ts';

/** Reads the value as the webhook gets it: through JSON. */
function read(body: unknown): Review {
  return readReview(JSON.parse(JSON.stringify(body)) as Json);
}

function refusal(body: unknown): { reason: string; message: string } {
  try {
    read(body);
  } catch (error) {
    if (error instanceof RequestError) return { reason: error.reason, message: error.message };
    throw error;
  }
  throw new Error('the review was not refused');
}

function outcomeOf(body: unknown): string {
  try {
    return read(body).todo;
  } catch (error) {
    return String(error);
  }
}

const cluster = rabbitmqCluster();

describe('reading an AdmissionReview', () => {
  it('takes what an API server sends and names its subject', () => {
    expect(read(admissionReview(cluster))).toEqual({
      todo: 'decide',
      subject: {
        uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
        operation: 'CREATE',
        kind: 'RabbitmqCluster',
        namespace: 'openstack',
        name: 'rabbitmq',
        dryRun: false,
      },
      object: cluster,
      oldObject: undefined,
    });
  });

  it('takes a StatefulSet, an UPDATE with its old object, and a dry run', () => {
    const set = { apiVersion: 'apps/v1', kind: 'StatefulSet', metadata: { name: 'a' }, spec: {} };
    const kind = { group: 'apps', version: 'v1', kind: 'StatefulSet' };
    const review = read(admissionReview(set, { kind, operation: 'UPDATE', oldObject: set, dryRun: true }));
    expect(review).toMatchObject({ todo: 'decide', oldObject: set, subject: { dryRun: true } });
  });

  it('takes a create by generateName, which has no name yet, and null where Go leaves pointers nil', () => {
    const object = rabbitmqCluster({
      metadata: { name: undefined, generateName: 'rabbit-', annotations: null, ownerReferences: null },
    });
    const review = read(admissionReview(object, { name: '', subResource: '', dryRun: null }));
    expect(review).toMatchObject({ todo: 'decide', subject: { name: undefined, namespace: 'openstack' } });
  });

  it.each<[string, unknown, string, RegExp]>([
    ['null', null, 'NotAnAdmissionReview', /it is null/],
    ['an array', [], 'NotAnAdmissionReview', /it is an array/],
    ['a text', 'hello', 'NotAnAdmissionReview', /it is "hello"/],
    ['another kind', { kind: 'Pod' }, 'NotAnAdmissionReview', /its kind is "Pod"/],
    [
      'v1beta1',
      { ...admissionReview(cluster), apiVersion: 'admission.k8s.io/v1beta1' },
      'UnsupportedReviewVersion',
      /"admission.k8s.io\/v1beta1": set admissionReviewVersions: \[v1\]/,
    ],
    [
      'no request',
      { ...admissionReview(cluster), request: undefined },
      'InvalidReview',
      /^request .* nothing/,
    ],
    ['a request that is a list', { ...admissionReview(cluster), request: [] }, 'InvalidReview', /an array/],
    ['no uid', admissionReview(cluster, { uid: undefined }), 'InvalidReview', /uid/],
    [
      'a number as uid',
      admissionReview(cluster, { uid: 7 }),
      'InvalidReview',
      /^request.uid .*string; it is 7$/,
    ],
    ['an object as uid', admissionReview(cluster, { uid: {} }), 'InvalidReview', /request.uid .* an object/],
    ['an empty uid', admissionReview(cluster, { uid: '' }), 'InvalidReview', /request.uid/],
    ['a huge uid', admissionReview(cluster, { uid: 'u'.repeat(5000) }), 'InvalidReview', /^.{0,250}$/],
    [
      'an unknown operation',
      admissionReview(cluster, { operation: 'PATCH' }),
      'InvalidReview',
      /request.operation .*CREATE.*DELETE.*it is "PATCH"/,
    ],
    ['no kind', admissionReview(cluster, { kind: undefined }), 'InvalidReview', /kind/],
    ['a text as kind', admissionReview(cluster, { kind: 'Pod' }), 'InvalidReview', /request.kind .*"Pod"/],
    ['no object', admissionReview(undefined), 'InvalidReview', /request.object .*missing/],
    ['null as object', admissionReview(null), 'InvalidReview', /request.object .*missing/],
    ['a list as object', admissionReview([]), 'InvalidReview', /request.object .*an array/],
    [
      'a text as old object',
      admissionReview(cluster, { oldObject: 'x' }),
      'InvalidReview',
      /request.oldObject/,
    ],
    ['an object of another kind', admissionReview({ ...cluster, kind: 'Pod' }), 'InvalidReview', /Pod/],
    [
      'an object without metadata',
      admissionReview({ ...cluster, metadata: 1 }),
      'InvalidReview',
      /object.metadata/,
    ],
    [
      'a number as annotation',
      admissionReview(rabbitmqCluster({ metadata: { annotations: { 'a/b~c': 1 } } })),
      'InvalidReview',
      /request\.object\.metadata\.annotations\[a\/b~c\] must be string; it is 1$/,
    ],
    [
      'an owner without a name',
      admissionReview(
        rabbitmqCluster({ metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'A', uid: '1' }] } }),
      ),
      'InvalidReview',
      /request\.object\.metadata\.ownerReferences\[0\] .*name/,
    ],
    [
      'an unknown kind',
      admissionReview({}, { kind: { group: '', version: 'v1', kind: 'Pod' }, object: undefined }),
      'UnknownKind',
      /"v1 Pod".*remove others from the rules/,
    ],
    [
      'a known kind of an unknown version',
      admissionReview(
        { ...cluster, apiVersion: 'rabbitmq.com/v2' },
        { kind: { group: 'rabbitmq.com', version: 'v2', kind: 'RabbitmqCluster' } },
      ),
      'UnknownKind',
      /rabbitmq.com\/v2 RabbitmqCluster/,
    ],
    [
      'a kind called like a method of objects',
      admissionReview(cluster, { kind: { group: '', version: 'v1', kind: 'constructor' } }),
      'UnknownKind',
      /constructor/,
    ],
  ])('refuses %s and says what is wrong', (_what, body, reason, message) => {
    const refused = refusal(body);
    expect(refused.reason).toBe(reason);
    expect(refused.message).toMatch(message);
  });

  it.each<[string, unknown]>([
    ['a DELETE, which carries no object', admissionReview(null, { operation: 'DELETE', oldObject: cluster })],
    ['a DELETE of an unknown kind', admissionReview(null, { operation: 'DELETE', kind: 'x', oldObject: 5 })],
    [
      'an object that waits for its finalizers, whatever else is wrong with it',
      admissionReview(
        {
          metadata: { deletionTimestamp: '2026-01-01T00:00:00Z', annotations: [1], ownerReferences: 'x' },
          spec: 1,
        },
        { operation: 'UPDATE', kind: { group: 'x' }, oldObject: 'x', dryRun: 'x' },
      ),
    ],
  ])('lets pass %s', (_what, body) => {
    expect(read(body)).toMatchObject({ todo: 'pass', reason: 'deleting' });
  });

  it('does not take a null deletionTimestamp, or one of the old object, for a deletion', () => {
    const object = rabbitmqCluster({ metadata: { deletionTimestamp: null } });
    const oldObject = rabbitmqCluster({ metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } });
    expect(read(admissionReview(object, { oldObject })).todo).toBe('decide');
  });

  it('lets pass subresources and CONNECT, which carry other objects', () => {
    const scale = { apiVersion: 'autoscaling/v1', kind: 'Scale', metadata: { name: 'a' }, spec: {} };
    const kind = { group: 'autoscaling', version: 'v1', kind: 'Scale' };
    const subresource = admissionReview(scale, { kind, subResource: 'scale', operation: 'UPDATE' });
    expect(read(subresource)).toMatchObject({ todo: 'pass', reason: 'subresource' });
    expect(read(admissionReview(undefined, { operation: 'CONNECT' }))).toMatchObject({ todo: 'pass' });
  });

  it('denies an object that nests too deeply to be walked, but not its deletion', () => {
    let deep: Json = {};
    for (let i = 0; i < 5000; i++) deep = { a: deep };
    const review = admissionReview(rabbitmqCluster({ spec: { deep } }));
    expect(readReview(review as unknown as Json)).toMatchObject({
      todo: 'deny',
      reason: 'nested-too-deeply',
      code: 422,
    });
    const deleting = admissionReview(
      rabbitmqCluster({ spec: { deep }, metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } }),
    );
    expect(readReview(deleting as unknown as Json).todo).toBe('pass');
  });

  it('answers any JSON with a review or a refusal of bounded length, and throws nothing else', () => {
    const at = fc.constantFrom(
      'uid',
      'kind',
      'operation',
      'object',
      'oldObject',
      'name',
      'namespace',
      'dryRun',
    );
    fc.assert(
      fc.property(fc.jsonValue(), at, fc.jsonValue(), (body, key, value) => {
        const hostile = [
          body,
          { ...admissionReview(cluster), request: body },
          admissionReview(cluster, { [key]: value }),
        ];
        for (const outcome of hostile.map(outcomeOf)) {
          expect(outcome).toMatch(/^(pass|deny|decide|RequestError: .{1,600})$/);
        }
      }),
    );
  });
});
