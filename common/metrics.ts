import {
  AggregatorRegistry,
  Counter,
  Gauge,
  type Metric,
  type MetricObject,
  Registry,
  collectDefaultMetrics,
} from 'prom-client';
import type { Distribution } from './distribution.ts';
import { addEventLoopLag, LAG_TIMER_OFF } from './event-loop-lag.ts';

/** What several processes that do the same work make of a value that each has: their sum unless another word is given. */
export type Merge = 'sum' | 'max' | 'min';

/** What was read of all metrics: it passes through JSON. */
export type MetricSamples = readonly MetricObject[];

type Labels = Readonly<Record<string, string>>;

/** Reads the present value, or one value for each set of labels, from the fields where the program keeps it. */
export type ReadMetric = () => number | Iterable<readonly [labels: Labels, value: number]>;

/** Reads distributions, one for each set of labels. */
export type ReadDistributions = () => Iterable<readonly [labels: Labels, values: Distribution]>;

/**
 * Metrics in Prometheus' text format. Values are read when scraped and never pushed: a labelled
 * increment costs more than forwarding a message, and a plain field costs nothing.
 */
export interface Metrics {
  /** A total that only grows while the process lives. By convention its name ends in `_total`. */
  counter(name: string, help: string, read: ReadMetric, labelNames?: readonly string[], merge?: Merge): void;
  /** A value that goes up and down. */
  gauge(name: string, help: string, read: ReadMetric, labelNames?: readonly string[], merge?: Merge): void;
  /** How values are distributed over buckets. */
  histogram(name: string, help: string, read: ReadDistributions): void;
  /** What a scrape gets. Rejects when a reader throws. */
  text(): Promise<string>;
  /** The same, to be merged with others' by {@link mergeMetrics}. */
  samples(): Promise<MetricSamples>;
  readonly contentType: string;
}

function samples(read: ReadMetric): Iterable<readonly [Labels, number]> {
  const value = read();
  return typeof value === 'number' ? [[{}, value]] : value;
}

interface Sample {
  readonly metricName: string;
  readonly labels: Labels;
  readonly value: number;
}

/** The samples of histograms: buckets hold what is in the ones below them, too. */
function* histogramSamples(name: string, read: ReadDistributions): Iterable<Sample> {
  for (const [labels, { bounds, counts, sum }] of read()) {
    let count = 0;
    for (const [index, inBucket] of counts.entries()) {
      count += inBucket;
      const le = index < bounds.length ? String(bounds[index]) : '+Inf';
      yield { metricName: `${name}_bucket`, labels: { ...labels, le }, value: count };
    }
    yield { metricName: `${name}_sum`, labels, value: sum };
    yield { metricName: `${name}_count`, labels, value: count };
  }
}

/**
 * A new registry.
 * @param settings `prefix` goes before the names that are added; `ofProcess: false` leaves out the usual metrics of the process and
 * of Node, which a program has once
 */
export function createMetrics({
  prefix = '',
  ofProcess = true,
}: { prefix?: string; ofProcess?: boolean } = {}): Metrics {
  const registry = new Registry();
  if (ofProcess) {
    collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: LAG_TIMER_OFF });
    addEventLoopLag(registry);
  }
  const base = (
    name: string,
    help: string,
    labelNames: readonly string[] = [],
    aggregator: Merge = 'sum',
  ) => ({
    name: prefix + name,
    help,
    labelNames,
    registers: [registry],
    aggregator,
  });
  return {
    counter(name, help, read, labelNames, merge) {
      const counter: Counter = new Counter({
        ...base(name, help, labelNames, merge),
        collect() {
          counter.reset();
          for (const [labels, value] of samples(read)) counter.inc(labels, value);
        },
      });
    },
    gauge(name, help, read, labelNames, merge) {
      const gauge: Gauge = new Gauge({
        ...base(name, help, labelNames, merge),
        collect() {
          gauge.reset();
          for (const [labels, value] of samples(read)) gauge.set(labels, value);
        },
      });
    },
    histogram(name, help, read) {
      // prom-client's own histogram takes values one by one: what is read instead is its samples.
      const fullName = prefix + name;
      const samplesNow = () => ({
        name: fullName,
        help,
        type: 'histogram',
        aggregator: 'sum',
        values: [...histogramSamples(fullName, read)],
      });
      const metric = { name: fullName, get: () => Promise.resolve(samplesNow()) };
      registry.registerMetric(metric as unknown as Metric);
    },
    text: () => registry.metrics(),
    samples: () => registry.getMetricsAsJSON(),
    contentType: registry.contentType,
  };
}

/**
 * What a scrape gets of processes as if they were one.
 * @param main the process that counts as when they started and how they run; what it does itself is no work of theirs
 * @param others those that do the work
 */
export function mergeMetrics(main: MetricSamples, others: readonly MetricSamples[]): Promise<string> {
  const own = main
    .filter(({ name }) => !name.startsWith('nodejs_') || others.length === 0)
    .map((metric) => (metric.aggregator === 'omit' ? { ...metric, aggregator: 'first' as const } : metric));
  return AggregatorRegistry.aggregate([own, ...others.map((one) => [...one])]).metrics();
}

/** Counts by labels in plain fields, to be read at scrape. */
export class LabelledCount<L extends Labels> {
  readonly #counts = new Map<string, { labels: L; value: number }>();

  add(labels: L): void {
    const id = Object.values(labels).join('\0');
    const entry = this.#counts.get(id);
    if (entry === undefined) this.#counts.set(id, { labels, value: 1 });
    else entry.value++;
  }

  *[Symbol.iterator](): IterableIterator<readonly [L, number]> {
    for (const { labels, value } of this.#counts.values()) yield [labels, value];
  }
}
