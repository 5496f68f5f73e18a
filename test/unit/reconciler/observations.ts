// Observations for tests of the plan: a cluster of 3.10 with one node that is well, and what an upgrade makes of it.
import type { KubeObject } from '../../../common/kube/types.ts';
import type {
  BackupRecord,
  Observed,
  ObservedCluster,
  ObservedPod,
  ObservedRabbitMq,
  ObservedStatefulSet,
  PlanSettings,
  UpgradeRecord,
} from '../../../reconciler/types.ts';

export const NOW = new Date('2026-11-21T12:00:00Z');

export const settings: PlanSettings = {
  requireApproval: false,
  wipePolicy: 'refuse',
  readyTimeoutMs: 1_800_000,
  defaultVersion: '4.2',
};

export const backup: BackupRecord = {
  secret: 'rabbitmq-upgrade-1',
  sha256: 'a'.repeat(64),
  takenAt: '2026-11-21T11:59:50Z',
  messages: 0,
  queues: 0,
};

export const record: UpgradeRecord = {
  sequence: 1,
  from: '3.10',
  to: '4.2',
  reason: 'VersionUpgrade',
  clusterUid: 'old',
  replicas: 1,
  isOwned: false,
  proxyBefore: false,
  gracePeriodSeconds: 60,
  startedAt: '2026-11-21T11:59:00Z',
  phaseStartedAt: '2026-11-21T11:59:00Z',
};

export const saved: UpgradeRecord = { ...record, backup };

export function rabbitmq(
  changes: Partial<Omit<ObservedRabbitMq, 'status'>> = {},
  status: Partial<ObservedRabbitMq['status']> = {},
): ObservedRabbitMq {
  return {
    namespace: 'openstack',
    name: 'rabbitmq',
    uid: 'rabbitmq-uid',
    resourceVersion: '1',
    generation: 1,
    isDeleting: false,
    isPaused: false,
    hasFinalizer: true,
    target: { text: '4.2', from: 'annotation' },
    specTarget: undefined,
    queueType: 'Quorum',
    replicas: 1,
    annotations: { 'rabbitmq.openstack.org/target-version': '4.2' },
    object: object({}),
    ...changes,
    status: {
      currentVersion: '3.10',
      queueType: 'Quorum',
      upgradePhase: '',
      wipeReason: '',
      proxyRequired: false,
      upgrade: undefined,
      upgradeSequence: 0,
      messagingTopology: undefined,
      ...status,
    },
  };
}

export function object(spec: KubeObject['metadata']): KubeObject {
  return {
    apiVersion: 'rabbitmq.openstack.org/v1beta1',
    kind: 'RabbitMq',
    metadata: { namespace: 'openstack', name: 'rabbitmq', uid: 'rabbitmq-uid', resourceVersion: '1' },
    spec,
  };
}

export function cluster(changes: Partial<ObservedCluster> = {}): ObservedCluster {
  return {
    uid: 'old',
    isDeleting: false,
    generation: 1,
    observedGeneration: 1,
    replicas: 1,
    image: 'rabbitmq:3.10.8-management',
    version: '3.10.8',
    allReplicasReady: true,
    sequence: undefined,
    inject: undefined,
    hasWipeAnnotation: false,
    hasProxy: false,
    isOwned: false,
    gracePeriodSeconds: 60,
    object: {
      apiVersion: 'rabbitmq.com/v1beta1',
      kind: 'RabbitmqCluster',
      metadata: { namespace: 'openstack', name: 'rabbitmq', uid: 'old' },
      spec: {},
    },
    ...changes,
  };
}

/** The one that the upgrade made. */
export function newCluster(changes: Partial<ObservedCluster> = {}): ObservedCluster {
  const made = { uid: 'new', sequence: 1, inject: 'true', hasProxy: true, hasWipeAnnotation: true };
  return cluster({ ...made, image: 'rabbitmq:4.2-management', version: '4.2', ...changes });
}

export function statefulSet(changes: Partial<ObservedStatefulSet> = {}): ObservedStatefulSet {
  return {
    uid: 'set',
    isDeleting: false,
    clusterUid: 'old',
    isCurrent: true,
    replicas: 1,
    readyReplicas: 1,
    updatedReplicas: 1,
    currentRevision: 'r1',
    updateRevision: 'r1',
    hasProxy: false,
    ...changes,
  };
}

export function pod(changes: Partial<ObservedPod> = {}): ObservedPod {
  return {
    name: 'rabbitmq-server-0',
    uid: 'pod',
    ip: '10.0.0.1',
    isReady: true,
    deleting: undefined,
    hasSkipLabel: false,
    hasProxy: false,
    ...changes,
  };
}

/** Before the upgrade, with everything in order. */
export function observed(changes: Partial<Observed> = {}): Observed {
  return {
    now: NOW,
    rabbitmq: rabbitmq(),
    cluster: cluster(),
    statefulSet: statefulSet(),
    pods: [pod()],
    claims: [{ name: 'persistence-rabbitmq-server-0', isBound: true, isDeleting: false, owners: [] }],
    defaultUser: { state: 'usable', ownerUid: 'old', isAsSaved: undefined },
    backup: { state: 'absent' },
    broker: { state: 'known', version: '3.10.8', running: 1, nodes: 1, holding: [], messages: 0, queues: 0 },
    hasMirrorPolicy: false,
    rehearsal: { state: 'accepted' },
    topology: { state: 'not wanted' },
    ...changes,
  };
}

/** In DeletingResources, with everything saved and the pods labelled: the cluster is about to be deleted. */
export function aboutToDelete(changes: Partial<Observed> = {}): Observed {
  return observed({
    rabbitmq: rabbitmq({}, { upgradePhase: 'DeletingResources', upgrade: saved, proxyRequired: true }),
    pods: [pod({ hasSkipLabel: true })],
    defaultUser: { state: 'usable', ownerUid: 'old', isAsSaved: true },
    backup: { state: 'complete', record: backup },
    ...changes,
  });
}

/** In WaitingForPods, with nothing of the old cluster left. */
export function emptied(changes: Partial<Observed> = {}): Observed {
  return observed({
    rabbitmq: rabbitmq({}, { upgradePhase: 'WaitingForPods', upgrade: saved, proxyRequired: true }),
    cluster: undefined,
    statefulSet: undefined,
    pods: [],
    claims: [],
    defaultUser: { state: 'absent' },
    ...changes,
  });
}

/** In WaitingForCluster, with everything but the last writes done. */
export function comeBack(changes: Partial<Observed> = {}, upgrade: Partial<UpgradeRecord> = {}): Observed {
  const known = { ...saved, newClusterUid: 'new', importedAt: '2026-11-21T11:59:58Z', ...upgrade };
  return observed({
    rabbitmq: rabbitmq({}, { upgradePhase: 'WaitingForCluster', upgrade: known, proxyRequired: true }),
    cluster: newCluster(),
    statefulSet: statefulSet({ clusterUid: 'new', hasProxy: true }),
    pods: [pod({ hasProxy: true })],
    defaultUser: { state: 'usable', ownerUid: 'new', isAsSaved: true },
    backup: { state: 'complete', record: backup },
    broker: { state: 'unknown', why: 'it was not asked' },
    ...changes,
  });
}
