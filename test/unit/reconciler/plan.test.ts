import { describe, expect, it } from 'vitest';
import { UPGRADE_ANNOTATION } from '../../../common/contract.ts';
import { plan } from '../../../reconciler/plan.ts';
import type { ConditionNow, Observed, Plan, PlanSettings } from '../../../reconciler/types.ts';
import * as seen from './observations.ts';

const { observed, rabbitmq, cluster, newCluster, statefulSet, pod, saved, record, backup, settings } = seen;

function next(observation: Observed, more: Partial<PlanSettings> = {}): Plan {
  return plan(observation, { ...settings, ...more });
}

function said({ conditions }: Plan, type: ConditionNow['type']): ConditionNow | undefined {
  return conditions.find((each) => each.type === type);
}

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

describe('beginning an upgrade', () => {
  it('persists the phase with what it is about, before anything is touched', () => {
    const { step } = next(observed());
    expect(step).toMatchObject({
      do: 'write status',
      status: {
        upgradePhase: 'DeletingResources',
        wipeReason: 'VersionUpgrade',
        proxyRequired: true,
        upgradeSequence: 1,
        upgrade: { sequence: 1, from: '3.10', to: '4.2', clusterUid: 'old', replicas: 1, proxyBefore: false },
      },
      tell: [{ reason: 'UpgradeStarted' }, { reason: 'ProxyEnabled' }],
    });
  });

  it('takes spec.targetVersion for the target, too', () => {
    const asked = rabbitmq({ target: { text: '4.2', from: 'spec' }, specTarget: '4.2', annotations: {} });
    expect(next(observed({ rabbitmq: asked })).step).toMatchObject({
      status: { upgradePhase: 'DeletingResources' },
    });
  });

  it('is a migration where the queue type changes alone', () => {
    const migrating = rabbitmq(
      { target: undefined, annotations: {}, queueType: 'Quorum' },
      { queueType: 'Mirrored', upgradeSequence: 4 },
    );
    expect(next(observed({ rabbitmq: migrating })).step).toMatchObject({
      status: {
        wipeReason: 'QueueTypeMigration',
        proxyRequired: true,
        upgradeSequence: 5,
        upgrade: { from: '3.10', to: '3.10', reason: 'QueueTypeMigration', sequence: 5 },
      },
      tell: [{ reason: 'MigrationStarted' }, { reason: 'ProxyEnabled' }],
    });
  });

  it('is one pass where version and queue type change', () => {
    const both = rabbitmq({ queueType: 'Mirrored' }, { queueType: 'Mirrored' });
    expect(next(observed({ rabbitmq: both })).step).toMatchObject({
      do: 'write RabbitMq',
      patch: { spec: { queueType: 'Quorum' } },
    });
    const forced = rabbitmq({ queueType: 'Quorum' }, { queueType: 'Mirrored' });
    expect(next(observed({ rabbitmq: forced })).step).toMatchObject({
      status: { wipeReason: 'VersionUpgrade' },
    });
  });

  it('does not need the proxy from 4.x on', () => {
    const from4 = rabbitmq({ target: { text: '4.2', from: 'annotation' } }, { currentVersion: '4.0' });
    const broker = { ...full, version: '4.0.5', holding: [], messages: 0, queues: 0 };
    const { step } = next(observed({ rabbitmq: from4, broker }));
    expect(step).toMatchObject({ status: { upgradePhase: 'DeletingResources', proxyRequired: false } });
  });

  it('puts its finalizer on the RabbitMq first', () => {
    const { step } = next(observed({ rabbitmq: rabbitmq({ hasFinalizer: false }) }));
    expect(step).toMatchObject({
      do: 'write RabbitMq',
      patch: { metadata: { resourceVersion: '1', finalizers: ['rabbitmq.openstack.org/amqp-proxy'] } },
    });
  });

  const refusals: [string, Partial<Observed>, string, RegExp, Partial<PlanSettings>?][] = [
    [
      'a downgrade',
      { rabbitmq: rabbitmq({ target: { text: '3.9', from: 'spec' } }) },
      'UnsupportedPath',
      /3\.9/,
    ],
    [
      'a cluster that is going',
      { cluster: cluster({ isDeleting: true }) },
      'ClusterNotHealthy',
      /being deleted/,
    ],
    [
      'a pod that is not ready',
      { pods: [pod({ isReady: false })] },
      'ClusterNotHealthy',
      /rabbitmq-server-0/,
    ],
    ['a node that is missing', { cluster: cluster({ replicas: 3 }) }, 'ClusterNotHealthy', /wants 3 nodes/],
    ['no StatefulSet', { statefulSet: undefined }, 'ClusterNotHealthy', /no StatefulSet/],
    [
      'a cluster the operator calls not ready',
      { cluster: cluster({ allReplicasReady: false }) },
      'ClusterNotHealthy',
      /AllReplicasReady/,
    ],
    [
      'a claim that is not bound',
      { claims: [{ name: 'persistence-0', isBound: false, isDeleting: false, owners: [] }] },
      'StorageNotHealthy',
      /persistence-0 \(not bound\)/,
    ],
    [
      'a claim that is going',
      { claims: [{ name: 'persistence-0', isBound: true, isDeleting: true, owners: [] }] },
      'StorageNotHealthy',
      /being deleted/,
    ],
    [
      'no credentials',
      { defaultUser: { state: 'absent' } },
      'CredentialsMissing',
      /rabbitmq-default-user does not exist/,
    ],
    [
      'half the credentials',
      { defaultUser: { state: 'unusable', why: 'has no password' } },
      'CredentialsMissing',
      /has no password/,
    ],
    [
      'a new cluster that would be refused',
      { rehearsal: { state: 'refused', why: 'spec.override: Invalid value' } },
      'ClusterRefused',
      /Invalid value/,
    ],
    [
      'a new cluster that was not tried',
      { rehearsal: { state: 'not tried' } },
      'ClusterRefused',
      /not tried/,
    ],
    [
      'no answer of the broker',
      { broker: { state: 'unknown', why: 'pod 0: refused' } },
      'BrokerUnreachable',
      /pod 0: refused/,
    ],
    [
      'a broker of another version',
      { broker: { ...full, version: '3.12.1' } },
      'VersionMismatch',
      /3\.12\.1/,
    ],
    [
      'a node that does not run',
      { broker: { ...full, nodes: 3, running: 2 } },
      'ClusterNotHealthy',
      /2 of 3/,
    ],
    [
      'messages that would be lost',
      { broker: full },
      'MessagesWouldBeLost',
      /3 persistent messages in 1 queue .*\/\/orders: 3.*accept-data-loss/,
    ],
    [
      'messages that nobody has counted',
      { broker: { ...full, messages: 0, holding: [{ ...holding, messages: undefined }] } },
      'MessagesNotCounted',
      /not counted the messages of \/\/orders/,
    ],
    [
      'a controller that wants approval',
      {},
      'ApprovalRequired',
      /upgrade-approved/,
      { requireApproval: true },
    ],
    [
      'an annotation that wants approval',
      { rabbitmq: rabbitmq({ annotations: { [UPGRADE_ANNOTATION.approved]: 'false' } }) },
      'ApprovalRequired',
      /upgrade-approved/,
    ],
  ];

  it.each(refusals)('waits, and says why, with %s', (_what, changes, reason, message, more) => {
    const planned = next(observed(changes), more);
    const afterMs = reason === 'MessagesNotCounted' ? 2000 : 15_000;
    expect(planned.step).toMatchObject({ do: 'wait', afterMs });
    expect(said(planned, 'UpgradeAllowed')).toMatchObject({ status: 'False', reason });
    expect(said(planned, 'UpgradeAllowed')?.message).toMatch(message);
    expect(said(planned, 'Upgrading')).toMatchObject({ status: 'False', reason: 'Blocked' });
  });

  it('begins when what was in the way is allowed', () => {
    const accepted = rabbitmq({ annotations: { [UPGRADE_ANNOTATION.acceptDataLoss]: 'true' } });
    const begun = { do: 'write status', status: { upgradePhase: 'DeletingResources' } };
    expect(next(observed({ rabbitmq: accepted, broker: full })).step).toMatchObject(begun);
    expect(next(observed({ broker: full }), { wipePolicy: 'accept' }).step).toMatchObject(begun);
    const approved = rabbitmq({ annotations: { [UPGRADE_ANNOTATION.approved]: 'true' } });
    expect(next(observed({ rabbitmq: approved }), { requireApproval: true }).step).toMatchObject(begun);
  });
});

