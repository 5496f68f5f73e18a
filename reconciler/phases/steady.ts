// No upgrade is under way: finds versions out, begins upgrades, keeps the cluster as the RabbitMq says, takes the proxy out.
import { ANNOTATION, FINALIZER, UPGRADE_ANNOTATION } from '../../common/contract.ts';
import type { JsonObject } from '../../common/kube/types.ts';
import { parseVersion } from '../../common/version.ts';
import { clusterChanges, describesCluster, imagePatch, injectPatch } from '../cluster.ts';
import { condition, seconds } from '../conditions.ts';
import { isBrief, refusalOf, targetImage } from '../gates.ts';
import { intentOf } from '../intent.ts';
import { unreadiness } from '../readiness.ts';
import type { ConditionNow, Observed, Plan, PlanSettings, UpgradeRecord, WipeReason } from '../types.ts';
import { isFourOrLater, sameTarget, versionPath } from '../versions.ts';
import { steadyTopology } from './topology.ts';
import { POLL_MS, act, fine, recorded, upgrading, wait, write } from './transition.ts';
import { telling } from '../tellings.ts';

/** What nobody can know of: a cluster of before, without a version in its annotations, image or answers (as the origin has it). */
const OLDEST = '3.9';
const GATE_POLL_MS = 15_000;

export function steady(observed: Observed, settings: PlanSettings): Plan {
  const { rabbitmq, cluster } = observed;
  const { currentVersion } = rabbitmq.status;
  if (cluster === undefined && !describesCluster(rabbitmq.object)) return missing(observed);
  if (currentVersion === '') return detect(observed, settings);
  const isOurs = cluster === undefined || cluster.isOwned;
  if (isOurs && !rabbitmq.hasFinalizer) return finalizer(observed, [...finalizersOf(observed), FINALIZER]);
  if (cluster === undefined) {
    return act({ do: 'create cluster', record: undefined, version: currentVersion }, [
      condition('Ready', false, 'NoCluster', `RabbitmqCluster ${rabbitmq.name} is being made`),
      fine(),
    ]);
  }
  const first = forcedQueueType(observed) ?? reconfigured(observed) ?? stamp(observed);
  if (first !== undefined) return first;
  const next = wanted(observed, settings);
  // What waits for a person must not keep other changes waiting, nor a change that has no effect an upgrade.
  if (next !== undefined && next.step.do !== 'wait') return next;
  const rest = next ?? settled(observed);
  return changes(observed, rest.conditions) ?? steadyTopology(observed, rest);
}

function finalizersOf({ rabbitmq }: Observed): string[] {
  const list = rabbitmq.object.metadata['finalizers'];
  return Array.isArray(list) ? list.filter((each) => typeof each === 'string') : [];
}

/** The list as it is to be, guarded by the resourceVersion: a merge patch replaces lists. */
export function finalizer({ rabbitmq }: Observed, finalizers: string[]): Plan {
  const patch = { metadata: { resourceVersion: rabbitmq.resourceVersion, finalizers } };
  return act({ do: 'write RabbitMq', patch, tell: [] }, []);
}

/** The list without the reconciler's. */
export function withoutFinalizer(observed: Observed): Plan {
  return finalizer(
    observed,
    finalizersOf(observed).filter((each) => each !== FINALIZER),
  );
}

function missing({ rabbitmq }: Observed): Plan {
  const { namespace, name } = rabbitmq;
  const message =
    `there is no RabbitmqCluster ${name} in namespace ${namespace}, and spec describes none: apply one of that name, or ` +
    'describe it in spec (replicas, persistence, resources, …)';
  return { step: { do: 'wait' }, conditions: [condition('Ready', false, 'NoCluster', message), fine()] };
}

