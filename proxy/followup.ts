import { randomBytes } from 'node:crypto';
import { METHOD, REPLY } from '../amqp/constants.ts';
import {
  BASIC_CONSUME,
  channelOf,
  encodeBasicCancel,
  encodeMethod,
  encodePassiveDeclare,
  encodeQueueDelete,
  readBasicConsume,
  readConsumerTag,
} from '../amqp/method.ts';
import { withBits, withShortstr } from '../amqp/splice.ts';
import { type Consumer, Consumers } from './consumers.ts';
import { latin1 } from './latin1.ts';
import type { Lookup, Question } from './lookup.ts';
import type { Queues } from './queues.ts';

const NOTHING = new Uint8Array(0);

/**
 * Milliseconds until a queue is asked about again that still has consumers: brokers answer basic.cancel and channel.close
 * before a quorum queue has let go of the consumer (seen on 4.0 and 4.3, some milliseconds), and others may have some.
 */
const LATE = [20, 100, 300];

/** Milliseconds that deleting a queue may take: 5 seconds while one of its nodes is lost (measured). */
const DELETE_TIMEOUT = 10_000;

/** Milliseconds that a client's connection.close waits for what has to come before. */
const LEAVE_TIMEOUT = 3000;

export interface FollowUpSettings {
  readonly lookup: Lookup;
  readonly queues: Queues;
  readonly virtualHost: string;
  /** Passes a frame on to the broker, behind all that was passed on before. */
  readonly send: (frame: Uint8Array) => void;
  /** An auto-delete queue was deleted behind its last consumer. */
  readonly deleted: () => void;
}

/**
 * Follows the consumers of one connection whose end has consequences that quorum queues don't take by themselves: behind
 * the last consumer of a queue that was declared auto-delete the queue is deleted, and behind an exclusive consumer others
 * are let in. The broker knows whether it was the last one, of all connections and however they came: it is asked on the
 * lookup's channel.
 */
export class FollowUp {
  readonly #settings: FollowUpSettings;
  readonly #consumers = new Consumers();
  /** Consumers whose basic.consume the broker hasn't answered yet. */
  #beginning = 0;
  /** Consumers whose basic.cancel is under way, by channel and tag: whether the client wants no answer. */
  readonly #cancelled = new Map<number, Map<string, boolean>>();
  /** Questions that will be asked again. */
  readonly #late = new Set<NodeJS.Timeout>();
  /** Queues that have lost a consumer, as long as it isn't known what becomes of them. */
  readonly #ending: string[] = [];
  /** What waits until it is known what becomes of the queues. */
  #unsettled: (() => void)[] = [];

  constructor(settings: FollowUpSettings) {
    this.#settings = settings;
  }

  /** Whether consumers are kept away from a queue. @param queue its name, an octet a character */
  isKeptAway(queue: string): boolean {
    const { queues, virtualHost } = this.#settings;
    return queues.isInExclusiveUse(virtualHost, queue);
  }

