import { METHOD } from '../../amqp/constants.ts';
import { ARGUMENTS, BASIC_CONSUME, encodeMethod, readBasicConsume } from '../../amqp/method.ts';
import type { Unanswered } from './unanswered.ts';
import { latin1 } from '../latin1.ts';

/** Octets of basic.consume frames that are kept for each channel; one with more can't be made anew. */
const KEPT_MAX = 1 << 20;

/** Consumers that are being cancelled, or were without an answer; a channel with more of them can't be made anew. */
const CANCELLING_MAX = 1000;

/**
 * In the arguments of a consumer of a stream, and in the headers of what streams deliver. Where the consumer was in the
 * stream is lost with it: it would begin there again, or at the stream's end.
 */
const STREAM_OFFSET = 'x-stream-offset';

/** RabbitMQ's direct reply-to: replies to what was asked before a loss can't reach its consumer any more. */
const REPLY_TO = 'amq.rabbitmq.reply-to';

/** A queue.declare: what an empty queue name means behind it. */
export interface Declaration {
  /** An octet a character; undefined while only the broker knows it. */
  name: string | undefined;
  deleted: boolean;
}

/** basic.qos frames, as last sent: what holds for consumers that follow, and for the channel. */
export interface Prefetch {
  readonly consumer: Uint8Array | undefined;
  readonly channel: Uint8Array | undefined;
}

export interface ChannelConsumer {
  /** An octet a character; empty while only the broker knows it. */
  tag: string;
  readonly noAck: boolean;
  /** Rises from consumer to consumer. */
  readonly order: number;
  /** A copy of basic.consume, where it may have to be sent again. */
  readonly consume: Uint8Array | undefined;
  /** What its queue's name means, where that is empty. */
  readonly declaration: Declaration | undefined;
  readonly prefetch: Prefetch;
  /** Whether it can be made anew so that nobody notices. */
  resumable: boolean;
  /** Nothing has been delivered to it. */
  fresh: boolean;
  /** Deliveries that are still to be marked as redelivered. */
  redeliveries: number;
}

/** A consumer that is being cancelled, or was without an answer: its deliveries may still come. */
interface Cancelling {
  readonly consumer: ChannelConsumer;
  /** Proves that it is gone, where basic.cancel isn't answered: see {@link Unanswered.tell}. */
  readonly proof: number | undefined;
}

/** The consumers that a channel has at the broker. */
export class ChannelConsumers {
  /** Something was consumed with acknowledgements. */
  acknowledges = false;
  /** There may be consumers that nobody can tell. */
  untold = false;
  /** Not all that would have to be sent again was kept. */
  forgotten = false;

  readonly #keeps: boolean;
  readonly #unanswered: Unanswered;
  #order = 0;
  #kept = 0;
  /** Something was consumed without acknowledgements. */
  #neglects = false;
  readonly #byTag = new Map<string, ChannelConsumer>();
  /** basic.consume methods that the broker hasn't answered, in order. */
  readonly #starting: ChannelConsumer[] = [];
  readonly #cancelling = new Map<string, Cancelling>();
  #latest: ChannelConsumer | undefined;

  /** @param keeps whether what was consumed may have to be consumed again */
  constructor(keeps: boolean, unanswered: Unanswered) {
    this.#keeps = keeps;
    this.#unanswered = unanswered;
  }

  /** Whether there may be any. */
  get some(): boolean {
    return this.untold || this.#byTag.size > 0 || this.#starting.length > 0;
  }

  get tags(): Iterable<string> {
    return this.#byTag.keys();
  }

  has(tag: string): boolean {
    return this.#byTag.has(tag);
  }

