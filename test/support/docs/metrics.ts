import {
  createMetrics,
  type Metrics,
  type ReadDistributions,
  type ReadMetric,
} from '../../../common/metrics.ts';
import { Distribution } from '../../../common/distribution.ts';
import { type MetricsSources, registerMessagingMetrics } from '../../../messaging/observe/metrics.ts';
import { Ledger } from '../../../proxy/ledger.ts';
import { METRICS_PREFIX, registerMetrics as registerProxy } from '../../../proxy/metrics.ts';
import { Stats } from '../../../proxy/stats.ts';
import { ReconcilerStats, registerMetrics as registerReconciler } from '../../../reconciler/metrics.ts';
import { WebhookStats, registerMetrics as registerWebhook } from '../../../webhook/metrics.ts';
import { LABELS, NOTES } from './metric-texts.ts';
import { code, table } from './table.ts';

/** A metric as its program registers it. */
export interface RegisteredMetric {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  /** Each label with the values that it has at the start: all there can be, or none where they come up later. */
  readonly labels: ReadonlyMap<string, ReadonlySet<string>>;
}

/** What a program registers, in its order. */
function registered(register: (metrics: Metrics) => void, prefix = ''): RegisteredMetric[] {
  const found: RegisteredMetric[] = [];
  const note =
    (type: RegisteredMetric['type']) =>
    (
      name: string,
      help: string,
      read: ReadMetric | ReadDistributions,
      labelNames: readonly string[] = [],
    ) => {
      const values = read();
      const samples = typeof values === 'number' ? [] : [...values].map(([labels]) => labels);
      const names = new Set([...labelNames, ...samples.flatMap((labels) => Object.keys(labels))]);
      const labels = [...names].map((label): [string, Set<string>] => [
        label,
        new Set(samples.map((one) => one[label]!)),
      ]);
      found.push({ name: prefix + name, type, help, labels: new Map(labels) });
    };
  register({
    ...createMetrics(),
    counter: note('counter'),
    gauge: note('gauge'),
    histogram: note('histogram'),
  });
  return found;
}

/** A publisher and consumers that have done nothing yet. */
const FRESH_CLIENTS: MetricsSources = {
  publishers: [
    {
      name: 'publisher',
      state: 'connecting',
      stats: {
        published: 0,
        confirmed: 0,
        sent: 0,
        failed: {
          returned: 0,
          nacked: 0,
          refused: 0,
          'timed-out': 0,
          closed: 0,
          overflow: 0,
          invalid: 0,
        },
        republished: 0,
        waiting: 0,
      },
      latency: new Distribution([]),
    },
  ],
  consumers: [
    {
      name: 'consumers',
      state: 'connecting',
      queues: new Map([['queue', { consumed: 0, acked: 0, requeued: 0, rejected: 0, retried: 0 }]]),
    },
  ],
};

/** All metrics of the project's own, by program. */
export function registeredMetrics(): Readonly<
  Record<'proxy' | 'webhook' | 'reconciler' | 'messaging', RegisteredMetric[]>
> {
  const ledger = new Ledger({ mode: 'transparent', limit: 1 });
  return {
    proxy: registered((metrics) => registerProxy(metrics, new Stats(), ledger), METRICS_PREFIX),
    webhook: registered((metrics) => registerWebhook(metrics, new WebhookStats())),
    reconciler: registered((metrics) => registerReconciler(metrics, new ReconcilerStats())),
    messaging: registered((metrics) => registerMessagingMetrics(metrics, FRESH_CLIENTS)),
  };
}

/** A label with its values: those that are written down for it, else those that it has at the start. */
function labelText(metric: string, label: string, values: ReadonlySet<string>): string {
  const text = LABELS[`${metric} ${label}`] ?? LABELS[label];
  if (text !== undefined) return `${code(label)}: ${text}`;
  if (values.size === 0)
    throw new Error(
      `say in test/support/docs/metric-texts.ts what values the label ${label} of ${metric} has`,
    );
  return `${code(label)}: ${[...values].map(code).join(', ')}`;
}

function row({ name, type, help, labels }: RegisteredMetric): string[] {
  const sentence = help.endsWith('.') ? help : `${help}.`;
  const note = NOTES[name];
  return [
    code(name),
    type,
    [...labels].map(([label, values]) => labelText(name, label, values)).join('; '),
    note === undefined ? sentence : `${sentence} ${note}`,
  ];
}

/** The metrics of each program. */
export function metricTables(): [name: string, table: string][] {
  return Object.entries(registeredMetrics()).map(([program, metrics]) => [
    `metrics of ${program}`,
    table(['metric', 'type', 'labels', 'meaning'], metrics.map(row)),
  ]);
}
