import cluster, { type Worker } from 'node:cluster';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../common/log.ts';
import { Caller } from './calls.ts';
import type { Pinned, WorkerFunctions } from './worker.ts';

/** How long a worker may take to start, in milliseconds. */
const START = 60_000;

/** Before a worker is started again, in milliseconds: more each time, until one has served for as long as the longest. */
const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 10_000;

/** A worker that serves clients. */
export interface Serving {
  /** From 1 on; of the connections' numbers those are its own that leave this, divided by how many workers there are. */
  readonly index: number;
  readonly caller: Caller<WorkerFunctions>;
}

interface Place {
  readonly index: number;
  worker: Worker | undefined;
  serving: Serving | undefined;
  pause: number;
}

export interface SupervisorSettings {
  readonly count: number;
  readonly pinned: Pinned;
  readonly log: Logger;
}

/**
 * Starts workers, and again those that end. They share listeners by Node's cluster module: this process accepts, and hands
 * connections to them in turn, so that each has as many, also where few clients stay for long.
 */
export class Supervisor {
  /** Workers that were started again. */
  restarts = 0;
  readonly #settings: SupervisorSettings;
  readonly #places: readonly Place[];
  readonly #ended = new AbortController();

  constructor(settings: SupervisorSettings) {
    this.#settings = settings;
    this.#places = Array.from({ length: settings.count }, (_, at) => ({
      index: at + 1,
      worker: undefined,
      serving: undefined,
      pause: FIRST_PAUSE,
    }));
    cluster.schedulingPolicy = cluster.SCHED_RR;
    cluster.setupPrimary({ stdio: ['inherit', 'inherit', 'inherit', 'ipc'] });
  }

  /** Those that serve now. */
  get serving(): Serving[] {
    return this.#places.flatMap(({ serving }) => serving ?? []);
  }

  /** Starts all. @returns where they listen @throws UsageError, and whatever else keeps one from serving */
  async start(): Promise<readonly string[]> {
    const started = await Promise.allSettled(this.#places.map((place) => this.#start(place)));
    for (const one of started) if (one.status === 'rejected') throw one.reason;
    return (started[0] as PromiseFulfilledResult<readonly string[]>).value;
  }

  async #start(place: Place): Promise<readonly string[]> {
    const { count, pinned, log } = this.#settings;
    const worker = cluster.fork();
    const caller = new Caller<WorkerFunctions>(worker);
    const startedAt = performance.now();
    place.worker = worker;
    worker.on('error', (error) =>
      log.error({ worker: place.index, err: error }, 'a worker cannot be reached'),
    );
    worker.once('exit', (code, signal) => {
      caller.end(`worker ${place.index} has ended`);
      if (place.worker !== worker) return;
      const hasServed = place.serving !== undefined;
      place.worker = undefined;
      place.serving = undefined;
      if (this.#ended.signal.aborted) return;
      if (performance.now() - startedAt > LONGEST_PAUSE) place.pause = FIRST_PAUSE;
      log.error({ worker: place.index, pid: worker.process.pid, code, signal }, 'a worker has ended');
      if (hasServed) void this.#again(place);
    });
    const listening = await caller.call('start', [{ index: place.index, count }, pinned], START);
    place.serving = { index: place.index, caller };
    log.info({ worker: place.index, pid: worker.process.pid, restarts: this.restarts }, 'a worker serves');
    return listening;
  }

  async #again(place: Place): Promise<void> {
    const { log } = this.#settings;
    const { signal } = this.#ended;
    while (!signal.aborted) {
      await sleep(place.pause, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted) return;
      place.pause = Math.min(place.pause * 2, LONGEST_PAUSE);
      this.restarts++;
      try {
        await this.#start(place);
        return;
      } catch (error) {
        log.error({ worker: place.index, err: error }, 'a worker could not be started again');
        // One that was never there will not exit, either.
        place.worker?.process.kill('SIGKILL');
        place.worker = undefined;
      }
    }
  }

  /** Drains all, and waits until they have ended. @param patience milliseconds that it may take */
  async drain(patience: number): Promise<void> {
    this.#ended.abort();
    const gone = this.#places.flatMap(({ worker }) =>
      worker === undefined ? [] : new Promise<void>((resolve) => worker.once('exit', () => resolve())),
    );
    for (const { worker, serving } of this.#places)
      if (serving === undefined) worker?.process.kill('SIGKILL');
    // One that ends meanwhile has drained, or can't any more.
    await Promise.allSettled(this.serving.map(({ caller }) => caller.call('drain', [], patience)));
    await Promise.all(gone);
  }

  /** Ends all at once. */
  close(): void {
    this.#ended.abort();
    for (const { worker } of this.#places) worker?.process.kill('SIGKILL');
  }
}
