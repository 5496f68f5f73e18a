// What wakes reconciles up. Watches become names of RabbitMqs in a queue, and nothing else of what they bring is kept: a
// reconcile reads what it decides by from the API server.
import { setTimeout as delay } from 'node:timers/promises';
import { NAME_LABEL, RABBITMQ_SELECTOR } from '../common/contract.ts';
import { messageOf } from '../common/errors.ts';
import type { Api } from '../common/kube/api.ts';
import { textAt } from '../common/kube/json.ts';
import { type Follower, type Reflector, startReflector } from '../common/kube/reflector.ts';
import {
  CLAIM,
  CLUSTER,
  POD,
  RABBITMQ,
  type Resource,
  STATEFUL_SET,
  resourceName,
} from '../common/kube/resources.ts';
import type { KubeObject } from '../common/kube/types.ts';
import type { Logger } from '../common/log.ts';
import type { ReconcilerStats } from './metrics.ts';
import { WorkQueue } from './queue.ts';

/** Which RabbitMq. */
export interface Key {
  readonly namespace: string;
  readonly name: string;
}

/**
 * Brings one RabbitMq a step on. It is called again whenever something changes, after `requeueAfterMs`, and after a
 * failure. What it does ends with the signal.
 */
export type Reconcile = (key: Key, signal: AbortSignal) => Promise<{ requeueAfterMs?: number }>;

export interface ControllerSettings {
  readonly api: Api;
  readonly reconcile: Reconcile;
  readonly log: Logger;
  readonly stats: ReconcilerStats;
  /** RabbitMqs that are reconciled at the same time. */
  readonly workers: number;
  /** How often every RabbitMq is looked at though nothing has changed, in milliseconds; ten per cent to both sides. */
  readonly resyncMs?: number;
  /** Which namespaces are watched; all of them without any. */
  readonly namespaces?: readonly string[];
  /** Of watches that fail, in milliseconds. */
  readonly backoff?: { firstMs: number; maxMs: number };
}

export interface Controller {
  /** Whether all that is watched was seen once. */
  readonly synced: boolean;
  /** Why something is not watched, one line each. */
  readonly troubles: readonly string[];
  /** Begins to work: everything that was seen until then is reconciled, too. Work ends with the signal. */
  lead(signal: AbortSignal): void;
  /**
   * Takes up no more work, and lets what is under way end within so many milliseconds; then it is told to stop. What does
   * not stop then is left alone.
   */
  stop(graceMs: number): Promise<void>;
}

const RESYNC_MS = 10 * 60_000;
/** No step takes as long: a reconcile that hangs must not keep its RabbitMq from ever being looked at again. */
const RECONCILE_MAX_MS = 10 * 60_000;
/** For work that was told to stop to notice. */
const ABORT_GRACE_MS = 1000;

function idOf({ namespace, name }: Key): string {
  return `${namespace}/${name}`;
}

function keyOf(id: string): Key {
  const [namespace = '', name = ''] = id.split('/');
  return { namespace, name };
}

/** The RabbitMq that an object of these kinds is about: of the same name, or of the name in its label. */
function aboutOf(resource: Resource, object: KubeObject): string | undefined {
  const namespace = textAt(object, 'metadata', 'namespace');
  const isNamed = resource === RABBITMQ || resource === CLUSTER;
  const name = isNamed
    ? textAt(object, 'metadata', 'name')
    : textAt(object, 'metadata', 'labels', NAME_LABEL);
  return namespace === undefined || name === undefined ? undefined : idOf({ namespace, name });
}

class Running implements Controller {
  readonly #settings: ControllerSettings;
  readonly #queue: WorkQueue;
  readonly #reflectors: { readonly resource: Resource; readonly reflector: Reflector }[] = [];
  /** RabbitMqs that there are. Nothing else is ever reconciled: RabbitmqClusters without one are none of our business. */
  readonly #known = new Set<string>();
  /** What the last reconcile of a RabbitMq failed with. */
  readonly #failing = new Map<string, string>();
  readonly #stop = new AbortController();
  /** Ends the work that is under way. */
  readonly #work = new AbortController();
  #leading: AbortSignal | undefined;
  #resync: Promise<void> | undefined;

  constructor(settings: ControllerSettings) {
    this.#settings = settings;
    this.#queue = new WorkQueue({ workers: settings.workers, process: (id) => this.#process(id) });
    const { stats, namespaces = [] } = settings;
    stats.queue = this.#queue;
    stats.leads = () => this.#leading !== undefined && !this.#leading.aborted && !this.#stop.signal.aborted;
    stats.watches = () => this.#watches();
    for (const namespace of namespaces.length === 0 ? [undefined] : new Set(namespaces)) {
      this.#follow(RABBITMQ, namespace);
      this.#follow(CLUSTER, namespace);
      for (const resource of [STATEFUL_SET, POD, CLAIM]) this.#follow(resource, namespace, RABBITMQ_SELECTOR);
    }
  }

  get synced(): boolean {
    return this.#reflectors.every(({ reflector }) => reflector.synced);
  }

