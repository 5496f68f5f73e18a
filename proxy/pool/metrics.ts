import type { Metrics } from '../../common/metrics.ts';
import type { PoolStats } from './stats.ts';

/** Adds the metrics of pool mode (docs/metrics.md); in the other modes all of them stay 0. */
export function addPoolMetrics(metrics: Metrics, stats: PoolStats): void {
  addConnections(metrics, stats);
  addChannels(metrics, stats);
  metrics.counter(
    'pool_logins_total',
    'Logins of clients, by how they were decided.',
    () => [
      [{ result: 'proven' }, stats.loginsProven],
      [{ result: 'known' }, stats.loginsKnown],
      [{ result: 'refused' }, stats.loginsRefused],
    ],
    ['result'],
  );
  metrics.counter(
    'pool_moved_total',
    'Clients whose channels were moved to a connection of their own.',
    () => stats.moved,
  );
  metrics.gauge(
    'pool_quarantined',
    'Identities whose next connections get one of their own.',
    () => stats.quarantined,
  );
  metrics.counter(
    'pool_publishes_nacked_total',
    'Publishes without an answer at a loss.',
    () => stats.publishesNacked,
  );
  metrics.counter(
    'pool_clients_lost_total',
    'Clients that were closed when a connection to the broker was lost.',
    () => stats.clientsLost,
  );
}

function addConnections(metrics: Metrics, stats: PoolStats): void {
  metrics.gauge(
    'pool_connections',
    'Connections to the broker that are open.',
    () => [
      [{ kind: 'shared' }, stats.sharedConnections],
      [{ kind: 'private' }, stats.privateConnections],
    ],
    ['kind'],
  );
  metrics.counter(
    'pool_connections_opened_total',
    'Connections to the broker that came to be open.',
    () => stats.connectionsOpened,
  );
  metrics.counter(
    'pool_connections_lost_total',
    'Open connections to the broker that were lost, by why.',
    () => Object.entries(stats.connectionsLost).map(([reason, count]) => [{ reason }, count] as const),
    ['reason'],
  );
  metrics.counter(
    'pool_connections_failed_total',
    'Connections to the broker that never came to be open, by why.',
    () => Object.entries(stats.connectionsFailed).map(([reason, count]) => [{ reason }, count] as const),
    ['reason'],
  );
}

function addChannels(metrics: Metrics, stats: PoolStats): void {
  metrics.gauge(
    'pool_channels',
    'Channels that are open at the broker.',
    () => [
      [{ state: 'used' }, stats.channelsUsed],
      [{ state: 'idle' }, stats.channelsIdle],
    ],
    ['state'],
  );
  metrics.counter('pool_channels_opened_total', 'Channels opened at the broker.', () => stats.channelsOpened);
  metrics.counter(
    'pool_channels_reused_total',
    'Idle channels given to a client in place of a new one.',
    () => stats.channelsReused,
  );
  metrics.gauge('pool_waiting', "Clients' channels that wait for one at the broker.", () => stats.waiting);
  metrics.counter(
    'pool_wait_timeouts_total',
    'Waits that ended without a channel.',
    () => stats.waitTimeouts,
  );
  metrics.counter(
    'pool_restored_total',
    'Channels without state that were made anew after a loss.',
    () => stats.restored,
  );
  metrics.counter(
    'pool_resumed_total',
    'Channels with consumers or deliveries that were made anew after a loss.',
    () => stats.resumed,
  );
}
