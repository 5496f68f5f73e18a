import { setTimeout as sleep } from 'node:timers/promises';
import type { ConsumeMessage } from 'amqplib';
import { messageOf } from '../../common/errors.ts';
import { formatDuration } from '../config/duration.ts';
import { type Attempts, attemptsOf } from './attempts.ts';
import { events } from '../observe/events.ts';
import type { Propagator } from '../observe/propagation.ts';
import type { Forwarder } from './forwarder.ts';
import { type Context, type Handler, valueOf } from './handler.ts';
import type { Rules } from './rules.ts';
import type { Session } from './session.ts';

/** How long a message is held back before it is given back for the first time, in milliseconds; it doubles with each attempt. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;

/** What became of messages. */
export type Outcome = 'acked' | 'requeued' | 'rejected' | 'retried';

/** What the deliveries of a queue have in common. */
export interface Surroundings {
  /** The consumers' name. */
  readonly client: string;
  readonly forwarder: Forwarder;
  readonly propagator: Propagator | undefined;
  readonly signal: AbortSignal;
  readonly onProblem: (text: string) => void;
  readonly onBegun: () => void;
  readonly onOutcome: (outcome: Outcome) => void;
}

/** Hears how far a delivery is. */
export interface Progress {
  /** The handler is through with it; it may be held back for longer. */
  readonly handled: () => void;
  /** The broker was told what becomes of it; not before `handled`. */
  readonly settled: () => void;
}

/** One message, from its arrival until the broker is told what becomes of it. */
export class Delivery {
  readonly #message: ConsumeMessage;
  readonly #session: Session;
  readonly #rules: Rules;
  readonly #surroundings: Surroundings;
  readonly #attempts: Attempts;
  /** Milliseconds of performance.now(). */
  #begunAt = 0;
  #decision: string | undefined;
  /** What is still to come before it is settled: the handler's end, and that the broker is told. */
  #steps = 2;
  #progress: Progress | undefined;

  constructor(message: ConsumeMessage, session: Session, rules: Rules, surroundings: Surroundings) {
    this.#message = message;
    this.#session = session;
    this.#rules = rules;
    this.#surroundings = surroundings;
    this.#attempts = attemptsOf(message, rules);
  }

  /** False when its channel is gone: the broker gives it to somebody again. */
  get isLive(): boolean {
    return this.#session.isOpen;
  }

  /** Gives it to the handler. Handlers that return at once cost no promise. */
  handle({ accept }: Handler, progress: Progress): void {
    this.#progress = progress;
    this.#begin();
    let run;
    try {
      run = accept(valueOf(this.#message));
    } catch (error) {
      const reason = `invalid payload: ${messageOf(error)}`;
      this.#surroundings.onProblem(`${this.#name}: ${reason}`);
      this.#decide('was rejected: its payload is invalid', () => this.#reject(reason));
      this.#handled();
      return;
    }
    let running;
    try {
      const context = this.#context();
      const { propagator } = this.#surroundings;
      running = propagator === undefined ? run(context) : propagator.run(context.headers, () => run(context));
    } catch (error) {
      this.#threw(error);
      return;
    }
    if (running === undefined) this.#returned();
    else
      Promise.resolve(running).then(
        () => this.#returned(),
        (error: unknown) => this.#threw(error),
      );
  }

  #returned(): void {
    if (this.#decision === undefined) this.#decide('was acked by returning', () => this.#ack());
    this.#handled();
  }

  #threw(error: unknown): void {
    this.#surroundings.onProblem(
      `${this.#name}: the handler threw at attempt ${this.#attempts.attempt}: ${messageOf(error)}`,
    );
    if (this.#decision === undefined) this.#decide('was given back by throwing', () => this.#giveBack());
    this.#handled();
  }

  #handled(): void {
    this.#progress?.handled();
    this.#step();
  }

  #step(): void {
    if (--this.#steps === 0) this.#progress?.settled();
  }

