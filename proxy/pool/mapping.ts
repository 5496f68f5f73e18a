import { METHOD, REPLY } from '../../amqp/constants.ts';
import type { ProxyErrorCode } from '../errors.ts';
import type { LinkEvents } from '../link.ts';
import type { ClientChannel } from './client-channel.ts';
import type { Group, GroupMember } from './group.ts';
import { needsOwnConnection } from './offence.ts';
import { type PoolRefusal, REFUSAL_CODE } from './refusal.ts';
import type { PoolStats } from './stats.ts';
import type { ChannelOwner, UpstreamChannel, UpstreamEnd } from './upstream-channel.ts';
import type { Upstream } from './upstream.ts';
import type { Ways } from './ways.ts';

export interface MappingSettings {
  /** Does something that others set off, see {@link LinkEvents.guard}. */
  readonly guard: LinkEvents['guard'];
  readonly group: Group;
  readonly member: GroupMember;
  readonly resume: boolean;
  /** Milliseconds that channels may take to be made anew, with `resume`. */
  readonly resumeTimeout: number;
  /** The client has connections to the broker of its own from the beginning. */
  readonly isPrivate: boolean;
  readonly lookupChannel: () => number | undefined;
  readonly stats: PoolStats;
  /** A frame of the proxy's own for the client, behind all that it was given before. */
  readonly say: (frame: Uint8Array) => void;
  /** The client is to have connections to the broker of its own the next time. */
  readonly quarantine: (why: string) => void;
}

/** Whose channels are mapped. */
export interface MappingHost extends ChannelOwner {
  readonly channels: ReadonlyMap<number, ClientChannel>;
  readonly ways: Ways;
  /** What was waited for is there, or will never be: frames that were held are to be taken again. */
  proceed(): void;
  /** The lookup's channel has lost what it was on. */
  renewLookup(channel: ClientChannel): void;
  /** The client's connection has to be ended. */
  endClient(code: ProxyErrorCode, replyCode: number, text: string, method?: number): void;
}

/** Which channels at the broker a client's channels are on: shared connections, or its own where it needs that. */
export class Mapping {
  readonly #settings: MappingSettings;
  readonly #host: MappingHost;
  /** The connections to the broker that are the client's own. */
  readonly own = new Set<Upstream>();
  #isPrivate: boolean;
  /** The client has declared exclusive queues, which end with its connection to the broker. */
  #hasExclusive = false;
  #ended = false;

  constructor(settings: MappingSettings, host: MappingHost) {
    this.#settings = settings;
    this.#host = host;
    this.#isPrivate = settings.isPrivate;
  }

  /** Whether nobody else's channels suffer when the broker ends the channel's connection. */
  isAlone({ upstream }: ClientChannel): boolean {
    return upstream !== undefined && this.own.has(upstream.upstream);
  }

  /**
   * Sees to a connection to the broker of the client's own where the method needs one.
   * @returns false when it has to be waited for, or the client is being ended
   */
  ownIfNeeded(
    channel: ClientChannel,
    method: number,
    octets: Uint8Array,
    start: number,
    end: number,
  ): boolean {
    const why = needsOwnConnection(method, octets, start, end);
    if (why === undefined) return true;
    if (method === METHOD.queueDeclare) this.#hasExclusive = true;
    if (this.#isPrivate && (channel.upstream === undefined || this.isAlone(channel))) return true;
    this.#settings.quarantine(why);
    const { group, member, stats } = this.#settings;
    const { upstream } = channel;
    const present = (upstream ?? this.#somewhere())?.upstream;
    if (present !== undefined && group.reserve(present, member)) {
      this.own.add(present);
      this.#isPrivate = true;
      return true;
    }
    if (upstream !== undefined && !channel.state.isRestorable) {
      const text = `${why}, and this channel can't be moved to one of its own: connect again, and there is one`;
      this.#host.endClient('EXCLUSIVE_MOVE', REPLY.connectionForced, text, method);
      return false;
    }
    this.#isPrivate = true;
    stats.moved++;
    return this.#move(channel);
  }

  /**
   * Makes the connections that the client's channels are on its own, where nobody else has channels there.
   * @returns whether all of them are its own now
   */
  claim(): boolean {
    const { group, member } = this.#settings;
    for (const { upstream } of this.#host.channels.values()) {
      if (upstream === undefined || this.own.has(upstream.upstream)) continue;
      if (!group.reserve(upstream.upstream, member)) return false;
      this.own.add(upstream.upstream);
      this.#isPrivate = true;
    }
    return true;
  }

  /** A channel at the broker that the client has. */
  #somewhere(): UpstreamChannel | undefined {
    for (const { upstream } of this.#host.channels.values()) if (upstream?.usable === true) return upstream;
    return undefined;
  }

  /** Moves the client's channels to its own connection, as far as they can be. @returns false when it takes time */
  #move(first: ClientChannel): boolean {
    const { channels, ways } = this.#host;
    ways.flush();
    let leaving = 1;
    const left = (): void => {
      if (--leaving === 0) this.#host.proceed();
    };
    const lookup = this.#settings.lookupChannel();
    for (const channel of channels.values()) {
      const { upstream, state, phase, number } = channel;
      const movable = channel === first || state.isRestorable || number === lookup;
      if (upstream === undefined || phase !== 'open' || !upstream.usable || !movable) continue;
      if (this.own.has(upstream.upstream)) continue;
      channel.upstream = undefined;
      if (number === lookup) this.#host.renewLookup(channel);
      else channel.toRestore = true;
      leaving++;
      // What it sent before has to be done before what it sends next.
      upstream.release(left);
    }
    return --leaving === 0;
  }

  /** @returns whether the channel has a channel at the broker now; else it is waited for */
  ensure(channel: ClientChannel): boolean {
    if (channel.upstream !== undefined) return true;
    if (channel.waiting === undefined) this.#acquire(channel, this.#deadline());
    return channel.upstream !== undefined;
  }

  /** Until when a broker that is gone is waited for by those who must not notice. */
  #deadline(): number {
    const { resume, resumeTimeout } = this.#settings;
    return resume ? performance.now() + resumeTimeout : 0;
  }

