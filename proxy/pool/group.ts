import type { Logger } from '../../common/log.ts';
import type { GroupDocument } from '../admin/documents.ts';
import { Backoff } from './backoff.ts';
import type { Credential, CredentialUser } from './credential.ts';
import type { Connection, Who } from './connection.ts';
import { type Acquired, type ChannelRequest, Path, type PathHost, type PathOwner } from './path.ts';
import { ENDED, finalRefusal, isFinal, type PoolRefusal } from './refusal.ts';
import type { UpstreamEnd } from './upstream-channel.ts';
import type { Upstream } from './upstream.ts';
import { ANSWERED, first, type Request, still, takeAll, takeExpired, type Waiting } from './waiting.ts';

/** A client of a group. */
export interface GroupMember {
  /** The group has a connection to the broker again, or has lost its last one. */
  pathAlive(alive: boolean): void;
  /** The broker doesn't let the group in any more: there will be no connection for it. */
  refused?(refusal: PoolRefusal): void;
}

export type Entered = (refusal: PoolRefusal | undefined, group: Group | undefined) => void;

interface Entering extends Waiting {
  readonly who: Who;
  readonly member: GroupMember;
  readonly done: Entered;
}

export interface GroupHost extends PathHost {
  /** Times in milliseconds. */
  readonly limits: PathHost['limits'] & { readonly idleTimeout: number };
  readonly log: Logger;
  /** A connection with this login for this virtual host, in a slot that was granted. */
  dial(who: Who, virtualHost: string, credential: Credential, path: Path<GroupMember>): Connection;
  /** Nothing is left of the group, or nothing will become of it. */
  forget(group: Group): void;
}

export interface AcquireRequest extends ChannelRequest<GroupMember> {
  /** On a connection of the member's own. */
  readonly private: boolean;
}

/** Clients with the same login and virtual host, and their connections to the broker. */
export class Group implements PathOwner<GroupMember>, CredentialUser {
  /** Its pool key. */
  readonly key: string;
  readonly user: string | undefined;
  readonly virtualHost: string;
  /** Of the last attempt, when it failed. */
  failure: UpstreamEnd | undefined;

  readonly #host: GroupHost;
  readonly #credential: Credential;
  /** With their logins, which connections are made with. */
  readonly #members = new Map<GroupMember, Who>();
  readonly #entering = new Set<Entering>();
  readonly #shared: Path<GroupMember>;
  readonly #own = new Map<GroupMember, Path<GroupMember>>();
  readonly #backoff = new Backoff();
  #timer: NodeJS.Timeout | undefined;
  /** The last connection was not lost, though it may have been closed. */
  #alive = false;
  /** The arrival of the wish for a new connection in place of the last one that was lost. */
  #lostAt = 0;
  /** The broker's last word, when there is to be no connection any more. */
  #refusal: PoolRefusal | undefined;

  constructor(
    host: GroupHost,
    { key, virtualHost, user }: { key: string; virtualHost: string; user: string | undefined },
    credential: Credential,
  ) {
    this.#host = host;
    this.#credential = credential;
    this.key = key;
    this.virtualHost = virtualHost;
    this.user = user;
    this.#shared = new Path(host, this, undefined);
    credential.users.add(this);
  }

  /** Whether there is a way to the broker: a connection, or none since the pool itself closed the last one. */
  get alive(): boolean {
    return this.#alive;
  }

  /** Connections that clients may share. */
  get connections(): ReadonlySet<Connection> {
    return this.#shared.connections;
  }

  get #isOpen(): boolean {
    for (const path of this.#paths())
      for (const connection of path.connections) if (connection.usable) return true;
    return false;
  }

