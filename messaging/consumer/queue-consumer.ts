import { setTimeout as sleep } from 'node:timers/promises';
import type { ChannelModel, ConsumeMessage } from 'amqplib';
import { messageOf } from '../../common/errors.ts';
import { type ReconnectPolicy, delayBefore } from '../connection.ts';
import { Line } from '../publisher/line.ts';
import { Delivery, type Surroundings } from './delivery.ts';
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
  readonly onConsuming: () => void;
}

/** One connection. */
export interface Ground {
  readonly model: ChannelModel;
  readonly rules: Rules;
  /** Declares the topology again. */
  readonly declare: () => Promise<void>;
}

/** Keeps one consumer of a queue: when it is cancelled, or its channel ends, the topology is declared again and so is the consumer. */
export class QueueConsumer {
  readonly #settings: QueueConsumerSettings;
  /** Not begun yet, in their order. */
  readonly #waiting = new Line<Delivery>();
  readonly #inFlight = new Set<Promise<void>>();
  #running = 0;
  #session: Session | undefined;
  /** Ends with the connection, or when the consumer is stopped. */
  #ground = new AbortController();
  #isStopped = false;

  constructor(settings: QueueConsumerSettings) {
    this.#settings = settings;
  }

  get isConsuming(): boolean {
    return this.#session !== undefined && !this.#isStopped;
  }

  /** Messages that a handler has, or that are held back before they are given back. */
  get inFlight(): number {
    return this.#inFlight.size;
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
    this.#ground.abort();
  }

  /** Takes no further message, and resolves when those that were begun are settled. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#ground.abort();
    this.#waiting.clear();
    await this.#session?.cancel();
    await Promise.all(this.#inFlight);
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
      const began = performance.now();
      const reason = await this.#consume(ground, ended, isFirst);
      isFirst = false;
      if (ended.aborted) return;
      if (performance.now() - began > LASTING_MS) attempt = 1;
      const delay = delayBefore(attempt, policy, Math.random()) ?? 0;
      onProblem(`queue ${JSON.stringify(queue)} is not consumed: ${reason}; the next try in ${delay} ms`);
      await sleep(delay, undefined, { signal: ended }).catch(() => {});
    }
  }

  /** One consumer, from its beginning to its end. @returns why it ended or never was */
  async #consume({ model, rules, declare }: Ground, ended: AbortSignal, isFirst: boolean): Promise<string> {
    const { queue, prefetch, onConsuming } = this.#settings;
    let session: Session | undefined;
    try {
      if (!isFirst) await declare();
      const channel = await model.createChannel();
      const { promise: end, resolve } = Promise.withResolvers<string>();
      let reason = 'its channel was closed';
      channel.on('error', (error) => {
        reason = error.message;
      });
      channel.on('close', () => resolve(reason));
      session = new Session(channel);
      const own = session;
      await channel.prefetch(prefetch);
      await own.consume(
        queue,
        (message) => this.#take(message, own, rules),
        () =>
          resolve(
            'the broker cancelled the consumer, as it does when a queue is deleted or its node is gone',
          ),
      );
      if (ended.aborted) return 'it was stopped';
      this.#session = own;
      onConsuming();
      return await end;
    } catch (error) {
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
    const { concurrency, handler } = this.#settings;
    while (this.#running < concurrency) {
      const delivery = this.#waiting.shift();
      if (delivery === undefined) return;
      if (!delivery.isLive) continue;
      this.#running++;
      const handled = delivery.handle(handler).then(() => {
        this.#running--;
        this.#pump();
        return delivery.settled;
      });
      this.#inFlight.add(handled);
      void handled.finally(() => this.#inFlight.delete(handled));
    }
  }
}
