import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ANNOTATION, UPGRADE_ANNOTATION } from '../../../common/contract.ts';
import { CONDITION_REASONS } from '../../../reconciler/conditions.ts';
import { plan } from '../../../reconciler/plan.ts';
import type { Observed, Plan } from '../../../reconciler/types.ts';
import * as seen from './observations.ts';

const { observed, rabbitmq, cluster, statefulSet, pod, record, backup, settings } = seen;

const holding = { vhost: '/', name: 'orders', messages: 3 };
const full = {
  state: 'known',
  version: '3.10.8',
  running: 1,
  nodes: 1,
  holding: [holding],
  messages: 3,
  queues: 1,
} as const;

/** Observations of every kind, possible or not. */
const anything: fc.Arbitrary<Observed> = (() => {
  const uid = fc.constantFrom('old', 'new', 'other');
  const phase = fc.constantFrom('', 'DeletingResources', 'WaitingForPods', 'WaitingForCluster');
  const version = fc.constantFrom('', '3.9', '3.10', '4.0', '4.2', '4.2.1', '4.3');
  const queueType = fc.constantFrom('Mirrored', 'Quorum', 'None', undefined);
  const target = fc.constantFrom('3.9', '4.2', '4.2.1', '4.3', 'nonsense', undefined);
  const someRecord = fc.record({
    clusterUid: uid,
    isOwned: fc.boolean(),
    newClusterUid: fc.option(uid, { nil: undefined }),
    importedAt: fc.constantFrom(undefined, '2026-11-21T11:59:58Z'),
    backup: fc.constantFrom(undefined, backup, { ...backup, sha256: 'b'.repeat(64) }),
    to: fc.constantFrom('4.2', '4.3'),
    reason: fc.constantFrom('VersionUpgrade', 'QueueTypeMigration') as fc.Arbitrary<'VersionUpgrade'>,
  });
  const annotations = fc.uniqueArray(
    fc.tuple(
      fc.constantFrom(
        ANNOTATION.clientsReconfigured,
        ANNOTATION.targetVersion,
        UPGRADE_ANNOTATION.approved,
        UPGRADE_ANNOTATION.acceptDataLoss,
      ),
      fc.constantFrom('true', 'false'),
    ),
    { selector: ([key]) => key },
  );
  const someRabbitMq = fc
    .record({
      phase,
      version,
      status: queueType,
      queueType,
      target,
      record: fc.option(someRecord, { nil: undefined }),
      isDeleting: fc.boolean(),
      isPaused: fc.boolean(),
      hasFinalizer: fc.boolean(),
      proxyRequired: fc.boolean(),
      annotations,
      described: fc.boolean(),
    })
    .map((given) =>
      rabbitmq(
        {
          target: given.target === undefined ? undefined : { text: given.target, from: 'annotation' },
          queueType: given.queueType,
          isDeleting: given.isDeleting,
          isPaused: given.isPaused,
          hasFinalizer: given.hasFinalizer,
          annotations: Object.fromEntries(given.annotations),
          object: seen.object(given.described ? { replicas: 1 } : {}),
        },
        {
          upgradePhase: given.phase,
          currentVersion: given.version,
          queueType: given.status ?? '',
          proxyRequired: given.proxyRequired,
          upgrade: given.record && ({ ...record, ...given.record } as typeof record),
        },
      ),
    );
  const someCluster = fc.record({
    uid,
    isDeleting: fc.boolean(),
    isOwned: fc.boolean(),
    sequence: fc.constantFrom(undefined, 1, 2),
    inject: fc.constantFrom(undefined, 'true', 'false'),
    hasProxy: fc.boolean(),
    hasWipeAnnotation: fc.boolean(),
    allReplicasReady: fc.boolean(),
    image: fc.constantFrom(undefined, 'rabbitmq:3.10.8-management', 'rabbitmq@sha256:1234'),
  });
  const since = fc.constantFrom(undefined, { since: new Date('2026-11-21T11:00:00Z'), graceSeconds: 60 });
  const somePod = fc.record({
    isReady: fc.boolean(),
    hasSkipLabel: fc.boolean(),
    hasProxy: fc.boolean(),
    deleting: since,
  });
  return fc
    .record({
      rabbitmq: someRabbitMq,
      cluster: fc.option(someCluster, { nil: undefined }),
      statefulSet: fc.option(fc.record({ clusterUid: uid, readyReplicas: fc.constantFrom(0, 1) }), {
        nil: undefined,
      }),
      pods: fc.array(somePod, { maxLength: 3 }),
      defaultUser: fc.constantFrom<Observed['defaultUser']>(
        { state: 'absent' },
        { state: 'unusable', why: 'has no password' },
        { state: 'usable', ownerUid: 'old', isAsSaved: true },
        { state: 'usable', ownerUid: undefined, isAsSaved: true },
        { state: 'usable', ownerUid: undefined, isAsSaved: false },
      ),
      backup: fc.constantFrom<Observed['backup']>(
        { state: 'absent' },
        { state: 'incomplete', why: 'chunk 1 is missing' },
        { state: 'complete', record: backup },
      ),
      broker: fc.constantFrom<Observed['broker']>(
        full,
        { ...full, holding: [], messages: 0, queues: 0 },
        {
          state: 'unknown',
          why: 'refused',
        },
      ),
      hasMirrorPolicy: fc.boolean(),
      rehearsal: fc.constantFrom<Observed['rehearsal']>(
        { state: 'accepted' },
        { state: 'not tried' },
        { state: 'refused', why: 'an invalid override' },
      ),
      topology: fc.constantFrom<Observed['topology']>(
        { state: 'not read' },
        { state: 'not wanted' },
        { state: 'missing', why: 'there is no ConfigMap shop' },
        { state: 'found', file: 'shop/messaging.yaml', text: '', sha256: 'a' },
      ),
      now: fc.constantFrom(seen.NOW, new Date('2026-11-21T13:00:00Z')),
    })
    .map((given) =>
      observed({
        ...given,
        cluster: given.cluster && cluster(given.cluster),
        statefulSet: given.statefulSet && statefulSet(given.statefulSet),
        pods: given.pods.map((each, i) => pod({ ...each, name: `rabbitmq-server-${i}` })),
      }),
    );
})();