describe('DeletingResources', () => {
  it('deletes the recorded cluster when all is saved, read back and labelled', () => {
    expect(next(seen.aboutToDelete()).step).toEqual({ do: 'delete cluster', uid: 'old' });
  });

  const before = (changes: Partial<Observed>): Observed => seen.aboutToDelete(changes);
  const unrecorded = rabbitmq({}, { upgradePhase: 'DeletingResources', upgrade: record });

  it.each<[string, Observed, Plan['step'] | object]>([
    ['saves first', before({ backup: { state: 'absent' } }), { do: 'save' }],
    [
      'saves again what is incomplete',
      before({ backup: { state: 'incomplete', why: 'chunk 2 is missing' } }),
      { do: 'save' },
    ],
    [
      'saves again what is old: clients have gone on declaring',
      before({ now: new Date('2026-11-21T12:01:00Z') }),
      { do: 'save' },
    ],
    [
      'records what it has read back',
      before({ rabbitmq: unrecorded }),
      { do: 'write status', status: { upgrade: { backup } }, tell: [{ reason: 'ResourcesSaved' }] },
    ],
    ['deletes the policy that mirrors', before({ hasMirrorPolicy: true }), { do: 'delete mirror policy' }],
    ['labels the pods', before({ pods: [pod()] }), { do: 'label pods', pods: ['rabbitmq-server-0'] }],
    [
      'goes on when the cluster is on its way out',
      before({ cluster: cluster({ isDeleting: true }) }),
      {
        do: 'write status',
        status: { upgradePhase: 'WaitingForPods' },
        tell: [{ reason: 'ClusterDeleted' }],
      },
    ],
    [
      'goes on when the cluster is gone',
      before({ cluster: undefined }),
      { do: 'write status', status: { upgradePhase: 'WaitingForPods' } },
    ],
    [
      'goes on when another has its name already',
      before({ cluster: cluster({ uid: 'other' }) }),
      { do: 'write status', status: { upgradePhase: 'WaitingForPods' } },
    ],
  ])('%s', (_what, observation, step) => {
    expect(next(observation).step).toMatchObject(step);
  });

  it('never deletes while messages would be lost, also those that came since', () => {
    const planned = next(before({ broker: full }));
    expect(planned.step).toMatchObject({ do: 'wait', afterMs: 15_000 });
    expect(said(planned, 'UpgradeAllowed')).toMatchObject({ reason: 'MessagesWouldBeLost' });
  });

  it('never deletes what could not be made again', () => {
    const planned = next(before({ rehearsal: { state: 'refused', why: 'the webhook is away' } }));
    expect(planned.step).toMatchObject({ do: 'wait', afterMs: 15_000 });
    expect(said(planned, 'UpgradeAllowed')).toMatchObject({ reason: 'ClusterRefused' });
  });

  it('never deletes while nobody can tell whether messages would be lost', () => {
    const planned = next(before({ broker: { state: 'unknown', why: 'pod 0: refused' } }));
    expect(planned.step).toMatchObject({ do: 'wait', afterMs: 15_000 });
    expect(said(planned, 'UpgradeAllowed')).toMatchObject({ reason: 'BrokerUnreachable' });
  });

  it('holds when the cluster went before anything was saved, and says how to go on', () => {
    const lost = before({ cluster: undefined, rabbitmq: unrecorded, backup: { state: 'absent' } });
    const planned = next(lost);
    expect(planned.step).toMatchObject({ do: 'wait' });
    expect(said(planned, 'Degraded')).toMatchObject({ status: 'True', reason: 'ClusterVanished' });
    const accepted = { ...unrecorded, annotations: { [UPGRADE_ANNOTATION.acceptDataLoss]: 'true' } };
    expect(next({ ...lost, rabbitmq: accepted }).step).toMatchObject({
      status: { upgradePhase: 'WaitingForPods' },
    });
  });

  it.each<[string, Observed['rabbitmq']['target']]>([
    ['is taken back', undefined],
    ['names another version', { text: '4.3', from: 'annotation' }],
  ])('calls the upgrade off when the target %s', (_what, target) => {
    const status = { upgradePhase: 'DeletingResources', upgrade: saved, proxyRequired: true } as const;
    expect(next(before({ rabbitmq: rabbitmq({ target }, status) })).step).toMatchObject({
      do: 'write status',
      status: { upgradePhase: '', wipeReason: '', upgrade: null, proxyRequired: false },
      tell: [{ reason: 'UpgradeCalledOff' }],
    });
  });
});

