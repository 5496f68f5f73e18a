import { encodeChannelCloseOk, encodeChannelOpen } from '../../amqp/connection.ts';
import { METHOD } from '../../amqp/constants.ts';
import type { MessageRun } from '../../amqp/message-run.ts';
import { ChannelNumbers } from './channel-numbers.ts';
import type { ChannelState } from './channel-state.ts';
import { Runs } from './runs.ts';
import {
  type ChannelHome,
  type ChannelOwner,
  CLASS_CHANNEL,
  type Settlement,
  UpstreamChannel,
  type UpstreamEnd,
} from './upstream-channel.ts';
import type { Upstream, UpstreamSettings } from './upstream.ts';
import { WholeDeliveries } from './whole-deliveries.ts';

/** Finds them for all connections: none of them is in the midst of it when another one is. */
const DELIVERIES = new WholeDeliveries();

type Settings = Pick<UpstreamSettings, 'events' | 'limits' | 'log' | 'name' | 'stats'>;

/** The channels of one connection to the broker, and who has them. All times are milliseconds of performance.now(). */
export class ChannelTable {
  /** How many belong to somebody, those that are being settled included. */
  used = 0;
  /** Since when none does, where that is so. */
  idleSince = performance.now();

  readonly #upstream: Upstream;
  readonly #settings: Settings;
  readonly #runs = new Runs((owner, error) => this.#disown(owner, error));
  /** By number at the broker. */
  readonly #channels: (UpstreamChannel | undefined)[] = [];
  #numbers = new ChannelNumbers(0);
  /** How many each has. */
  readonly #owners = new Map<ChannelOwner, number>();
  /** Those that the broker has to settle, the one first asked for first. */
  readonly #settling = new Set<UpstreamChannel>();

