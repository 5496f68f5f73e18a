import type { Metrics } from '../../common/metrics.ts';
import type { BreakerState, BreakerStats } from './breaker.ts';

const STATES: readonly BreakerState[] = ['closed', 'half-open', 'open'];

export function addBreakerMetrics(metrics: Metrics, stats: BreakerStats): void {
  metrics.gauge(
    'breaker_state',
    'Whether the circuit breaker before the backend is in this state: 1 or 0.',
    () => STATES.map((state) => [{ state }, stats.state() === state ? 1 : 0] as const),
    ['state'],
    'max',
  );
  metrics.counter('breaker_opened_total', 'How often the circuit breaker has opened.', () => stats.opened);
  metrics.counter(
    'breaker_refused_total',
    'Connections to the backend that an open circuit breaker did not let through.',
    () => stats.refused,
  );
}
