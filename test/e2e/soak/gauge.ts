// What a process holds of the system, by /proc: memory, sampled each second, and descriptors.
import { readFileSync, readdirSync } from 'node:fs';

const INTERVAL_MS = 1000;

interface Sample {
  /** `performance.now()` */
  readonly at: number;
  /** Octets. */
  readonly resident: number;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export class Gauge {
  readonly #pid: number;
  readonly #samples: Sample[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(pid: number) {
    this.#pid = pid;
    this.#timer = setInterval(() => this.#sample(), INTERVAL_MS);
  }

  /** Octets of resident memory now (VmRSS). */
  get resident(): number {
    const status = readFileSync(`/proc/${this.#pid}/status`, 'latin1');
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
  }

  /** Open descriptors now. */
  get descriptors(): number {
    return readdirSync(`/proc/${this.#pid}/fd`).length;
  }

  /** The median of resident memory between two moments of `performance.now()`, in octets. */
  between(from: number, to: number): number {
    return median(this.#samples.filter(({ at }) => at >= from && at < to).map(({ resident }) => resident));
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #sample(): void {
    try {
      this.#samples.push({ at: performance.now(), resident: this.resident });
    } catch {
      this.stop(); // the process is gone, and its end is told elsewhere
    }
  }
}
