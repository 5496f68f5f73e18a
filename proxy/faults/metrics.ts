import type { Metrics } from '../../common/metrics.ts';
import type { FaultStats } from './fault.ts';

export function addFaultMetrics(metrics: Metrics, { injected }: FaultStats): void {
  metrics.counter(
    'faults_injected_total',
    'Faults that an operator has injected by the admin API.',
    () => Object.entries(injected).map(([fault, count]) => [{ fault }, count] as const),
    ['fault'],
  );
}
