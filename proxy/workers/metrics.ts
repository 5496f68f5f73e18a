import type { Metrics } from '../../common/metrics.ts';

export interface WorkerFigures {
  readonly serving: () => number;
  readonly restarts: () => number;
}

/** Adds the metrics about the processes that serve clients. */
export function addWorkerMetrics(metrics: Metrics, { serving, restarts }: WorkerFigures): void {
  metrics.gauge('workers', 'Processes that serve clients: --workers, unless one has just ended.', serving);
  metrics.counter(
    'worker_restarts_total',
    'Workers that were started again because they had ended.',
    restarts,
  );
}
