// The image of a RabbitmqCluster against the version that runs: what an old manifest puts back after an upgrade.
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { JsonObject, KubeObject } from '../../../common/kube/types.ts';
import { imageWarnings } from '../../../webhook/downgrade.ts';
import { examine } from '../../../webhook/examine.ts';
import { Refusal } from '../../../webhook/refusal.ts';
import type { OwnerFacts } from '../../../webhook/types.ts';
import { boundWarnings } from '../../../webhook/answer.ts';
import {
  CLUSTER_TEMPLATE,
  ENABLE,
  IMAGE,
  allowed,
  cluster,
  denied,
  rabbitmq,
  statefulSet,
} from './objects.ts';

const ALLOW = { 'quorumbridge.io/allow-downgrade': 'true' };
const STAMPED = { 'quorumbridge.io/upgrade': '2' };
const OLD = 'rabbitmq:3.10-management';
const NEW = 'rabbitmq:4.2-management';
const UNKNOWN: OwnerFacts = { state: 'unknown', why: 'timeout' };
const ABSENT: OwnerFacts = { state: 'absent' };

function of(image: string | undefined, annotations: JsonObject = {}): KubeObject {
  return cluster(image === undefined ? {} : { image }, annotations);
}

/** With an image of the override's for RabbitMQ's container. */
function overriding(image: string, own: string, annotations: JsonObject = {}): KubeObject {
  const containers = [
    { name: 'metrics', image: OLD },
    { name: 'rabbitmq', image: own },
    { name: 'rabbitmq', image: OLD },
  ];
  const override = { statefulSet: { spec: { template: { spec: { containers } } } } };
  return cluster({ image, override }, annotations);
}

function governed(status: JsonObject): OwnerFacts {
  return { state: 'found', rabbitmq: rabbitmq(status) };
}

const RUNS_4_2 = governed({ currentVersion: '4.2', upgradePhase: '' });
const RUNS_3_10 = governed({ currentVersion: '3.10', upgradePhase: '' });

/** What is said about the image that is written over another. */
function warned(object: KubeObject, oldObject: KubeObject, owner: OwnerFacts): string[] {
  return allowed(object, { oldObject, owner }).warnings;
}

