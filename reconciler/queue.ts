// The order in which RabbitMqs are reconciled: each at most once at a time, none forgotten, none too often.

/** Time as the queue sees it; tests bring their own. */
export interface Timers {
  /** Milliseconds that only grow. */
  now(): number;
  /** Calls `fire` once after that many milliseconds; what it returns takes that back. */
  after(ms: number, fire: () => void): () => void;
}

export interface QueueSettings {
  /**
   * Works at one key; the queue never calls it twice for a key at the same time. It must not reject: who calls `retry`
   * and `forget` is the caller's decision.
   */
  readonly process: (key: string) => Promise<void>;
  /** Keys that are worked at at the same time, at most. */
  readonly workers: number;
  readonly timers?: Timers;
  /** From 0 up to 1; default Math.random. */
  readonly random?: () => number;
}

/** The first pause after a failure and the longest, in milliseconds; each is twice the one before. */
export const BACKOFF = { firstMs: 50, maxMs: 60_000, jitter: 0.2 } as const;

/**
 * Runs of all keys together: so many at once, then so many a second. It bounds what a key can do that wakes itself, by a
 * write that its own watch sees.
 */
export const BUCKET = { burst: 100, perSecond: 10 } as const;

interface Entry {
  isRunning: boolean;
  /** Asked for while it ran: it runs once more. */
  isDirty: boolean;
  /** Retries since it was forgotten last. */
  failures: number;
  timer: { readonly at: number; cancel(): void } | undefined;
}

const systemTimers: Timers = {
  now: () => performance.now(),
  after(ms, fire) {
    const timer = setTimeout(fire, ms);
    return () => clearTimeout(timer);
  },
};

/**
 * A work queue of keys. What is added before `start` waits for it. A key that is added while it waits runs once, one that
 * is added while it runs runs again afterwards.
 */
export class WorkQueue {
  readonly #settings: QueueSettings;
  readonly #timers: Timers;
  readonly #random: () => number;
  readonly #entries = new Map<string, Entry>();
  /** Keys whose turn it is, the one that waits for the longest first. */
  readonly #ready = new Set<string>();
  #running = 0;
  #state: 'waiting' | 'started' | 'stopped' = 'waiting';
  #drained: (() => void) | undefined;
  #tokens: number = BUCKET.burst;
  #filledAt: number;
  #refill: (() => void) | undefined;

  constructor(settings: QueueSettings) {
    this.#settings = settings;
    this.#timers = settings.timers ?? systemTimers;
    this.#random = settings.random ?? Math.random;
    this.#filledAt = this.#timers.now();
  }

  /** Keys whose turn it is, without those that are worked at and those that wait for a time. */
  get depth(): number {
    return this.#ready.size;
  }

  /** Keys that are worked at. */
  get running(): number {
    return this.#running;
  }

  /** Lets the workers begin. */
  start(): void {
    if (this.#state !== 'waiting') return;
    this.#state = 'started';
    this.#pump();
  }

  /** Has the key worked at as soon as there is a worker. */
  add(key: string): void {
    if (this.#state === 'stopped') return;
    const entry = this.#entryOf(key);
    if (entry.isRunning) entry.isDirty = true;
    else this.#ready.add(key);
    this.#pump();
  }

  /** Has the key worked at in so many milliseconds, unless that happens before for another reason. */
  addAfter(key: string, ms: number): void {
    if (this.#state === 'stopped') return;
    const entry = this.#entryOf(key);
    const at = this.#timers.now() + ms;
    if (entry.timer !== undefined && entry.timer.at <= at) return;
    entry.timer?.cancel();
    const cancel = this.#timers.after(ms, () => {
      entry.timer = undefined;
      this.add(key);
    });
    entry.timer = { at, cancel };
  }

  /** Has the key worked at again after a failure, later each time. Returns in how many milliseconds. */
  retry(key: string): number {
    const entry = this.#entryOf(key);
    const pause = Math.min(BACKOFF.maxMs, BACKOFF.firstMs * 2 ** Math.min(entry.failures++, 20));
    const ms = Math.round(pause * (1 - BACKOFF.jitter + 2 * BACKOFF.jitter * this.#random()));
    this.addAfter(key, ms);
    return ms;
  }

  /** Lets the next failure of the key be its first. */
  forget(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.failures = 0;
    this.#tidy(key, entry);
  }

  /** Begins nothing any more; resolves once what is worked at has ended. */
  async stop(): Promise<void> {
    this.#state = 'stopped';
    this.#refill?.();
    for (const { timer } of this.#entries.values()) timer?.cancel();
    this.#ready.clear();
    if (this.#running === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#drained = resolve;
    await promise;
  }

  #entryOf(key: string): Entry {
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = { isRunning: false, isDirty: false, failures: 0, timer: undefined };
      this.#entries.set(key, entry);
    }
    return entry;
  }

  /** Forgets what there is nothing to remember of. */
  #tidy(key: string, entry: Entry): void {
    const isIdle = !entry.isRunning && entry.timer === undefined && !this.#ready.has(key);
    if (isIdle && entry.failures === 0) this.#entries.delete(key);
  }

  #pump(): void {
    if (this.#state !== 'started') return;
    for (const key of this.#ready) {
      if (this.#running >= this.#settings.workers || !this.#take()) return;
      this.#ready.delete(key);
      this.#run(key, this.#entryOf(key));
    }
  }

  #run(key: string, entry: Entry): void {
    entry.isRunning = true;
    // This run is what the timer was for.
    entry.timer?.cancel();
    entry.timer = undefined;
    this.#running++;
    void this.#settings.process(key).finally(() => {
      this.#running--;
      entry.isRunning = false;
      if (entry.isDirty && this.#state === 'started') this.#ready.add(key);
      entry.isDirty = false;
      this.#tidy(key, entry);
      if (this.#running === 0) this.#drained?.();
      this.#pump();
    });
  }

  /** Takes a token of the bucket; without one the queue goes on by itself when there is one. */
  #take(): boolean {
    const now = this.#timers.now();
    const filled = this.#tokens + ((now - this.#filledAt) * BUCKET.perSecond) / 1000;
    [this.#tokens, this.#filledAt] = [Math.min(BUCKET.burst, filled), now];
    // A timer may fire a fraction too soon.
    if (this.#tokens > 0.999) {
      this.#tokens = Math.max(0, this.#tokens - 1);
      return true;
    }
    this.#refill ??= this.#timers.after(Math.ceil(((1 - this.#tokens) * 1000) / BUCKET.perSecond), () => {
      this.#refill = undefined;
      this.#pump();
    });
    return false;
  }
}
