import { REPLY } from '../../amqp/constants.ts';
import type { Tune } from '../../amqp/connection.ts';
import { WireError } from '../../amqp/error.ts';
import type { Logger } from '../../common/log.ts';
import type { PoolDocument } from '../admin/documents.ts';
import type { Endpoints } from '../proxy-protocol.ts';
import { Credential, type CredentialHost } from './credential.ts';
import { Greeting, type GreetingHost } from './greeting.ts';
import { type Entered, Group, type GroupHost, type GroupMember } from './group.ts';
import { poolKey } from './key.ts';
import { type ConnectRequest, type Keeper, Connection, type ConnectionHost, type Who } from './connection.ts';
import type { Path } from './path.ts';
import { ENDED, type PoolRefusal } from './refusal.ts';
import { Slots } from './slots.ts';
import type { PoolStats } from './stats.ts';
import type { Upstream } from './upstream.ts';
import { ANSWERED, type Request } from './waiting.ts';

/** Logins that are put to the broker at a time: those with wrong passwords take no slot of anybody's. */
const LOGINS = 64;

export interface PoolLimits {
  /** Connections to the broker at a time, those of one client alone included; such as only log in are not counted. */
  readonly maxUpstreamConnections: number;
  /** Channels of clients on a connection that they share. */
  readonly maxChannelsPerConnection: number;
  /** Milliseconds after which a connection without channels is closed, and a login is put to the broker again. */
  readonly idleTimeout: number;
  /** Milliseconds that anybody waits for anything. */
  readonly waitTimeout: number;
}

export interface PoolSettings {
  /** What the connections are called, before a number: the broker's management shows user and virtual host beside it. */
  readonly name: string;
  /** Begins to connect; its events come later. */
  readonly connect: (request: ConnectRequest) => Upstream;
  readonly limits: PoolLimits;
  readonly stats: PoolStats;
  readonly log: Logger;
  /** Milliseconds, as performance.now() has them, which it is without. */
  readonly now?: () => number;
}

type Host = ConnectionHost & GroupHost & CredentialHost & GreetingHost;

/** All connections to the broker, and who gets which. */
export class Pool {
  readonly #name: string;
  /** Its own, as it may change. */
  readonly #limits: PoolLimits;
  readonly #host: Host;
  readonly #slots: Slots;
  readonly #connections = new Set<Connection>();
  /** By {@link Who.key}. */
  readonly #credentials = new Map<string, Credential>();
  /** By {@link poolKey}. */
  readonly #groups = new Map<string, Group>();
  readonly #greeting: Greeting;
  #arrivals = 0;
  /** Connections made since the start. */
  #made = 0;
  #closed = false;