  /** Whether all can be made anew. */
  get resumable(): boolean {
    if (this.untold || this.forgotten || this.#starting.length > 0) return false;
    for (const { resumable, declaration } of this.#byTag.values()) {
      if (!resumable || (declaration !== undefined && declaration.name === undefined)) return false;
    }
    return true;
  }

  /** As they were started. */
  get inOrder(): ChannelConsumer[] {
    return [...this.#byTag.values()].sort((one, other) => one.order - other.order);
  }

  /**
   * A basic.consume on its way to the broker.
   * @param frame may be overwritten after the call
   * @param declaration what an empty queue name means
   */
  consume(
    frame: Uint8Array,
    noWait: boolean,
    declaration: Declaration | undefined,
    prefetch: Prefetch,
  ): void {
    const { nameStart, nameEnd, flagsAt } = readBasicConsume(frame);
    const flags = frame[flagsAt]!;
    const octets = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
    const tag = octets.toString('latin1', nameEnd + 1, flagsAt);
    const exclusive = (flags & BASIC_CONSUME.exclusive) !== 0;
    const toQueue = octets.toString('latin1', nameStart, nameEnd);
    const keeps = this.#keeps && this.#kept + frame.length <= KEPT_MAX;
    this.#kept += keeps ? frame.length : 0;
    this.forgotten ||= !keeps;
    const consumer: ChannelConsumer = {
      tag,
      noAck: (flags & BASIC_CONSUME.noAck) !== 0,
      order: ++this.#order,
      consume: keeps ? Uint8Array.from(frame) : undefined,
      declaration: toQueue === '' ? declaration : undefined,
      prefetch,
      resumable: !exclusive && toQueue !== REPLY_TO && !octets.includes(STREAM_OFFSET, flagsAt, 'latin1'),
      fresh: true,
      redeliveries: 0,
    };
    if (consumer.noAck) this.#neglects = true;
    else this.acknowledges = true;
    // What is delivered to the old one and to the new one can't be told apart.
    if (this.#cancelling.has(tag) && this.#cancelling.get(tag)!.consumer.noAck !== consumer.noAck)
      this.untold = true;
    if (tag !== '') this.#byTag.set(tag, consumer);
    else if (noWait) this.untold = true; // it shows in deliveries only
    if (!noWait) this.#starting.push(consumer);
  }

  /**
   * The broker has answered basic.consume: the first with that tag, or without one.
   * @returns false when the client hasn't asked for it
   */
  started(tag: string): boolean {
    let at = this.#starting.findIndex((consumer) => consumer.tag === tag);
    if (at < 0) at = this.#starting.findIndex((consumer) => consumer.tag === '');
    const [consumer] = at < 0 ? [] : this.#starting.splice(at, 1);
    if (consumer === undefined) return false;
    if (consumer.tag !== '') return true;
    consumer.tag = tag;
    this.#byTag.set(tag, consumer);
    return true;
  }

  /** Whether the broker hasn't answered basic.consume. */
  isStarting(tag: string): boolean {
    return this.#starting.some((consumer) => consumer.tag === tag);
  }

  /** A basic.cancel on its way to the broker. @param proof where it isn't answered: see {@link Unanswered.tell} */
  cancel(tag: string, proof: number | undefined): void {
    const consumer = this.#byTag.get(tag);
    if (consumer === undefined) return;
    this.#remove(consumer);
    // Of two of the same tag, which one an answer or a cancellation by the broker is about isn't known.
    if (this.#cancelling.size < CANCELLING_MAX && !this.#isCancelling(tag))
      this.#cancelling.set(tag, { consumer, proof });
    else this.untold = true;
  }

  /** The broker has answered basic.cancel. */
  cancelled(tag: string): void {
    this.#cancelling.delete(tag);
  }

  /** The broker has cancelled a consumer of its own: its queue is gone. */
  cancelledByBroker(tag: string): void {
    const consumer = this.#byTag.get(tag);
    if (consumer === undefined) return;
    // One of the same tag that the client has cancelled meanwhile: which of the two is meant isn't known.
    if (this.#isCancelling(tag)) consumer.resumable = false;
    else this.#remove(consumer);
  }

  /** Whether what is delivered to a consumer has to be acknowledged; where that isn't known, it has to. */
  needsAck(octets: Uint8Array, tagStart: number, tagEnd: number): boolean {
    if (!this.#neglects || !this.acknowledges) return !this.#neglects;
    return this.find(octets, tagStart, tagEnd)?.noAck !== true;
  }

  /** The consumer that a delivery is for, if that is known. */
  find(octets: Uint8Array, tagStart: number, tagEnd: number): ChannelConsumer | undefined {
    const latest = this.#latest;
    if (latest !== undefined && isTag(latest.tag, octets, tagStart, tagEnd)) return latest;
    const tag = latin1(octets, tagStart, tagEnd);
    this.#latest = this.#byTag.get(tag);
    return this.#latest ?? this.#cancelling.get(tag)?.consumer;
  }

  #isCancelling(tag: string): boolean {
    const cancelling = this.#cancelling.get(tag);
    if (cancelling === undefined) return false;
    return cancelling.proof === undefined || !this.#unanswered.proves(cancelling.proof);
  }

  #remove(consumer: ChannelConsumer): void {
    this.#byTag.delete(consumer.tag);
    if (this.#latest === consumer) this.#latest = undefined;
    this.#kept -= consumer.consume?.length ?? 0;
  }
}

/** The basic.consume that starts the consumer again, on `channel`, with its tag and its queue's name, to be answered. */
export function encodeConsume(channel: number, consumer: ChannelConsumer): Uint8Array {
  const frame = consumer.consume!;
  const { nameStart, nameEnd, flagsAt } = readBasicConsume(frame);
  const queue = consumer.declaration?.name ?? latin1(frame, nameStart, nameEnd);
  const { tag } = consumer;
  const rest = Buffer.from(frame.subarray(flagsAt, -1));
  rest[0]! &= ~BASIC_CONSUME.noWait;
  const names = Buffer.from(`\0\0${shortstr(queue)}${shortstr(tag)}`, 'latin1');
  return encodeMethod(channel, METHOD.basicConsume, Buffer.concat([names, rest]));
}

/** @param text at most 255 octets, an octet a character */
function shortstr(text: string): string {
  return String.fromCharCode(text.length) + text;
}

/** Whether a message came from a stream. @param start of its content header */
export function isFromStream(octets: Uint8Array, start: number, end: number): boolean {
  const frame = Buffer.from(octets.buffer, octets.byteOffset + start + ARGUMENTS, end - start - ARGUMENTS);
  return frame.includes(STREAM_OFFSET, 0, 'latin1');
}

function isTag(tag: string, octets: Uint8Array, start: number, end: number): boolean {
  if (tag.length !== end - start) return false;
  for (let i = 0; i < tag.length; i++) if (tag.charCodeAt(i) !== octets[start + i]) return false;
  return true;
}
