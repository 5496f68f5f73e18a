/**
 * When clients are told to go: evenly over a period, whatever their number is and however many go by themselves. All times
 * are milliseconds of one clock.
 */
export class DrainSchedule {
  readonly #end: number;
  #last: number;
  /** Of a client, that may be told. */
  #credit = 0.5;

  /** @param period by when the last one is told */
  constructor(now: number, period: number) {
    this.#last = now;
    this.#end = now + period;
  }

  /**
   * How many have to be told now.
   * @param left those that haven't been told and are still there
   */
  due(now: number, left: number): number {
    if (now >= this.#end) return left;
    this.#credit += (left * (now - this.#last)) / (this.#end - this.#last);
    this.#last = now;
    const due = Math.min(left, Math.floor(this.#credit));
    this.#credit -= due;
    return due;
  }
}
