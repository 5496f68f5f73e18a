import {
  FRAME_BODY,
  FRAME_HEADER,
  FRAME_HEADER_SIZE,
  FRAME_OVERHEAD,
  METHOD,
  REPLY,
} from '../../amqp/constants.ts';
import { WireError } from '../../amqp/error.ts';
import { clientMethod, isNoWait } from '../../amqp/grammar.ts';
import {
  ARGUMENTS,
  encodeMethod,
  encodePassiveDeclare,
  QUEUE_DECLARE,
  readQueueDeclare,
  readQueueDelete,
  withChannel,
} from '../../amqp/method.ts';
import { readUint32 } from '../../amqp/table.ts';
import {
  type ChannelConsumer,
  ChannelConsumers,
  type Declaration,
  encodeConsume,
  isFromStream,
  type Prefetch,
} from './channel-consumers.ts';
import { latin1 } from '../latin1.ts';
import { Confirms } from './confirms.ts';
import { Deliveries } from './deliveries.ts';
import { Unanswered } from './unanswered.ts';

/** A frame that makes a part of a channel's state anew. */
export interface Restoration {
  readonly frame: Uint8Array;
  /** The method id of the broker's answer, which is not for the client (nor for {@link ChannelState.heard}); 0: none comes. */
  readonly answer: number;
}

/** Octets of a content header frame: frame, class, weight, body size and property flags. */
const HEADER_MIN = FRAME_OVERHEAD + 14;

/** Octets of a delivery tag and the flags behind it. */
const TAG_SIZE = 9;

const GET_NO_ACK = 1;
const MULTIPLE = 1;
const QOS_GLOBAL = 1;

const NO_PREFETCH: Prefetch = { consumer: undefined, channel: undefined };
const NO_WAIT_BIT_CLEAR = Uint8Array.of(0);
const NO_ARGUMENTS = new Uint8Array(0);

/**
 * What the broker keeps for a client's channel, as far as it shows in what both say: whether the channel may be given to
 * another client, whether it can be made anew on another connection so that nobody notices, and how. What isn't known to
 * be harmless counts as state. RabbitMQ's rabbit_channel (3.10 to 4.3) is what "state" is taken from.
 *
 * It follows the client's channel over all the channels that it has at the broker. Pure: no clock, no I/O.
 */
export class ChannelState {
  /** Whether consumers and unacknowledged deliveries may be made anew, too. */
  readonly resume: boolean;
  readonly #unanswered = new Unanswered();
  /** Nothing but whole publishes and no_ack gets was sent, and nothing came but what these lead to. */
  #pure = true;
  /** Something can't be told, or can't be made anew: for good. */
  #unfit = false;
  #hasPublished = false;
  /** Something was published that the broker doesn't confirm. */
  #isUnproven = false;

  /** The broker's content: a header is due, or so many octets of the body. */
  #headerDue = false;
  #bodyLeft = 0;
  /** The consumer that the content is for, where that is its first. */
  #first: ChannelConsumer | undefined;

  #confirms: Confirms | undefined;
  #deliveries: Deliveries | undefined;
  #consumers: ChannelConsumers | undefined;
  /** For each basic.get that isn't answered: whether what it gets has to be acknowledged. */
  readonly #gets: boolean[] = [];

  #tx = false;
  /** Something was published since the last commit or rollback. */
  #txContent = false;
  #prefetch = NO_PREFETCH;
  /** What an empty queue name means. */
  #declared: Declaration | undefined;
  /** queue.declare methods that the broker hasn't answered, in order. */
  readonly #declaring: Declaration[] = [];

  /** @param options resume: whether consumers and unacknowledged deliveries may be made anew, too */
  constructor({ resume }: { readonly resume: boolean }) {
    this.resume = resume;
  }

  /** The broker's content isn't complete. */
  get midContent(): boolean {
    return this.#headerDue || this.#bodyLeft > 0;
  }

  /**
   * Whether the channel at the broker provably has no state: only whole publishes and completed no_ack gets ever went over
   * it. Only its delivery tags go on: see {@link follow}.
   */
  get isReusable(): boolean {
    return this.#pure && !this.#unfit && !this.#unanswered.isAsking && !this.midContent;
  }