  get #messageId(): string | undefined {
    const { messageId } = this.#message.properties as { messageId: unknown };
    return typeof messageId === 'string' ? messageId : undefined;
  }

  get #name(): string {
    const id = this.#messageId === undefined ? '' : ` ${this.#messageId}`;
    return `queue ${JSON.stringify(this.#rules.queue)}, message${id}`;
  }

  #begin(): void {
    this.#begunAt = performance.now();
    this.#surroundings.onBegun();
    if (!events.deliver.hasSubscribers) return;
    const { client } = this.#surroundings;
    const { redelivered } = this.#message.fields;
    const { attempt } = this.#attempts;
    events.deliver.publish({
      client,
      queue: this.#rules.queue,
      messageId: this.#messageId,
      attempt,
      redelivered,
    });
  }

  #settled(outcome: Outcome): void {
    this.#surroundings.onOutcome(outcome);
    if (!events.outcome.hasSubscribers) return;
    const { client } = this.#surroundings;
    const { attempt } = this.#attempts;
    const seconds = (performance.now() - this.#begunAt) / 1000;
    events.outcome.publish({
      client,
      queue: this.#rules.queue,
      messageId: this.#messageId,
      attempt,
      outcome,
      seconds,
    });
  }

  #context(): Context {
    const { fields, properties } = this.#message;
    return {
      attempt: this.#attempts.attempt,
      redelivered: fields.redelivered,
      headers: properties.headers ?? {},
      message: this.#message,
      signal: this.#surroundings.signal,
      ack: () => this.#decide('was acked', () => this.#ack()),
      nack: ({ requeue = true } = {}) =>
        requeue
          ? this.#decide('was given back', () => this.#giveBack())
          : this.#decide('was rejected', () => this.#reject()),
      reject: (reason) => this.#decide('was rejected', () => this.#reject(reason)),
      retryLater: (delayMs) => {
        const queue = this.#retryQueue(delayMs);
        this.#decide('is to be retried later', () => this.#retry(queue));
      },
    };
  }

  /** @throws Error for a second decision */
  #decide(what: string, settle: () => Promise<void> | void): void {
    if (this.#decision !== undefined)
      throw new Error(`${this.#name}: it ${this.#decision} before; only one decision can be taken`);
    this.#decision = what;
    // The broker's answers to what is sent are events of the channel, so what fails here is nobody's to handle.
    const failed = (error: unknown): void =>
      this.#surroundings.onProblem(`${this.#name}: ${messageOf(error)}`);
    try {
      const settling = settle();
      if (settling === undefined) this.#step();
      else void settling.catch(failed).finally(() => this.#step());
    } catch (error) {
      failed(error);
      this.#step();
    }
  }

  #ack(): void {
    if (this.#session.ack(this.#message)) this.#settled('acked');
  }

  async #reject(reason?: string): Promise<void> {
    const { queue, deadLetterExchange } = this.#rules;
    if (reason !== undefined && deadLetterExchange !== undefined) {
      const isBuried = await this.#published('it is a dead letter without its reason', (forwarder) =>
        forwarder.bury(this.#message, deadLetterExchange, queue, reason),
      );
      if (isBuried) {
        if (this.#session.ack(this.#message)) this.#settled('rejected');
        return;
      }
    }
    if (this.#session.reject(this.#message, false)) this.#settled('rejected');
  }

  async #giveBack(): Promise<void> {
    const { queue, countedByBroker } = this.#rules;
    const { attempt, uncounted } = this.#attempts;
    if (this.#isLast && (!countedByBroker || uncounted > 0)) return this.#reject();
    if (!this.#isLast) await this.#pause();
    if (countedByBroker) return this.#returnToQueue();
    const isRequeued = await this.#published('it comes back without this attempt counted', (forwarder) =>
      forwarder.requeue(this.#message, queue, attempt),
    );
    if (!isRequeued) return this.#returnToQueue();
    if (this.#session.ack(this.#message)) this.#settled('requeued');
  }

  async #retry(queue: string): Promise<void> {
    if (this.#isLast) return this.#reject();
    const isRetried = await this.#published('it comes back at once', (forwarder) =>
      forwarder.postpone(this.#message, queue, this.#attempts.attempt),
    );
    if (isRetried) {
      if (this.#session.ack(this.#message)) this.#settled('retried');
      return;
    }
    await this.#pause();
    this.#returnToQueue();
  }

  #returnToQueue(): void {
    // The broker makes a dead letter of it where that is once too often.
    if (this.#session.reject(this.#message, true)) this.#settled(this.#isLast ? 'rejected' : 'requeued');
  }

  /** It has come back as often as it may. */
  get #isLast(): boolean {
    const { deliveryLimit } = this.#rules;
    return deliveryLimit !== undefined && this.#attempts.attempt > deliveryLimit;
  }

  /** A message that fails whenever it is tried would keep everybody busy: it is held back, and its place in the prefetch with it. */
  async #pause(): Promise<void> {
    const doublings = Math.min(this.#attempts.attempt - 1, 32);
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** doublings);
    await sleep(pause, undefined, { signal: this.#surroundings.signal }).catch(() => {});
  }

  /** @returns whether the copy is safe @param otherwise what becomes of the message if not */
  async #published(otherwise: string, publish: (forwarder: Forwarder) => Promise<void>): Promise<boolean> {
    // A copy of what comes back anyway would be one too many.
    if (!this.#session.isOpen) return false;
    try {
      await publish(this.#surroundings.forwarder);
      return true;
    } catch (error) {
      this.#surroundings.onProblem(`${this.#name}: ${otherwise}: ${messageOf(error)}`);
      return false;
    }
  }

  #retryQueue(delayMs: number | undefined): string {
    const { queue, retries } = this.#rules;
    const step = Math.min(this.#attempts.attempt, retries.length) - 1;
    const found = delayMs === undefined ? retries[step] : retries.find((retry) => retry.delayMs === delayMs);
    if (found !== undefined) return found.name;
    const has =
      retries.length === 0
        ? 'it has none: give it `retry` in the file'
        : `it has ${retries.map((retry) => formatDuration(retry.delayMs)).join(', ')}`;
    const asked = delayMs === undefined ? '' : ` of ${delayMs} ms`;
    throw new Error(`retryLater: queue ${JSON.stringify(queue)} has no delay${asked}; ${has}`);
  }
}