/** A cluster that is there decides; a new one has the version that is wanted. */
function detect({ rabbitmq, cluster, broker }: Observed, { defaultVersion }: PlanSettings): Plan {
  const said = broker.state === 'known' ? shortVersion(broker.version) : undefined;
  const currentVersion =
    cluster === undefined
      ? (rabbitmq.target?.text ?? defaultVersion)
      : (said ?? shortVersion(cluster.version) ?? OLDEST);
  const queueType = rabbitmq.queueType ?? (isFourOrLater(currentVersion) ? 'Quorum' : 'Mirrored');
  const note =
    cluster === undefined
      ? `a new cluster of RabbitMQ ${currentVersion} is made`
      : `the cluster that is there runs RabbitMQ ${currentVersion}`;
  return write(
    {
      currentVersion,
      queueType,
      upgradePhase: '',
      wipeReason: '',
      proxyRequired: rabbitmq.status.proxyRequired,
    },
    [telling('VersionDetected', note)],
    [condition('Upgrading', false, 'NoUpgrade')],
  );
}

function shortVersion(text: string | undefined): string | undefined {
  const version = parseVersion(/^\d+\.\d+(?:\.\d+)?/.exec(text ?? '')?.[0]);
  return version === undefined ? undefined : `${version.major}.${version.minor}`;
}

/** RabbitMQ 4 has no mirrored queues. The webhook says the same at admission; it may not be installed. */
function forcedQueueType({ rabbitmq }: Observed): Plan | undefined {
  const target = rabbitmq.target?.text ?? rabbitmq.status.currentVersion;
  if (rabbitmq.queueType !== 'Mirrored' || !isFourOrLater(target)) return undefined;
  const note = `spec.queueType was Mirrored, which RabbitMQ ${target} does not have: it is Quorum now`;
  const tell = [telling('QueueTypeForced', note)] as const;
  return act({ do: 'write RabbitMq', patch: { spec: { queueType: 'Quorum' } }, tell }, []);
}

/** What is wanted and isn't so: an upgrade, a patch, a migration; or a target that is met and done with. */
function wanted(observed: Observed, settings: PlanSettings): Plan | undefined {
  const { rabbitmq } = observed;
  const { currentVersion, queueType } = rabbitmq.status;
  const target = rabbitmq.target?.text ?? currentVersion;
  const path = versionPath(currentVersion, target);
  if (!path.ok || path.kind === 'wipe') return begin(observed, target, 'VersionUpgrade', settings);
  if (queueType === 'Mirrored' && rabbitmq.queueType === 'Quorum') {
    return begin(observed, currentVersion, 'QueueTypeMigration', settings);
  }
  if (path.kind === 'patch') return patchVersion(observed, target);
  return targetMet(observed) ?? queueTypeSeen(observed);
}

function begin(observed: Observed, to: string, reason: WipeReason, settings: PlanSettings): Plan {
  const { rabbitmq, cluster, now } = observed;
  const from = rabbitmq.status.currentVersion;
  const refusal = refusalOf(observed, to, settings);
  if (refusal !== undefined) {
    if (reason === 'VersionUpgrade' && isForced(observed, to)) return queueTypeSeen(observed)!;
    const message = `${from} to ${to} waits: ${refusal.message}`;
    return wait(
      [
        readiness(observed),
        condition('Upgrading', false, 'Blocked', message),
        condition('UpgradeAllowed', false, refusal.reason, refusal.message),
        proxyActive(observed),
        fine(),
      ],
      isBrief(refusal) ? POLL_MS : GATE_POLL_MS,
      isBrief(refusal) ? [] : [telling('UpgradeBlocked', message)],
    );
  }
  // The cluster may not go without the RabbitMq knowing, and the RabbitMq not before the cluster is back.
  if (!rabbitmq.hasFinalizer) return finalizer(observed, [...finalizersOf(observed), FINALIZER]);
  const { record, proxyRequired } = intentOf(rabbitmq)!;
  const upgrade: UpgradeRecord = {
    ...record,
    clusterUid: cluster!.uid,
    replicas: cluster!.replicas,
    isOwned: cluster!.isOwned,
    proxyBefore: rabbitmq.status.proxyRequired,
    gracePeriodSeconds: cluster!.gracePeriodSeconds,
    startedAt: seconds(now),
    phaseStartedAt: seconds(now),
  };
  const note = `${from} to ${to} (${reason}) has started${proxyRequired ? ', with the proxy' : ''}`;
  return write(
    {
      upgradePhase: 'DeletingResources',
      wipeReason: reason,
      proxyRequired,
      upgradeSequence: record.sequence,
      upgrade: recorded(upgrade),
    },
    [
      telling(reason === 'VersionUpgrade' ? 'UpgradeStarted' : 'MigrationStarted', note),
      ...(proxyRequired && !rabbitmq.status.proxyRequired
        ? [telling('ProxyEnabled', 'clients of 3.x need the proxy from now on')]
        : []),
    ],
    [upgrading('DeletingResources', upgrade), condition('UpgradeAllowed', true, 'GatesPassed'), fine()],
  );
}