describe('an image of an older version than runs', () => {
  it('is denied with the field, the image, both versions and the ways out', () => {
    expect(denied(of(OLD), { oldObject: of(NEW), owner: RUNS_4_2 })).toMatchObject({
      code: 422,
      path: ['spec', 'image'],
      message:
        `spec.image: "${OLD}" is RabbitMQ 3.10, older than 4.2, which runs, and can't read its storage: ` +
        'name an image of 4.2 or later, or set the annotation quorumbridge.io/allow-downgrade: "true"',
    });
  });

  it('is denied in objects that ask for the proxy and in those that opt out of it', () => {
    for (const annotations of [ENABLE, { 'quorumbridge.io/inject': 'false' }]) {
      const stored = allowed(of(NEW, annotations), { owner: RUNS_4_2 }).object;
      const back = { ...stored, spec: { ...(stored['spec'] as JsonObject), image: OLD } };
      expect(denied(back, { oldObject: stored, owner: RUNS_4_2 }).message).toContain('older than 4.2');
      expect(denied(of(OLD, annotations), { oldObject: stored, owner: RUNS_4_2 }).code).toBe(422);
    }
  });

  it('is denied where the stored image tells no version, or there is none', () => {
    const bare = { ...of(undefined), status: { conditions: [{ type: 'AllReplicasReady', status: 'True' }] } };
    for (const stored of [of('rabbitmq:latest'), bare])
      expect(denied(of(OLD), { oldObject: stored, owner: RUNS_4_2 }).code).toBe(422);
  });

  it('is the cluster operator’s choice where it fills in the image of a new cluster, which has stored nothing', () => {
    expect(warned(of(OLD), of(undefined), RUNS_4_2)).toEqual([]);
  });

  it.each<[string, string, string, boolean]>([
    ['4.2', NEW, 'rabbitmq:4.1.9-management', true],
    ['4.2.3', 'rabbitmq:4.2.3', 'rabbitmq:4.2.1', false],
    ['4.2.3', 'rabbitmq:4.2.3', 'rabbitmq:4.2', false],
    ['4.2', NEW, 'rabbitmq:4.10', false],
    ['4.2', NEW, 'registry.example:5000/a/rabbitmq:v3.13.7@sha256:' + '0a'.repeat(32), true],
    ['4.2', NEW, 'rabbitmq@sha256:' + '0a'.repeat(32), false],
    ['4.2', NEW, 'rabbitmq:latest', false],
    ['4.2', NEW, 'mine/rabbitmq:1.4', false],
    ['4.2', NEW, 'mine/rabbitmq:3.7', false],
    ['4.2', NEW, 'mine/rabbitmq:3.8', true],
    ['4.2', NEW, '', false],
    ['', NEW, OLD, false],
    ['four', NEW, OLD, false],
  ])('where %s runs, %s becomes %s: denied %s', (currentVersion, before, after, isDenied) => {
    const owner = governed({ currentVersion });
    const isRefused = !isAllowed(of(after), of(before), owner);
    expect(isRefused).toBe(isDenied);
  });

  it('is told by the image of RabbitMQ’s container in the override, where there is one', () => {
    const result = denied(overriding(NEW, OLD), { oldObject: overriding(NEW, NEW), owner: RUNS_4_2 });
    expect(result.path).toEqual([...CLUSTER_TEMPLATE, 'spec', 'containers', 1, 'image']);
    expect(result.message).toContain('spec.template.spec.containers[1].image: "rabbitmq:3.10-management" is');
    expect(warned(overriding(OLD, NEW), overriding(NEW, NEW), RUNS_4_2)).toEqual([]);
    // Taking the override's away leaves the other.
    expect(denied(of(OLD), { oldObject: overriding(OLD, NEW), owner: RUNS_4_2 }).path).toEqual([
      'spec',
      'image',
    ]);
  });

  it('is allowed by the annotation with exactly "true", with a warning', () => {
    expect(warned(of(OLD, ALLOW), of(NEW), RUNS_4_2)).toEqual([
      `spec.image: "${OLD}" is RabbitMQ 3.10, older than 4.2, which runs, and can't read its storage: ` +
        'allowed by the annotation quorumbridge.io/allow-downgrade',
    ]);
    const yes = { 'quorumbridge.io/allow-downgrade': 'yes' };
    const result = denied(of(OLD, yes), { oldObject: of(NEW, ALLOW), owner: RUNS_4_2 });
    expect(result.warnings).toEqual([
      'annotation quorumbridge.io/allow-downgrade: "yes" is ignored, expected "true" or "false"',
    ]);
  });

  it('is warned about where it is stored already, so that everything else can be written', () => {
    const [warning] = warned(of(OLD, { note: 'x' }), of(OLD), RUNS_4_2);
    expect(warning).toContain('is RabbitMQ 3.10, older than 4.2, which runs');
    const { admission, warnings } = examine({ object: of(OLD), owner: RUNS_4_2, settings: { image: IMAGE } });
    expect([admission, warnings]).toEqual([{ would: 'change nothing' }, [warning]]);
    // As long as API servers let warnings be.
    expect(boundWarnings([warning!])).toEqual([warning]);
  });

  it('is nothing to object to in a new object, in one that is being deleted, and in a StatefulSet', () => {
    expect(allowed(of(OLD), { owner: RUNS_4_2 }).warnings).toEqual([]);
    const deleting = structuredClone(of(OLD));
    deleting.metadata['deletionTimestamp'] = '2026-11-21T12:00:00Z';
    expect(warned(deleting, of(NEW), RUNS_4_2)).toEqual([]);
    const sets = [OLD, NEW].map((image) => statefulSet({ image }, {}, {})) as [KubeObject, KubeObject];
    expect(warned(...sets, RUNS_4_2)).toEqual([]);
  });
});

describe('an image that is written during an upgrade', () => {
  const under = (upgradePhase: string, to = '4.2') =>
    governed({ currentVersion: '3.10', upgradePhase, upgrade: { sequence: 2, from: '3.10', to } });

  it('is denied on the cluster that the upgrade has made, where it is older than the upgrade’s', () => {
    const result = denied(of(OLD), { oldObject: of(NEW, STAMPED), owner: under('WaitingForCluster') });
    expect(result.message).toContain('older than 4.2, which the upgrade under way leads to, and');
    const owner = under('WaitingForCluster', '4.2.1');
    expect(warned(of('rabbitmq:4.2.0', STAMPED), of('rabbitmq:4.2.1', STAMPED), owner)).toEqual([]);
  });

  it('may be any that the old cluster can have, be it stamped by an earlier upgrade', () => {
    for (const stamp of [{}, { 'quorumbridge.io/upgrade': '1' }]) {
      const owner = under('DeletingResources');
      expect(warned(of('rabbitmq:3.10.2'), of('rabbitmq:3.10.1', stamp), owner)).toEqual([]);
      expect(denied(of('rabbitmq:3.9'), { oldObject: of(OLD, stamp), owner }).code).toBe(422);
      // The new image on a cluster that a GitOps tool has made again.
      expect(warned(of(NEW, stamp), of(OLD, stamp), under('WaitingForCluster'))).toEqual([]);
    }
  });
});