  /**
   * A basic.consume frame on its way to the broker.
   * @param queue the name of its queue, an octet a character
   * @returns the frame to send: with a tag of the proxy's where the client leaves it to the broker, to know it again
   */
  consumes(frame: Uint8Array, queue: string): Uint8Array {
    const { queues, virtualHost } = this.#settings;
    const { nameEnd, flagsAt } = readBasicConsume(frame);
    const exclusive = (frame[flagsAt]! & BASIC_CONSUME.exclusive) !== 0;
    const autoDelete = queues.isAutoDelete(virtualHost, queue);
    if (!exclusive && !autoDelete) return frame;
    const tagged = flagsAt > nameEnd + 1 ? frame : withShortstr(frame, nameEnd, newTag());
    const tag = latin1(tagged, nameEnd + 1, readBasicConsume(tagged).flagsAt);
    const begun = (frame[flagsAt]! & BASIC_CONSUME.noWait) !== 0;
    const followed = this.#consumers.add(channelOf(frame), tag, {
      queue,
      autoDelete,
      exclusive,
      begun,
      ending: false,
    });
    if (followed && !begun) this.#beginning++;
    if (followed && autoDelete) queues.consumerCame(virtualHost, queue);
    if (followed && exclusive) queues.hold(virtualHost, queue, this);
    return tagged;
  }

  /** Whether the client's basic.cancel and channel.close frames have to be shown. */
  get followsEnds(): boolean {
    return this.#consumers.size > 0;
  }

  /** A basic.cancel frame on its way to the broker. @returns the frame to send: one that is answered */
  cancels(frame: Uint8Array): Uint8Array {
    const { tagStart, tagEnd } = readConsumerTag(frame);
    const channel = channelOf(frame);
    const tag = latin1(frame, tagStart, tagEnd);
    if (!this.#consumers.has(channel, tag)) return frame;
    this.#cancelling(channel, tag, (frame[tagEnd]! & 1) !== 0);
    return withBits(frame, tagEnd, 1, false);
  }

  /** A channel.close frame on its way to the broker. @returns what to send: its consumers are cancelled before */
  closes(frame: Uint8Array): Uint8Array {
    const cancels = this.#cancelAll(channelOf(frame));
    return cancels.length === 0 ? frame : Buffer.concat([...cancels, frame]);
  }

  /** basic.cancel frames for the consumers of auto-delete queues, of one channel or of all. */
  #cancelAll(onlyOn?: number): Uint8Array[] {
    const frames: Uint8Array[] = [];
    for (const [channel, tag] of this.#consumers.ofAutoDelete(onlyOn)) {
      if (this.#cancelled.get(channel)?.has(tag) === true) continue;
      this.#cancelling(channel, tag, true);
      frames.push(encodeBasicCancel(channel, Buffer.from(tag, 'latin1')));
    }
    return frames;
  }

  #cancelling(channel: number, tag: string, unanswered: boolean): void {
    const consumer = this.#consumers.get(channel, tag);
    if (consumer?.autoDelete === true) this.#ends(consumer);
    const cancelled = this.#cancelled.get(channel) ?? new Map<string, boolean>();
    this.#cancelled.set(channel, cancelled.set(tag, unanswered));
  }

  /** Whether consumers have ended of which it isn't known yet what becomes of their queues. */
  get unsettled(): boolean {
    return this.#cancelled.size > 0 || this.#late.size > 0;
  }

  /** Calls back when it is known: a queue that is declared again behind its last consumer must not be deleted. */
  whenSettled(done: () => void): void {
    if (this.unsettled) this.#unsettled.push(done);
    else this.#settings.lookup.whenIdle(done);
  }

  #settle(): void {
    if (this.unsettled) return;
    for (const done of this.#unsettled.splice(0)) this.#settings.lookup.whenIdle(done);
  }

  /** Whether a method that the broker sends on a client's channel has to be shown. */
  wants(method: number): boolean {
    switch (method) {
      case METHOD.basicConsumeOk:
        return this.#beginning > 0;
      case METHOD.basicCancelOk:
        return this.#cancelled.size > 0;
      case METHOD.basicCancel:
        return this.#consumers.size > 0;
      case METHOD.channelClose:
      case METHOD.channelCloseOk:
        return this.#consumers.size + this.#cancelled.size > 0;
      default:
        return false;
    }
  }

  /** Such a method. @returns what the client gets */
  heard(frame: Uint8Array, method: number): Uint8Array {
    const channel = channelOf(frame);
    if (method === METHOD.channelClose || method === METHOD.channelCloseOk) {
      this.#cancelled.delete(channel);
      this.#gone(this.#consumers.removeAll(channel));
      this.#settle();
      return frame;
    }
    const { tagStart, tagEnd } = readConsumerTag(frame);
    const tag = latin1(frame, tagStart, tagEnd);
    if (method === METHOD.basicConsumeOk) {
      this.#begins(this.#consumers.get(channel, tag));
      return frame;
    }
    const consumer = this.#consumers.remove(channel, tag);
    if (consumer !== undefined) this.#gone([consumer]);
    if (method !== METHOD.basicCancelOk) return frame;
    const cancelled = this.#cancelled.get(channel);
    const unanswered = cancelled?.get(tag) === true;
    cancelled?.delete(tag);
    if (cancelled?.size === 0) this.#cancelled.delete(channel);
    this.#settle();
    return unanswered ? NOTHING : frame;
  }

  /** Whether there are queues to be deleted, or asked about, before the connection is closed. */
  get detains(): boolean {
    return this.unsettled || !this.#settings.lookup.idle || this.#consumers.ofAutoDelete().length > 0;
  }

  /**
   * The client goes: its consumers end here, as long as the broker can still be asked on its connection.
   * @param done called when there is nothing left to do, at once if there was nothing, and when it takes too long
   */
  leave(done: () => void): void {
    this.#releaseAll();
    let left = false;
    const leave = (): void => {
      clearTimeout(timer);
      if (!left) done();
      left = true;
    };
    const timer = setTimeout(leave, LEAVE_TIMEOUT).unref();
    // What the client has set off before comes first.
    this.whenSettled(() => {
      for (const frame of this.#cancelAll()) this.#settings.send(frame);
      this.whenSettled(leave);
    });
  }

  /** The connection has ended, and its consumers with it. */
  ended(): void {
    const { queues, virtualHost } = this.#settings;
    this.#releaseAll();
    for (const queue of this.#consumers.autoDeleteQueues) queues.consumerWent(virtualHost, queue);
    for (const queue of this.#ending.splice(0)) queues.endSettled(virtualHost, queue);
    for (const timer of this.#late) clearTimeout(timer);
  }

  #releaseAll(): void {
    const { queues, virtualHost } = this.#settings;
    for (const queue of this.#consumers.exclusiveQueues) queues.release(virtualHost, queue, this);
  }

  /** From here on it isn't known what becomes of the consumer's queue. */
  #ends(consumer: Consumer): void {
    if (consumer.ending) return;
    const { queues, virtualHost } = this.#settings;
    consumer.ending = true;
    this.#ending.push(consumer.queue);
    queues.endBegins(virtualHost, consumer.queue);
  }

  #begins(consumer: Consumer | undefined): void {
    if (consumer === undefined || consumer.begun) return;
    consumer.begun = true;
    this.#beginning--;
  }

  #gone(consumers: readonly Consumer[]): void {
    const { lookup, queues, virtualHost } = this.#settings;
    for (const consumer of consumers) {
      const { queue, autoDelete, exclusive, begun } = consumer;
      this.#begins(consumer);
      if (exclusive) queues.release(virtualHost, queue, this);
      if (!autoDelete) continue;
      this.#ends(consumer);
      const last = queues.consumerWent(virtualHost, queue);
      // A queue that was never consumed from stays, also with classic queues.
      if (last && begun) lookup.ask(this.#isUnused(queue, LATE));
      else this.#ended(queue);
    }
  }

  /** @param late milliseconds until it is asked again, for each time */
  #isUnused(queue: string, late: readonly number[]): Question {
    const { lookup, queues, virtualHost } = this.#settings;
    return {
      frame: encodePassiveDeclare(lookup.channel, Buffer.from(queue, 'latin1')),
      answer: ({ refusal, unanswered, consumers }) => {
        const exists = refusal === undefined && unanswered === undefined;
        if (refusal?.replyCode === REPLY.notFound) queues.forget(virtualHost, queue);
        // Somebody may have declared it as one that stays meanwhile.
        if (exists && consumers === 0 && queues.isAutoDelete(virtualHost, queue))
          return this.#unbind(queue, queues.bindingsOf(virtualHost, queue));
        const [milliseconds, ...later] = late;
        if (exists && consumers > 0 && milliseconds !== undefined) this.#askLate(queue, milliseconds, later);
        else this.#ended(queue);
        return undefined;
      },
    };
  }

  #askLate(queue: string, milliseconds: number, later: readonly number[]): void {
    const timer = setTimeout(() => {
      this.#settings.lookup.ask(this.#isUnused(queue, later));
      this.#late.delete(timer);
      this.#settle();
    }, milliseconds);
    this.#late.add(timer);
  }

  /**
   * Before the queue is deleted, nothing is routed to it any more: RabbitMQ 3.10 and 4.0 end the connection (541) of a client
   * whose publish meets a quorum queue that is just being deleted (measured; 4.3 doesn't, and none does for classic queues).
   */
  #unbind(queue: string, [first, ...others]: readonly string[]): Question {
    if (first === undefined) return this.#delete(queue);
    const { channel } = this.#settings.lookup;
    return {
      frame: encodeMethod(channel, METHOD.queueUnbind, Buffer.from(first, 'latin1')),
      answer: () => this.#unbind(queue, others),
    };
  }

  #delete(queue: string): Question {
    const { lookup, queues, virtualHost, deleted } = this.#settings;
    return {
      frame: encodeQueueDelete(lookup.channel, Buffer.from(queue, 'latin1')),
      timeout: DELETE_TIMEOUT,
      answer: ({ refusal, unanswered }) => {
        if (refusal === undefined && unanswered === undefined) {
          queues.forget(virtualHost, queue);
          deleted();
        }
        this.#ended(queue);
        return undefined;
      },
    };
  }

  /** It is known what becomes of the queue. */
  #ended(queue: string): void {
    const { queues, virtualHost } = this.#settings;
    const at = this.#ending.indexOf(queue);
    if (at === -1) return;
    this.#ending.splice(at, 1);
    queues.endSettled(virtualHost, queue);
  }
}

function newTag(): string {
  return `quorumbridge.ctag-${randomBytes(12).toString('base64url')}`;
}
