import type { ChannelState } from './channel-state.ts';
import type { Keeper, Connection } from './connection.ts';
import { ENDED, exhausted, type PoolRefusal, unreachable } from './refusal.ts';
import type { Slots, Wish } from './slots.ts';
import type { PoolStats } from './stats.ts';
import type { ChannelOwner, UpstreamChannel, UpstreamEnd } from './upstream-channel.ts';
import { ANSWERED, first, type Request, still, takeAll, takeExpired, type Waiting } from './waiting.ts';

/** Connections that the broker has blocked and that have room: with so many, no other is made because of that. */
const BLOCKED_ENOUGH = 2;

/** What a channel at the broker is wanted for. */
export interface ChannelRequest<Member> {
  readonly member: Member;
  readonly owner: ChannelOwner;
  /** The owner's number for it. */
  readonly local: number;
  readonly state: ChannelState;
}

export type Acquired = (refusal: PoolRefusal | undefined, channel: UpstreamChannel | undefined) => void;

interface ChannelWaiting<Member> extends Waiting {
  readonly request: ChannelRequest<Member>;
  readonly done: Acquired;
}

export interface PathHost {
  readonly limits: {
    readonly maxUpstreamConnections: number;
    readonly maxChannelsPerConnection: number;
    /** Milliseconds. */
    readonly waitTimeout: number;
  };
  readonly stats: PoolStats;
  readonly slots: Slots;
  now(): number;
  arrival(): number;
}

/** The group that a path is of. */
export interface PathOwner<Member> {
  /** No attempt is to be made now. */
  readonly mayDial: boolean;
  /** Of the last attempt, when it failed. */
  readonly failure: UpstreamEnd | undefined;
  /** The arrival of what wants the path to be there, without a channel; undefined: nothing. */
  readonly wantedSince: number | undefined;
  /** Whether it is a member: one that left is not answered. */
  has(member: Member): boolean;
  /** Makes a connection, in a slot that was granted. @param member whom it is for, if for one */
  dial(path: Path<Member>, member: Member | undefined): Connection;
  opened(): void;
  /** One that never came to be open has ended. */
  failed(path: Path<Member>, end: UpstreamEnd): void;
  /** One that was open has ended. */
  lost(end: UpstreamEnd): void;
}

/**
 * Connections to the broker for the same clients, and those who wait for a channel there: the connections that a group
 * shares, or the one that a member has to itself.
 */
export class Path<Member> implements Keeper {
  /** That are open, those that are being closed included. */
  readonly connections = new Set<Connection>();
  /** On their way. */
  readonly dials = new Set<Connection>();
  readonly #host: PathHost;
  readonly #owner: PathOwner<Member>;
  /** Whose it is alone. */
  readonly #member: Member | undefined;
  readonly #waiting = new Set<ChannelWaiting<Member>>();
  #wish: Wish | undefined;
  #serving = false;

  constructor(host: PathHost, owner: PathOwner<Member>, member: Member | undefined) {
    this.#host = host;
    this.#owner = owner;
    this.#member = member;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  get isEmpty(): boolean {
    return this.connections.size === 0 && this.dials.size === 0;
  }