/** Another patch of the same minor version: the operator rolls the pods, nothing is wiped. */
function patchVersion(observed: Observed, target: string): Plan | undefined {
  const { rabbitmq, cluster } = observed;
  const image = targetImage(observed, target);
  if (!image.ok) {
    const conditions = [
      condition('Upgrading', false, 'Blocked', image.why),
      condition('UpgradeAllowed', false, 'ImageUnknown', image.why),
    ];
    return wait([readiness(observed), ...conditions, fine()], GATE_POLL_MS);
  }
  const patch = imagePatch(cluster!.object, image.image);
  if (patch !== undefined) {
    const note = `${rabbitmq.status.currentVersion} to ${target}: the image becomes ${image.image}, pod by pod; nothing is wiped`;
    return act(
      {
        do: 'patch cluster',
        uid: cluster!.uid,
        patch,
        tell: [telling('PatchStarted', note)],
      },
      [],
    );
  }
  const why = unreadiness(observed);
  if (why !== '') return wait([readiness(observed), fine()]);
  const note = `RabbitMQ ${target} runs on every node`;
  return write({ currentVersion: target }, [telling('PatchComplete', note)], []);
}

/**
 * The target's annotation is done with, and so is what was allowed for that one upgrade. spec.targetVersion goes along in the
 * same write: without the annotation an older one there would be a downgrade.
 */
function targetMet({ rabbitmq }: Observed): Plan | undefined {
  const spent = [
    ANNOTATION.targetVersion,
    UPGRADE_ANNOTATION.approved,
    UPGRADE_ANNOTATION.acceptDataLoss,
  ].filter(
    (key) =>
      rabbitmq.annotations[key] === 'true' ||
      (key === ANNOTATION.targetVersion && key in rabbitmq.annotations),
  );
  const { target, specTarget, status } = rabbitmq;
  const isBehind = specTarget !== undefined && !sameTarget(specTarget, status.currentVersion);
  // An allowance that was given ahead is kept until there has been an upgrade.
  const isUsed = target?.from === 'annotation' || (status.upgradeSequence > 0 && target !== undefined);
  if (spent.length === 0 || !isUsed) return undefined;
  const annotations: JsonObject = Object.fromEntries(spent.map((key) => [key, null]));
  const isRaised = target?.from === 'annotation' && (isBehind || specTarget === undefined);
  const patch = { metadata: { annotations }, ...(isRaised ? { spec: { targetVersion: target.text } } : {}) };
  return act({ do: 'write RabbitMq', patch, tell: [] }, []);
}

/**
 * Whether the target has made the queue type Quorum. The upgrade migrates queues with the rest; if the target is taken back,
 * nobody has asked for a migration, which would wipe.
 */
function isForced({ rabbitmq }: Observed, to: string): boolean {
  return isFourOrLater(to) && rabbitmq.status.queueType === 'Mirrored' && rabbitmq.queueType === 'Quorum';
}

/** Another queue type for clients to come, with nothing to migrate. */
function queueTypeSeen({ rabbitmq }: Observed): Plan | undefined {
  const { queueType, status } = rabbitmq;
  if (queueType === undefined || queueType === status.queueType) return undefined;
  return write({ queueType }, [], []);
}