  /**
   * Whether another channel can take the place of the one at the broker without the client noticing. After a loss, to be
   * asked behind {@link lost}: before that, publishes that the broker has yet to confirm are state.
   */
  get isRestorable(): boolean {
    return (
      this.#isRepeatable && !this.#txContent && !this.hasConsumers && (this.#deliveries?.unacked ?? 0) === 0
    );
  }

  /** The same with consumers and unacknowledged deliveries, where these may be made anew. */
  get isResumable(): boolean {
    return this.resume && this.#isRepeatable && !this.#tx && this.#consumers?.resumable !== false;
  }

  /** All but what consumers, deliveries and transactions leave at the broker can be made anew. */
  get #isRepeatable(): boolean {
    const { name, deleted } = this.#declared ?? NOT_DECLARED;
    const isKnown = name !== undefined && !deleted;
    return (
      !this.#unfit && this.#unanswered.isSettled && !this.midContent && this.unconfirmed === 0 && isKnown
    );
  }

  /** A method of the client hasn't been answered. */
  get isAsking(): boolean {
    return this.#unanswered.isAsking;
  }

  /** Whether there may be consumers at the broker. */
  get hasConsumers(): boolean {
    return this.#consumers?.some === true;
  }

  /** Of consumers whose tag is known, an octet a character. */
  get consumerTags(): Iterable<string> {
    return this.#consumers?.tags ?? [];
  }

  /** @param tag an octet a character */
  hasConsumer(tag: string): boolean {
    return this.#consumers?.has(tag) === true;
  }

  /**
   * Whether the consumer's consume-ok hasn't come. RabbitMQ 4.0 ends the whole connection (541) on a basic.cancel before that,
   * and 4.3 never sends the consume-ok then (measured).
   * @param tag an octet a character
   */
  isStarting(tag: string): boolean {
    return this.#consumers?.isStarting(tag) === true;
  }

  /** Whether the broker has nothing to say against confirm.select, and does with it what it always does. */
  get takesConfirms(): boolean {
    return !this.#tx;
  }

  /** A confirm.select that isn't answered is on its way to the broker. */
  selectsConfirms(): void {
    this.#pure = false;
    this.#confirms ??= new Confirms();
  }

  /** Whether the broker has provably done all that was sent, and closing the channel changes nothing for anybody. */
  get isSpent(): boolean {
    return (
      this.#isRepeatable &&
      !this.#isUnproven &&
      !this.#tx &&
      !this.hasConsumers &&
      (this.#deliveries?.unacked ?? 0) === 0
    );
  }

  /** The channel is in confirm mode. */
  get confirms(): boolean {
    return this.#confirms !== undefined;
  }

  get unconfirmed(): number {
    return this.#confirms?.unconfirmed ?? 0;
  }

  get hasPublished(): boolean {
    return this.#hasPublished;
  }

  /** The broker's latest delivery tag on the channel; 0 for none. */
  get lastDelivery(): number {
    return this.#deliveries?.last ?? 0;
  }

  /**
   * The channel at the broker was another client's, who left it reusable: the broker goes on counting deliveries, and this
   * client gets them from 1 on. To be called before anything is sent.
   * @param lastDelivery the other's {@link lastDelivery}
   */
  follow(lastDelivery: number): void {
    if (lastDelivery > 0) this.#delivering().begin(lastDelivery);
  }

  /**
   * A whole and well-formed method frame of the client on its way to the broker, as the broker gets it; all but
   * channel.open and channel.close. basic.publish: when its content is whole, too.
   */
  sent(method: number, octets: Uint8Array, start: number, end: number): void {
    switch (method) {
      case METHOD.basicPublish:
        this.published(1);
        return;
      case METHOD.basicGet: {
        const needsAck = (octets[end - 2]! & GET_NO_ACK) === 0;
        if (needsAck) this.#pure = false;
        this.#gets.push(needsAck);
        this.#unanswered.ask(METHOD.basicGetOk);
        return;
      }
      case METHOD.basicAck:
      case METHOD.basicNack:
      case METHOD.basicReject:
        this.#settle(method, octets, start);
        return;
      default:
        this.#pure = false;
        this.#asks(method, octets, start, end);
    }
  }

  /** So many publishes of the client are on their way to the broker, whole. */
  published(count: number): void {
    this.#hasPublished = true;
    this.#isUnproven ||= this.#confirms === undefined;
    this.#txContent = this.#tx;
    this.#confirms?.publish(count);
  }

  #settle(method: number, octets: Uint8Array, start: number): void {
    this.#pure = false;
    // Until the commit they may come back: those of a transaction count as unacknowledged for good.
    if (!this.#tx) this.#deliveries?.settle(octets, start + ARGUMENTS, isMultiple(method, octets, start));
  }

  /** A method that changes what the broker keeps for the channel, or for all. */
  #asks(method: number, octets: Uint8Array, start: number, end: number): void {
    const form = clientMethod(method);
    if (form === undefined || form.answered === 'never') {
      this.#unfit = true;
      return;
    }
    const noWait = form.answered !== 'always' && isNoWait(method, octets, start, end);
    let proof: number | undefined;
    if (noWait) proof = this.#unanswered.tell();
    else this.#unanswered.ask(form.answer);
    const frame = octets.subarray(start, end);
    switch (method) {
      case METHOD.queueDeclare:
        this.#declare(frame, noWait);
        break;
      case METHOD.queueDelete:
        this.#delete(frame);
        break;
      case METHOD.basicQos:
        this.#qos(frame);
        break;
      case METHOD.basicConsume:
        this.#consuming().consume(frame, noWait, this.#declared, this.#prefetch);
        break;
      case METHOD.basicCancel:
        this.#consumers?.cancel(tagOf(octets, start, end), proof);
        break;
      case METHOD.confirmSelect:
        this.#confirms ??= new Confirms();
        break;
      case METHOD.txSelect:
        this.#tx = true;
        break;
      case METHOD.txCommit:
      case METHOD.txRollback:
        this.#txContent = false;
        break;
      default:
    }
  }

  #declare(frame: Uint8Array, noWait: boolean): void {
    const { nameStart, nameEnd, flagsAt } = readQueueDeclare(frame);
    if ((frame[flagsAt]! & QUEUE_DECLARE.exclusive) !== 0) this.#unfit = true;
    const name = latin1(frame, nameStart, nameEnd);
    this.#declared = { name: name === '' ? undefined : name, deleted: false };
    if (!noWait) this.#declaring.push(this.#declared);
  }

  #delete(frame: Uint8Array): void {
    const { nameStart, nameEnd } = readQueueDelete(frame);
    const name = latin1(frame, nameStart, nameEnd);
    const declared = this.#declared;
    if (declared === undefined) return;
    if (name === '' || name === declared.name || declared.name === undefined) declared.deleted = true;
  }

  #qos(frame: Uint8Array): void {
    const copy = Uint8Array.from(frame);
    const global = (frame[frame.length - 2]! & QOS_GLOBAL) !== 0;
    this.#prefetch = global ? { ...this.#prefetch, channel: copy } : { ...this.#prefetch, consumer: copy };
  }

  /**
   * A whole frame of the broker on its way to the client. Delivery tags are put into the client's numbers, in place.
   * @throws WireError 505 when another kind of frame is due, 502 when one is cut off
   */
  heard(type: number, method: number, octets: Uint8Array, start: number, end: number): void {
    if (type === FRAME_BODY) {
      this.#bodyLeft -= end - start - FRAME_OVERHEAD;
      if (this.#headerDue || this.#bodyLeft < 0) throw unexpected('content body');
      return;
    }
    if (type === FRAME_HEADER) {
      this.#header(octets, start, end);
      return;
    }
    if (this.midContent) throw unexpected('method');
    switch (method) {
      case METHOD.basicDeliver:
        this.#delivered(octets, start, end);
        return;
      case METHOD.basicAck:
      case METHOD.basicNack:
        this.#pure = false;
        if (start + ARGUMENTS + TAG_SIZE >= end) throw cutOff('basic.ack');
        if (this.#confirms?.answered(octets, start + ARGUMENTS, isMultiple(method, octets, start)) !== true)
          this.#unfit = true;
        return;
      case METHOD.basicReturn:
        this.#headerDue = true;
        return;
      case METHOD.basicGetOk:
        this.#got(octets, start, end);
        return;
      case METHOD.basicGetEmpty:
        this.#gets.shift();
        this.#answered(METHOD.basicGetOk);
        return;
      default:
        this.#pure = false;
        this.#hears(method, octets, start, end);
    }
  }

  /**
   * A basic.deliver whose content is whole, behind it, on its way to the client.
   * @returns false when its frames have to be heard one by one: nothing has been done then
   */
  delivers(octets: Uint8Array, start: number, end: number): boolean {
    const tagStart = start + ARGUMENTS + 1;
    const tagEnd = tagStart + octets[tagStart - 1]!;
    if (this.resume || this.midContent || tagEnd + TAG_SIZE >= end) return false;
    this.#pure = false;
    const needsAck = this.#consuming().needsAck(octets, tagStart, tagEnd);
    if (!this.#delivering().deliver(octets, tagEnd, needsAck, undefined)) this.#unfit = true;
    return true;
  }

  #header(octets: Uint8Array, start: number, end: number): void {
    if (!this.#headerDue || this.#bodyLeft > 0 || end - start < HEADER_MIN)
      throw unexpected('content header');
    this.#headerDue = false;
    // Class and weight come before it. What no broker sends (2^64 octets) is due for ever.
    const at = start + FRAME_HEADER_SIZE + 4;
    this.#bodyLeft = readUint32(octets, at) * 0x1_0000_0000 + readUint32(octets, at + 4);
    if (this.#first === undefined) return;
    if (isFromStream(octets, start, end)) this.#first.resumable = false;
    this.#first = undefined;
  }

  #delivered(octets: Uint8Array, start: number, end: number): void {
    this.#headerDue = true;
    this.#pure = false;
    const tagStart = start + ARGUMENTS + 1;
    const tagEnd = tagStart + octets[tagStart - 1]!;
    if (tagEnd + TAG_SIZE >= end) throw cutOff('basic.deliver');
    const consumers = this.#consuming();
    const consumer = this.resume ? consumers.find(octets, tagStart, tagEnd) : undefined;
    if (consumer?.fresh === true) {
      consumer.fresh = false;
      this.#first = consumer;
    }
    const needsAck = consumers.needsAck(octets, tagStart, tagEnd);
    if (!this.#delivering().deliver(octets, tagEnd, needsAck, consumer)) this.#unfit = true;
  }

  #got(octets: Uint8Array, start: number, end: number): void {
    this.#headerDue = true;
    if (start + ARGUMENTS + TAG_SIZE >= end) throw cutOff('basic.get-ok');
    this.#answered(METHOD.basicGetOk);
    const needsAck = this.#gets.shift() ?? true;
    if (!this.#delivering().deliver(octets, start + ARGUMENTS, needsAck, undefined)) this.#unfit = true;
  }

  /** An answer, or what the broker says of its own accord. */
  #hears(method: number, octets: Uint8Array, start: number, end: number): void {
    switch (method) {
      case METHOD.basicCancel:
        this.#consumers?.cancelledByBroker(tagOf(octets, start, end));
        return;
      case METHOD.queueDeclareOk: {
        const declaration = this.#declaring.shift();
        if (declaration !== undefined) declaration.name = tagOf(octets, start, end);
        break;
      }
      case METHOD.basicConsumeOk:
        if (!this.#consuming().started(tagOf(octets, start, end))) this.#unfit = true;
        break;
      case METHOD.basicCancelOk:
        this.#consumers?.cancelled(tagOf(octets, start, end));
        break;
      case METHOD.basicRecoverOk:
        if (!this.#tx) this.#deliveries?.recovered();
        break;
      default:
    }
    // Nobody has asked for channel.flow and channel.close, among others: with them the channel isn't what it was.
    this.#answered(method);
  }

  #answered(method: number): void {
    if (!this.#unanswered.answer(method)) this.#unfit = true;
  }

  /**
   * Puts a basic.ack, basic.nack or basic.reject of the client into the broker's numbers, in place, before {@link sent}.
   * @returns false when it must not be sent: all that it is about was delivered on a channel at the broker that is gone
   */
  outgoing(method: number, octets: Uint8Array, start: number, end: number): boolean {
    if (this.#deliveries === undefined || end - start <= ARGUMENTS) return true;
    switch (method) {
      case METHOD.basicAck:
      case METHOD.basicNack:
      case METHOD.basicReject:
        return this.#deliveries.toBroker(octets, start + ARGUMENTS, isMultiple(method, octets, start));
      default:
        return true;
    }
  }

  /**
   * The channel at the broker is gone.
   * @param channel the client's number
   * @returns frames for the client: basic.nack of what was published and not answered
   */
  lost(channel: number): Uint8Array[] {
    this.#deliveries?.lost();
    return this.#confirms?.lost(channel) ?? [];
  }

  /**
   * The client's channel goes on with a fresh one at the broker.
   * @param channel the number at the broker
   * @returns what makes it equal, to be sent before anything else, in this order
   * @throws Error when it is neither restorable nor resumable
   */
  restore(channel: number): Restoration[] {
    if (!this.isRestorable && !this.isResumable) throw new Error("a channel whose state can't be made anew");
    this.#deliveries?.lost();
    this.#deliveries?.restored();
    this.#confirms?.restored();
    const restorations: Restoration[] = [];
    const add = (frame: Uint8Array, answer: number): void => {
      restorations.push({ frame, answer });
    };
    if (this.confirms) {
      add(encodeMethod(channel, METHOD.confirmSelect, NO_WAIT_BIT_CLEAR), METHOD.confirmSelectOk);
    }
    if (this.#tx) add(encodeMethod(channel, METHOD.txSelect, NO_ARGUMENTS), METHOD.txSelectOk);
    const { name } = this.#declared ?? NOT_DECLARED;
    if (name) add(encodePassiveDeclare(channel, Buffer.from(name, 'latin1')), METHOD.queueDeclareOk);
    // Consumers keep the prefetch that they were started with; and a queue may refuse a consumer under that of a channel.
    let prefetch = NO_PREFETCH;
    const qos = (wanted: Prefetch): void => {
      for (const kind of ['channel', 'consumer'] as const) {
        const frame = wanted[kind];
        if (frame !== undefined && frame !== prefetch[kind])
          add(withChannel(frame, channel), METHOD.basicQosOk);
      }
      prefetch = wanted;
    };
    for (const consumer of this.#consumers?.inOrder ?? []) {
      qos(consumer.prefetch);
      add(encodeConsume(channel, consumer), METHOD.basicConsumeOk);
    }
    qos(this.#prefetch);
    return restorations;
  }

  #delivering(): Deliveries {
    this.#deliveries ??= new Deliveries();
    return this.#deliveries;
  }

  #consuming(): ChannelConsumers {
    this.#consumers ??= new ChannelConsumers(this.resume, this.#unanswered);
    return this.#consumers;
  }
}

/** Where nothing was declared there is nothing to make anew. */
const NOT_DECLARED: Declaration = { name: '', deleted: false };

function isMultiple(method: number, octets: Uint8Array, start: number): boolean {
  return method !== METHOD.basicReject && (octets[start + ARGUMENTS + 8]! & MULTIPLE) !== 0;
}

/** The short string that a method's arguments begin with. */
function tagOf(octets: Uint8Array, start: number, end: number): string {
  const tagStart = start + ARGUMENTS + 1;
  const tagEnd = tagStart + octets[tagStart - 1]!;
  if (tagEnd >= end) throw cutOff('a name');
  return latin1(octets, tagStart, tagEnd);
}

function unexpected(kind: string): WireError {
  return new WireError(REPLY.unexpectedFrame, `a ${kind} frame where another kind is due`);
}

function cutOff(what: string): WireError {
  return new WireError(REPLY.syntaxError, `${what} cut off`);
}
