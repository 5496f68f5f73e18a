import type { Metrics } from '../../common/metrics.ts';
import type { TelemetryStats } from './stats.ts';

const DIRECTIONS = { client: 'client_to_broker', broker: 'broker_to_client' } as const;

/** Adds the metrics about clients' connections (docs/metrics.md). */
export function addTelemetryMetrics(metrics: Metrics, stats: TelemetryStats): void {
  addConnections(metrics, stats);
  addChannels(metrics, stats);
  addTimes(metrics, stats);
  metrics.counter(
    'frames_failed_total',
    'Frames that ended their connection, by the reply code that it was ended with.',
    () =>
      (['client', 'broker'] as const).flatMap((sender) =>
        [...stats.framesFailed[sender]].map(
          ([reason, count]) => [{ direction: DIRECTIONS[sender], reason }, count] as const,
        ),
      ),
    ['direction', 'reason'],
  );
  metrics.gauge(
    'buffered_bytes',
    'Octets that wait for a socket to take them, and of messages and frames that are not whole.',
    () => [
      [{ direction: DIRECTIONS.client }, stats.bufferedForBroker],
      [{ direction: DIRECTIONS.broker }, stats.bufferedForClients],
    ],
    ['direction'],
  );
  metrics.counter(
    'audit_lines_total',
    'Lines of the audit log.',
    () => [
      [{ result: 'written' }, stats.auditWritten],
      [{ result: 'dropped' }, stats.auditDropped],
    ],
    ['result'],
  );
}

function addConnections(metrics: Metrics, { parties }: TelemetryStats): void {
  metrics.gauge(
    'connections_open',
    'Client connections that the broker has let in and that are there.',
    () => [...parties.letIn()].map(({ labels, open }) => [labels, open] as const),
    ['vhost', 'user'],
  );
  metrics.counter(
    'connections_opened_total',
    'Client connections that the broker has let in.',
    () => [...parties.letIn()].map(({ labels, opened }) => [labels, opened] as const),
    ['vhost', 'user'],
  );
  metrics.counter(
    'connections_closed_total',
    'Client connections that ended.',
    () =>
      [parties.nobody, ...parties.letIn()].flatMap(({ labels, closed }) =>
        [...closed].map(([reason, count]) => [{ ...labels, reason }, count] as const),
      ),
    ['vhost', 'user', 'reason'],
  );
}

function addChannels(metrics: Metrics, stats: TelemetryStats): void {
  metrics.gauge('channels_open', 'Channels of clients that are open.', () => stats.channelsOpen);
  metrics.counter('channels_opened_total', 'Channels that clients opened.', () => stats.channelsOpened);
  metrics.counter(
    'channels_closed_total',
    'Channels of clients that ended, by whose will.',
    () => Object.entries(stats.channelsClosed).map(([by, count]) => [{ by }, count] as const),
    ['by'],
  );
}

function addTimes(metrics: Metrics, { handshakes, latency }: TelemetryStats): void {
  metrics.histogram(
    'handshake_duration_seconds',
    "From a client's accepted connection to connection.open-ok.",
    () => [[{}, handshakes]],
  );
  metrics.histogram('latency_seconds', 'From octets read to the same octets written, of a sample.', () => [
    [{ direction: DIRECTIONS.client }, latency.client.seconds],
    [{ direction: DIRECTIONS.broker }, latency.broker.seconds],
  ]);
}
