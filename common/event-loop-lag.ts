import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Gauge, type Registry } from 'prom-client';

/**
 * prom-client's own monitor of the event loop has a timer, of so many milliseconds: the longest that there may be. With its
 * usual 10 it wakes a process that has nothing to do 100 times a second, and no value is ever below 10 ms.
 */
export const LAG_TIMER_OFF = 2 ** 31 - 1;

const NANOSECONDS = 1e9;

/** What is known of the turns of one process, and what several processes make of it. */
const VALUES = [
  ['min', 'Shortest', 'min'],
  ['max', 'Longest', 'max'],
  ['mean', 'Mean', 'average'],
  ['stddev', 'Standard deviation of the', 'average'],
  ['p50', '50th percentile of the', 'average'],
  ['p90', '90th percentile of the', 'average'],
  ['p99', '99th percentile of the', 'average'],
] as const;

/**
 * Puts how long the event loop's turns were since the last scrape, waiting left out, in the place of prom-client's
 * measurements of the same names. A Node that can't measure turns measures the delays of a timer instead.
 */
export function addEventLoopLag(registry: Registry): void {
  const turns = monitorEventLoopDelay({ samplePerIteration: true });
  turns.enable();
  const read = (): void => {
    const { count, min, max, mean, stddev } = turns;
    const [p50, p90, p99] = [50, 90, 99].map((percent) => turns.percentile(percent)) as [
      number,
      number,
      number,
    ];
    const now = { min, max, mean, stddev, p50, p90, p99 };
    for (const [name, gauge] of gauges) gauge.set(count === 0 ? 0 : now[name] / NANOSECONDS);
    turns.reset();
  };
  const gauges = VALUES.map(([name, what, aggregator], i) => {
    const fullName = `nodejs_eventloop_lag_${name}_seconds`;
    registry.removeSingleMetric(fullName);
    // The first is read before the others: it reads for all.
    const collect = i === 0 ? { collect: read } : {};
    const help = `${what} duration of the event loop's turns since the last scrape.`;
    return [
      name,
      new Gauge({ name: fullName, help, aggregator, registers: [registry], ...collect }),
    ] as const;
  });
}
