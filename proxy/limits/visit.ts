import { HEARTBEAT, readStartOk } from '../../amqp/connection.ts';
import { METHOD, REPLY } from '../../amqp/constants.ts';
import { WireError } from '../../amqp/error.ts';
import type { ClientIdentity } from '../../amqp/handshake.ts';
import { readChannelMax, readFrameMax, withChannelMax, withFrameMax } from '../../amqp/method.ts';
import type { Admission, Guest } from './admission.ts';
import type { Refusal } from './limit.ts';
import type { PublishTurn } from './publish-rate.ts';

/** The highest channel that there can be. */
const CHANNEL_MAX = 0xffff;

/** A client that is held back says nothing: the broker is told so often that it is there, in milliseconds. */
const PULSE = 1000;

/** One connection, as far as who it is and what it may have is concerned. What it does throws WireError where it is refused. */
export class Visit {
  /** Why it was refused. */
  refusal: Refusal | undefined;
  readonly #admission: Admission;
  readonly #address: string;
  /** By which the client has logged in. */
  #mechanism: string | undefined;
  /** The channel_max that the client was offered, where that is less than the broker's; else 0. */
  #offered = 0;
  /** The frame_max that the client was offered, where that is less than the broker's; else 0. */
  #offeredFrames = 0;
  #guest: Guest | undefined;
  #turn: PublishTurn | undefined;
  /** basic.publish that waits for the connection's turn, or for room in what is held for all. */
  #publish: Uint8Array | undefined;
  #awaitsRoom = false;
  #toldAt = 0;

  /** @param address the client's IP address */
  constructor(admission: Admission, address: string) {
    this.#admission = admission;
    this.#address = address;
  }

  #refuse(refusal: Refusal | undefined): void {
    if (refusal === undefined) return;
    this.refusal = refusal;
    throw new WireError(refusal.replyCode, refusal.text, refusal.method);
  }

  /** @param startOk a complete connection.start-ok frame, and what it says of the client */
  logIn(startOk: Uint8Array, { user, mechanism }: ClientIdentity): void {
    this.#mechanism = mechanism;
    const isToldWhy = (): boolean => readStartOk(startOk).has('authentication_failure_close');
    this.#refuse(this.#admission.logIn(user, mechanism, this.#address, isToldWhy));
  }

  /** connection.tune as the client gets it. @param tune a complete frame */
  offer(tune: Uint8Array): Uint8Array {
    const { channelMax, frameMax } = this.#admission;
    let offered = tune;
    if (channelMax > 0 && (readChannelMax(tune) || CHANNEL_MAX) > channelMax) {
      this.#offered = channelMax;
      offered = withChannelMax(offered, channelMax);
    }
    if (frameMax > 0 && (readFrameMax(tune) || Infinity) > frameMax) {
      this.#offeredFrames = frameMax;
      offered = withFrameMax(offered, frameMax);
    }
    return offered;
  }

  /** The frame_max that the client was offered in place of the broker's; 0: the broker's. */
  get offeredFrameMax(): number {
    return this.#offeredFrames;
  }

  /** @param tuneOk the client's complete connection.tune-ok frame */
  agree(tuneOk: Uint8Array): void {
    // RabbitMQ 4.0 and 4.3 hang up without a word on a client that asks for more than it was offered.
    const method = METHOD.connectionTuneOk;
    const refusal = { replyCode: REPLY.notAllowed, method, silent: false };
    const [channels, frames] = [readChannelMax(tuneOk), readFrameMax(tuneOk)];
    if (isAbove(channels, this.#offered)) {
      this.#admission.channelAbove(this.#offered);
      const text = `channel_max ${channels} where ${this.#offered} channels are offered (--max-channels-per-client)`;
      this.#refuse({ ...refusal, code: 'CHANNEL_LIMIT', text });
    }
    if (isAbove(frames, this.#offeredFrames)) {
      this.#admission.frameAbove(this.#offeredFrames);
      const text = `frame_max ${frames} where ${this.#offeredFrames} is offered (--max-frame-size)`;
      this.#refuse({ ...refusal, code: 'FRAME_LIMIT', text });
    }
  }

  /** @param frameMax what client and broker have agreed on, each with the proxy; 0 is no limit */
  agreed(frameMax: number): void {
    const { frameAlarm } = this.#admission;
    if (isAbove(frameMax, frameAlarm)) this.#admission.frameAbove(frameAlarm);
  }

  /** connection.open. */
  open(user: string | undefined, virtualHost: string): void {
    this.#refuse(this.#admission.open(user, virtualHost));
  }

  /** The broker has answered it. */
  enter(user: string | undefined, virtualHost: string): void {
    const guest = this.#admission.enter(user, this.#mechanism, virtualHost);
    if ('code' in guest) {
      this.#refuse(guest);
      return;
    }
    this.#guest = guest;
    this.#turn = guest.turn;
  }

  /** A frame that isn't on a channel that the client may open. */
  channelAbove(): void {
    if (this.#offered > 0) this.#admission.channelAbove(this.#offered);
  }

  /** A frame that is longer than the client has agreed to. @param octets of the whole frame */
  frameAbove(octets: number): void {
    const offered = this.#offeredFrames;
    if (offered > 0 && octets > offered) this.#admission.frameAbove(offered);
  }

  /** Whether a method of the client has to be given to {@link hold}; asked once for each. */
  holds(method: number, channel: number): boolean {
    if (method === METHOD.basicPublish) return !this.#mayPublish();
    if (method === METHOD.channelOpen) this.#countChannel(channel);
    return false;
  }

  /** Whether {@link holds} has nothing to say to any publish now, and doesn't have to be asked. */
  get publishesFreely(): boolean {
    return this.#turn?.isFree !== false && !this.#admission.buffers.isFull;
  }

  #mayPublish(): boolean {
    const hasTurn = this.#turn?.take() !== false;
    this.#awaitsRoom = hasTurn && this.#admission.buffers.isFull;
    return hasTurn && !this.#awaitsRoom;
  }

  #countChannel(channel: number): void {
    const { channelAlarm } = this.#admission;
    if (channel > channelAlarm) this.#admission.channelAbove(channelAlarm);
  }

  /** @param publish a complete basic.publish frame */
  hold(publish: Uint8Array): void {
    this.#publish = publish;
    this.#toldAt = performance.now();
  }

  /** Whether a publish is held; it goes on by {@link wait}. */
  get isHolding(): boolean {
    return this.#publish !== undefined;
  }

  /** @param go called with the publish that is held when it may go on */
  wait(go: (publish: Uint8Array) => void): void {
    const goes = (): void => {
      const publish = this.#publish;
      this.#publish = undefined;
      if (publish !== undefined) go(publish);
    };
    if (this.#awaitsRoom) this.#admission.buffers.wait(this, goes);
    else this.#turn?.wait(goes);
  }

  /** What the broker has to be told in place of the client that is held back; called a few times a second. */
  pulse(now: number): Uint8Array | undefined {
    if (this.#publish === undefined || now - this.#toldAt < PULSE) return undefined;
    this.#toldAt = now;
    return HEARTBEAT;
  }

  /** The connection has ended. */
  leave(): void {
    this.#admission.buffers.leave(this);
    this.#guest?.leave();
    this.#guest = undefined;
  }
}

/** Whether a value of connection.tune-ok, of which 0 is no limit, is above a limit, of which 0 is none. */
function isAbove(value: number, limit: number): boolean {
  return limit > 0 && (value === 0 || value > limit);
}
