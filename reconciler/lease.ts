// Who of several replicas works: the one that holds a Lease. As client-go does it: clocks of other machines are never
// compared; what counts is for how long this process has seen a Lease unchanged.
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../common/errors.ts';
import { type Api, ApiFailure } from '../common/kube/api.ts';
import { isObject, textAt, valueAt } from '../common/kube/json.ts';
import { microTime } from '../common/kube/events.ts';
import { LEASE } from '../common/kube/resources.ts';
import type { JsonObject, KubeObject } from '../common/kube/types.ts';
import type { Logger } from '../common/log.ts';

/** How long a Lease is good for, for how long its holder tries to renew it, and how often; in milliseconds. */
export interface LeaseTimes {
  readonly durationMs: number;
  readonly renewDeadlineMs: number;
  readonly retryMs: number;
}

/** Those of client-go. */
export const LEASE_TIMES: LeaseTimes = { durationMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2000 };

export interface ElectorSettings extends Partial<LeaseTimes> {
  readonly api: Api;
  readonly namespace: string;
  readonly name: string;
  /** Names this process, and no other that ever was. */
  readonly identity: string;
  readonly log: Logger;
  /** Called once, when this process leads; the signal ends with that. */
  readonly onLeading: (signal: AbortSignal) => void;
  /** Called once, when it leads no more though it wanted to. It does not try again: what it had under way is unknown. */
  readonly onLost: (why: string) => void;
}

export interface Elector {
  /** Whether this process leads, at this very moment: by the clock, not by a timer that may be late. */
  readonly leading: boolean;
  /** Who holds the Lease as it was last seen; undefined: nobody, or it was not seen yet. */
  readonly holder: string | undefined;
  /** Requests about the Lease that failed, without those that another process was faster with. */
  readonly failures: number;
  /** Gives the Lease back, so that another replica need not wait for its end. Never rejects. */
  stop(): Promise<void>;
}

/** Of another holder's leaseDurationSeconds: who wrote more must not keep everybody out. */
const DURATION_MAX_S = 600;
const REQUEST_MAX_MS = 5000;
const RELEASE_TIMEOUT_MS = 3000;

class Running implements Elector {
  readonly #settings: ElectorSettings & LeaseTimes;
  readonly #stop = new AbortController();
  readonly #leading = new AbortController();
  readonly #done: Promise<void>;
  /** As it was last seen or written. */
  #lease: KubeObject | undefined;
  /** When it was first seen as it is; as performance.now(). */
  #seenAt = 0;
  /** Until when this process leads unless it renews; 0 before it does. */
  #until = 0;
  #trouble: string | undefined;
  failures = 0;

  constructor(settings: ElectorSettings) {
    this.#settings = { ...LEASE_TIMES, ...settings };
    this.#done = this.#run();
  }

  get leading(): boolean {
    return !this.#leading.signal.aborted && performance.now() < this.#until;
  }

