import { Counter, Gauge, Registry, collectDefaultMetrics } from 'prom-client';

type Labels = Readonly<Record<string, string>>;

/** Reads the present value, or one value for each set of labels, from the fields where the program keeps it. */
export type ReadMetric = () => number | Iterable<readonly [labels: Labels, value: number]>;

/**
 * Metrics in Prometheus' text format. Values are read when scraped and never pushed: a labelled
 * increment costs more than forwarding a message, and a plain field costs nothing.
 */
export interface Metrics {
  /** A total that only grows while the process lives. By convention its name ends in `_total`. */
  counter(name: string, help: string, read: ReadMetric, labelNames?: readonly string[]): void;
  /** A value that goes up and down. */
  gauge(name: string, help: string, read: ReadMetric, labelNames?: readonly string[]): void;
  /** What a scrape gets. Rejects when a reader throws. */
  text(): Promise<string>;
  readonly contentType: string;
}

function samples(read: ReadMetric): Iterable<readonly [Labels, number]> {
  const value = read();
  return typeof value === 'number' ? [[{}, value]] : value;
}

/** A new registry with the usual metrics of the process and of Node; `prefix` goes before the names added to it. */
export function createMetrics({ prefix = '' }: { prefix?: string } = {}): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const base = (name: string, help: string, labelNames: readonly string[] = []) => ({
    name: prefix + name,
    help,
    labelNames,
    registers: [registry],
  });
  return {
    counter(name, help, read, labelNames) {
      const counter: Counter = new Counter({
        ...base(name, help, labelNames),
        collect() {
          counter.reset();
          for (const [labels, value] of samples(read)) counter.inc(labels, value);
        },
      });
    },
    gauge(name, help, read, labelNames) {
      const gauge: Gauge = new Gauge({
        ...base(name, help, labelNames),
        collect() {
          gauge.reset();
          for (const [labels, value] of samples(read)) gauge.set(labels, value);
        },
      });
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
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
