// What the reconciler sees of one RabbitMq and its surroundings, and what it may do next. Plain values: `plan` turns the
// former into the latter without asking anybody.
import type { UPGRADE_PHASES } from '../common/contract.ts';
import type { JsonObject, KubeObject } from '../common/kube/types.ts';

export type UpgradePhase = (typeof UPGRADE_PHASES)[number];

/** Why storage is wiped. */
export type WipeReason = 'VersionUpgrade' | 'QueueTypeMigration';

/** `status.upgrade` of a RabbitMq: what an upgrade has to remember. It is written before anything is done about it. */
export interface UpgradeRecord {
  /** Counts the upgrades of this RabbitMq, from 1: everything that an upgrade saves or makes carries it. */
  readonly sequence: number;
  /** Versions as status.currentVersion and the target name them. */
  readonly from: string;
  readonly to: string;
  readonly reason: WipeReason;
  /** metadata.uid of the RabbitmqCluster that is replaced: nothing else is ever deleted. */
  readonly clusterUid: string;
  /** Nodes of that cluster. */
  readonly replicas: number;
  /** Whether the RabbitMq is that cluster's controller: with the one it deletes the other. */
  readonly isOwned: boolean;
  /** status.proxyRequired before the upgrade: what it becomes again when the upgrade is called off. */
  readonly proxyBefore: boolean;
  /** Seconds that its pods may take to end. */
  readonly gracePeriodSeconds: number;
  /** ISO 8601. */
  readonly startedAt: string;
  /** When the phase began that status.upgradePhase names; ISO 8601. */
  readonly phaseStartedAt: string;
  /** Of the definitions that were saved; absent until they are saved and read back. */
  readonly backup?: BackupRecord;
  /** metadata.uid of the RabbitmqCluster that was made in its place. */
  readonly newClusterUid?: string;
  /** When the definitions were brought back; ISO 8601. */
  readonly importedAt?: string;
  /** How many of them came back as they were, otherwise, on purpose not, or were refused by the new broker. */
  readonly definitions?: DefinitionCounts;
  /** When every node was ready and the old credentials were let in; ISO 8601. */
  readonly finishedAt?: string;
}

export interface DefinitionCounts {
  readonly kept: number;
  readonly changed: number;
  readonly dropped: number;
  readonly refused: number;
  /** What was not kept and why, in a few lines; the report has everything. */
  readonly differences: readonly string[];
}

export interface BackupRecord {
  /** The Secret with the index. */
  readonly secret: string;
  /** Of the definitions as they were exported, hexadecimal. */
  readonly sha256: string;
  /** ISO 8601. */
  readonly takenAt: string;
  /** Messages in queues that the wipe loses, and how many queues hold them. */
  readonly messages: number;
  readonly queues: number;
}

/** `status.messagingTopology` of a RabbitMq: what was tried last, so that it is not done again and again. */
export interface TopologyRecord {
  /** Of the file's text, hexadecimal. */
  readonly sha256: string;
  /** metadata.uid of the RabbitmqCluster. */
  readonly clusterUid: string;
  /** Whether everything was declared. */
  readonly isDeclared: boolean;
  /** ISO 8601. */
  readonly triedAt: string;
}

/** The file that spec.messagingTopology names. */
export type ObservedTopology =
  | { readonly state: 'not read' }
  | { readonly state: 'not wanted' }
  /** `why` is one clause for people. */
  | { readonly state: 'missing'; readonly why: string }
  | {
      readonly state: 'found';
      /** CONFIGMAP/KEY, for people. */
      readonly file: string;
      readonly text: string;
      /** Of the text, hexadecimal. */
      readonly sha256: string;
    };