describe('an image without a version to hold it against', () => {
  const older = `spec.image: "${OLD}" is RabbitMQ 3.10, older than 4.2 of the image before: it can't read what a later one has stored`;

  it('is warned about by the stored one’s tag', () => {
    expect(warned(of(OLD), of(NEW), ABSENT)).toEqual([older]);
    expect(warned(of(OLD), of(NEW), governed({}))).toEqual([older]);
    expect(warned(of(OLD), of(OLD), ABSENT)).toEqual([]);
    expect(warned(of(OLD), of('rabbitmq:3.10.8'), ABSENT)).toEqual([]);
    expect(warned(of(OLD), of(undefined), ABSENT)).toEqual([]);
    expect(warned(of('rabbitmq:latest'), of(NEW), ABSENT)).toEqual([]);
  });

  it('is not denied while the RabbitMq can not be read', () => {
    expect(warned(of(OLD), of(NEW), UNKNOWN)).toContain(
      `${older} (not refused, for the RabbitMq could not be read)`,
    );
  });

  it('is warned about where it is not older than what the RabbitMq says, but than the one before', () => {
    expect(warned(of(OLD), of(NEW), RUNS_3_10)).toEqual([older]);
  });
});

describe('a later image', () => {
  it('is warned about where 3.x runs and a RabbitMq could upgrade it', () => {
    expect(warned(of(NEW), of(OLD), RUNS_3_10)).toEqual([
      `spec.image: "${NEW}" is RabbitMQ 4.2, and 3.10 runs, whose storage it may not start on: set the annotation ` +
        'rabbitmq.openstack.org/target-version of the RabbitMq, which upgrades the cluster',
    ]);
    expect(warned(of('rabbitmq:3.10.9'), of(OLD), RUNS_3_10)).toEqual([]);
    expect(warned(of('rabbitmq:4.3'), of(NEW), RUNS_4_2)).toEqual([]);
    expect(warned(of(NEW), of(OLD), ABSENT)).toEqual([]);
    expect(imageWarnings({ object: of(NEW), oldObject: of(OLD), owner: UNKNOWN })).toEqual([]);
  });
});

describe('whatever images and versions there are', () => {
  const images = fc.oneof(
    fc.string(),
    fc
      .tuple(fc.integer({ min: 3, max: 5 }), fc.integer({ min: 0, max: 20 }))
      .map(([major, minor]) => `rabbitmq:${major}.${minor}`),
  );
  const versions = fc.oneof(fc.string(), fc.constantFrom('3.9', '3.10', '4.0', '4.2.1'));

  it('a write that leaves the image is allowed, and so is every one that no RabbitMq governs', () => {
    fc.assert(
      fc.property(images, images, versions, (before, after, currentVersion) => {
        expect(isAllowed(of(before), of(before), governed({ currentVersion }))).toBe(true);
        for (const owner of [ABSENT, UNKNOWN]) {
          expect(isAllowed(of(after), of(before), owner)).toBe(true);
        }
        for (const warning of imageWarnings({ object: of(after), oldObject: of(before), owner: ABSENT })) {
          expect(warning.startsWith('spec.image: ')).toBe(true);
        }
      }),
    );
  });

  it('the version that runs can always be put back', () => {
    fc.assert(
      fc.property(images, fc.constantFrom('3.9', '4.0', '4.2.1'), (before, currentVersion) => {
        const image = `rabbitmq:${currentVersion}`;
        expect(isAllowed(of(image), of(before), governed({ currentVersion }))).toBe(true);
      }),
    );
  });
});

/** Whether the write is allowed. */
function isAllowed(object: KubeObject, oldObject: KubeObject, owner: OwnerFacts): boolean {
  try {
    imageWarnings({ object, oldObject, owner });
    return true;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return false;
  }
}