  acquire(request: ChannelRequest<Member>, done: Acquired, refusal: PoolRefusal | undefined): Request {
    const channel = this.#waiting.size > 0 ? undefined : this.#take(request);
    if (channel !== undefined || refusal !== undefined) {
      done(channel === undefined ? refusal : undefined, channel);
      return ANSWERED;
    }
    const arrival = this.#host.arrival();
    const deadline = this.#host.now() + this.#host.limits.waitTimeout;
    const waiting: ChannelWaiting<Member> = { arrival, deadline, request, done };
    this.#waiting.add(waiting);
    this.#host.stats.waiting++;
    this.want();
    return { cancel: () => this.#cancel(waiting) };
  }

  #cancel(waiting: ChannelWaiting<Member>): void {
    waiting.cancelled = true;
    if (!this.#waiting.delete(waiting)) return;
    this.#host.stats.waiting--;
    this.want();
  }

  /** The least loaded connection's channel; one that the broker has blocked only where no other can be had. */
  #take({ owner, local, state }: ChannelRequest<Member>): UpstreamChannel | undefined {
    let best: Connection | undefined;
    let blocked: Connection | undefined;
    let blockedCount = 0;
    for (const connection of this.connections) {
      if (!this.#hasRoom(connection)) continue;
      const { used, blockedBy } = connection.upstream;
      if (blockedBy === undefined) {
        if (best === undefined || used < best.upstream.used) best = connection;
        continue;
      }
      blockedCount++;
      if (blocked === undefined || used < blocked.upstream.used) blocked = connection;
    }
    if (best === undefined && (this.#canGrow(blockedCount) || blocked === undefined)) return undefined;
    return (best ?? blocked)!.upstream.take(owner, local, state);
  }

  /** Whether another connection may be made since all with room are blocked. */
  #canGrow(blocked: number): boolean {
    if (this.#member !== undefined || blocked >= BLOCKED_ENOUGH) return false;
    return this.#owner.mayDial && !this.#host.slots.full;
  }

  #hasRoom(connection: Connection): boolean {
    const { used, room } = connection.upstream;
    if (!connection.usable || room === 0) return false;
    return this.#member !== undefined || used < this.#host.limits.maxChannelsPerConnection;
  }

  /** Gives those who wait what there is, first come first served. */
  serve(): void {
    if (this.#serving) return;
    this.#serving = true;
    try {
      for (let next = first(this.#waiting); next !== undefined; next = first(this.#waiting)) {
        const channel = this.#take(next.request);
        if (channel === undefined) break;
        this.#waiting.delete(next);
        this.#host.stats.waiting--;
        next.done(undefined, channel);
      }
    } finally {
      this.#serving = false;
    }
    this.want();
  }

  /** Gets in line for one more connection, or out of it. */
  want(): void {
    const arrival = this.#owner.mayDial ? this.#unmet() : undefined;
    if (arrival === this.#wish?.arrival) return;
    if (this.#wish !== undefined) this.#host.slots.withdraw(this.#wish);
    this.#wish = arrival === undefined ? undefined : { arrival, granted: () => this.#dial() };
    if (this.#wish !== undefined) this.#host.slots.want(this.#wish);
  }

  /** The arrival of the first request that no connection is under way for. */
  #unmet(): number | undefined {
    const coming = this.dials.size;
    if (coming === 0) {
      const since = this.#member === undefined ? this.#owner.wantedSince : undefined;
      const arrival = first(this.#waiting)?.arrival;
      if (this.#member !== undefined && this.connections.size > 0) return undefined;
      return since === undefined || (arrival !== undefined && arrival < since) ? arrival : since;
    }
    const covered = coming * this.#host.limits.maxChannelsPerConnection;
    if (this.#member !== undefined || this.#waiting.size <= covered) return undefined;
    let at = 0;
    for (const { arrival } of this.#waiting) if (at++ === covered) return arrival;
    return undefined;
  }

  #dial(): void {
    this.#wish = undefined;
    const member = this.#member ?? first(this.#waiting)?.request.member;
    this.dials.add(this.#owner.dial(this, member));
    this.want();
  }

  #adopt(connection: Connection): void {
    this.connections.add(connection);
    connection.keeper = this;
    this.#count(1);
  }

  /** Makes an open connection another's. */
  give(connection: Connection, to: Path<Member>): void {
    this.connections.delete(connection);
    this.#count(-1);
    to.#adopt(connection);
    this.want();
  }

  #count(by: 1 | -1): void {
    const { stats } = this.#host;
    if (this.#member === undefined) stats.sharedConnections += by;
    else stats.privateConnections += by;
  }

  opened(connection: Connection): void {
    this.dials.delete(connection);
    this.#adopt(connection);
    this.#owner.opened();
    this.eased(connection);
  }

  eased(connection: Connection): void {
    const { slots } = this.#host;
    // Those who wait for a connection are served before those who came later and wait for a channel: by closing this one.
    const arrival = first(this.#waiting)?.arrival ?? Infinity;
    if (this.#member === undefined && connection.isIdle && slots.oldest < arrival) slots.grant();
    this.serve();
  }

  ended(connection: Connection, end: UpstreamEnd): void {
    if (this.dials.delete(connection)) {
      this.#owner.failed(this, end);
    } else if (this.connections.delete(connection)) {
      this.#count(-1);
      this.#owner.lost(end);
    }
  }

  /** Takes those out who wait for this member, without a word. */
  forget(member: Member): void {
    for (const waiting of this.#waiting) {
      if (waiting.request.member !== member) continue;
      this.#waiting.delete(waiting);
      this.#host.stats.waiting--;
    }
    this.want();
  }

  refuse(refusal: PoolRefusal): void {
    const all = takeAll(this.#waiting);
    this.#host.stats.waiting -= all.length;
    this.want();
    this.#answer(all, refusal);
  }

  /** Refuses those who have waited for too long. */
  expire(now: number): void {
    const expired = takeExpired(this.#waiting, now);
    if (expired.length === 0) return;
    const { limits, stats } = this.#host;
    stats.waiting -= expired.length;
    stats.waitTimeouts += expired.length;
    const refusal = this.lateness(limits.waitTimeout);
    this.want();
    this.#answer(expired, refusal);
  }

  #answer(all: readonly ChannelWaiting<Member>[], refusal: PoolRefusal): void {
    for (const { request, done } of still(all)) if (this.#owner.has(request.member)) done(refusal, undefined);
  }

  /** What those are told who have waited for so long, in milliseconds. */
  lateness(wait: number): PoolRefusal {
    const { maxUpstreamConnections } = this.#host.limits;
    if (this.#wish !== undefined)
      return exhausted(wait, `--max-upstream-connections is ${maxUpstreamConnections}`);
    if (this.dials.size > 0 || this.#owner.failure !== undefined)
      return unreachable(wait, this.#owner.failure);
    return exhausted(wait, 'all channels of the connection to the broker are used');
  }

  /** Closes all connections. */
  close(why: string): void {
    for (const connection of [...this.connections, ...this.dials]) connection.close(why);
  }

  /** The pool is closed. */
  end(): void {
    this.refuse(ENDED);
    this.close(ENDED.text);
  }
}