/** Close to a deletion, with a few things otherwise: what is made of nothing but chance is hardly ever there. */
const nearDeletion: fc.Arbitrary<Observed> = fc
  .tuple(
    anything,
    fc.subarray([
      'cluster',
      'pods',
      'backup',
      'broker',
      'now',
      'hasMirrorPolicy',
      'rehearsal',
      'rabbitmq',
    ] as const),
  )
  .map(([other, parts]) => {
    const changed = Object.fromEntries(parts.map((part) => [part, other[part]]));
    return seen.aboutToDelete(changed);
  });

describe('every plan', () => {
  const each = (check: (observation: Observed, planned: Plan) => void): void => {
    fc.assert(
      fc.property(fc.oneof(anything, nearDeletion), (observation) =>
        check(observation, plan(observation, settings)),
      ),
      { numRuns: 20_000 },
    );
  };

  it('deletes now and then, or these tests show nothing', () => {
    const steps = fc.sample(nearDeletion, 2000).map((each) => plan(each, settings).step.do);
    expect(steps.filter((step) => step === 'delete cluster').length).toBeGreaterThan(20);
  });

  it('deletes a cluster only when it is the recorded one and all of it is saved, or with the RabbitMq that owns it', () => {
    each(
      (
        { rabbitmq: { status, isDeleting, annotations }, cluster: there, backup: kept, broker, pods },
        { step },
      ) => {
        if (step.do !== 'delete cluster') return;
        const isWithOwner = isDeleting && there?.isOwned === true;
        const isSaved =
          status.upgradePhase === 'DeletingResources' &&
          status.upgrade?.clusterUid === step.uid &&
          kept.state === 'complete' &&
          kept.record.sha256 === status.upgrade.backup?.sha256;
        const mayLose =
          annotations[UPGRADE_ANNOTATION.acceptDataLoss] === 'true' ||
          (broker.state === 'known' && broker.queues === 0);
        const isRight = there?.uid === step.uid && pods.every((one) => one.hasSkipLabel);
        expect(isRight && (isWithOwner || (isSaved && mayLose))).toBe(true);
      },
    );
  });

  it('makes a cluster only where there is none', () => {
    each(({ cluster: there }, { step }) => {
      expect(step.do === 'create cluster' && there !== undefined).toBe(false);
    });
  });

  it('does nothing to a paused RabbitMq', () => {
    each(({ rabbitmq: { isPaused } }, { step }) => {
      expect(isPaused && step.do !== 'wait').toBe(false);
    });
  });

  it('enters phases in their order alone', () => {
    const order = ['', 'DeletingResources', 'WaitingForPods', 'WaitingForCluster', ''];
    each(({ rabbitmq: { status } }, { step }) => {
      const to = step.do === 'write status' ? step.status['upgradePhase'] : undefined;
      const from = status.upgradePhase;
      const isForth =
        to === undefined ||
        to === from ||
        order.indexOf(to as string, order.indexOf(from) + 1) === order.indexOf(from) + 1;
      const isCalledOff = to === '' && from === 'DeletingResources';
      expect(isForth || isCalledOff).toBe(true);
    });
  });

  it('says what it waits for, and nothing that is not in the table of reasons', () => {
    each((_observation, { conditions }) => {
      const unknown = conditions.filter(
        ({ type, reason }) => !Object.hasOwn(CONDITION_REASONS[type], reason),
      );
      const types = conditions.map(({ type }) => type);
      expect(unknown).toEqual([]);
      expect(new Set(types).size).toBe(types.length);
      expect(conditions.every(({ message }) => message.length > 0 && message.length <= 2000)).toBe(true);
    });
  });
});
