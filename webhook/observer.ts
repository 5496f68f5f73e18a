// Writes Events about what became of stored objects. Admissions write none, so that they have no side effects: an object
// may still be refused after this webhook has seen it, and a dry run must leave nothing behind.
import { setTimeout as delay } from 'node:timers/promises';
import { RABBITMQ_SELECTOR } from '../common/contract.ts';
import type { Logger } from '../common/log.ts';
import type { Api } from '../common/kube/api.ts';
import { EventWriter } from '../common/kube/events.ts';
import { eventAbout, tellingOf } from './events.ts';
import { type Examination, examine } from './examine.ts';
import { isControlledByCluster, isDeleting, isKind } from '../common/kube/facts.ts';
import { textAt } from '../common/kube/json.ts';
import type { WebhookStats } from './metrics.ts';
import { type NativeLookup, nativeFactsFor } from './native.ts';
import type { OwnerLookup } from './owners.ts';
import { type Reflector, startReflector } from '../common/kube/reflector.ts';
import { CLUSTER, STATEFUL_SET } from '../common/kube/resources.ts';
import type { KubeObject } from '../common/kube/types.ts';
import type { InjectionSettings } from './types.ts';

export interface ObserverSettings {
  readonly api: Api;
  readonly owners: OwnerLookup;
  readonly natives?: NativeLookup;
  readonly settings: InjectionSettings;
  readonly log: Logger;
  readonly stats: WebhookStats;
  /** How long what looks wrong may take to settle, in milliseconds. */
  readonly settleMs?: number;
}

export interface Observer {
  stop(): Promise<void>;
}

/** A write by somebody who has just changed the RabbitMq can overtake that change on its way to the cache. */
const SETTLE_MS = 10_000;

/** What is remembered of an object. */
interface Known {
  /** Whether it carried the proxy when it was last looked at; undefined: not looked at yet. */
  carried: boolean | undefined;
  /** The newest that has not been looked at. */
  next: KubeObject | undefined;
  isBusy: boolean;
  /** What was told last. */
  told: string | undefined;
}

class Running implements Observer {
  readonly #settings: ObserverSettings;
  readonly #known = new Map<string, Known>();
  readonly #reflectors: Reflector[];
  readonly #stop = new AbortController();
  readonly #work = new Set<Promise<void>>();
  readonly #events: EventWriter;

  constructor(settings: ObserverSettings) {
    this.#settings = settings;
    this.#events = new EventWriter({ ...settings, count: settings.stats.events });
    this.#reflectors = [
      this.#follow(CLUSTER, {}),
      this.#follow(STATEFUL_SET, { labelSelector: RABBITMQ_SELECTOR }),
    ];
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#reflectors.map((each) => each.stop()));
    await Promise.all(this.#work);
  }

  #follow(resource: typeof CLUSTER, selection: { labelSelector?: string }): Reflector {
    const { api, log } = this.#settings;
    let isFirst = true;
    const ids = new Set<string>();
    const idOf = (object: KubeObject): string => textAt(object, 'metadata', 'uid') ?? '';
    return startReflector({
      api,
      resource,
      selection,
      log,
      follower: {
        replace: (objects) => {
          const there = new Set(objects.map(idOf));
          for (const id of ids) if (!there.has(id)) this.#known.delete(id);
          ids.clear();
          for (const object of objects) {
            ids.add(idOf(object));
            // What is there at the start was told by those who were there before.
            if (isFirst) this.#remember(object);
            else this.#see(object);
          }
          isFirst = false;
        },
        put: (object) => {
          ids.add(idOf(object));
          this.#see(object);
        },
        remove: (object) => {
          ids.delete(idOf(object));
          this.#known.delete(idOf(object));
        },
      },
    });
  }

  #remember(object: KubeObject): void {
    const { proxy } = examine({ object, owner: { state: 'absent' }, settings: this.#settings.settings });
    const id = textAt(object, 'metadata', 'uid') ?? '';
    this.#known.set(id, { carried: proxy?.isOurs === true, next: undefined, isBusy: false, told: undefined });
  }

  #see(object: KubeObject): void {
    if (isDeleting(object) || (isKind(object, STATEFUL_SET) && isControlledByCluster(object))) return;
    const id = textAt(object, 'metadata', 'uid') ?? '';
    let known = this.#known.get(id);
    if (known === undefined) {
      known = { carried: undefined, next: undefined, isBusy: false, told: undefined };
      this.#known.set(id, known);
    }
    known.next = object;
    if (known.isBusy) return;
    known.isBusy = true;
    const work = this.#lookAt(known)
      .catch((error: unknown) => this.#settings.log.error({ err: error }, 'an object could not be looked at'))
      .finally(() => {
        known.isBusy = false;
        this.#work.delete(work);
      });
    this.#work.add(work);
  }

  /** Looks at the newest there is, and once more where it looks wrong. */
  async #lookAt(known: Known): Promise<void> {
    const { signal } = this.#stop;
    for (let isSettled = false; known.next !== undefined && !signal.aborted;) {
      const object = known.next;
      const examination = await this.#examine(object);
      if (signal.aborted) break;
      if (known.next !== object) continue;
      const telling = tellingOf(examination, known.carried);
      const isWrong = !['change nothing', 'repair'].includes(examination.admission.would);
      if (telling !== undefined && isWrong && !isSettled) {
        isSettled = true;
        await delay(this.#settings.settleMs ?? SETTLE_MS, undefined, { signal }).catch(() => {});
        continue;
      }
      known.next = undefined;
      known.carried = examination.proxy?.isOurs === true;
      const told = telling && `${telling.reason} ${telling.note}`;
      if (telling !== undefined && told !== known.told)
        await this.#events.write(eventAbout(object, telling, new Date()));
      known.told = told;
    }
  }

  async #examine(object: KubeObject): Promise<Examination> {
    const { owners, natives, settings } = this.#settings;
    const [{ owner }, native] = await Promise.all([
      owners.find(object, textAt(object, 'metadata', 'namespace'), true),
      nativeFactsFor(natives, object),
    ]);
    return examine({ object, owner, settings, ...(native !== undefined && { native }) });
  }
}

/** Starts to follow RabbitmqClusters and StatefulSets of RabbitMQ, and writes Events about their proxies. */
export function startObserver(settings: ObserverSettings): Observer {
  return new Running(settings);
}