  readonly #home: ChannelHome = {
    settling: (channel) => {
      channel.deadline = performance.now() + this.#settings.limits.handshakeTimeout;
      this.#settling.add(channel);
    },
    settled: (channel, how) => this.#settled(channel, how),
    call: (owner, work) => this.#call(owner, work),
  };

  constructor(upstream: Upstream, settings: Settings) {
    this.#upstream = upstream;
    this.#settings = settings;
  }

  /** How many can be taken. */
  get room(): number {
    return this.#numbers.room;
  }

  /** How many owners have channels. */
  get owners(): number {
    return this.#owners.size;
  }

  /** The connection is open, for so many channels at a time. */
  opened(channelMax: number): void {
    this.#numbers = new ChannelNumbers(channelMax);
    this.idleSince = performance.now();
  }

  /** As {@link Upstream.take}. */
  take(owner: ChannelOwner, local: number, state: ChannelState): UpstreamChannel | undefined {
    const { pool } = this.#settings.stats;
    // The tags that a client has had already can't be counted on from another client's.
    const isNew = state.isReusable && !state.hasPublished && state.lastDelivery === 0;
    let number = this.#numbers.takeIdle(isNew);
    if (number > 0) {
      state.follow(this.#numbers.takeDelivered(number));
      pool.channelsReused++;
      pool.channelsIdle--;
    } else {
      number = this.#numbers.takeFree();
      if (number === 0) return undefined;
      pool.channelsOpened++;
      this.#upstream.send(encodeChannelOpen(number));
    }
    const at = { upstream: this.#upstream, number, home: this.#home };
    const channel = new UpstreamChannel(at, owner, local, state);
    this.#channels[number] = channel;
    this.used++;
    pool.channelsUsed++;
    this.#owners.set(owner, (this.#owners.get(owner) ?? 0) + 1);
    return channel;
  }

  /** Frames follow. @param lent the chunk that they lie in, where it will be read into again */
  begin(lent: Uint8Array | undefined): void {
    this.#runs.lent = lent;
  }

  /** Hands over what came so far; to be called at the chunk's end. */
  finish(): void {
    this.#runs.flush();
  }

  /**
   * Takes whole deliveries on one channel; `start` is where a frame begins.
   * @param maxPayload octets of a frame's payload
   * @returns those that it has taken; undefined: none, they have to be taken frame by frame
   */
  messages(octets: Uint8Array, start: number, end: number, maxPayload: number): MessageRun | undefined {
    if (!DELIVERIES.begins(octets, start, end)) return undefined;
    const channel = this.#channels[(octets[start + 1]! << 8) | octets[start + 2]!];
    if (channel?.listening !== true) return undefined;
    DELIVERIES.state = channel.state;
    DELIVERIES.channel = channel.local;
    if (!DELIVERIES.find(octets, start, end, maxPayload)) return undefined;
    this.#runs.add(channel.owner, octets, start, DELIVERIES.end);
    return DELIVERIES;
  }

  /** Takes a whole frame of the broker's. @throws WireError when its arguments are malformed */
  frame(type: number, number: number, method: number, octets: Uint8Array, start: number, end: number): void {
    const channel = this.#channels[number];
    if (channel === undefined) {
      this.#nobodys(number, method);
      return;
    }
    if (method !== 0) {
      // Whoever is told that a channel is settled has got what came on it before.
      if (method >>> 16 === CLASS_CHANNEL) this.#runs.flush();
      if (this.#channels[number] !== channel || !channel.hear(method)) return;
    }
    channel.state.heard(type, method, octets, start, end);
    if (channel.listening) {
      octets[start + 1] = channel.local >>> 8;
      octets[start + 2] = channel.local & 0xff;
      const parts = channel.content?.add(channel.state, octets, start, end);
      if (parts === undefined) this.#runs.add(channel.owner, octets, start, end);
      else for (const part of parts) this.#runs.add(channel.owner, part, 0, part.length);
    }
    if (method !== METHOD.channelClose) return;
    this.#runs.flush();
    channel.closed();
  }

  /** What comes on a number that is nobody's is dropped: its channel is closed, or its owner has no use for it. */
  #nobodys(number: number, method: number): void {
    if (method !== METHOD.channelClose || this.#upstream.state !== 'open') return;
    this.#upstream.send(encodeChannelCloseOk(number));
    if (this.#numbers.drop(number)) this.#settings.stats.pool.channelsIdle--;
  }

  /** The broker takes no publishes, for this reason; undefined: it takes them again. */
  block(reason: string | undefined): void {
    for (const owner of this.#owners.keys()) this.#call(owner, () => owner.blocked(reason));
  }

  /** Gives up the channels that the broker hasn't settled in time. */
  sweep(now: number): void {
    for (const channel of this.#settling) {
      if (now <= channel.deadline) break;
      this.#settings.log.warn(
        { upstream: this.#settings.name, channel: channel.number },
        'the broker did not settle a channel in time: it is not used again',
      );
      channel.giveUp();
    }
  }

  #call(owner: ChannelOwner, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#disown(owner, error);
    }
  }

  /** Takes the channels from an owner that doesn't work. */
  #disown(owner: ChannelOwner, error: unknown): void {
    const err = error instanceof Error ? error.stack : String(error);
    this.#settings.log.error({ upstream: this.#settings.name, err }, 'internal error');
    for (const channel of this.#channels) {
      if (channel?.owner !== owner) continue;
      channel.listening = false;
      channel.release(undefined);
    }
  }

  #settled(channel: UpstreamChannel, how: Settlement): void {
    const { stats, events } = this.#settings;
    const { number, owner } = channel;
    const left = this.#owners.get(owner)! - 1;
    if (left > 0) this.#owners.set(owner, left);
    else this.#owners.delete(owner);
    this.#settling.delete(channel);
    this.#channels[number] = undefined;
    this.used--;
    stats.pool.channelsUsed--;
    if (how === 'idle') {
      this.#numbers.rest(number, channel.state.lastDelivery);
      stats.pool.channelsIdle++;
    } else if (how === 'free') this.#numbers.free(number);
    if (this.used === 0) this.idleSince = performance.now();
    if (how !== 'stuck') events.settled();
    if (this.used === 0 && this.#upstream.state === 'open') events.idle();
  }

  /** Takes all channels from their owners, and tells them. */
  abandon(end: UpstreamEnd): void {
    const { pool } = this.#settings.stats;
    const lost = new Map<ChannelOwner, UpstreamChannel[]>();
    const channels = this.#channels.splice(0);
    pool.channelsUsed -= this.used;
    pool.channelsIdle -= this.#numbers.idle;
    this.#numbers = new ChannelNumbers(0);
    this.used = 0;
    this.#owners.clear();
    this.#settling.clear();
    for (const channel of channels) {
      if (channel?.usable === true) lost.set(channel.owner, [...(lost.get(channel.owner) ?? []), channel]);
      channel?.drop();
    }
    for (const [owner, theirs] of lost) this.#call(owner, () => owner.lost(theirs, end));
  }
}