  #acquire(channel: ClientChannel, deadline: number): void {
    const { group, member } = this.#settings;
    const isPrivate = this.#isPrivate;
    const { number: local, state } = channel;
    let settled = false;
    const request = group.acquire(
      { member, owner: this.#host, local, state, private: isPrivate },
      (refusal, upstream) => {
        settled = true;
        channel.waiting = undefined;
        this.#settings.guard(() => {
          if (this.#ended || channel.phase !== 'open') upstream?.release(undefined);
          else if (upstream === undefined) this.#refused(channel, refusal!, deadline);
          else {
            if (isPrivate) this.own.add(upstream.upstream);
            this.#acquired(channel, upstream);
            this.#host.proceed();
          }
        });
      },
    );
    if (!settled) channel.waiting = request;
  }

  #refused(channel: ClientChannel, refusal: PoolRefusal, deadline: number): void {
    if (refusal.kind === 'unreachable' && performance.now() < deadline) {
      this.#acquire(channel, deadline);
      return;
    }
    this.#host.endClient(REFUSAL_CODE[refusal.kind], refusal.replyCode, refusal.text);
  }

  #acquired(channel: ClientChannel, upstream: UpstreamChannel): void {
    channel.upstream = upstream;
    channel.publish.renumber(upstream.number);
    if (!channel.toRestore) return;
    channel.toRestore = false;
    this.#settings.stats.restored++;
    const restorations = channel.state.restore(upstream.number);
    upstream.expect(restorations.map(({ answer }) => answer).filter((answer) => answer !== 0));
    for (const { frame } of restorations) upstream.upstream.send(frame);
  }

  /** A connection to the broker is gone, with these channels. */
  lost(lost: readonly UpstreamChannel[], end: UpstreamEnd): void {
    const [first] = lost;
    if (first === undefined || this.#ended) return;
    const { stats, resume } = this.#settings;
    const isOwn = this.own.delete(first.upstream);
    let isTold = (this.#hasExclusive && isOwn) || this.#isSuspect(lost, end);
    const resuming: ClientChannel[] = [];
    for (const upstream of lost) {
      const channel = this.#host.channels.get(upstream.local);
      if (channel === undefined || channel.upstream !== upstream) continue;
      channel.upstream = undefined;
      if (channel.phase !== 'open') continue;
      if (channel.number === this.#settings.lookupChannel()) {
        this.#host.renewLookup(channel);
        continue;
      }
      this.#nack(channel);
      channel.toRestore = true;
      if (channel.state.isRestorable) continue;
      if (resume && channel.state.isResumable) resuming.push(channel);
      else isTold = true;
    }
    if (isTold) {
      stats.clientsLost++;
      const text = `the connection to the broker was lost: ${end.text}`;
      this.#host.endClient('BACKEND_LOST', REPLY.connectionForced, text);
      return;
    }
    stats.resumed += resuming.length;
    const deadline = this.#deadline();
    for (const channel of resuming) if (channel.waiting === undefined) this.#acquire(channel, deadline);
  }

  /** Nobody knows whether the broker has what was published and not confirmed. */
  #nack(channel: ClientChannel): void {
    const { stats, say } = this.#settings;
    stats.publishesNacked += channel.state.unconfirmed;
    for (const nack of channel.state.lost(channel.number)) say(nack);
  }

  /** Whether the broker names a method that it closed the connection for, and it may be the client's. */
  #isSuspect(lost: readonly UpstreamChannel[], { kind, method, text }: UpstreamEnd): boolean {
    if (kind !== 'closed' || method === undefined || method === 0) return false;
    const { channels } = this.#host;
    const isSuspect = lost.some(({ local }) => channels.get(local)?.lastMethod === method);
    if (isSuspect) this.#settings.quarantine(text);
    return isSuspect;
  }

  /** The client is gone. */
  end(): void {
    this.#ended = true;
    for (const { waiting } of this.#host.channels.values()) waiting?.cancel();
  }
}
