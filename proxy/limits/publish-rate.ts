import { TokenBucket } from './token-bucket.ts';

/**
 * How much is let go at a time, in seconds of the rate: what is held is copied each time, and a timer for each message
 * would be worse.
 */
const BATCH = 0.05;

/** One connection's share in what its user may publish. */
export interface PublishTurn {
  /** There is no limit now: {@link take} doesn't have to be asked. */
  readonly isFree: boolean;
  /** To be asked for each publish. @returns false when it has to {@link wait} */
  take(): boolean;
  /** Calls `go` when the publish that waits may go on; asking again while it waits changes nothing. */
  wait(go: () => void): void;
  /** The connection has ended. */
  leave(): void;
}

export interface PublishRateEvents {
  /** A publish has to wait, or would have to. */
  hit(): void;
}

/**
 * What all connections of one user may publish: `rate` messages a second, and as many at once after a pause. Those that
 * wait have their turns one after the other, with equal shares of what there is.
 */
export class PublishRate {
  /** undefined: there is no limit. */
  #bucket: TokenBucket | undefined;
  #batch = 0;
  #enforce = false;
  readonly #events: PublishRateEvents;
  #members = 0;
  readonly #waiting = new Map<object, () => void>();
  /** What the connection that has its turn may still take. */
  #share = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param rate messages a second; 0 is no limit */
  constructor(rate: number, enforce: boolean, events: PublishRateEvents) {
    this.#events = events;
    this.use(rate, enforce);
  }

  /**
   * Goes on with another limit: who waits has a turn by the new rate, or goes on at once where nobody is held any more.
   * @param rate messages a second; 0 is no limit
   */
  use(rate: number, enforce: boolean): void {
    const now = performance.now();
    if (rate === 0) this.#bucket = undefined;
    else if (this.#bucket === undefined) this.#bucket = new TokenBucket(rate, rate, now);
    else this.#bucket.use(rate, rate, now);
    this.#batch = Math.max(1, rate * BATCH);
    this.#enforce = enforce;
    this.#stop();
    if (rate === 0 || !enforce) this.#releaseAll();
    else this.#schedule();
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #releaseAll(): void {
    for (const [key, go] of this.#waiting) if (this.#waiting.delete(key)) go();
  }

  /** Whether it would be the same if it were forgotten, and made anew for the next connection. */
  isIdle(now: number): boolean {
    return this.#members === 0 && this.#bucket?.isFull(now) !== false;
  }

  /** Whether there is no limit. */
  get isFree(): boolean {
    return this.#bucket === undefined;
  }

  join(): PublishTurn {
    this.#members++;
    return new Turn(this);
  }

  /** A turn waits. */
  wait(turn: PublishTurn, go: () => void): void {
    if (this.#waiting.has(turn)) return;
    this.#waiting.set(turn, go);
    this.#schedule();
  }

  /** A turn is needed no more. */
  leave(turn: PublishTurn): void {
    this.#members--;
    this.#waiting.delete(turn);
    if (this.#waiting.size === 0) this.#stop();
  }

  /** As {@link PublishTurn.take}. */
  take(): boolean {
    const bucket = this.#bucket;
    if (bucket === undefined) return true;
    // Who comes while others wait has no turn before them.
    if (this.#share > 0) this.#share--;
    else if (this.#waiting.size > 0 || this.#timer !== undefined) return this.#none();
    return bucket.take(performance.now()) || this.#none();
  }

  #none(): boolean {
    this.#events.hit();
    return !this.#enforce;
  }

  #schedule(): void {
    const bucket = this.#bucket;
    if (bucket === undefined || this.#timer !== undefined || this.#waiting.size === 0) return;
    const wait = bucket.wait(this.#batch, performance.now());
    this.#timer = setTimeout(() => this.#turns(bucket), Math.ceil(wait));
  }

  /** Gives each that waits its turn, as far as the tokens go. */
  #turns(bucket: TokenBucket): void {
    const waiting = [...this.#waiting];
    const now = performance.now();
    const tokens = bucket.count(now);
    const share = Math.max(1, Math.floor(tokens / waiting.length));
    for (const [key, go] of waiting.slice(0, tokens)) {
      if (!this.#waiting.delete(key)) continue;
      bucket.take(now);
      this.#share = share - 1;
      go();
    }
    this.#share = 0;
    this.#timer = undefined;
    this.#schedule();
  }
}

/** A class and no object with a getter: engines take each of those for a kind of its own, and look properties up slowly. */
class Turn implements PublishTurn {
  readonly #rate: PublishRate;

  constructor(rate: PublishRate) {
    this.#rate = rate;
  }

  get isFree(): boolean {
    return this.#rate.isFree;
  }

  take(): boolean {
    return this.#rate.take();
  }

  wait(go: () => void): void {
    this.#rate.wait(this, go);
  }

  leave(): void {
    this.#rate.leave(this);
  }
}
