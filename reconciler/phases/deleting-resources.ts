// Saves everything, then deletes the old cluster. Up to the deletion the upgrade can be called off.
import { isDeepStrictEqual } from 'node:util';
import { UPGRADE_ANNOTATION } from '../../common/contract.ts';
import { condition } from '../conditions.ts';
import { type Refusal, isBrief, messagesRefusal, rehearsalRefusal } from '../gates.ts';
import type { BackupRecord, Plan, PlanSettings, Telling } from '../types.ts';
import { sameTarget } from '../versions.ts';
import { POLL_MS, type UnderWay, act, enter, fine, upgrading, wait, write } from './transition.ts';
import { telling } from '../tellings.ts';

const PHASE = 'DeletingResources';
const BLOCKED_POLL_MS = 15_000;
/** How old may be what was saved when the cluster is deleted. */
const FRESH_MS = 60_000;

export function deletingResources(observed: UnderWay, settings: PlanSettings): Plan {
  const { cluster, upgrade, backup } = observed;
  const isThere = cluster !== undefined && cluster.uid === upgrade.clusterUid && !cluster.isDeleting;
  if (!isThere) return gone(observed);
  if (isTakenBack(observed)) return callOff(observed);
  if (backup.state !== 'complete') return save(observed);
  if (!isDeepStrictEqual(upgrade.backup, backup.record)) return record(observed, backup.record);
  const refusal = rehearsalRefusal(observed) ?? messagesRefusal(observed, settings);
  if (refusal !== undefined) return blocked(observed, refusal);
  if (isOld(observed)) return save(observed);
  if (observed.hasMirrorPolicy) return act({ do: 'delete mirror policy' }, said(observed));
  const pods = observed.pods.filter((pod) => !pod.hasSkipLabel).map(({ name }) => name);
  if (pods.length > 0) return act({ do: 'label pods', pods }, said(observed));
  return act({ do: 'delete cluster', uid: cluster.uid }, said(observed));
}

/** Clients go on declaring until the end: what was saved a while ago, while something was in the way, is saved anew. */
function isOld({ now, backup }: UnderWay): boolean {
  return backup.state === 'complete' && now.getTime() - Date.parse(backup.record.takenAt) > FRESH_MS;
}

function save(observed: UnderWay): Plan {
  const { upgrade, defaultUser, rabbitmq, broker } = observed;
  if (defaultUser.state !== 'usable') {
    const why = defaultUser.state === 'absent' ? 'does not exist' : defaultUser.why;
    const message = `Secret ${rabbitmq.name}-default-user ${why}`;
    return blocked(observed, { reason: 'CredentialsMissing', message });
  }
  if (broker.state === 'unknown')
    return blocked(observed, { reason: 'BrokerUnreachable', message: broker.why });
  return act({ do: 'save', record: upgrade }, [
    upgrading(PHASE, upgrade),
    condition('UpgradeAllowed', false, 'BackupIncomplete'),
    fine(),
  ]);
}

function record(observed: UnderWay, backup: BackupRecord): Plan {
  const note = `credentials and definitions of ${observed.upgrade.from} are saved in Secret ${backup.secret} and read back`;
  const tell: Telling[] = [telling('ResourcesSaved', note)];
  return write({ upgrade: { backup: { ...backup } } }, tell, said(observed));
}

/** Whether the target names another version than the one that this upgrade is to, or none. */
function isTakenBack({ rabbitmq, upgrade }: UnderWay): boolean {
  if (rabbitmq.isDeleting) return true;
  // A migration of the queue type is to the version that runs, and needs no target.
  if (upgrade.reason === 'QueueTypeMigration') return rabbitmq.queueType === 'Mirrored';
  return rabbitmq.target === undefined || !sameTarget(rabbitmq.target.text, upgrade.to);
}

function callOff({ rabbitmq, upgrade }: UnderWay): Plan {
  const { from, to } = upgrade;
  return write(
    {
      upgradePhase: '',
      wipeReason: '',
      upgrade: null,
      proxyRequired: upgrade.proxyBefore,
      // Quorum may be what the target forced: without it, that is no wish for a migration, which would wipe.
      queueType: rabbitmq.queueType ?? rabbitmq.status.queueType,
    },
    [telling('UpgradeCalledOff', `${from} to ${to}: called off before anything was deleted`)],
    [condition('Upgrading', false, 'CalledOff'), fine()],
  );
}

/** The old cluster is gone or going: by this upgrade, if what it needs is saved; else by somebody else. */
function gone(observed: UnderWay): Plan {
  const { rabbitmq, upgrade, backup } = observed;
  if (backup.state === 'complete' && upgrade.backup !== undefined) {
    return enter('WaitingForPods', observed, upgrade, {}, [
      telling('ClusterDeleted', `RabbitmqCluster ${rabbitmq.name} of ${upgrade.from} is deleted`),
    ]);
  }
  if (rabbitmq.annotations[UPGRADE_ANNOTATION.acceptDataLoss] === 'true') {
    return enter('WaitingForPods', observed, upgrade, {}, [
      telling(
        'ClusterVanished',
        `RabbitmqCluster ${rabbitmq.name} went before everything was saved; going on, as its loss is accepted`,
      ),
    ]);
  }
  const why = backup.state === 'incomplete' ? `: ${backup.why}` : '';
  const message =
    `RabbitmqCluster ${rabbitmq.name} (uid ${upgrade.clusterUid}) went before everything was saved${why}: go on without ` +
    `its definitions by the annotation ${UPGRADE_ANNOTATION.acceptDataLoss}: "true", or delete the RabbitMq and make both anew`;
  return wait(
    [upgrading(PHASE, upgrade), condition('Degraded', true, 'ClusterVanished', message)],
    BLOCKED_POLL_MS,
  );
}

function blocked({ upgrade }: UnderWay, refusal: Refusal): Plan {
  const { reason, message } = refusal;
  return wait(
    [upgrading(PHASE, upgrade, message), condition('UpgradeAllowed', false, reason, message), fine()],
    isBrief(refusal) ? POLL_MS : BLOCKED_POLL_MS,
  );
}

function said({ upgrade }: UnderWay) {
  return [
    upgrading(PHASE, upgrade),
    condition('UpgradeAllowed', true, 'GatesPassed'),
    condition('CredentialsPreserved', true, 'Saved'),
    condition('DefinitionsPreserved', true, 'Saved'),
    fine(),
  ];
}
