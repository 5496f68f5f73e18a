import type { ObservedRabbitMq, UpgradeRecord } from './types.ts';
import { isThreeToFour, versionPath } from './versions.ts';

/** An upgrade that wipes storage: the one that is under way, or the one that would begin next. */
export interface Intent {
  readonly record: Pick<UpgradeRecord, 'from' | 'to' | 'sequence' | 'reason'>;
  /** Whether clients need the proxy from then on. */
  readonly proxyRequired: boolean;
}

/** Which upgrade the RabbitMq asks for; undefined where none, or none that wipes, or where there is no way to it. */
export function intentOf({ status, target, queueType }: ObservedRabbitMq): Intent | undefined {
  const { upgrade, upgradePhase, currentVersion: from, proxyRequired, upgradeSequence } = status;
  if (upgradePhase !== '') return upgrade && { record: upgrade, proxyRequired };
  const to = target?.text ?? from;
  const path = versionPath(from, to);
  const sequence = upgradeSequence + 1;
  if (path.ok && path.kind === 'wipe') {
    const isProxied = queueType !== 'None' && isThreeToFour(from, to);
    const record = { from, to, sequence, reason: 'VersionUpgrade' } as const;
    return { record, proxyRequired: proxyRequired || isProxied };
  }
  if (!path.ok || status.queueType !== 'Mirrored' || queueType !== 'Quorum') return undefined;
  const record = { from, to: from, sequence, reason: 'QueueTypeMigration' } as const;
  return { record, proxyRequired: true };
}
