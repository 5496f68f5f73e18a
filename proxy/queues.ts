import type { Binding } from './binding.ts';
import { AUTO_DELETE_EXPIRES } from './rules/queue-declare.ts';

/** Names that are remembered; of more, the one that was declared longest ago is forgotten. */
const REMEMBERED_MAX = 20_000;

/** Bindings of a queue, and of all, that are remembered; what is beyond goes with the queue itself. */
const BINDINGS_MAX = 32;
const ALL_BINDINGS_MAX = 20_000;

/** Octets of a binding that is remembered: clients' memory in the proxy is bounded. */
const BINDING_SIZE = 512;

/** A queue that goes with its last consumer. */
interface AutoDelete {
  /** When it was last declared, or consumed from, in milliseconds of performance.now(). */
  used: number;
  /** The arguments of the queue.unbind that takes each back, an octet a character. */
  bindings: Set<string> | undefined;
}

/**
 * What the connections of a proxy know of the broker's queues together, by virtual host and name: which of them have to go
 * with their last consumer, and which have an exclusive consumer. Quorum queues do neither by themselves.
 */
export class Queues {
  readonly #autoDelete = new Map<string, AutoDelete>();
  /** Of all of them. */
  #bindings = 0;
  /** Consumers of auto-delete queues, of all connections of the proxy. */
  readonly #consumers = new Map<string, number>();
  /** Queues of which it isn't known yet whether they go, for how many connections, and what waits for that. */
  readonly #ending = new Map<string, { count: number; readonly waiting: (() => void)[] }>();
  /** Who holds it: one object for each connection. */
  readonly #exclusive = new Map<string, object>();

  /** A queue was declared auto-delete and is a quorum queue. */
  declaredAutoDelete(virtualHost: string, queue: string): void {
    const key = keyOf(virtualHost, queue);
    const bindings = this.#autoDelete.get(key)?.bindings;
    this.#autoDelete.delete(key);
    this.#autoDelete.set(key, { used: performance.now(), bindings });
    if (this.#autoDelete.size <= REMEMBERED_MAX) return;
    const [oldest] = this.#autoDelete.keys();
    this.#drop(oldest!);
  }

  /**
   * Whether the queue goes with its last consumer. Not when nobody has used it for so long that it has expired: a queue of
   * that name may be another one by now, and it must not be deleted.
   */
  isAutoDelete(virtualHost: string, queue: string): boolean {
    const key = keyOf(virtualHost, queue);
    const known = this.#autoDelete.get(key);
    if (known === undefined) return false;
    if (this.#consumers.has(key) || performance.now() - known.used < AUTO_DELETE_EXPIRES) return true;
    this.#drop(key);
    return false;
  }

  /** The queue is gone, or is declared by somebody who wants it to stay. */
  forget(virtualHost: string, queue: string): void {
    this.#drop(keyOf(virtualHost, queue));
  }

  #drop(key: string): void {
    this.#bindings -= this.#autoDelete.get(key)?.bindings?.size ?? 0;
    this.#autoDelete.delete(key);
  }

  /** A client binds the queue: remembered if it is auto-delete. */
  bound(virtualHost: string, { queue, unbind }: Binding): void {
    const known = this.#autoDelete.get(keyOf(virtualHost, queue));
    if (known === undefined || this.#bindings >= ALL_BINDINGS_MAX || unbind.length > BINDING_SIZE) return;
    const bindings = (known.bindings ??= new Set());
    if (bindings.size >= BINDINGS_MAX || bindings.has(unbind)) return;
    bindings.add(unbind);
    this.#bindings++;
  }

  /** A client takes that back. */
  unbound(virtualHost: string, { queue, unbind }: Binding): void {
    if (this.#autoDelete.get(keyOf(virtualHost, queue))?.bindings?.delete(unbind) === true) this.#bindings--;
  }

  /** How the bindings of an auto-delete queue are taken back: the arguments of each queue.unbind. */
  bindingsOf(virtualHost: string, queue: string): string[] {
    return [...(this.#autoDelete.get(keyOf(virtualHost, queue))?.bindings ?? [])];
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
    const known = this.#autoDelete.get(key);
    if (known !== undefined) known.used = performance.now();
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
