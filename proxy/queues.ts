import { AUTO_DELETE_EXPIRES } from './rules/queue-declare.ts';

/** Names that are remembered; of more, the one that was declared longest ago is forgotten. */
const REMEMBERED_MAX = 20_000;

/**
 * What the connections of a proxy know of the broker's queues together, by virtual host and name: which of them have to go
 * with their last consumer, and which have an exclusive consumer. Quorum queues do neither by themselves.
 */
export class Queues {
  /** When it was last declared, or consumed from, in milliseconds of performance.now(). */
  readonly #autoDelete = new Map<string, number>();
  /** Consumers of auto-delete queues, of all connections of the proxy. */
  readonly #consumers = new Map<string, number>();
  /** Queues of which it isn't known yet whether they go, for how many connections, and what waits for that. */
  readonly #ending = new Map<string, { count: number; readonly waiting: (() => void)[] }>();
  /** Who holds it: one object for each connection. */
  readonly #exclusive = new Map<string, object>();

  /** A queue was declared auto-delete and is a quorum queue. */
  declaredAutoDelete(virtualHost: string, queue: string): void {
    const key = keyOf(virtualHost, queue);
    this.#autoDelete.delete(key);
    this.#autoDelete.set(key, performance.now());
    if (this.#autoDelete.size <= REMEMBERED_MAX) return;
    const [oldest] = this.#autoDelete.keys();
    this.#autoDelete.delete(oldest!);
  }

  /**
   * Whether the queue goes with its last consumer. Not when nobody has used it for so long that it has expired: a queue of
   * that name may be another one by now, and it must not be deleted.
   */
  isAutoDelete(virtualHost: string, queue: string): boolean {
    const key = keyOf(virtualHost, queue);
    const used = this.#autoDelete.get(key);
    if (used === undefined) return false;
    if (this.#consumers.has(key) || performance.now() - used < AUTO_DELETE_EXPIRES) return true;
    this.#autoDelete.delete(key);
    return false;
  }

  /** The queue is gone, or is declared by somebody who wants it to stay. */
  forget(virtualHost: string, queue: string): void {
    this.#autoDelete.delete(keyOf(virtualHost, queue));
  }

  /** An auto-delete queue gets a consumer. */
  consumerCame(virtualHost: string, queue: string): void {
    const key = keyOf(virtualHost, queue);
    this.#consumers.set(key, (this.#consumers.get(key) ?? 0) + 1);
  }

  /** It has lost one. @returns whether that was the last one, as far as the proxy knows */
  consumerWent(virtualHost: string, queue: string): boolean {
    const key = keyOf(virtualHost, queue);
    const left = (this.#consumers.get(key) ?? 1) - 1;
    if (this.#autoDelete.has(key)) this.#autoDelete.set(key, performance.now());
    if (left > 0) this.#consumers.set(key, left);
    else this.#consumers.delete(key);
    return left <= 0;
  }

  /** It is being found out whether the queue has lost its last consumer, and is deleted. */
  endBegins(virtualHost: string, queue: string): void {
    const key = keyOf(virtualHost, queue);
    const ending = this.#ending.get(key) ?? { count: 0, waiting: [] };
    ending.count++;
    this.#ending.set(key, ending);
  }

  /** That has been found out, and done. */
  endSettled(virtualHost: string, queue: string): void {
    const key = keyOf(virtualHost, queue);
    const ending = this.#ending.get(key);
    if (ending === undefined || --ending.count > 0) return;
    this.#ending.delete(key);
    for (const done of ending.waiting) done();
  }

  isEnding(virtualHost: string, queue: string): boolean {
    return this.#ending.has(keyOf(virtualHost, queue));
  }

  /** Calls back when it isn't: a queue that is declared again must not be deleted behind that. */
  whenSettled(virtualHost: string, queue: string, done: () => void): void {
    const ending = this.#ending.get(keyOf(virtualHost, queue));
    if (ending === undefined) done();
    else ending.waiting.push(done);
  }

  /** Whether a connection has an exclusive consumer on the queue. */
  isInExclusiveUse(virtualHost: string, queue: string): boolean {
    return this.#exclusive.has(keyOf(virtualHost, queue));
  }

  /** A connection is about to have the exclusive consumer. */
  hold(virtualHost: string, queue: string, holder: object): void {
    this.#exclusive.set(keyOf(virtualHost, queue), holder);
  }

  /** The exclusive consumer is gone, if it was this connection's. */
  release(virtualHost: string, queue: string, holder: object): void {
    const key = keyOf(virtualHost, queue);
    if (this.#exclusive.get(key) === holder) this.#exclusive.delete(key);
  }
}

/** A virtual host's name may hold any character, so its length comes first. */
function keyOf(virtualHost: string, queue: string): string {
  return `${virtualHost.length}:${virtualHost}${queue}`;
}