  get holder(): string | undefined {
    return textAt(this.#lease, 'spec', 'holderIdentity') || undefined;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { retryMs, onLeading, onLost, log, identity } = this.#settings;
    while (!signal.aborted && !(await this.#try())) await this.#pause(retryMs);
    if (this.#until > 0) {
      log.info({ identity, lease: this.#name() }, 'leading');
      onLeading(this.#leading.signal);
      const why = await this.#renew();
      this.#leading.abort(new Error('this replica leads no more'));
      if (why === undefined) await this.#release();
      else onLost(why);
    }
  }

  /** Renews until it is stopped, or until the Lease is lost: then it says why. */
  async #renew(): Promise<string | undefined> {
    const { signal } = this.#stop;
    const { retryMs } = this.#settings;
    // What is under way must end at the deadline, whatever request hangs then.
    let timer: NodeJS.Timeout | undefined;
    const guard = (): void => {
      clearTimeout(timer);
      timer = setTimeout(
        () => this.#leading.abort(new Error('the Lease was not renewed in time')),
        Math.max(0, this.#until - performance.now()),
      );
    };
    guard();
    try {
      for (;;) {
        await this.#pause(retryMs);
        if (signal.aborted) return undefined;
        const renewed = this.leading && (await this.#try());
        if (signal.aborted) return undefined;
        const holder = this.holder;
        if (holder !== this.#settings.identity) return `${holder ?? 'nobody'} holds the Lease now`;
        if (!this.leading) return `the Lease could not be renewed in time: ${this.#trouble ?? 'too late'}`;
        if (renewed) guard();
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** One attempt to take or to renew the Lease; true when this process holds it now. */
  async #try(): Promise<boolean> {
    const { api, namespace, name, renewDeadlineMs, log } = this.#settings;
    // A request that hangs must leave time for another one. It is not cut off by an end of this process: a Lease that was
    // taken without knowing could not be given back.
    const within = AbortSignal.timeout(Math.min(Math.ceil(renewDeadlineMs / 2), REQUEST_MAX_MS));
    try {
      // What this process wrote itself needs no reading.
      if (!this.leading || this.#lease === undefined)
        this.#saw(await api.get(LEASE, namespace, name, within));
      if (!this.#isFree()) return false;
      // From before the request: the Lease may have been written long before the answer came.
      const asked = performance.now();
      const written = await this.#write(within);
      if (written === undefined) return false;
      this.#lease = written;
      this.#seenAt = asked;
      this.#until = asked + renewDeadlineMs;
      if (this.#trouble !== undefined) log.info({ lease: this.#name() }, 'the Lease can be written again');
      this.#trouble = undefined;
      return true;
    } catch (error) {
      if (error instanceof ApiFailure && error.code === 409) {
        // Somebody wrote it meanwhile; who, is for the next look.
        this.#saw(await api.get(LEASE, namespace, name, within).catch(() => this.#lease));
        return false;
      }
      this.#note(within.aborted ? 'no answer in time' : messageOf(error));
      return false;
    }
  }

  /** Resolves to undefined when another process was faster. */
  async #write(signal: AbortSignal): Promise<KubeObject | undefined> {
    const { api, namespace, name, identity, durationMs } = this.#settings;
    const now = microTime(new Date());
    const before = isObject(this.#lease?.['spec']) ? this.#lease['spec'] : {};
    const isMine = before['holderIdentity'] === identity;
    const transitions = before['leaseTransitions'];
    const spec: JsonObject = {
      ...before,
      holderIdentity: identity,
      leaseDurationSeconds: Math.max(1, Math.ceil(durationMs / 1000)),
      renewTime: now,
      acquireTime: isMine ? before['acquireTime'] : now,
      leaseTransitions:
        (typeof transitions === 'number' ? transitions : 0) + (isMine || this.#lease === undefined ? 0 : 1),
    };
    if (this.#lease !== undefined) {
      try {
        return await api.replace(LEASE, { ...this.#lease, spec }, signal);
      } catch (error) {
        if (!(error instanceof ApiFailure && error.code === 404)) throw error;
        this.#saw(undefined);
      }
    }
    const lease: KubeObject = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: LEASE.kind,
      metadata: { namespace, name },
      spec: { ...spec, acquireTime: now },
    };
    const done = await api.create(LEASE, lease, signal);
    const stored = await api.get(LEASE, namespace, name, signal);
    this.#saw(stored);
    return done === 'created' && textAt(stored, 'spec', 'holderIdentity') === identity ? stored : undefined;
  }

  /** Notes the Lease as it is; its time begins when it is seen changed. */
  #saw(lease: KubeObject | undefined): void {
    const version = (of: KubeObject | undefined): string | undefined =>
      textAt(of, 'metadata', 'resourceVersion');
    if (version(lease) !== version(this.#lease)) this.#seenAt = performance.now();
    this.#lease = lease;
  }

  /** Whether this process may write it: nobody's, its own, or unchanged for as long as its holder has asked for. */
  #isFree(): boolean {
    if (this.holder === undefined || this.holder === this.#settings.identity) return true;
    const seconds = valueAt(this.#lease, 'spec', 'leaseDurationSeconds');
    const ms =
      typeof seconds === 'number' && seconds > 0
        ? Math.min(seconds, DURATION_MAX_S) * 1000
        : this.#settings.durationMs;
    return performance.now() > this.#seenAt + ms;
  }

  async #release(): Promise<void> {
    const { api, log, identity } = this.#settings;
    if (this.#lease === undefined || this.holder !== identity) return;
    const now = microTime(new Date());
    const spec = {
      ...(this.#lease['spec'] as JsonObject),
      holderIdentity: '',
      leaseDurationSeconds: 1,
      renewTime: now,
      acquireTime: now,
    };
    try {
      const within = AbortSignal.timeout(RELEASE_TIMEOUT_MS);
      this.#lease = await api.replace(LEASE, { ...this.#lease, spec }, within);
      log.info({ identity, lease: this.#name() }, 'gave the Lease back');
    } catch (error) {
      log.warn({ lease: this.#name(), why: messageOf(error) }, 'the Lease could not be given back');
    }
  }

  #note(trouble: string): void {
    this.failures++;
    if (trouble !== this.#trouble)
      this.#settings.log.warn({ lease: this.#name(), why: trouble }, 'the Lease cannot be had, trying again');
    this.#trouble = trouble;
  }

  #name(): string {
    return `${this.#settings.namespace}/${this.#settings.name}`;
  }

  /** A fifth to both sides, so that replicas don't meet. */
  async #pause(ms: number): Promise<void> {
    const spread = ms * (0.8 + 0.4 * Math.random());
    await delay(spread, undefined, { signal: this.#stop.signal }).catch(() => {});
  }
}

/** Starts to compete for the Lease at once; nothing that goes wrong is thrown. */
export function startElector(settings: ElectorSettings): Elector {
  return new Running(settings);
}

/**
 * The same API, but what would write is refused unless `isLeading` holds at that moment: a process that was stopped for
 * a while may go on in the middle of its work before any timer has told it that its time is over.
 */
export function whileLeading(api: Api, isLeading: () => boolean): Api {
  const guarded = <T>(write: () => Promise<T>): Promise<T> =>
    isLeading() ? write() : Promise.reject(new ApiFailure('not written: this replica leads no more'));
  return {
    ...api,
    create: (...of) => guarded(() => api.create(...of)),
    replace: (...of) => guarded(() => api.replace(...of)),
    apply: (...of) => guarded(() => api.apply(...of)),
    patch: (...of) => guarded(() => api.patch(...of)),
    remove: (...of) => guarded(() => api.remove(...of)),
  };
}
