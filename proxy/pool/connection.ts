import type { Tune } from '../../amqp/connection.ts';
import type { UpstreamDocument } from '../admin/documents.ts';
import type { Endpoints } from '../proxy-protocol.ts';
import type { Credential } from './credential.ts';
import type { Credentials } from './login.ts';
import type { Slots } from './slots.ts';
import type { UpstreamEnd } from './upstream-channel.ts';
import type { Upstream, UpstreamEvents } from './upstream.ts';

/** A client as the pool knows it. */
export interface Who {
  readonly credentials: Credentials;
  /** What its login is known by: the credentialKey of the two. */
  readonly key: string;
  readonly endpoints: Endpoints;
}

/** What the pool asks for when it wants a connection to the broker. */
export interface ConnectRequest {
  /** Undefined: they follow by {@link Upstream.login}. */
  readonly credentials: Credentials | undefined;
  /** Of the client that it is made for. */
  readonly endpoints: Endpoints;
  /** The connection_name. */
  readonly name: string;
  readonly events: UpstreamEvents;
}

/** Whom a connection is for at present. */
export interface Keeper {
  /** The broker has taken the login. */
  authenticated?(connection: Connection): void;
  opened?(connection: Connection): void;
  /** A channel may have become free, or the broker takes publishes again. */
  eased?(connection: Connection): void;
  ended?(connection: Connection, end: UpstreamEnd): void;
}

/** What all connections of a pool report to. */
export interface ConnectionHost {
  connect(request: ConnectRequest): Upstream;
  greeted(start: Uint8Array): void;
  ended(connection: Connection): void;
}

/** A connection to the broker, and what the pool knows of it. */
export class Connection implements UpstreamEvents {
  readonly name: string;
  readonly upstream: Upstream;
  keeper: Keeper;
  /** Whose login it is; undefined as long as it waits for one. */
  credential: Credential | undefined;
  /** Where it takes a slot. */
  slots: Slots | undefined;
  /** The broker has taken the login. */
  proven = false;
  /** connection.open-ok has come. */
  wasOpen = false;
  /** It is being closed by the pool. */
  leaving = false;
  readonly #host: ConnectionHost;

  constructor(
    host: ConnectionHost,
    keeper: Keeper,
    to: Omit<ConnectRequest, 'events'>,
    credential: Credential | undefined,
  ) {
    this.#host = host;
    this.name = to.name;
    this.keeper = keeper;
    this.credential = credential;
    this.upstream = host.connect({ ...to, events: this });
    credential?.proving(this);
  }

  /** Logs in on a connection that was only greeted. */
  login(credential: Credential, credentials: Credentials): void {
    this.credential = credential;
    credential.proving(this);
    this.upstream.login(credentials);
  }

  /** Whether channels can be had there. */
  get usable(): boolean {
    return this.upstream.state === 'open' && this.wasOpen && !this.leaving;
  }

  /** Whether nobody has a channel there. */
  get isIdle(): boolean {
    return this.usable && this.upstream.used === 0;
  }

  /** Closes it in order. */
  close(why: string): void {
    if (this.leaving) return;
    this.leaving = true;
    this.slots?.leave();
    this.upstream.close(why);
  }

  greeted(start: Uint8Array): void {
    this.#host.greeted(start);
  }

  authenticated(tune: Tune): void {
    this.proven = true;
    this.keeper.authenticated?.(this);
    this.credential!.proven(this, tune);
  }

  opened(): void {
    this.wasOpen = true;
    this.keeper.opened?.(this);
  }

  blocked(reason: string | undefined): void {
    if (reason === undefined) this.keeper.eased?.(this);
  }

  idle(): void {
    this.keeper.eased?.(this);
  }

  settled(): void {
    this.keeper.eased?.(this);
  }

  ended(end: UpstreamEnd): void {
    this.#host.ended(this);
    this.keeper.ended?.(this, end);
    this.credential?.lost(this, end);
    this.vacate();
  }

  /** Gives its slot back. */
  vacate(): void {
    const { slots } = this;
    this.slots = undefined;
    slots?.free(this.leaving);
  }

  document(): UpstreamDocument {
    const { name, upstream, leaving } = this;
    const { state, used, owners, channelMax, blockedBy } = upstream;
    return {
      name,
      state: leaving ? 'closing' : state,
      channels: used,
      clients: owners,
      channelMax,
      blockedBy: blockedBy ?? null,
    };
  }
}