  get troubles(): readonly string[] {
    return this.#reflectors.flatMap(({ resource, reflector: { synced, trouble } }) =>
      trouble !== undefined || !synced ? [`${resourceName(resource)}: ${trouble ?? 'not seen yet'}`] : [],
    );
  }

  lead(signal: AbortSignal): void {
    if (this.#leading !== undefined || this.#stop.signal.aborted) return;
    this.#leading = signal;
    this.#queue.start();
    this.#resync = this.#keepResyncing();
  }

  async stop(graceMs: number): Promise<void> {
    this.#stop.abort();
    const drained = this.#queue.stop();
    const within = async (ms: number): Promise<void> => {
      const timer = new AbortController();
      await Promise.race([drained, delay(ms, undefined, { signal: timer.signal }).catch(() => {})]);
      timer.abort();
    };
    await within(graceMs);
    this.#work.abort(new Error('this replica is shutting down'));
    await within(ABORT_GRACE_MS);
    await this.#resync;
    await Promise.all(this.#reflectors.map(({ reflector }) => reflector.stop()));
  }

  #follow(resource: Resource, namespace: string | undefined, labelSelector?: string): void {
    const { api, log, backoff } = this.#settings;
    const isRabbitMq = resource === RABBITMQ;
    /** Of this reflector: RabbitMqs that were there when all were listed last, or came later. */
    const here = new Set<string>();
    const wake = (object: KubeObject): void => {
      const id = aboutOf(resource, object);
      if (id !== undefined && this.#known.has(id)) this.#queue.add(id);
    };
    const follower: Follower = {
      replace: (objects) => {
        if (isRabbitMq) {
          const there = new Set(objects.flatMap((object) => aboutOf(resource, object) ?? []));
          for (const id of here) if (!there.has(id)) this.#gone(id, here);
        }
        for (const object of objects) follower.put(object);
      },
      put: (object) => {
        const id = aboutOf(resource, object);
        if (isRabbitMq && id !== undefined) {
          here.add(id);
          this.#known.add(id);
        }
        wake(object);
      },
      remove: (object) => {
        const id = aboutOf(resource, object);
        if (isRabbitMq && id !== undefined) this.#gone(id, here);
        else wake(object);
      },
    };
    const selection = { ...(namespace && { namespace }), ...(labelSelector && { labelSelector }) };
    const reflector = startReflector({
      api,
      resource,
      selection,
      follower,
      log,
      ...(backoff && { backoff }),
    });
    this.#reflectors.push({ resource, reflector });
  }

  /** It is looked at once more, so that whoever kept something of it lets go. */
  #gone(id: string, here: Set<string>): void {
    here.delete(id);
    this.#known.delete(id);
    this.#queue.add(id);
  }

  *#watches(): Iterable<readonly [string, { watching: boolean; failures: number }]> {
    const byName = new Map<string, { watching: boolean; failures: number }>();
    for (const { resource, reflector } of this.#reflectors) {
      const name = resourceName(resource);
      const before = byName.get(name) ?? { watching: true, failures: 0 };
      byName.set(name, {
        watching: before.watching && reflector.watching,
        failures: before.failures + reflector.failures,
      });
    }
    yield* byName;
  }

  async #keepResyncing(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const ms = (this.#settings.resyncMs ?? RESYNC_MS) * (0.9 + 0.2 * Math.random());
      await delay(ms, undefined, { signal }).catch(() => {});
      for (const id of this.#known) this.#queue.add(id);
    }
  }

  async #process(id: string): Promise<void> {
    const leading = this.#leading;
    if (leading === undefined || leading.aborted) return;
    const { reconcile, stats, log } = this.#settings;
    const timeout = AbortSignal.timeout(RECONCILE_MAX_MS);
    const signal = AbortSignal.any([leading, this.#work.signal, timeout]);
    const began = performance.now();
    try {
      const { requeueAfterMs } = await reconcile(keyOf(id), signal);
      stats.reconciles.add({ result: 'done' });
      if (this.#failing.delete(id)) log.info({ rabbitmq: id }, 'reconciled again');
      this.#queue.forget(id);
      if (requeueAfterMs !== undefined) this.#queue.addAfter(id, requeueAfterMs);
    } catch (error) {
      // Whoever leads next does it.
      if (leading.aborted || this.#work.signal.aborted) return;
      stats.reconciles.add({ result: 'failed' });
      stats.retries++;
      const retryMs = this.#queue.retry(id);
      const why = timeout.aborted ? `it took longer than ${RECONCILE_MAX_MS / 1000} s` : messageOf(error);
      if (this.#failing.get(id) !== why) {
        // An error of the API server says all in its message; of any other the place is needed, too.
        const isOurs = error instanceof Error && error.name !== 'ApiFailure' && !timeout.aborted;
        log.warn(
          { rabbitmq: id, why, retryMs, ...(isOurs && { err: error }) },
          'reconcile failed, trying again',
        );
      }
      this.#failing.set(id, why);
    } finally {
      stats.reconcileSeconds += (performance.now() - began) / 1000;
      if (!this.#known.has(id)) this.#failing.delete(id);
    }
  }
}

/** Starts to watch at once, and to work with `lead`; nothing that goes wrong is thrown. */
export function startController(settings: ControllerSettings): Controller {
  return new Running(settings);
}