describe('a phase that this controller did not begin', () => {
  it.each(['DeletingResources', 'WaitingForPods', 'WaitingForCluster'] as const)(
    'is left alone: %s',
    (upgradePhase) => {
      const planned = next(observed({ rabbitmq: rabbitmq({}, { upgradePhase }) }));
      expect(planned.step).toEqual({ do: 'wait' });
      expect(said(planned, 'Degraded')).toMatchObject({ status: 'True', reason: 'UnknownUpgrade' });
    },
  );
});

describe('WaitingForPods', () => {
  it('goes on when nothing is left', () => {
    expect(next(seen.emptied()).step).toMatchObject({
      do: 'write status',
      status: { upgradePhase: 'WaitingForCluster' },
      tell: [{ reason: 'StorageWipeComplete' }],
    });
  });

  const deleting = { since: new Date('2026-11-21T11:59:30Z'), graceSeconds: 60 };
  it.each<[string, Partial<Observed>, RegExp]>([
    ['the RabbitmqCluster', { cluster: cluster({ isDeleting: true }) }, /RabbitmqCluster rabbitmq/],
    ['the StatefulSet', { statefulSet: statefulSet() }, /StatefulSet rabbitmq-server/],
    ['a pod', { pods: [pod({ deleting })] }, /pod rabbitmq-server-0/],
    [
      'a claim that is going',
      { claims: [{ name: 'persistence-0', isBound: true, isDeleting: true, owners: [] }] },
      /volume claim persistence-0/,
    ],
    [
      'a claim that is still to be collected with the cluster that owned it',
      { claims: [{ name: 'persistence-0', isBound: true, isDeleting: false, owners: ['old'] }] },
      /volume claim persistence-0/,
    ],
  ])('waits for %s, and names it', (_what, changes, named) => {
    const planned = next(seen.emptied(changes));
    expect(planned.step).toMatchObject({ do: 'wait', afterMs: 2000 });
    expect(said(planned, 'Upgrading')?.message).toMatch(named);
    expect(said(planned, 'Degraded')).toMatchObject({ status: 'False' });
  });

  it('goes on with a claim that nobody owns: it stays, and its storage is wiped', () => {
    const claims = [{ name: 'persistence-0', isBound: true, isDeleting: false, owners: [] }];
    expect(next(seen.emptied({ claims })).step).toMatchObject({
      status: { upgradePhase: 'WaitingForCluster' },
    });
  });

  it('names pods that hang once their grace period and a minute are over, and waits on', () => {
    const pods = [pod({ deleting: { since: new Date('2026-11-21T11:57:59Z'), graceSeconds: 60 } })];
    const planned = next(seen.emptied({ pods }));
    expect(planned.step).toMatchObject({ do: 'wait', afterMs: 2000 });
    expect(said(planned, 'Degraded')).toMatchObject({ status: 'True', reason: 'PodsStuck' });
    expect(said(planned, 'Degraded')?.message).toContain('rabbitmq-server-0');
  });

  it('says so when somebody made the cluster again', () => {
    const planned = next(seen.emptied({ cluster: cluster({ uid: 'other' }) }));
    expect(said(planned, 'Degraded')).toMatchObject({ status: 'True', reason: 'ClusterRecreated' });
  });
});

