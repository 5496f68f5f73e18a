import type { Tune } from '../../amqp/connection.ts';
import { Backoff } from './backoff.ts';
import type { Keeper, Connection, Who } from './connection.ts';
import { ENDED, finalRefusal, type PoolRefusal, unreachable } from './refusal.ts';
import type { Slots, Wish } from './slots.ts';
import type { PoolStats } from './stats.ts';
import type { UpstreamEnd } from './upstream-channel.ts';
import { ANSWERED, first, type Request, still, takeAll, takeExpired, type Waiting } from './waiting.ts';

/**
 * Milliseconds that a connection which has only logged in is kept for the virtual host that its client asks for next. The
 * broker ends such a connection after 10 s.
 */
const SPARE_KEPT = 5000;

interface LoginWaiting extends Waiting {
  readonly who: Who;
  readonly done: (refusal: PoolRefusal | undefined, tune: Tune | undefined) => void;
}

export interface CredentialHost {
  readonly limits: { readonly idleTimeout: number; readonly waitTimeout: number };
  readonly stats: PoolStats;
  /** Bounds the logins under way, which take no slot of the upstream connections. */
  readonly logins: Slots;
  now(): number;
  arrival(): number;
  /** Connects with this login, for nothing yet, in a slot of the logins that was granted. */
  login(who: Who, credential: Credential): void;
}

/** What has to know when the broker refuses the credential. */
export interface CredentialUser {
  credentialRefused(refusal: PoolRefusal): void;
}

/**
 * One login and what is known of it. The broker's word for it holds for the idle timeout, counted from the last time that
 * it took it; then the next client's login is put to the broker again, so that a password changed there locks out those
 * with the old one, however busy their connections are.
 */
export class Credential implements Keeper {
  readonly users = new Set<CredentialUser>();
  /** The broker's last word on it, where that was no. */
  refusal: PoolRefusal | undefined;

  readonly #host: CredentialHost;
  readonly #waiting = new Set<LoginWaiting>();
  readonly #backoff = new Backoff();
  #provenAt = -Infinity;
  #tune: Tune | undefined;
  /** Connections with it that the broker hasn't answered yet, whoever they are for. */
  readonly #proving = new Set<Connection>();
  #wish: Wish | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Of the last attempt, when it came to no answer. */
  #failure: UpstreamEnd | undefined;
  #spare: Connection | undefined;
  #spareUntil = 0;

  constructor(host: CredentialHost) {
    this.#host = host;
  }

  /** Whether the broker's last word on it was yes, and recent enough. */
  get isVouched(): boolean {
    return this.#host.now() - this.#provenAt < this.#host.limits.idleTimeout;
  }

  /** Whether nothing is lost by forgetting it. */
  get isUnused(): boolean {
    if (this.users.size > 0 || this.#waiting.size > 0 || this.#proving.size > 0) return false;
    return this.#spare === undefined && !this.isVouched;
  }

  /** @param done called with the broker's refusal, or with its connection.tune: now, or when it has answered */
  login(who: Who, done: LoginWaiting['done']): Request {
    const { limits, stats } = this.#host;
    if (this.isVouched) {
      stats.loginsKnown++;
      done(undefined, this.#tune);
      return ANSWERED;
    }
    const deadline = this.#host.now() + limits.waitTimeout;
    const waiting: LoginWaiting = { arrival: this.#host.arrival(), deadline, who, done };
    this.#waiting.add(waiting);
    this.#prove();
    return {
      cancel: () => {
        waiting.cancelled = true;
        if (this.#waiting.delete(waiting)) this.#prove();
      },
    };
  }

  /** Has one login under way as long as somebody waits for it. */
  #prove(): void {
    const next = first(this.#waiting);
    if (next === undefined) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      if (this.#wish !== undefined) this.#host.logins.withdraw(this.#wish);
      this.#wish = undefined;
      return;
    }
    if (this.#wish !== undefined || this.#timer !== undefined || this.#proving.size > 0) return;
    this.#wish = {
      arrival: next.arrival,
      granted: () => {
        this.#wish = undefined;
        this.#host.login(first(this.#waiting)!.who, this);
      },
    };
    this.#host.logins.want(this.#wish);
  }

  /** A connection with this login is under way. */
  proving(connection: Connection): void {
    this.#proving.add(connection);
  }

  /** A login made for the proof has been taken. */
  authenticated(connection: Connection): void {
    connection.vacate();
    if (connection.leaving) return;
    this.dropSpare();
    this.#spare = connection;
    this.#spareUntil = this.#host.now() + SPARE_KEPT;
  }

  /** The broker has taken this login. */
  proven(connection: Connection, tune: Tune): void {
    this.#provenAt = this.#host.now();
    this.#tune = tune;
    this.refusal = undefined;
    this.#failure = undefined;
    this.#backoff.reset();
    this.#proving.delete(connection);
    const all = takeAll(this.#waiting);
    this.#prove();
    this.#host.stats.loginsProven += all.length;
    for (const { done } of still(all)) done(undefined, tune);
  }

  /** A connection with this login is gone. */
  lost(connection: Connection, end: UpstreamEnd): void {
    if (connection.wasOpen && end.kind !== 'ended') this.#provenAt = -Infinity;
    if (this.#spare === connection) this.#spare = undefined;
    if (connection.proven) return;
    this.#proving.delete(connection);
    if (end.kind === 'refused') {
      this.#refused(finalRefusal(end));
      return;
    }
    if (end.kind !== 'ended') this.#failure = end;
    if (end.kind !== 'ended' && this.#waiting.size > 0 && this.#timer === undefined) {
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        this.#prove();
      }, this.#backoff.next());
    }
    this.#prove();
  }

  #refused(refusal: PoolRefusal): void {
    this.#provenAt = -Infinity;
    this.refusal = refusal;
    this.dropSpare();
    for (const user of this.users) user.credentialRefused(refusal);
    this.#host.stats.loginsRefused += this.#waiting.size;
    this.#refuseAll(refusal);
  }

  #refuseAll(refusal: PoolRefusal): void {
    const all = takeAll(this.#waiting);
    this.#prove();
    for (const { done } of still(all)) done(refusal, undefined);
  }

  /** A connection that has logged in and is for nothing yet, if there is one. */
  takeSpare(): Connection | undefined {
    const spare = this.#spare;
    this.#spare = undefined;
    return spare;
  }

  /**
   * The client that it was made for goes to this virtual host, and needs no connection: it comes to its end in order, since
   * brokers log a warning for each that doesn't.
   */
  finishSpare(virtualHost: string): void {
    const spare = this.takeSpare();
    if (spare === undefined) return;
    spare.keeper = { opened: () => spare.close('not needed') };
    spare.upstream.open(virtualHost);
  }

  /** Nobody needs such a connection. */
  dropSpare(): void {
    this.takeSpare()?.close('not needed');
  }

  sweep(now: number): void {
    if (now >= this.#spareUntil) this.dropSpare();
    const { waitTimeout } = this.#host.limits;
    const expired = takeExpired(this.#waiting, now);
    if (expired.length === 0) return;
    this.#prove();
    for (const { done } of still(expired)) done(unreachable(waitTimeout, this.#failure), undefined);
  }

  /** The pool is closed. */
  end(): void {
    this.#refuseAll(ENDED);
  }
}
