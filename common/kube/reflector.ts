import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { type Api, ApiFailure, type Selection } from './api.ts';
import { textAt } from './json.ts';
import { type Resource, resourceName } from './resources.ts';
import type { KubeObject } from './types.ts';

/** What follows the objects of a kind. Its methods must not throw. */
export interface Follower {
  /** All objects there are: at the start, and after a gap that a watch can't bridge. */
  replace(objects: KubeObject[]): void;
  put(object: KubeObject): void;
  remove(object: KubeObject): void;
}

export interface ReflectorSettings {
  readonly api: Api;
  readonly resource: Resource;
  readonly selection?: Selection;
  readonly follower: Follower;
  readonly log: Logger;
  /** First and longest pause after a failure, in milliseconds. */
  readonly backoff?: { firstMs: number; maxMs: number };
}

/**
 * Follows all objects of a kind by list and watch, whatever happens to the connection: the library's own informer stops
 * for good at most errors. After a failure it goes on where it was, later each time; where that can't be, it lists again.
 */
export interface Reflector {
  /** Whether the follower has had all objects, or there is no such kind. */
  readonly synced: boolean;
  /** Whether changes arrive now. */
  readonly watching: boolean;
  /** Failures since the start. */
  readonly failures: number;
  /** Why it isn't watching, after a failure. */
  readonly trouble: string | undefined;
  stop(): Promise<void>;
}

const LIST_TIMEOUT_MS = 30_000;
/** API servers end watches after minutes: one that ends sooner is no good end. */
const SHORTEST_WATCH_MS = 1000;

class Running implements Reflector {
  readonly #settings: ReflectorSettings;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  /** Where the next watch goes on; undefined: list first. */
  #version: string | undefined;
  synced = false;
  watching = false;
  failures = 0;
  trouble: string | undefined;

  constructor(settings: ReflectorSettings) {
    this.#settings = settings;
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { firstMs, maxMs } = this.#settings.backoff ?? { firstMs: 200, maxMs: 30_000 };
    const { signal } = this.#stop;
    let inRow = 0;
    while (!signal.aborted) {
      const started = performance.now();
      const error = await this.#follow().catch((thrown: unknown) => thrown);
      this.watching = false;
      if (signal.aborted) return;
      if (performance.now() - started > Math.max(SHORTEST_WATCH_MS, maxMs)) inRow = 0;
      if (error !== undefined) this.#note(error);
      else if (performance.now() - started >= SHORTEST_WATCH_MS) {
        inRow = 0;
        continue;
      }
      const pause = Math.min(maxMs, firstMs * 2 ** Math.min(inRow++, 20));
      await delay(pause * (0.75 + Math.random() / 2), undefined, { signal }).catch(() => {});
    }
  }

  /** Lists if need be, then watches until the watch ends. */
  async #follow(): Promise<void> {
    const { api, resource, selection = {}, follower } = this.#settings;
    const { signal } = this.#stop;
    if (this.#version === undefined) {
      const within = AbortSignal.any([signal, AbortSignal.timeout(LIST_TIMEOUT_MS)]);
      const { items, resourceVersion } = await api.list(resource, selection, within);
      follower.replace(items);
      this.#version = resourceVersion;
      this.synced = true;
    }
    const onOpen = (): void => {
      this.watching = true;
      if (this.trouble !== undefined) {
        this.#settings.log.info({ resource: resourceName(resource) }, 'watching again');
        this.trouble = undefined;
      }
    };
    const from = { ...selection, resourceVersion: this.#version };
    await api.watch(
      resource,
      from,
      {
        onOpen,
        onEvent: (event) => {
          if (event.type === 'bookmark') this.#version = event.resourceVersion;
          else {
            this.#version = textAt(event.object, 'metadata', 'resourceVersion') ?? this.#version;
            if (event.type === 'delete') follower.remove(event.object);
            else follower.put(event.object);
          }
        },
      },
      signal,
    );
  }

  #note(error: unknown): void {
    const { resource, log, follower } = this.#settings;
    const code = error instanceof ApiFailure ? error.code : undefined;
    if (code !== undefined && code >= 400 && code < 500 && code !== 429) this.#version = undefined;
    // What came after that version is forgotten: nothing is wrong, and listing bridges the gap.
    if (code === 410) return;
    if (code === 404) {
      follower.replace([]);
      this.synced = true;
    } else this.failures++;
    const trouble = messageOf(error);
    if (trouble !== this.trouble) {
      const told = { resource: resourceName(resource), why: trouble };
      if (code === 404) log.info(told, 'not watching: the kind is not installed');
      else log.warn(told, 'not watching, trying again');
    }
    this.trouble = trouble;
  }
}

/** Starts to follow at once; nothing that goes wrong is thrown. */
export function startReflector(settings: ReflectorSettings): Reflector {
  return new Running(settings);
}
