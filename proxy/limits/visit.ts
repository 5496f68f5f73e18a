import { HEARTBEAT, readStartOk } from '../../amqp/connection.ts';
import { METHOD, REPLY } from '../../amqp/constants.ts';
import { WireError } from '../../amqp/error.ts';
import type { ClientIdentity } from '../../amqp/handshake.ts';
import { readChannelMax, withChannelMax } from '../../amqp/method.ts';
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
  readonly #channelAlarm: number;
  /** The channel_max that the client was offered, where that is less than the broker's; else 0. */
  #offered = 0;
  #guest: Guest | undefined;
  #turn: PublishTurn | undefined;
  /** basic.publish that waits for the connection's turn. */
  #publish: Uint8Array | undefined;
  #toldAt = 0;

  /** @param address the client's IP address */
  constructor(admission: Admission, address: string) {
    this.#admission = admission;
    this.#address = address;
    this.#channelAlarm = admission.channelAlarm;
  }

  #refuse(refusal: Refusal | undefined): void {
    if (refusal === undefined) return;
    this.refusal = refusal;
    throw new WireError(refusal.replyCode, refusal.text, refusal.method);
  }

  /** @param startOk a complete connection.start-ok frame, and what it says of the client */
  logIn(startOk: Uint8Array, { user, mechanism }: ClientIdentity): void {
    const isToldWhy = (): boolean => readStartOk(startOk).has('authentication_failure_close');
    this.#refuse(this.#admission.logIn(user, mechanism, this.#address, isToldWhy));
  }

  /** connection.tune as the client gets it. @param tune a complete frame */
  offer(tune: Uint8Array): Uint8Array {
    const { channelMax } = this.#admission;
    if (channelMax === 0 || (readChannelMax(tune) || CHANNEL_MAX) <= channelMax) return tune;
    this.#offered = channelMax;
    return withChannelMax(tune, channelMax);
  }

  /** @param tuneOk the client's complete connection.tune-ok frame */
  agree(tuneOk: Uint8Array): void {
    const offered = this.#offered;
    if (offered === 0) return;
    const asked = readChannelMax(tuneOk);
    if (asked > 0 && asked <= offered) return;
    this.#admission.channelAbove();
    // RabbitMQ 4.0 and 4.3 hang up without a word on a client that asks for more than it was offered.
    const text = `channel_max ${asked} where ${offered} channels are offered (--max-channels-per-client)`;
    const method = METHOD.connectionTuneOk;
    this.#refuse({ code: 'CHANNEL_LIMIT', replyCode: REPLY.notAllowed, text, method, silent: false });
  }

  /** connection.open. */
  open(user: string | undefined, virtualHost: string): void {
    this.#refuse(this.#admission.open(user, virtualHost));
  }

  /** The broker has answered it. */
  enter(user: string | undefined, virtualHost: string): void {
    const guest = this.#admission.enter(user, virtualHost);
    if ('code' in guest) {
      this.#refuse(guest);
      return;
    }
    this.#guest = guest;
    this.#turn = guest.turn;
  }

  /** A frame that isn't on a channel that the client may open. */
  channelAbove(): void {
    if (this.#offered > 0) this.#admission.channelAbove();
  }

  /** Whether a method of the client has to be given to {@link hold}; asked once for each. */
  holds(method: number, channel: number): boolean {
    if (method === METHOD.basicPublish) return this.#turn?.take() === false;
    if (method === METHOD.channelOpen && channel > this.#channelAlarm) this.#admission.channelAbove();
    return false;
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
    this.#turn?.wait(() => {
      const publish = this.#publish;
      this.#publish = undefined;
      if (publish !== undefined) go(publish);
    });
  }

  /** What the broker has to be told in place of the client that is held back; called a few times a second. */
  pulse(now: number): Uint8Array | undefined {
    if (this.#publish === undefined || now - this.#toldAt < PULSE) return undefined;
    this.#toldAt = now;
    return HEARTBEAT;
  }

  /** The connection has ended. */
  leave(): void {
    this.#guest?.leave();
    this.#guest = undefined;
  }
}
