import type { Tune } from '../../amqp/connection.ts';
import type { ChannelState } from '../../proxy/pool/channel-state.ts';
import type { ConnectRequest } from '../../proxy/pool/connection.ts';
import type { Credentials } from '../../proxy/pool/login.ts';
import type { ChannelOwner, UpstreamChannel, UpstreamEnd } from '../../proxy/pool/upstream-channel.ts';
import type { Upstream, UpstreamStage } from '../../proxy/pool/upstream.ts';

export const START = Uint8Array.of(1, 0, 0);
export const TUNE: Tune = { channelMax: 2047, frameMax: 131_072, heartbeat: 60 };

/** A connection to the broker whose broker is the test: it moves from stage to stage when told to. */
export class FakeUpstream {
  state: UpstreamStage = 'connecting';
  wasOpen = false;
  credentials: Credentials | undefined;
  virtualHost: string | undefined;
  blockedBy: string | undefined;
  idleSince = 0;
  channelMax = 2047;
  readonly frameMax = 131_072;
  readonly channels = new Set<FakeChannel>();
  /** What it was closed with by the pool. */
  closedWith: string | undefined;
  /** Whether a close is answered at once. */
  closesAtOnce = true;
  readonly request: ConnectRequest;

  constructor(request: ConnectRequest) {
    this.request = request;
    this.credentials = request.credentials;
  }

  get used(): number {
    return this.channels.size;
  }

  get room(): number {
    return this.state === 'open' ? this.channelMax - this.channels.size : 0;
  }

  get owners(): number {
    return new Set([...this.channels].map(({ owner }) => owner)).size;
  }

  login(credentials: Credentials): void {
    this.credentials = credentials;
  }

  open(virtualHost: string): void {
    this.virtualHost = virtualHost;
  }

  take(owner: ChannelOwner, local: number, state: ChannelState): UpstreamChannel | undefined {
    if (this.room === 0) return undefined;
    const channel = new FakeChannel(this, owner, local, state);
    this.channels.add(channel);
    return channel as unknown as UpstreamChannel;
  }

  sweep(): void {
    // Heartbeats and deadlines are the test's.
  }

  close(text: string): void {
    if (this.state === 'ended' || this.state === 'closing') return;
    this.closedWith = text;
    const before = this.state;
    this.state = 'closing';
    this.channels.clear();
    if (before !== 'open' || this.closesAtOnce) this.closed();
  }

  /** The broker answers the pool's close. */
  closed(): void {
    this.end({ kind: 'ended', text: this.closedWith ?? '' });
  }

  greet(): this {
    this.state = 'greeted';
    this.request.events.greeted(START);
    return this;
  }

  /** The broker takes the login. */
  authenticate(): this {
    if (this.state === 'connecting') this.greet();
    this.state = 'authenticated';
    this.request.events.authenticated(TUNE);
    return this;
  }

  /** The broker opens the virtual host, after the login where that was not taken yet. */
  accept(): this {
    if (this.state !== 'authenticated') this.authenticate();
    this.state = 'open';
    this.wasOpen = true;
    this.idleSince = performance.now();
    this.request.events.opened();
    return this;
  }

  end(end: UpstreamEnd): void {
    this.state = 'ended';
    this.channels.clear();
    this.request.events.ended(end);
  }

  refuse(text = 'ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.'): void {
    if (this.state === 'connecting') this.greet();
    this.end({ kind: 'refused', replyCode: 403, text });
  }

  /** The broker closes with a word. */
  closeWith(replyCode: number, text: string): void {
    this.end({ kind: 'closed', replyCode, text, method: 0 });
  }

  lose(): void {
    this.end({ kind: 'lost', text: 'the broker ended the connection' });
  }

  fail(): void {
    this.end({ kind: 'unreachable', text: 'backend b:5672 cannot be reached: ECONNREFUSED' });
  }

  block(reason: string | undefined): void {
    this.blockedBy = reason;
    this.request.events.blocked(reason);
  }

  get upstream(): Upstream {
    return this as unknown as Upstream;
  }
}

/** A channel of a {@link FakeUpstream}, settled at once when it is released. */
export class FakeChannel {
  readonly upstream: FakeUpstream;
  readonly owner: ChannelOwner;
  readonly local: number;
  readonly state: ChannelState;

  constructor(upstream: FakeUpstream, owner: ChannelOwner, local: number, state: ChannelState) {
    this.upstream = upstream;
    this.owner = owner;
    this.local = local;
    this.state = state;
  }

  release(): void {
    const { upstream } = this;
    if (!upstream.channels.delete(this)) return;
    if (upstream.used === 0) upstream.idleSince = performance.now();
    upstream.request.events.settled();
    if (upstream.used === 0 && upstream.state === 'open') upstream.request.events.idle();
  }
}