/** The RabbitMq itself, as far as it is read. */
export interface ObservedRabbitMq {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: string;
  readonly generation: number;
  readonly isDeleting: boolean;
  readonly isPaused: boolean;
  readonly hasFinalizer: boolean;
  /** The version that is wanted and where that is said; undefined where nothing is. */
  readonly target: { readonly text: string; readonly from: 'annotation' | 'spec' } | undefined;
  /** spec.targetVersion alone. */
  readonly specTarget: string | undefined;
  readonly queueType: string | undefined;
  readonly replicas: number;
  /** Annotations of UPGRADE_ANNOTATION and ANNOTATION, by their full keys. */
  readonly annotations: Readonly<Record<string, string>>;
  readonly status: {
    readonly currentVersion: string;
    readonly queueType: string;
    readonly upgradePhase: UpgradePhase;
    readonly wipeReason: string;
    readonly proxyRequired: boolean;
    readonly upgrade: UpgradeRecord | undefined;
    /** The sequence of the latest upgrade, also of one that was called off; 0 before the first. */
    readonly upgradeSequence: number;
    readonly messagingTopology: TopologyRecord | undefined;
  };
  /** The whole object, for what is copied from its spec. */
  readonly object: KubeObject;
}

export interface ObservedCluster {
  readonly uid: string;
  readonly isDeleting: boolean;
  readonly generation: number;
  readonly observedGeneration: number;
  readonly replicas: number;
  /** spec.image; undefined where the operator chooses. */
  readonly image: string | undefined;
  /** The version by the operator's annotation, else by the image's tag; undefined where neither tells. */
  readonly version: string | undefined;
  /** The operator's condition AllReplicasReady. */
  readonly allReplicasReady: boolean;
  /** UPGRADE_ANNOTATION.stamp; undefined where it has none. */
  readonly sequence: number | undefined;
  /** ANNOTATION.inject: "true", "false" or undefined. */
  readonly inject: string | undefined;
  readonly hasWipeAnnotation: boolean;
  /** Whether its override has the proxy's container. */
  readonly hasProxy: boolean;
  /** Whether the RabbitMq is its controller. */
  readonly isOwned: boolean;
  readonly gracePeriodSeconds: number;
  readonly object: KubeObject;
}

export interface ObservedStatefulSet {
  readonly uid: string;
  readonly isDeleting: boolean;
  /** metadata.uid of the RabbitmqCluster that controls it. */
  readonly clusterUid: string | undefined;
  readonly isCurrent: boolean;
  readonly replicas: number;
  readonly readyReplicas: number;
  readonly updatedReplicas: number;
  readonly currentRevision: string;
  readonly updateRevision: string;
  readonly hasProxy: boolean;
}

export interface ObservedPod {
  readonly name: string;
  readonly uid: string;
  readonly ip: string | undefined;
  readonly isReady: boolean;
  /** When its deletion was asked for and with how many seconds of grace; undefined while it is not being deleted. */
  readonly deleting: { readonly since: Date; readonly graceSeconds: number } | undefined;
  readonly hasSkipLabel: boolean;
  readonly hasProxy: boolean;
}

export interface ObservedClaim {
  readonly name: string;
  readonly isBound: boolean;
  readonly isDeleting: boolean;
  /** metadata.uid of the objects with which it is collected: the RabbitmqCluster, or the StatefulSet. */
  readonly owners: readonly string[];
}

/** The saved state of the upgrade under way, read back whole. */
export type ObservedBackup =
  | { readonly state: 'absent' }
  /** Something is missing or not what the index says; `why` is one clause for people. */
  | { readonly state: 'incomplete'; readonly why: string }
  | { readonly state: 'complete'; readonly record: BackupRecord };

export type ObservedSecret =
  | { readonly state: 'absent' }
  /** No username or no password in it. */
  | { readonly state: 'unusable'; readonly why: string }
  | {
      readonly state: 'usable';
      /** metadata.uid of the RabbitmqCluster that owns it, where one does. */
      readonly ownerUid: string | undefined;
      /** Whether username and password are those of the backup; undefined while there is none. */
      readonly isAsSaved: boolean | undefined;
    };

/** What the broker's management API told, or why it could not be asked. */
export type ObservedBroker =
  | { readonly state: 'unknown'; readonly why: string }
  | {
      readonly state: 'known';
      readonly version: string;
      /** Nodes that run, and that the cluster knows of. */
      readonly running: number;
      readonly nodes: number;
      /** Queues that hold messages which a wipe loses, the fullest first, at most 20. */
      readonly holding: readonly HoldingQueue[];
      /** All messages and queues of that kind. */
      readonly messages: number;
      readonly queues: number;
    };

export interface HoldingQueue {
  readonly vhost: string;
  readonly name: string;
  /** Persistent messages, ready and unacknowledged, of streams all; undefined where the broker doesn't tell how many. */
  readonly messages: number | undefined;
}

