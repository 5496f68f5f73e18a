import type { Endpoints } from '../proxy-protocol.ts';
import { Backoff } from './backoff.ts';
import type { Keeper, Connection } from './connection.ts';
import { ENDED, type PoolRefusal, unreachable } from './refusal.ts';
import type { UpstreamEnd } from './upstream-channel.ts';
import { ANSWERED, first, type Request, still, takeAll, takeExpired, type Waiting } from './waiting.ts';

/** Milliseconds that a greeting stands for the broker's, where no connection is open that would tell otherwise. */
const FRESH = 10_000;

/** Milliseconds that a connection which was only greeted is kept for a login: the broker ends it after 10 s. */
const KEPT = 5000;

interface GreetingWaiting extends Waiting {
  readonly endpoints: Endpoints;
  readonly got: (start: Uint8Array | PoolRefusal) => void;
}

export interface GreetingHost {
  readonly limits: { readonly waitTimeout: number };
  /** Whether a connection to the broker is open. */
  readonly hasOpen: boolean;
  now(): number;
  arrival(): number;
  /** Connects without a login. */
  greet(endpoints: Endpoints, keeper: Keeper): Connection;
}

/** The broker's connection.start, which clients get before it is known who they are. */
export class Greeting implements Keeper {
  readonly #host: GreetingHost;
  readonly #waiting = new Set<GreetingWaiting>();
  readonly #backoff = new Backoff();
  #start: Uint8Array | undefined;
  #seenAt = -Infinity;
  /** A connection without a login, as long as it is under way or may yet serve one. */
  #connection: Connection | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failure: UpstreamEnd | undefined;

  constructor(host: GreetingHost) {
    this.#host = host;
  }

  /** @param got called with the connection.start frame, which isn't the caller's: now, or when the broker has sent one */
  get(endpoints: Endpoints, got: GreetingWaiting['got']): Request {
    const host = this.#host;
    const now = host.now();
    if (this.#start !== undefined && (host.hasOpen || now - this.#seenAt <= FRESH)) {
      got(this.#start);
      return ANSWERED;
    }
    const deadline = now + host.limits.waitTimeout;
    const waiting: GreetingWaiting = { arrival: host.arrival(), deadline, endpoints, got };
    this.#waiting.add(waiting);
    this.#ask();
    return {
      cancel: () => {
        waiting.cancelled = true;
        if (this.#waiting.delete(waiting)) this.#ask();
      },
    };
  }

  #ask(): void {
    const next = first(this.#waiting);
    if (next === undefined) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    } else if (this.#connection === undefined && this.#timer === undefined) {
      this.#connection = this.#host.greet(next.endpoints, this);
    }
  }

  /** The broker has greeted on any connection. */
  heard(start: Uint8Array): void {
    this.#start = start;
    this.#seenAt = this.#host.now();
    this.#failure = undefined;
    this.#backoff.reset();
    const all = takeAll(this.#waiting);
    this.#ask();
    for (const { got } of still(all)) got(start);
  }

  /** A connection that was greeted and waits for a login, if there is one. */
  take(): Connection | undefined {
    const connection = this.#connection;
    if (connection?.upstream.state !== 'greeted') return undefined;
    this.#connection = undefined;
    return connection;
  }

  sweep(now: number): void {
    if (now - this.#seenAt >= KEPT) this.take()?.close('not needed');
    const expired = takeExpired(this.#waiting, now);
    if (expired.length === 0) return;
    this.#ask();
    for (const { got } of still(expired)) got(unreachable(this.#host.limits.waitTimeout, this.#failure));
  }

  /** The pool is closed. */
  end(): void {
    const all = takeAll(this.#waiting);
    this.#ask();
    for (const { got } of still(all)) got(ENDED);
  }

  ended(connection: Connection, end: UpstreamEnd): void {
    if (this.#connection === connection) this.#connection = undefined;
    if (this.#waiting.size === 0) return;
    this.#failure = end;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#ask();
    }, this.#backoff.next());
  }
}