  *#paths(): Iterable<Path<GroupMember>> {
    yield this.#shared;
    yield* this.#own.values();
  }

  get mayDial(): boolean {
    return this.#timer === undefined && this.#refusal === undefined && this.#credential.refusal === undefined;
  }

  get wantedSince(): number | undefined {
    const entering = first(this.#entering);
    if (entering !== undefined) return entering.arrival;
    return this.#members.size > 0 && !this.#alive ? this.#lostAt : undefined;
  }

  /** Becomes a member, as soon as the group has a connection to the broker. */
  enter(who: Who, member: GroupMember, done: Entered): Request {
    const refusal = this.#refusal ?? this.#credential.refusal;
    if (refusal !== undefined) {
      this.#forgetIfEmpty();
      done(refusal, undefined);
      return ANSWERED;
    }
    if (this.#isOpen) {
      this.#members.set(member, who);
      done(undefined, this);
      return ANSWERED;
    }
    const deadline = this.#host.now() + this.#host.limits.waitTimeout;
    const entering: Entering = { arrival: this.#host.arrival(), deadline, who, member, done };
    this.#entering.add(entering);
    this.#shared.want();
    return {
      cancel: () => {
        entering.cancelled = true;
        if (this.#entering.delete(entering)) this.#left();
      },
    };
  }

  /**
   * Calls back with a channel at the broker: at once where there is room.
   * @throws Error when it is for one that is no member
   */
  acquire(request: AcquireRequest, done: Acquired): Request {
    const { member } = request;
    if (!this.#members.has(member)) throw new Error('only members of a group get channels');
    const refusal = this.#refusal ?? this.#credential.refusal;
    if (!request.private) return this.#shared.acquire(request, done, refusal);
    let path = this.#own.get(member);
    if (path === undefined) {
      path = new Path(this.#host, this, member);
      this.#own.set(member, path);
    }
    if (path.isEmpty) this.#giveIdle(path);
    return path.acquire(request, done, refusal);
  }

  /** A shared connection that nobody uses is as good as a new one. */
  #giveIdle(path: Path<GroupMember>): void {
    for (const connection of this.#shared.connections) {
      if (!connection.isIdle || connection.upstream.blockedBy !== undefined) continue;
      this.#shared.give(connection, path);
      return;
    }
  }

  /**
   * Makes a shared connection the member's own, where it alone has channels there and has no other of its own.
   * @returns whether it is
   */
  reserve(upstream: Upstream, member: GroupMember): boolean {
    const path = this.#own.get(member) ?? new Path(this.#host, this, member);
    for (const connection of path.connections) if (connection.upstream === upstream) return connection.usable;
    if (!path.isEmpty || !this.#members.has(member) || upstream.owners > 1) return false;
    for (const connection of this.#shared.connections) {
      if (connection.upstream !== upstream || !connection.usable) continue;
      this.#own.set(member, path);
      this.#shared.give(connection, path);
      return true;
    }
    return false;
  }

  /** The member is gone, and with it what it waits for and the connection of its own. */
  leave(member: GroupMember): void {
    if (!this.#members.delete(member)) return;
    this.#shared.forget(member);
    const path = this.#own.get(member);
    path?.forget(member);
    path?.close('its client is gone');
    if (path?.isEmpty === true) this.#own.delete(member);
    this.#left();
  }

  #left(): void {
    if (this.#members.size === 0 && this.#entering.size === 0) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.failure = undefined;
    }
    this.#shared.want();
    this.#forgetIfEmpty();
  }

  #forgetIfEmpty(): void {
    for (const [member, path] of this.#own) {
      if (path.isEmpty && !this.#members.has(member)) this.#own.delete(member);
    }
    if (this.#members.size > 0 || this.#entering.size > 0) return;
    if (this.#shared.isEmpty && this.#own.size === 0) this.#forget();
  }

  #forget(): void {
    this.#credential.users.delete(this);
    this.#host.forget(this);
  }

  has(member: GroupMember): boolean {
    return this.#members.has(member);
  }

  dial(path: Path<GroupMember>, member: GroupMember | undefined): Connection {
    const who =
      (member === undefined ? first(this.#entering)?.who : this.#members.get(member)) ??
      this.#members.values().next().value!;
    return this.#host.dial(who, this.virtualHost, this.#credential, path);
  }

  opened(): void {
    this.failure = undefined;
    this.#backoff.reset();
    const entering = takeAll(this.#entering);
    if (!this.#alive) this.#turn(true);
    for (const { who, member, done } of still(entering)) {
      this.#members.set(member, who);
      done(undefined, this);
    }
  }

  /** Tells the members whether there is a way to the broker. */
  #turn(alive: boolean): void {
    this.#alive = alive;
    if (!alive) this.#lostAt = this.#host.arrival();
    const members = [...this.#members.keys()];
    if (members.length > 0) {
      const who = { user: this.user, virtualHost: this.virtualHost, clients: members.length };
      if (alive) this.#host.log.info(who, 'connected to the broker again');
      else this.#host.log.warn(who, 'the last connection to the broker is lost');
    }
    for (const member of members) if (this.#members.has(member)) member.pathAlive(alive);
  }

  failed(path: Path<GroupMember>, end: UpstreamEnd): void {
    if (isFinal(end)) this.#refused(path, finalRefusal(end));
    else if (end.kind !== 'ended') {
      this.failure = end;
      this.#retreat();
    }
    this.#again();
  }

  lost(end: UpstreamEnd): void {
    if (end.kind !== 'ended' && !this.#isOpen) this.#retreat();
    this.#again();
  }

  /** Something went wrong with the broker: the next attempt is made later. */
  #retreat(): void {
    if (this.#members.size === 0 && this.#entering.size === 0) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#wantAll();
    }, this.#backoff.next());
    if (this.#alive && !this.#isOpen) this.#turn(false);
  }

  #again(): void {
    for (const path of this.#paths()) path.serve();
    const { refusal } = this.#credential;
    if (refusal !== undefined && this.#isLost) this.#refused(undefined, refusal);
    this.#forgetIfEmpty();
  }

  #wantAll(): void {
    for (const path of this.#paths()) path.want();
  }

  /**
   * The broker has said no, and would again. Where nothing is left of the group, that is its end.
   * @param path whose connection it was, undefined: all are to be refused
   */
  #refused(path: Path<GroupMember> | undefined, refusal: PoolRefusal): void {
    if (this.#refusal !== undefined) return;
    const isOver = this.#isLost;
    if (isOver) {
      this.#refusal = refusal;
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#forget();
    }
    const all = isOver || path === undefined;
    const entering = all || path === this.#shared ? takeAll(this.#entering) : [];
    for (const one of all ? this.#paths() : [path]) one.refuse(refusal);
    for (const { done } of still(entering)) done(refusal, undefined);
    if (!isOver) return;
    for (const member of this.#members.keys()) member.refused?.(refusal);
  }

  /** Whether there is nothing that anybody could go on with, not even the hope of members that did without for a while. */
  get #isLost(): boolean {
    if (this.#alive && this.#members.size > 0) return false;
    for (const path of this.#paths()) if (!path.isEmpty) return false;
    return true;
  }

  credentialRefused(refusal: PoolRefusal): void {
    this.#refused(undefined, refusal);
    this.#forgetIfEmpty();
  }

  /** @param now of the pool's clock, in milliseconds */
  sweep(now: number): void {
    const { idleTimeout } = this.#host.limits;
    for (const connection of this.#shared.connections)
      if (connection.isIdle && now - connection.upstream.idleSince >= idleTimeout) connection.close('idle');
    for (const path of this.#paths()) path.expire(now);
    const expired = takeExpired(this.#entering, now);
    if (expired.length === 0) return;
    const { limits, stats } = this.#host;
    stats.waitTimeouts += expired.length;
    const refusal = this.#shared.lateness(limits.waitTimeout);
    for (const { done } of still(expired)) done(refusal, undefined);
    this.#left();
  }

  /** The pool is closed. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#refusal = ENDED;
    for (const { done } of still(takeAll(this.#entering))) done(ENDED, undefined);
    for (const path of this.#paths()) path.end();
  }

  /** Its open connections, those of one client alone included. */
  upstreams(): Upstream[] {
    return [...this.#paths()].flatMap(({ connections }) =>
      [...connections].filter(({ usable }) => usable).map(({ upstream }) => upstream),
    );
  }

  document(): GroupDocument {
    const connections = [...this.#paths()].flatMap((path) => [...path.dials, ...path.connections]);
    return {
      user: this.user ?? null,
      virtualHost: this.virtualHost,
      alive: this.#alive,
      clients: this.#members.size,
      waiting: [...this.#paths()].reduce((sum, path) => sum + path.waiting, this.#entering.size),
      connections: connections.map((connection) => connection.document()),
    };
  }
}
