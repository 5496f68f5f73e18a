import type { Writable } from 'node:stream';

/** How often it is written: a bar on a terminal, lines elsewhere. Milliseconds. */
const BAR_MS = 100;
const LINE_MS = 5000;

const WIDTH = 24;

/** `[######------------------] 250 of 1000, 48/s, 16 s left`. @param elapsedMs since its start */
export function progressText(done: number, total: number, elapsedMs: number): string {
  const filled = Math.floor((WIDTH * Math.min(done, total)) / Math.max(1, total));
  const rate = elapsedMs < 1000 ? undefined : (done * 1000) / elapsedMs;
  const left = rate === undefined || rate === 0 ? '' : `, ${Math.ceil((total - done) / rate)} s left`;
  const speed = rate === undefined ? '' : `, ${rate < 10 ? rate.toFixed(1) : Math.round(rate)}/s`;
  return `[${'#'.repeat(filled)}${'-'.repeat(WIDTH - filled)}] ${done} of ${total}${speed}${left}`;
}

/** Tells how far something is. */
export class ProgressWriter {
  readonly #out: Writable;
  readonly #isTerminal: boolean;
  readonly #now: () => number;
  #phase = '';
  #began: number;
  #wroteAt: number;
  #bar = '';

  /** @param now milliseconds */
  constructor(out: Writable, now: () => number = () => performance.now()) {
    this.#out = out;
    this.#isTerminal = 'isTTY' in out && out.isTTY === true;
    this.#now = now;
    this.#began = now();
    this.#wroteAt = this.#began;
  }

  /** @param phase what is done: each begins anew */
  report(phase: string, done: number, total: number): void {
    const now = this.#now();
    if (phase !== this.#phase) {
      if (this.#phase !== '') this.#began = now;
      this.#phase = phase;
    }
    if (now - this.#wroteAt < (this.#isTerminal ? BAR_MS : LINE_MS)) return;
    this.#wroteAt = now;
    const text = `${phase}: ${progressText(done, total, now - this.#began)}`;
    if (!this.#isTerminal) {
      this.#out.write(`${text}\n`);
      return;
    }
    this.#out.write(`\r${text.padEnd(this.#bar.length)}`);
    this.#bar = text;
  }

  /** Takes the bar away. */
  end(): void {
    if (this.#bar !== '') this.#out.write(`\r${' '.repeat(this.#bar.length)}\r`);
    this.#bar = '';
  }
}
