import { encodeChannelCloseOk, encodeFlow } from '../../amqp/connection.ts';
import { METHOD, REPLY } from '../../amqp/constants.ts';
import { encodeClose, withChannel } from '../../amqp/method.ts';
import type { ChannelState } from './channel-state.ts';
import type { PoolEnd } from './stats.ts';
import type { Upstream } from './upstream.ts';
import { WholeContent } from './whole-content.ts';

/** Why a connection to the broker isn't there, or not any more. */
export interface UpstreamEnd {
  /** As the statistics have it, or `ended`: by the proxy's own will. */
  readonly kind: PoolEnd | 'ended';
  /** Of the broker's connection.close, where it sent one; `text` is its reply text then. */
  readonly replyCode?: number;
  readonly text: string;
  /** The method at fault in the broker's connection.close: class * 65536 + method, 0 for none. */
  readonly method?: number;
}

/** Who has channels on connections to the broker: one client. What it throws costs it its channels and nobody else's. */
export interface ChannelOwner {
  /**
   * Whole frames from `start` to `end` (exclusive), in the broker's order, on the owner's own channel numbers. `lent`: the
   * octets hold for this call only, unless {@link Upstream.keepBuffer} is called within it; else they are the owner's.
   */
  receive(octets: Uint8Array, start: number, end: number, lent: boolean): void;
  /** The connection with these channels is gone; those that were released already are not among them. */
  lost(channels: readonly UpstreamChannel[], end: UpstreamEnd): void;
  /** The broker takes no publishes on a connection with channels of this owner; undefined: it takes them again. */
  blocked(reason: string | undefined): void;
}

/** What became of a channel that its owner released: open and as new, closed, or not known. */
export type Settlement = 'idle' | 'free' | 'stuck';

/** What a connection is to its channels. */
export interface ChannelHome {
  /** The broker has been asked to settle the channel. */
  settling(channel: UpstreamChannel): void;
  settled(channel: UpstreamChannel, how: Settlement): void;
  /** Calls what the owner gave. */
  call(owner: ChannelOwner, work: () => void): void;
}

/** channel.close of one that its owner needs no more, on any channel. */
const RELEASED = encodeClose(REPLY.replySuccess, 'released', 0, 1);

/** Of channel.open, flow, close and their answers. */
export const CLASS_CHANNEL = 20;

/**
 * `used` by its owner · `syncing`: channel.flow-ok is awaited · `closing`: channel.close-ok is awaited · `closed`: the
 * broker's channel.close isn't answered yet · `gone`: the number is somebody else's, or nobody's.
 */
type Phase = 'used' | 'syncing' | 'closing' | 'closed' | 'gone';

/** A channel at the broker, for as long as one owner has it. */
export class UpstreamChannel {
  readonly upstream: Upstream;
  /** At the broker. */
  readonly number: number;
  /** The owner's. */
  readonly local: number;
  readonly owner: ChannelOwner;
  readonly state: ChannelState;
  /** Where a channel is to be resumed after a loss. */
  readonly content: WholeContent | undefined;
  /** Whether the owner gets the frames of this channel; those of an owner that is gone are dropped. */
  listening = true;
  /** When the broker has to have settled the channel, in milliseconds of performance.now(). */
  deadline = Infinity;

  readonly #home: ChannelHome;
  #phase: Phase = 'used';
  /** The broker has closed it, and its owner is about to be told. */
  #isRefused = false;
  readonly #expected: number[] = [];
  readonly #done: (() => void)[] = [];

  /** @param at the connection, and the channel's number there */
  constructor(
    at: { upstream: Upstream; number: number; home: ChannelHome },
    owner: ChannelOwner,
    local: number,
    state: ChannelState,
  ) {
    this.upstream = at.upstream;
    this.number = at.number;
    this.#home = at.home;
    this.owner = owner;
    this.local = local;
    this.state = state;
    this.content = state.resume ? new WholeContent() : undefined;
  }

  /** Whether frames may be sent on it: not released, not closed by the broker, and its connection is there. */
  get usable(): boolean {
    return this.#phase === 'used' && !this.#isRefused;
  }

  /**
   * Answers of the broker that are the proxy's own: each is swallowed, wherever it comes among other frames. RabbitMQ may
   * answer basic.consume behind what came later (measured on 4.0 and 4.3), so that their order tells nothing.
   * @param answers method ids, class * 65536 + method
   */
  expect(answers: readonly number[]): void {
    this.#expected.push(...answers);
  }

  /**
   * The owner needs it no more, and sends nothing on it. A channel that provably has no state at the broker stays open for
   * the next one: the broker's answer to channel.flow tells that it has taken all publishes, since a refusal of one would
   * come before. Others are closed.
   * @param done called when that is settled: at once where nothing has to be
   */
  release(done: (() => void) | undefined): void {
    if (done !== undefined) this.#done.push(done);
    if (this.#phase === 'gone') this.#finish();
    if (this.#phase !== 'used') return;
    if (!this.#isReusable) this.#close();
    else if (this.state.hasPublished) {
      this.#phase = 'syncing';
      this.upstream.send(encodeFlow(this.number, true));
      this.#home.settling(this);
    } else this.#settle('idle');
  }

  get #isReusable(): boolean {
    return this.#expected.length === 0 && this.state.isReusable;
  }

  #close(): void {
    this.#phase = 'closing';
    this.upstream.send(withChannel(RELEASED, this.number));
    this.#home.settling(this);
  }

  /** Takes a method of the broker's on this channel. @returns whether its frame is for the owner */
  hear(method: number): boolean {
    if (method >>> 16 !== CLASS_CHANNEL) {
      if (this.#expected.length === 0) return true;
      const at = this.#expected.indexOf(method);
      if (at >= 0) this.#expected.splice(at, 1);
      return at < 0;
    }
    switch (method) {
      case METHOD.channelOpenOk:
        return false;
      case METHOD.channelFlowOk:
        if (this.#phase !== 'syncing') return true;
        // What came meanwhile may have changed it.
        if (this.#isReusable) this.#settle('idle');
        else this.#close();
        return false;
      case METHOD.channelCloseOk:
        if (this.#phase === 'closing') this.#settle('free');
        return false;
      case METHOD.channelClose:
        this.#isRefused = true;
        // Where both close at the same time, the broker answers the proxy's channel.close all the same.
        if (this.#phase !== 'closing') this.#phase = 'closed';
        return true;
      default:
        return true;
    }
  }

  /** Answers the broker's channel.close, which the owner has got. */
  closed(): void {
    this.upstream.send(encodeChannelCloseOk(this.number));
    if (this.#phase === 'closed') this.#settle('free');
  }

  /** The broker hasn't settled it in time. */
  giveUp(): void {
    this.#settle('stuck');
  }

  /** The connection is gone, or about to be. */
  drop(): void {
    this.#phase = 'gone';
    this.#finish();
  }

  #settle(how: Settlement): void {
    this.#phase = 'gone';
    this.#home.settled(this, how);
    this.#finish();
  }

  #finish(): void {
    for (const done of this.#done.splice(0)) this.#home.call(this.owner, done);
  }
}