/** Whether the new cluster would be taken, as far as that can be tried before. */
export type Rehearsal =
  | { readonly state: 'not tried' }
  | { readonly state: 'accepted' }
  | { readonly state: 'refused'; readonly why: string };

/** Everything that `plan` reads. What a phase does not need is not asked for, and absent. */
export interface Observed {
  readonly now: Date;
  readonly rabbitmq: ObservedRabbitMq;
  readonly cluster: ObservedCluster | undefined;
  readonly statefulSet: ObservedStatefulSet | undefined;
  readonly pods: readonly ObservedPod[];
  readonly claims: readonly ObservedClaim[];
  /** Secret NAME-default-user. */
  readonly defaultUser: ObservedSecret;
  readonly backup: ObservedBackup;
  readonly broker: ObservedBroker;
  /** Whether the RabbitmqPolicy NAME-ha-all of the topology operator is there. */
  readonly hasMirrorPolicy: boolean;
  readonly rehearsal: Rehearsal;
  readonly topology: ObservedTopology;
}

/** Options that a plan depends on. */
export interface PlanSettings {
  readonly requireApproval: boolean;
  /** What becomes of an upgrade whose wipe loses messages, unless the RabbitMq accepts it. */
  readonly wipePolicy: 'refuse' | 'accept';
  /** Milliseconds that a new cluster may take to be ready. */
  readonly readyTimeoutMs: number;
  /** Version of a new cluster without a target. */
  readonly defaultVersion: string;
}

/** Something to be told by an Event. */
export interface Telling {
  readonly reason: string;
  readonly type: 'Normal' | 'Warning';
  readonly note: string;
}

/** A merge patch of the RabbitMq's status; null takes a field out. */
export type StatusPatch = JsonObject;

/**
 * What is done next: at most one write, or one action that can be done again. A step that is cut off at any point leaves a
 * state from which the next plan goes on.
 */
export type Step =
  /** `afterMs`: when to look again though nothing has changed; absent: when something changes. */
  | { readonly do: 'wait'; readonly afterMs?: number; readonly tell?: readonly Telling[] }
  /** Persists a transition, and then tells of it. */
  | { readonly do: 'write status'; readonly status: StatusPatch; readonly tell: readonly Telling[] }
  /** A merge patch of metadata and spec of the RabbitMq. */
  | { readonly do: 'write RabbitMq'; readonly patch: JsonObject; readonly tell: readonly Telling[] }
  | { readonly do: 'save'; readonly record: UpgradeRecord }
  | { readonly do: 'delete mirror policy' }
  | { readonly do: 'label pods'; readonly pods: readonly string[] }
  | { readonly do: 'delete cluster'; readonly uid: string }
  | { readonly do: 'restore credentials'; readonly record: UpgradeRecord }
  /** `record` is absent for a cluster that was never there before. */
  | { readonly do: 'create cluster'; readonly record: UpgradeRecord | undefined; readonly version: string }
  /** A merge patch of the RabbitmqCluster with that uid. Also an empty one is admitted, and so injected or not. */
  | {
      readonly do: 'patch cluster';
      readonly uid: string;
      readonly patch: JsonObject;
      readonly tell: readonly Telling[];
    }
  | { readonly do: 'import definitions'; readonly record: UpgradeRecord }
  | { readonly do: 'declare topology'; readonly topology: ObservedTopology & { state: 'found' } };

/** A condition as the plan sees it; lastTransitionTime and observedGeneration come when it is written. */
export interface ConditionNow {
  readonly type: ConditionType;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
}

/** What the conditions of a RabbitMq are about. docs/upgrade.md explains each with its reasons. */
export const CONDITION_TYPES = [
  'Ready',
  'Upgrading',
  'UpgradeAllowed',
  'CredentialsPreserved',
  'DefinitionsPreserved',
  'TopologyApplied',
  'ProxyActive',
  'ProxyRemovable',
  'Degraded',
] as const;

export type ConditionType = (typeof CONDITION_TYPES)[number];

export interface Plan {
  readonly step: Step;
  /** Those that are to be said now; others stay as they are. */
  readonly conditions: readonly ConditionNow[];
}