describe('WaitingForCluster', () => {
  const waiting = (changes: Partial<Observed>, upgrade = {}): Observed => seen.comeBack(changes, upgrade);
  const nothing = { cluster: undefined, statefulSet: undefined, pods: [] };

  it.each<[string, Observed, object]>([
    [
      'brings the credentials back first',
      waiting({ ...nothing, defaultUser: { state: 'absent' } }),
      { do: 'restore credentials' },
    ],
    [
      'puts them right where they are others',
      waiting({ ...nothing, defaultUser: { state: 'usable', ownerUid: undefined, isAsSaved: false } }),
      { do: 'restore credentials' },
    ],
    [
      'waits for the old Secret to be collected',
      waiting({ ...nothing, defaultUser: { state: 'usable', ownerUid: 'old', isAsSaved: true } }),
      { do: 'wait' },
    ],
    [
      'waits until a Secret of any other cluster is collected that is gone, too',
      waiting({ ...nothing, defaultUser: { state: 'usable', ownerUid: 'deleted since', isAsSaved: true } }),
      { do: 'wait' },
    ],
    [
      'then makes the cluster',
      waiting({ ...nothing, defaultUser: { state: 'usable', ownerUid: undefined, isAsSaved: true } }),
      { do: 'create cluster', version: '4.2' },
    ],
    [
      'records the new cluster, of which nothing is imported yet',
      waiting({}, { newClusterUid: undefined }),
      {
        do: 'write status',
        status: { upgrade: { newClusterUid: 'new', importedAt: null } },
        tell: [{ reason: 'ClusterCreated' }],
      },
    ],
    [
      'puts the proxy in where admission did not',
      waiting({ cluster: newCluster({ hasProxy: false }) }),
      { do: 'patch cluster', uid: 'new' },
    ],
    [
      'waits for the nodes',
      waiting({ statefulSet: statefulSet({ clusterUid: 'new', readyReplicas: 0 }) }),
      { do: 'wait' },
    ],
    [
      "does not take the old StatefulSet for the new one's",
      waiting({ statefulSet: statefulSet() }),
      { do: 'wait' },
    ],
    ['brings the definitions back', waiting({}, { importedAt: undefined }), { do: 'import definitions' }],
    ['takes the annotation off the cluster', waiting({}), { do: 'patch cluster', uid: 'new' }],
    [
      'is complete',
      waiting({ cluster: newCluster({ hasWipeAnnotation: false }) }),
      {
        do: 'write status',
        status: {
          currentVersion: '4.2',
          queueType: 'Quorum',
          upgradePhase: '',
          wipeReason: '',
          upgrade: null,
        },
        tell: [{ reason: 'UpgradeComplete' }],
      },
    ],
  ])('%s', (_what, observation, step) => {
    expect(next(observation).step).toMatchObject(step);
  });

  it('gives no cluster away whose backup can not be read, and says so', () => {
    const planned = next(waiting({ ...nothing, backup: { state: 'incomplete', why: 'chunk 1 is missing' } }));
    expect(planned.step).toMatchObject({ do: 'wait' });
    expect(said(planned, 'Degraded')).toMatchObject({ reason: 'BackupLost' });
    expect(said(planned, 'Degraded')?.message).toContain('chunk 1 is missing');
  });

  it('says so when somebody else made the cluster, and leaves that one alone', () => {
    const planned = next(waiting({ cluster: cluster({ uid: 'other' }) }));
    expect(planned.step).toMatchObject({ do: 'wait' });
    expect(said(planned, 'Degraded')).toMatchObject({ reason: 'ClusterRecreated' });
  });

  it('says so when the cluster is not ready in time, and goes on when it is', () => {
    const late = waiting(
      { statefulSet: statefulSet({ clusterUid: 'new', readyReplicas: 0 }), pods: [pod({ isReady: false })] },
      { phaseStartedAt: '2026-11-21T11:00:00Z' },
    );
    const planned = next(late);
    expect(planned.step).toMatchObject({ do: 'wait', afterMs: 30_000 });
    expect(said(planned, 'Degraded')).toMatchObject({ status: 'True', reason: 'ClusterNotReadyInTime' });
    const ready = next(waiting({}, { phaseStartedAt: '2026-11-21T11:00:00Z', importedAt: undefined }));
    expect(ready.step).toMatchObject({ do: 'import definitions' });
    expect(said(ready, 'Degraded')).toMatchObject({ status: 'False' });
  });
});
