import type { BreakerDocument } from '../admin/documents.ts';

/**
 * `closed` all connections may be made · `open` none · `half-open` one at a time, to see whether the backend is there again.
 */
export type BreakerState = 'closed' | 'half-open' | 'open';

export interface BreakerLimits {
  /** Failures in a row that open it; 0: never. */
  readonly failures: number;
  /** Of the last {@link SAMPLE} connections, from 0 to 1, that failed; 0: never. */
  readonly errorRate: number;
  /** Milliseconds from its opening to the next try. */
  readonly reset: number;
}

/** Connections that an error rate is of: of fewer it says nothing. */
export const SAMPLE = 20;

/** One connection's way through the breaker. Exactly one of the three is called, once. */
export interface Attempt {
  succeeded(): void;
  /** @param why for people */
  failed(why: string): void;
  /** Nobody can say: it was given up before the backend had answered, for a reason of the proxy's or the client's. */
  abandoned(): void;
}

export interface BreakerEvents {
  opened(why: string): void;
  closed(): void;
}

/** What the proxy counts of its breaker. */
export class BreakerStats {
  /** The breaker's, which is half-open by the mere passing of time. */
  state: () => BreakerState = () => 'closed';
  /** How often it has opened. */
  opened = 0;
  /** Connections that it didn't let through, clients that it had refused included. */
  refused = 0;
}

/** A circuit breaker: a backend that doesn't answer is left alone for a while, and its clients don't wait for nothing. */
export class Breaker {
  #limits: BreakerLimits;
  readonly #stats: BreakerStats;
  readonly #events: BreakerEvents;
  readonly #now: () => number;
  /** The last outcomes, in a ring: true is a failure. */
  readonly #outcomes: boolean[] = [];
  #next = 0;
  #failuresInRow = 0;
  #state: BreakerState = 'closed';
  #openUntil = 0;
  /** The one that half-open lets through. */
  #trial: object | undefined;
  #why = '';

  /** @param now milliseconds */
  constructor(
    limits: BreakerLimits,
    stats: BreakerStats,
    events: BreakerEvents,
    now: () => number = () => performance.now(),
  ) {
    this.#limits = limits;
    this.#stats = stats;
    this.#events = events;
    this.#now = now;
    stats.state = () => this.state;
  }

  /** Other limits from now on. */
  use(limits: BreakerLimits): void {
    this.#limits = limits;
  }

  /** The backend is another one: nothing is known about it. */
  renew(): void {
    this.#failuresInRow = 0;
    this.#close();
  }

  get state(): BreakerState {
    if (this.#state === 'open' && this.#now() >= this.#openUntil) this.#state = 'half-open';
    return this.#state;
  }

  /** Why no connection may be made now, for people; undefined: one may. */
  get refusal(): string | undefined {
    const { state } = this;
    if (state === 'closed' || (state === 'half-open' && this.#trial === undefined)) return undefined;
    const seconds = Math.max(0, this.#openUntil - this.#now()) / 1000;
    const next = state === 'open' ? `in ${seconds.toFixed(1)} s` : 'is under way';
    return `the circuit breaker is open: ${this.#why}; the next try ${next}`;
  }

  /**
   * Begins a connection.
   * @param always even when the breaker is open: a check that is asked for, whose outcome counts like any other
   * @returns undefined when it may not be made: see {@link refusal}
   */
  begin(always = false): Attempt | undefined {
    if (!always && this.refusal !== undefined) return undefined;
    const attempt = {
      succeeded: () => {
        this.#leave(attempt);
        this.#succeeded();
      },
      failed: (why: string) => {
        const tried = this.#leave(attempt);
        this.#failed(why, tried);
      },
      abandoned: () => {
        this.#leave(attempt);
      },
    };
    if (this.state === 'half-open') this.#trial ??= attempt;
    return attempt;
  }

  /** @returns whether it was the one that half-open lets through */
  #leave(attempt: object): boolean {
    if (this.#trial !== attempt) return false;
    this.#trial = undefined;
    return true;
  }

  #succeeded(): void {
    this.#failuresInRow = 0;
    this.#record(false);
    if (this.state === 'closed') return;
    this.#close();
    this.#events.closed();
  }

  #close(): void {
    this.#state = 'closed';
    this.#trial = undefined;
    this.#outcomes.length = 0;
    this.#next = 0;
  }

  #failed(why: string, tried: boolean): void {
    this.#failuresInRow++;
    this.#record(true);
    if (tried) this.#why = `${why}, again`;
    if (this.state !== 'closed') {
      // Those that were begun before say nothing new; the one that was let through does.
      if (tried) this.#open();
      return;
    }
    const { failures } = this.#limits;
    if (failures > 0 && this.#failuresInRow >= failures) {
      this.#why = `${this.#failuresInRow} connections to the backend have failed in a row, the last one: ${why}`;
    } else {
      const share = this.#share();
      if (share === undefined) return;
      const percent = Math.round(share * 100);
      this.#why = `${percent} % of the last ${SAMPLE} connections to the backend have failed, the last one: ${why}`;
    }
    this.#open();
    this.#stats.opened++;
    this.#events.opened(this.#why);
  }

  #open(): void {
    this.#state = 'open';
    this.#trial = undefined;
    this.#openUntil = this.#now() + this.#limits.reset;
  }

  #record(failed: boolean): void {
    this.#outcomes[this.#next] = failed;
    this.#next = (this.#next + 1) % SAMPLE;
  }

  /** The share of failures, where it is too large. */
  #share(): number | undefined {
    const { errorRate } = this.#limits;
    if (errorRate === 0 || this.#outcomes.length < SAMPLE) return undefined;
    const share = this.#outcomes.filter(Boolean).length / SAMPLE;
    return share >= errorRate ? share : undefined;
  }

  /** For people. */
  document(): BreakerDocument {
    const { state } = this;
    const { opened, refused } = this.#stats;
    return { state, why: state === 'closed' ? null : (this.#why ?? null), opened, refused };
  }
}