/** clients-reconfigured counts once: status first, so that the annotation is not lost when this is cut off. */
function reconfigured({ rabbitmq }: Observed): Plan | undefined {
  if (rabbitmq.annotations[ANNOTATION.clientsReconfigured] !== 'true') return undefined;
  if (rabbitmq.status.proxyRequired) {
    const note = 'clients are reconfigured: the proxy is not required any more';
    return write({ proxyRequired: false }, [telling('ProxyNotRequired', note)], []);
  }
  const annotations = { [ANNOTATION.clientsReconfigured]: null };
  return act({ do: 'write RabbitMq', patch: { metadata: { annotations } }, tell: [] }, []);
}

/** A change of the RabbitMq admits no cluster: the webhook sees what is to be done about the proxy by a write of the cluster. */
function stamp(observed: Observed): Plan | undefined {
  const { rabbitmq, cluster } = observed;
  // Of a cluster that no upgrade made, the annotation is the user's.
  if (cluster!.sequence === undefined) return undefined;
  const { proxyRequired } = rabbitmq.status;
  if (proxyRequired && cluster!.inject === undefined) return patchInject(observed, true);
  if (proxyRequired && cluster!.inject === 'true' && !cluster!.hasProxy) return patchInject(observed, true);
  if (!proxyRequired && cluster!.inject === 'true') return patchInject(observed, false);
  return undefined;
}

function patchInject({ cluster, rabbitmq }: Observed, isRequired: boolean): Plan {
  const tell = isRequired
    ? []
    : [telling('ProxyRemoved', `the proxy is taken out of RabbitmqCluster ${rabbitmq.name}`)];
  return act({ do: 'patch cluster', uid: cluster!.uid, patch: injectPatch(isRequired), tell }, []);
}

/** Of a cluster that the RabbitMq describes and owns, what its spec says otherwise now. */
function changes({ rabbitmq, cluster }: Observed, conditions: readonly ConditionNow[]): Plan | undefined {
  if (!cluster!.isOwned || !describesCluster(rabbitmq.object)) return undefined;
  const spec = clusterChanges(rabbitmq.object, cluster!.object);
  if (spec === undefined) return undefined;
  const fields = Object.keys(spec).join(', ');
  const tell = [telling('ClusterUpdated', `taken over from spec: ${fields}`)] as const;
  return act({ do: 'patch cluster', uid: cluster!.uid, patch: { spec }, tell }, conditions);
}

function readiness(observed: Observed): ConditionNow {
  const why = unreadiness(observed);
  return why === ''
    ? condition('Ready', true, 'ClusterReady')
    : condition('Ready', false, 'ClusterNotReady', why);
}

/** Nothing to do: says how things are. */
function settled(observed: Observed): Plan {
  const { rabbitmq } = observed;
  const { currentVersion } = rabbitmq.status;
  const conditions = [
    readiness(observed),
    condition('Upgrading', false, 'NoUpgrade', `RabbitMQ ${currentVersion} runs and is wanted`),
    proxyActive(observed),
    fine(),
  ];
  return { step: { do: 'wait' }, conditions };
}

function proxyActive({ rabbitmq, cluster, pods }: Observed): ConditionNow {
  const { proxyRequired } = rabbitmq.status;
  const isIn = cluster!.hasProxy || pods.some((pod) => pod.hasProxy);
  if (proxyRequired && isIn) {
    const message =
      'clients of 3.x reach RabbitMQ through the proxy. When ProxyRemovable is True, or all clients are reconfigured, set the ' +
      `annotation ${ANNOTATION.clientsReconfigured}: "true" and it is taken out`;
    return condition('ProxyActive', true, 'Required', message);
  }
  if (proxyRequired) {
    const message =
      `RabbitmqCluster ${rabbitmq.name} has to have the proxy and has none: quorumbridge explain RabbitmqCluster ` +
      `${rabbitmq.name} -n ${rabbitmq.namespace} says why`;
    return condition('ProxyActive', false, 'NotInjected', message);
  }
  if (cluster!.hasProxy) return condition('ProxyActive', true, 'ByAnnotation');
  return isIn ? condition('ProxyActive', true, 'Leaving') : condition('ProxyActive', false, 'NotRequired');
}
