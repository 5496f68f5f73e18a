import type { Metrics } from '../../common/metrics.ts';
import type { ReloadStats } from './stats.ts';

/** Adds the metrics about the configuration. */
export function addReloadMetrics(metrics: Metrics, stats: ReloadStats): void {
  metrics.counter(
    'config_reloads_total',
    'Times that the configuration was read again.',
    () => Object.entries(stats.results).map(([result, count]) => [{ result }, count] as const),
    ['result'],
    'max',
  );
  metrics.gauge(
    'config_last_reload_successful',
    'Whether the configuration that was read last is valid; 0: an older one is in effect.',
    () => (stats.isValid ? 1 : 0),
    [],
    'min',
  );
  metrics.gauge(
    'config_loaded_timestamp_seconds',
    'When the configuration that is in effect was read, in seconds since 1970.',
    () => stats.loadedAt / 1000,
    [],
    'min',
  );
  metrics.gauge(
    'config_restart_pending',
    'Options whose new value takes effect when the proxy is started again.',
    () => stats.pending,
    [],
    'max',
  );
}
