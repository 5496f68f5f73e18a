/** Milliseconds: the ceiling of the first delay, and of all. */
const FIRST = 100;
const LAST = 5000;

/**
 * Delays between attempts: anything between nothing and a ceiling that doubles with each ("full jitter"), so that the many
 * that lost the same broker at the same moment don't come back to it at the same moment.
 */
export class Backoff {
  readonly #random: () => number;
  #ceiling = FIRST;

  /** @param random from 0 to below 1 */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** Milliseconds to wait before the next attempt. */
  next(): number {
    const ceiling = this.#ceiling;
    this.#ceiling = Math.min(ceiling * 2, LAST);
    return this.#random() * ceiling;
  }

  /** An attempt succeeded. */
  reset(): void {
    this.#ceiling = FIRST;
  }
}
