import { createMetrics, type Metrics } from '../common/metrics.ts';
import type { Stats } from './stats.ts';

/** The proxy's metrics (documented in docs/proxy.md), read from its counters at each scrape. */
export function createProxyMetrics(stats: Stats): Metrics {
  const metrics = createMetrics({ prefix: 'quorumbridge_proxy_' });
  metrics.counter(
    'connections_total',
    'Client connections accepted, refused ones included.',
    () => stats.connections,
  );
  metrics.gauge('connections_active', 'Client connections that are open.', () => stats.active);
  metrics.counter(
    'rewrites_total',
    'Frames edited on their way to the broker.',
    () => Object.entries(stats.rewrites).map(([method, count]) => [{ method }, count] as const),
    ['method'],
  );
  metrics.counter(
    'meaning_changes_total',
    'Rewrites that could not keep all of what the client asked for.',
    () => Object.entries(stats.meaningChanges).map(([change, count]) => [{ change }, count] as const),
    ['change'],
  );
  metrics.counter(
    'bytes_total',
    'Octets of AMQP received, without TLS.',
    () => [
      [{ direction: 'client_to_broker' }, stats.octetsFromClients],
      [{ direction: 'broker_to_client' }, stats.octetsFromBackend],
    ],
    ['direction'],
  );
  metrics.counter(
    'frames_total',
    'AMQP frames received.',
    () => [
      [{ direction: 'client_to_broker' }, stats.framesFromClients],
      [{ direction: 'broker_to_client' }, stats.framesFromBackend],
    ],
    ['direction'],
  );
  metrics.counter(
    'errors_total',
    'Connections that the proxy ended or refused, by error code.',
    () => Object.entries(stats.errors).map(([code, count]) => [{ code }, count] as const),
    ['code'],
  );
  return metrics;
}
