import { createMetrics, type Metrics } from '../common/metrics.ts';
import type { FrameTally } from '../amqp/tally.ts';
import { PROXY_ERRORS, type ProxyErrorCode } from './errors.ts';
import type { Ledger } from './ledger.ts';
import { addBreakerMetrics } from './breaker/metrics.ts';
import { addFaultMetrics } from './faults/metrics.ts';
import { addPoolMetrics } from './pool/metrics.ts';
import { addReloadMetrics } from './reload/metrics.ts';
import type { Stats } from './stats.ts';
import { addTelemetryMetrics } from './telemetry/metrics.ts';
import { addWorkerMetrics } from './workers/metrics.ts';

export const METRICS_PREFIX = 'quorumbridge_proxy_';

/** The proxy's metrics, read from its counters and its ledger at each scrape. */
export function createProxyMetrics(stats: Stats, ledger: Ledger): Metrics {
  const metrics = createMetrics({ prefix: METRICS_PREFIX });
  registerMetrics(metrics, stats, ledger);
  return metrics;
}

/** Adds the proxy's metrics to a registry, without their prefix. docs/metrics.md is made of them (`npm run docs`). */
export function registerMetrics(metrics: Metrics, stats: Stats, ledger: Ledger): void {
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
    'queues_deleted_total',
    'Queues declared auto-delete that were deleted behind their last consumer.',
    () => stats.queuesDeleted,
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
      ...framesOf('client_to_broker', stats.clientFrames),
      ...framesOf('broker_to_client', stats.brokerFrames),
    ],
    ['direction', 'type'],
  );
  metrics.counter(
    'errors_total',
    'Connections that the proxy ended or refused, by error code.',
    () =>
      Object.entries(stats.errors).map(
        ([code, count]) => [{ code, class: PROXY_ERRORS[code as ProxyErrorCode] }, count] as const,
      ),
    ['code', 'class'],
  );
  metrics.counter(
    'limit_hits_total',
    'Times that something went beyond a limit.',
    () => Object.entries(stats.limitHits).map(([limit, count]) => [{ limit }, count] as const),
    ['limit'],
  );
  metrics.gauge(
    'clients',
    'Clients that are remembered, by whether they have needed the proxy.',
    () => {
      const { needing, others } = ledger.counts();
      return [
        [{ needs_proxy: 'yes' }, needing],
        [{ needs_proxy: 'no' }, others],
      ];
    },
    ['needs_proxy'],
  );
  metrics.counter('clients_evicted_total', 'Clients that were forgotten to make room.', () => ledger.evicted);
  metrics.gauge(
    'last_rewrite_timestamp_seconds',
    'When the proxy was last needed, in seconds since 1970; 0: not since the start.',
    () => (ledger.lastRewrite ?? 0) / 1000,
    [],
    'max',
  );
  metrics.counter(
    'client_usages_total',
    'Operations of clients that RabbitMQ 4 refuses or takes otherwise.',
    () => Object.entries(ledger.usages).map(([usage, count]) => [{ usage }, count] as const),
    ['usage'],
  );
  metrics.gauge(
    'certificate_expiry_timestamp_seconds',
    'End of the certificate of the TLS listeners, in seconds since 1970; 0: there is none.',
    () => stats.certificate.notAfter,
    [],
    'max',
  );
  metrics.counter(
    'certificate_reloads_total',
    'Certificates that were taken into use after the first one.',
    () => stats.certificate.reloads,
    [],
    'max',
  );
  metrics.counter(
    'certificate_reload_failures_total',
    'Tries to read the certificate again that failed.',
    () => stats.certificate.failures,
    [],
    'max',
  );
  addTelemetryMetrics(metrics, stats.telemetry);
  addBreakerMetrics(metrics, stats.breaker);
  addPoolMetrics(metrics, stats.pool);
  addFaultMetrics(metrics, stats.faults);
  addReloadMetrics(metrics, stats.reload);
  addWorkerMetrics(metrics, { serving: () => 1, restarts: () => 0 });
}

function framesOf(direction: string, { methods, headers, bodies, heartbeats }: FrameTally) {
  const byType = { method: methods, header: headers, body: bodies, heartbeat: heartbeats };
  return Object.entries(byType).map(([type, count]) => [{ direction, type }, count] as const);
}
