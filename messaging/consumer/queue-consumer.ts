import { setTimeout as sleep } from 'node:timers/promises';
import type { ChannelModel, ConsumeMessage } from 'amqplib';
import { messageOf } from '../../common/errors.ts';
import { answered } from '../answered.ts';
import { type ReconnectPolicy, delayBefore } from '../connection.ts';
import { NoAnswer } from '../errors.ts';
import { Line } from '../publisher/line.ts';
import { Delivery, type Progress, type Surroundings } from './delivery.ts';
import type { Handler } from './handler.ts';
import type { Rules } from './rules.ts';
import { Session } from './session.ts';

/** A consumer that has lasted so long, in milliseconds, is no failure when it ends. */
const LASTING_MS = 5000;

/** How long the wait before consuming again may become, in milliseconds. */
const LONGEST_DELAY_MS = 30_000;

export interface QueueConsumerSettings extends Surroundings {
  readonly queue: string;
  readonly handler: Handler;
  /** Unacknowledged messages, at most; 0: without a bound. */
  readonly prefetch: number;
  /** Handlers at a time. */
  readonly concurrency: number;
  /** The wait before consuming again for the first time, in milliseconds. */
  readonly firstDelayMs: number;
  /** How long each answer of the broker may take, in milliseconds. */
  readonly answerMs: number;
  readonly onConsuming: () => void;
}

/** One connection. */
export interface Ground {
  readonly model: ChannelModel;
  readonly rules: Rules;
  /** Why something that the queue needs could not be declared. */
  readonly refusal: string | undefined;
  /** Declares again what the queue needs. */
  readonly declare: () => Promise<void>;
  /** A channel was left because the broker does not answer on it, nor to its end. */
  readonly onChannelLeft: () => void;
}

/**
 * Keeps one consumer of a queue: when it is cancelled, its channel ends or the broker doesn't answer, what the queue needs is
 * declared again, and so is the consumer.
 */
export class QueueConsumer {
  readonly #settings: QueueConsumerSettings;
  /** Not begun yet, in their order. */
  readonly #waiting = new Line<Delivery>();
  #running = 0;
  #isPumping = false;
  #inFlight = 0;
  /** Wait until nothing is in flight. */
  readonly #idle: (() => void)[] = [];
  readonly #progress: Progress = {
    handled: () => {
      this.#running--;
      this.#pump();
    },
    settled: () => {
      if (--this.#inFlight > 0) return;
      for (const idle of this.#idle.splice(0)) idle();
    },
  };
  #session: Session | undefined;
  /** Ends with the connection, or when the consumer is stopped. */
  #ground = new AbortController();
  #isStopped = false;
  #problem: string | undefined;
  /** Milliseconds of performance.now(); infinite for an attempt that came to nothing. */
  #consumingSince = Infinity;

  constructor(settings: QueueConsumerSettings) {
    this.#settings = settings;
  }

  get isConsuming(): boolean {
    return this.#session !== undefined && !this.#isStopped;
  }

  /** Why it is not consuming on this connection, as far as that is known. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Messages that a handler has, or that are held back before they are given back. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Consumes on a connection, in which everything is declared. */
  start(ground: Ground): void {
    if (this.#isStopped) return;
    this.#ground = new AbortController();
    void this.#keep(ground, this.#ground.signal);
  }

  /** The connection is gone. */
  lost(): void {
    this.#session = undefined;
    this.#problem = undefined;
    this.#ground.abort();
  }

  /** Takes no further message, and resolves when those that were begun are settled. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#ground.abort();
    this.#waiting.clear();
    await this.#session?.cancel();
    if (this.#inFlight > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    await this.#session?.close();
  }

  async #keep(ground: Ground, ended: AbortSignal): Promise<void> {
    const { queue, firstDelayMs, onProblem } = this.#settings;
    const policy: ReconnectPolicy = {
      firstDelayMs,
      longestDelayMs: Math.max(LONGEST_DELAY_MS, firstDelayMs),
      attempts: undefined,
    };
    let isFirst = true;
    for (let attempt = 1; !ended.aborted; attempt++) {
      this.#consumingSince = Infinity;
      const reason = await this.#consume(ground, ended, isFirst);
      isFirst = false;
      if (ended.aborted) return;
      this.#problem = reason;
      if (performance.now() - this.#consumingSince > LASTING_MS) attempt = 1;
      const delay = delayBefore(attempt, policy, Math.random()) ?? 0;
      onProblem(`queue ${JSON.stringify(queue)} is not consumed: ${reason}; the next try in ${delay} ms`);
      await sleep(delay, undefined, { signal: ended }).catch(() => {});
    }
  }

  /** One consumer, from its beginning to its end. @returns why it ended or never was */
  async #consume(ground: Ground, ended: AbortSignal, isFirst: boolean): Promise<string> {
    const { queue, prefetch, answerMs, onConsuming } = this.#settings;
    const { model, rules, refusal, declare, onChannelLeft } = ground;
    if (isFirst && refusal !== undefined) return refusal;
    let session: Session | undefined;
    try {
      if (!isFirst) await declare();
      const channel = await answered(answerMs, 'channel.open', model.createChannel());
      const { promise: end, resolve } = Promise.withResolvers<string>();
      let reason = 'its channel was closed';
      channel.on('error', (error) => {
        reason = error.message;
      });
      channel.on('close', () => resolve(reason));
      session = new Session(channel);
      const own = session;
      await answered(answerMs, 'basic.qos', channel.prefetch(prefetch));
      const consuming = own.consume(
        queue,
        (message) => this.#take(message, own, rules),
        () =>
          resolve(
            'the broker cancelled the consumer, as it does when a queue is deleted or its node is gone',
          ),
      );
      await answered(answerMs, 'basic.consume', consuming);
      if (ended.aborted) return 'it was stopped';
      this.#session = own;
      this.#problem = undefined;
      this.#consumingSince = performance.now();
      onConsuming();
      return await end;
    } catch (error) {
      if (error instanceof NoAnswer) onChannelLeft();
      return messageOf(error);
    } finally {
      if (this.#session === session && !this.#isStopped) this.#session = undefined;
      if (!this.#isStopped) session?.retire();
    }
  }

  #take(message: ConsumeMessage, session: Session, rules: Rules): void {
    // What isn't begun goes back to the queue with its channel.
    if (this.#isStopped) return;
    this.#waiting.push(new Delivery(message, session, rules, this.#settings));
    this.#pump();
  }

  #pump(): void {
    // Handlers that return at once come here again: the loop below goes on with the next one.
    if (this.#isPumping) return;
    this.#isPumping = true;
    const { concurrency, handler } = this.#settings;
    try {
      while (this.#running < concurrency) {
        const delivery = this.#waiting.shift();
        if (delivery === undefined) return;
        if (!delivery.isLive) continue;
        this.#running++;
        this.#inFlight++;
        delivery.handle(handler, this.#progress);
      }
    } finally {
      this.#isPumping = false;
    }
  }
}
