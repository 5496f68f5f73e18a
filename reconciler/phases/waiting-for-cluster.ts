// Makes the new cluster, waits until it is ready, and brings back what was saved.
import { condition, seconds } from '../conditions.ts';
import { finishPatch, injectPatch } from '../cluster.ts';
import { isReady, unreadiness } from '../readiness.ts';
import type { ConditionNow, ObservedCluster, Plan, PlanSettings } from '../types.ts';
import {
  type UnderWay,
  act,
  fine,
  notReady,
  phaseAge,
  recorded,
  upgrading,
  wait,
  write,
} from './transition.ts';
import { untriedTopology } from './topology.ts';
import { recreated } from './waiting-for-pods.ts';
import { telling } from '../tellings.ts';

const PHASE = 'WaitingForCluster';
const SLOW_POLL_MS = 30_000;

export function waitingForCluster(observed: UnderWay, settings: PlanSettings): Plan {
  const { cluster, upgrade } = observed;
  if (cluster !== undefined && cluster.sequence !== upgrade.sequence) {
    const foreign = recreated(observed);
    const tell = [telling('ClusterRecreated', foreign.message)];
    return wait([upgrading(PHASE, upgrade), foreign], SLOW_POLL_MS, tell);
  }
  if (cluster === undefined) return create(observed);
  if (cluster.isDeleting)
    return wait([upgrading(PHASE, upgrade, 'the new cluster is being deleted'), fine()]);
  if (upgrade.newClusterUid !== cluster.uid) {
    const note = `RabbitmqCluster ${observed.rabbitmq.name} of ${upgrade.to} is made`;
    // What was brought back to an earlier one is not in this one.
    return write(
      { upgrade: { newClusterUid: cluster.uid, importedAt: null } },
      [telling('ClusterCreated', note)],
      [upgrading(PHASE, upgrade), notReady(), fine()],
    );
  }
  const proxy = proxyStep(observed, cluster);
  if (proxy !== undefined) return proxy;
  if (!isReady(observed)) return awaitReady(observed, settings);
  if (upgrade.importedAt === undefined && upgrade.backup !== undefined) {
    if (observed.backup.state !== 'complete') return lost(observed);
    return act({ do: 'import definitions', record: upgrade }, [
      upgrading(PHASE, upgrade, 'the definitions are being brought back'),
      fine(),
    ]);
  }
  // What is in its way is told, and tried again when the upgrade is over: nothing of the upgrade depends on it.
  const topology = untriedTopology(observed, [
    upgrading(PHASE, upgrade, 'the messaging topology is being declared'),
    fine(),
  ]);
  if (topology !== undefined) return topology;
  if (cluster.hasWipeAnnotation) return act(finish(cluster), [upgrading(PHASE, upgrade), fine()]);
  return complete(observed);
}

/** Credentials first: the broker takes those that it finds when it starts. */
function create(observed: UnderWay): Plan {
  const { upgrade, backup, defaultUser, rabbitmq } = observed;
  const conditions = [upgrading(PHASE, upgrade, 'the new cluster is being made'), notReady(), fine()];
  if (upgrade.backup === undefined) {
    // It went before anything was saved, and somebody accepted that.
    return act({ do: 'create cluster', record: upgrade, version: upgrade.to }, conditions);
  }
  if (backup.state !== 'complete') return lost(observed);
  // Whichever cluster owns it, none is there: what was collected later would be made anew, with other credentials.
  if (defaultUser.state === 'usable' && defaultUser.ownerUid !== undefined) {
    const text = `waiting until Secret ${rabbitmq.name}-default-user of the cluster before is collected`;
    return wait([upgrading(PHASE, upgrade, text), fine()]);
  }
  const isRestored = defaultUser.state === 'usable' && defaultUser.isAsSaved === true;
  if (!isRestored) return act({ do: 'restore credentials', record: upgrade }, conditions);
  return act({ do: 'create cluster', record: upgrade, version: upgrade.to }, conditions);
}

function lost({ upgrade, backup, rabbitmq }: UnderWay): Plan {
  const why = backup.state === 'incomplete' ? backup.why : 'it is not there';
  const message =
    `what was saved in Secret ${upgrade.backup?.secret ?? ''} can't be read back: ${why}: restore the Secrets with the label ` +
    `quorumbridge.io/rabbitmq: ${rabbitmq.name} from your own backups; nothing is made or changed until then`;
  return wait([upgrading(PHASE, upgrade), condition('Degraded', true, 'BackupLost', message)], SLOW_POLL_MS);
}

/** The sidecar has to be there before clients come: admission may have been off when the cluster was made. */
function proxyStep({ rabbitmq, upgrade }: UnderWay, cluster: ObservedCluster): Plan | undefined {
  if (!rabbitmq.status.proxyRequired || cluster.hasProxy) return undefined;
  if (cluster.inject === 'false') return undefined;
  const message =
    `RabbitmqCluster ${rabbitmq.name} has to have the proxy and has none: is the webhook installed and running, and does ` +
    `the namespace opt out? quorumbridge explain RabbitmqCluster ${rabbitmq.name} -n ${rabbitmq.namespace} says why`;
  return act({ do: 'patch cluster', uid: cluster.uid, patch: injectPatch(true), tell: [] }, [
    upgrading(PHASE, upgrade, 'the proxy is being put in'),
    condition('ProxyActive', false, 'NotInjected', message),
    condition('Degraded', true, 'ProxyMissing', message),
  ]);
}

function awaitReady(observed: UnderWay, { readyTimeoutMs }: PlanSettings): Plan {
  const { upgrade } = observed;
  const why = unreadiness(observed);
  const conditions: ConditionNow[] = [upgrading(PHASE, upgrade, why), notReady()];
  if (phaseAge(observed) <= readyTimeoutMs) return wait([...conditions, fine()]);
  const message =
    `${why}, and --ready-timeout (${readyTimeoutMs / 1000} s) is over: look at its pods; the upgrade goes on by itself when ` +
    'they are ready, and what was saved is kept';
  return wait([...conditions, condition('Degraded', true, 'ClusterNotReadyInTime', message)], SLOW_POLL_MS, [
    telling('ClusterNotReady', message),
  ]);
}

/** By taking the annotation off: the container that wipes stays, for without it the pods would restart. */
function finish(cluster: ObservedCluster) {
  return { do: 'patch cluster', uid: cluster.uid, patch: finishPatch(), tell: [] } as const;
}

function complete(observed: UnderWay): Plan {
  const { rabbitmq, upgrade, now } = observed;
  const { from, to } = upgrade;
  const proxy = rabbitmq.status.proxyRequired
    ? ': clients reach it through the proxy until clients-reconfigured is set'
    : '';
  return write(
    {
      currentVersion: to,
      queueType: rabbitmq.queueType ?? 'Quorum',
      upgradePhase: '',
      wipeReason: '',
      upgrade: null,
      lastUpgrade: recorded({ ...upgrade, finishedAt: seconds(now) }),
    },
    [telling('UpgradeComplete', `${from} to ${to} is complete${proxy}`)],
    [
      condition('Upgrading', false, 'Complete', `${from} to ${to} is complete`),
      condition('Ready', true, 'ClusterReady'),
      fine(),
    ],
  );
}
