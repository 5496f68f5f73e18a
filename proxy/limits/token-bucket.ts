/**
 * A bucket that fills with `rate` tokens a second up to `burst`, and is full at first: within any time no more than
 * rate × seconds + burst are taken. Times are milliseconds of one clock that doesn't go back.
 */
export class TokenBucket {
  #perMillisecond: number;
  #burst: number;
  #tokens: number;
  #at: number;

  constructor(rate: number, burst: number, now: number) {
    this.#perMillisecond = rate / 1000;
    this.#burst = burst;
    this.#tokens = burst;
    this.#at = now;
  }

  /** Fills with another rate from now on; what is in it stays, as far as it fits. */
  use(rate: number, burst: number, now: number): void {
    this.#fill(now);
    this.#perMillisecond = rate / 1000;
    this.#burst = burst;
    this.#tokens = Math.min(burst, this.#tokens);
  }

  #fill(now: number): void {
    if (now > this.#at) {
      this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#at) * this.#perMillisecond);
      this.#at = now;
    }
  }

  /** Takes one token. @returns false when there is none */
  take(now: number): boolean {
    this.#fill(now);
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }

  /** How many whole tokens there are. */
  count(now: number): number {
    this.#fill(now);
    return Math.floor(this.#tokens);
  }

  /** Milliseconds until there are so many tokens, `burst` at most. */
  wait(tokens: number, now: number): number {
    this.#fill(now);
    return Math.max(0, (Math.min(tokens, this.#burst) - this.#tokens) / this.#perMillisecond);
  }

  isFull(now: number): boolean {
    this.#fill(now);
    return this.#tokens >= this.#burst;
  }
}