  constructor({ name, connect, limits, stats, log, now = () => performance.now() }: PoolSettings) {
    this.#name = name;
    this.#limits = { ...limits };
    this.#slots = new Slots(limits.maxUpstreamConnections, () => this.#evict());
    const hasOpen = (): boolean => stats.sharedConnections + stats.privateConnections > 0;
    this.#host = {
      limits: this.#limits,
      stats,
      log,
      slots: this.#slots,
      logins: new Slots(LOGINS, () => false),
      now,
      arrival: () => ++this.#arrivals,
      get hasOpen() {
        return hasOpen();
      },
      connect,
      greeted: (start) => this.#greeting.heard(start),
      ended: (connection) => this.#connections.delete(connection),
      greet: (endpoints, keeper) => this.#connect({ credentials: undefined, endpoints }, keeper, undefined),
      login: (who, credential) => this.#login(who, credential),
      dial: (who, virtualHost, credential, path) => this.#dial(who, virtualHost, credential, path),
      forget: (group) => this.#forget(group),
    };
    this.#greeting = new Greeting(this.#host);
  }

  /** Other limits from now on; connections that are beyond them stay. */
  use(limits: PoolLimits): void {
    Object.assign(this.#limits, limits);
    this.#slots.use(limits.maxUpstreamConnections);
  }

  /** Connections to the broker, in whatever state. */
  get size(): number {
    return this.#connections.size;
  }

  /** Octets that wait for the connections to take them. */
  get writableLength(): number {
    let octets = 0;
    for (const { upstream } of this.#connections) octets += upstream.socket.writableLength;
    return octets;
  }

  /**
   * The broker's connection.start, without its login: the last one seen while a connection is open or it is fresh, else that
   * of a connection of its own.
   */
  greeting(endpoints: Endpoints, got: (start: Uint8Array | PoolRefusal) => void): Request {
    if (!this.#closed) return this.#greeting.get(endpoints, got);
    got(ENDED);
    return ANSWERED;
  }

  /**
   * Proves a client's login: at once if the broker has taken the same one within the idle timeout, else by a login of its
   * own. `tune` is the broker's, with its own channel_max.
   */
  login(who: Who, done: (refusal: PoolRefusal | undefined, tune: Tune | undefined) => void): Request {
    if (!this.#closed) return this.#credential(who).login(who, done);
    done(ENDED, undefined);
    return ANSWERED;
  }

  /**
   * The client's connection.open: done as soon as its group has a connection to the broker, which decides on the virtual host.
   * @throws WireError 502 when the virtual host's name has more than 255 octets
   */
  enter(who: Who, virtualHost: string, member: GroupMember, done: Entered): Request {
    if (Buffer.byteLength(virtualHost) > 255)
      throw new WireError(REPLY.syntaxError, 'the name of the virtual host is too long');
    if (this.#closed) {
      done(ENDED, undefined);
      return ANSWERED;
    }
    const key = poolKey(who.key, virtualHost);
    let group = this.#groups.get(key);
    const credential = this.#credential(who);
    if (group === undefined) {
      group = new Group(this.#host, { key, virtualHost, user: who.credentials.user }, credential);
      this.#groups.set(key, group);
    }
    const request = group.enter(who, member, done);
    // Nobody asked for what the login's connection could be used for.
    if (request === ANSWERED) credential.finishSpare(virtualHost);
    return request;
  }

  #credential(who: Who): Credential {
    const { key } = who;
    let credential = this.#credentials.get(key);
    if (credential === undefined) {
      credential = new Credential(this.#host);
      this.#credentials.set(key, credential);
    }
    return credential;
  }

  #connect(
    to: Pick<ConnectRequest, 'credentials' | 'endpoints'>,
    keeper: Keeper,
    credential: Credential | undefined,
  ): Connection {
    const name = `${this.#name} #${++this.#made}`;
    const connection = new Connection(this.#host, keeper, { ...to, name }, credential);
    this.#connections.add(connection);
    return connection;
  }

  #login(who: Who, credential: Credential): void {
    const greeted = this.#greeting.take();
    const connection = greeted ?? this.#connect(who, credential, credential);
    connection.slots = this.#host.logins;
    if (greeted === undefined) return;
    connection.keeper = credential;
    connection.login(credential, who.credentials);
  }

  #dial(who: Who, virtualHost: string, credential: Credential, path: Path<GroupMember>): Connection {
    const connection = credential.takeSpare() ?? this.#connect(who, path, credential);
    connection.keeper = path;
    connection.slots = this.#slots;
    connection.upstream.open(virtualHost);
    return connection;
  }

  #forget(group: Group): void {
    if (this.#groups.get(group.key) === group) this.#groups.delete(group.key);
  }

  /** Begins to close the shared connection that nobody has used for longest. */
  #evict(): boolean {
    let oldest: Connection | undefined;
    for (const group of this.#groups.values()) {
      for (const connection of group.connections) {
        if (!connection.isIdle) continue;
        if (oldest === undefined || connection.upstream.idleSince < oldest.upstream.idleSince)
          oldest = connection;
      }
    }
    oldest?.close('its place is needed');
    return oldest !== undefined;
  }

  /** Closes what is idle, ends what has waited for too long; to be called several times a second. */
  sweep(now: number): void {
    for (const { upstream } of this.#connections) upstream.sweep(now);
    this.#greeting.sweep(now);
    for (const group of this.#groups.values()) group.sweep(now);
    for (const [key, credential] of this.#credentials) {
      credential.sweep(now);
      if (credential.isUnused) this.#credentials.delete(key);
    }
  }

  /** Closes all connections, and refuses all that is asked for. */
  close(): void {
    this.#closed = true;
    this.#greeting.end();
    for (const credential of this.#credentials.values()) credential.end();
    for (const group of this.#groups.values()) group.end();
    for (const connection of this.#connections) connection.close(ENDED.text);
  }

  /** Open connections of clients; undefined is every user, and every virtual host. */
  upstreams(user: string | undefined, virtualHost: string | undefined): Upstream[] {
    const groups = [...this.#groups.values()].filter(
      (group) =>
        (user === undefined || group.user === user) &&
        (virtualHost === undefined || group.virtualHost === virtualHost),
    );
    return groups.flatMap((group) => group.upstreams());
  }

  /** What there is, for people: no credentials. */
  document(): PoolDocument {
    return {
      connections: this.#slots.taken,
      maxUpstreamConnections: this.#limits.maxUpstreamConnections,
      logins: this.#credentials.size,
      groups: [...this.#groups.values()].map((group) => group.document()),
    };
  }
}
