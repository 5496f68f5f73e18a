import type { Telling } from './types.ts';

/** What Events are written about a RabbitMq; docs/upgrade.md has the same table. */
export const EVENTS = {
  VersionDetected: { type: 'Normal', about: 'the version that runs was found' },
  QueueTypeForced: { type: 'Normal', about: 'spec.queueType became Quorum, for RabbitMQ 4' },
  UpgradeBlocked: { type: 'Warning', about: 'an upgrade is wanted and something is in its way' },
  UpgradeStarted: { type: 'Normal', about: 'an upgrade to another version has begun' },
  MigrationStarted: { type: 'Normal', about: 'a migration to quorum queues has begun' },
  UpgradeCalledOff: { type: 'Normal', about: 'the target was taken back before anything was deleted' },
  ProxyEnabled: { type: 'Normal', about: 'clients need the proxy from now on' },
  ResourcesSaved: { type: 'Normal', about: 'credentials and definitions are saved and read back' },
  ClusterDeleted: { type: 'Normal', about: 'the old RabbitmqCluster is deleted' },
  ClusterVanished: { type: 'Warning', about: 'the old RabbitmqCluster went before everything was saved' },
  PodTerminationSlow: { type: 'Warning', about: 'pods do not end in their grace period' },
  ClusterRecreated: { type: 'Warning', about: 'somebody else made the RabbitmqCluster again' },
  StorageWipeComplete: { type: 'Normal', about: 'nothing of the old cluster is left' },
  CredentialsRestored: { type: 'Normal', about: 'the Secret of the default user is there again' },
  ConfigurationChanged: {
    type: 'Warning',
    about: 'a setting that the new cluster can not have was left out',
  },
  ClusterCreated: { type: 'Normal', about: 'the new RabbitmqCluster is made' },
  ClusterNotReady: { type: 'Warning', about: 'the new cluster was not ready in --ready-timeout' },
  DefinitionsRestored: { type: 'Normal', about: 'the definitions are back' },
  DefinitionsRefused: { type: 'Warning', about: 'the new broker did not take all definitions' },
  TopologyApplied: { type: 'Normal', about: 'the file of spec.messagingTopology is declared' },
  TopologyNotApplied: { type: 'Warning', about: 'something is in the way of that file' },
  UpgradeComplete: { type: 'Normal', about: 'the upgrade has finished' },
  PatchStarted: { type: 'Normal', about: 'the image becomes that of another patch' },
  PatchComplete: { type: 'Normal', about: 'every node runs the other patch' },
  ClusterUpdated: { type: 'Normal', about: 'changes of spec were taken over to the RabbitmqCluster' },
  ProxyAutoRemoved: {
    type: 'Normal',
    about: 'clients-reconfigured was set, as auto-remove-proxy-after asks',
  },
  ProxyNotRequired: { type: 'Normal', about: 'clients are reconfigured' },
  ProxyRemoved: { type: 'Normal', about: 'the proxy is taken out of the RabbitmqCluster' },
} as const satisfies Readonly<Record<string, { type: Telling['type']; about: string }>>;

/** What is told, by a reason of the table. */
export function telling(reason: keyof typeof EVENTS, note: string): Telling {
  return { type: EVENTS[reason].type, reason, note };
}
