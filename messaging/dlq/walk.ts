// A walk through the messages of a queue. What isn't taken stays: the broker has it until it is acked, whatever becomes of this process.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import { messageOf } from '../../common/errors.ts';
import { answered } from '../answered.ts';
import { versionOf } from '../connection.ts';
import { BrokerFailure } from '../errors.ts';

/**
 * Messages of one channel that are neither acked nor given back, at most; their contents are in memory until they are decided on.
 * So many of any size, and more of those that are small: what stays needs a channel for each so many.
 */
const PREFETCH = 100;
const PREFETCH_OF_SMALL = 1000;
const SMALL_OCTETS = 16_384;

/** How long nothing comes until the queue is asked whether it is empty, and until somebody else is taken to have its messages. */
const PAUSE_MS = 500;
const STALL_MS = 30_000;

/**
 * How many messages are given back at once: of more, quorum queues of RabbitMQ 3.10 put all in any order. Those of 4.0 and 4.3
 * keep the order of 4000; what is between was not measured.
 */
const TOGETHER = 1000;
const TOGETHER_BEFORE_4 = 32;

/** Quorum queues have what is given back a moment later. How long, and how far apart, that is asked for. */
const SETTLING_MS = 2000;
const SETTLING_PAUSE_MS = 5;

export interface WalkSettings {
  readonly queue: string;
  /** So many messages are looked at, at most: what comes back to the queue meanwhile is not looked at twice. */
  readonly count: number;
  /** So many messages will be taken, at most. */
  readonly takes?: number | undefined;
  /** So many of them are asked for at a time, at most: who takes long would keep what it has beyond the broker's consumer_timeout. */
  readonly atATime?: number | undefined;
  /** How long each answer of the broker may take. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /**
   * Called for each message in its order. A promise: the message is acked when it resolves to true, and stays when to false; many may be
   * under way. `stay`: it stays. `end`: it stays, and no further one is looked at.
   */
  readonly visit: Visit;
  /** Called while messages are given back at the end. @param total how many there are to be given back */
  readonly onGivenBack?: (done: number, total: number) => void;
}

/** @param signal the walk is at its end: what was not begun is not to be begun any more */
export type Visit = (message: ConsumeMessage, signal: AbortSignal) => Promise<boolean> | 'stay' | 'end';

interface Station {
  readonly channel: Channel;
  readonly consumerTag: string;
  /** Delivery tags of what is neither acked nor given back, in their order. */
  readonly held: Set<number>;
}

interface Arrived extends Pick<Station, 'channel' | 'held'> {
  readonly message: ConsumeMessage;
}

/**
 * Visits messages in their order, and gives back those that stay when all are visited: they keep their places. What stays until then
 * is kept on as many channels as it needs, each with a prefetch: of several consumers on one channel, it would come back in any order.
 * @throws BrokerFailure where a channel, the connection or the queue ends, or what `visit` returned rejects
 */
export async function walk(model: ChannelModel, settings: WalkSettings): Promise<void> {
  const walk = new Walk(model, settings);
  try {
    await walk.run();
  } catch (error) {
    throw failureOf(settings.queue, error);
  } finally {
    await walk.putBack();
  }
}

function failureOf(queue: string, error: unknown): BrokerFailure {
  if (error instanceof BrokerFailure) return error;
  return new BrokerFailure(`queue ${JSON.stringify(queue)}: ${messageOf(error)}`);
}

class Walk {
  readonly #model: ChannelModel;
  readonly #settings: WalkSettings;
  readonly #stations: Station[] = [];
  readonly #arrived: Arrived[] = [];
  readonly #underWay = new Set<Promise<void>>();
  readonly #failing = new AbortController();
  readonly #signal: AbortSignal;
  /** How many may be kept until another channel is needed. */
  #room = 0;
  #octets = 0;
  #visited = 0;
  #asking: Channel | undefined;
  #failure: unknown;
  #kept = 0;
  #isEnding = false;
  #wake: () => void = () => {};

  constructor(model: ChannelModel, settings: WalkSettings) {
    this.#model = model;
    this.#settings = settings;
    this.#signal = AbortSignal.any([settings.signal, this.#failing.signal]);
  }

  async run(): Promise<void> {
    const { count } = this.#settings;
    const signal = this.#signal;
    const wake = (): void => this.#wake();
    signal.addEventListener('abort', wake);
    try {
      let heardAt = performance.now();
      while (this.#visited < count && !signal.aborted && !this.#isEnding) {
        // Whoever keeps all that it may have gets no more.
        if (this.#kept >= this.#room) await this.#consume();
        const next = this.#arrived.shift();
        if (next !== undefined) {
          this.#visited++;
          this.#octets += next.message.content.length;
          this.#visit(next);
          heardAt = performance.now();
          continue;
        }
        const isAwake = await this.#sleep();
        if (isAwake || this.#underWay.size > 0) continue;
        if (await this.#isEmpty()) break;
        if (performance.now() - heardAt > STALL_MS)
          throw new BrokerFailure(
            `queue ${JSON.stringify(this.#settings.queue)} gives none of its messages: does somebody else consume from it alone?`,
          );
      }
      await Promise.all(this.#underWay);
    } finally {
      signal.removeEventListener('abort', wake);
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Gives back what was not acked, in its order, once none of these consumers would get it again. */
  async putBack(): Promise<void> {
    await Promise.all(this.#underWay);
    this.#isEnding = true;
    for (const { channel, consumerTag } of this.#stations)
      await this.#ask('basic.cancel', channel.cancel(consumerTag)).catch(() => {}); // it has ended, with all that it had
    const total = this.#stations.reduce((sum, { held }) => sum + held.size, 0);
    const givenBack = { done: 0, total, ready: await this.#ready().catch(() => undefined) };
    for (const station of this.#stations) {
      // One that has ended already has given back what it had.
      await this.#giveBack(station, givenBack).catch(() => {});
    }
  }

  async #giveBack(
    { channel, held }: Station,
    progress: { done: number; readonly total: number; ready: number | undefined },
  ): Promise<void> {
    const tags = [...held];
    const together = versionOf(this.#model).major < 4 ? TOGETHER_BEFORE_4 : TOGETHER;
    for (let at = 0; at < tags.length; at += together) {
      const some = tags.slice(at, at + together);
      // Not by the channel's end: RabbitMQ 4.3 counts that as a failed delivery, and basic.nack it doesn't.
      channel.nack({ fields: { deliveryTag: some.at(-1) } } as ConsumeMessage, true);
      // The next ones belong behind these, and whoever looks next finds all.
      if (progress.ready !== undefined) progress.ready = await this.#untilReady(progress.ready + some.length);
      progress.done += some.length;
      this.#settings.onGivenBack?.(progress.done, progress.total);
    }
    await this.#ask('channel.close', channel.close());
  }

  /** @returns undefined where it doesn't come to that: somebody else takes them */
  async #untilReady(count: number): Promise<number | undefined> {
    const end = performance.now() + SETTLING_MS;
    while ((await this.#ready()) < count) {
      if (performance.now() > end) return undefined;
      await sleep(SETTLING_PAUSE_MS);
    }
    return count;
  }

  async #ready(): Promise<number> {
    this.#asking ??= await this.#open();
    const found = this.#asking.checkQueue(this.#settings.queue);
    return (await this.#ask('how many messages are left', found)).messageCount;
  }

  async #open(): Promise<Channel> {
    const channel = await this.#ask('channel.open', this.#model.createChannel());
    channel.on('error', (error) => this.#fail(error));
    channel.on('close', () => {
      if (!this.#isEnding) this.#fail(new Error('the connection was lost'));
    });
    return channel;
  }

  #ask<T>(what: string, answer: Promise<T>): Promise<T> {
    return answered(this.#settings.timeoutMs, what, answer);
  }

  #visit(arrived: Arrived): void {
    const decision = this.#settings.visit(arrived.message, this.#signal);
    if (typeof decision === 'string') {
      this.#kept++;
      this.#isEnding ||= decision === 'end';
      return;
    }
    const task = this.#settle(arrived, decision).finally(() => {
      this.#underWay.delete(task);
      this.#wake();
    });
    this.#underWay.add(task);
  }

  async #settle({ channel, held, message }: Arrived, decision: Promise<boolean>): Promise<void> {
    try {
      if (await decision) {
        channel.ack(message);
        held.delete(message.fields.deliveryTag);
      } else this.#kept++;
    } catch (error) {
      this.#fail(error);
    }
  }

  async #consume(): Promise<void> {
    const { count, takes = Infinity, atATime = Infinity, queue } = this.#settings;
    const isSmall = this.#visited > 0 && this.#octets / this.#visited <= SMALL_OCTETS;
    const most = Math.min(isSmall ? PREFETCH_OF_SMALL : PREFETCH, count, takes, atATime);
    const channel = await this.#open();
    await this.#ask('basic.qos', channel.prefetch(most));
    const held = new Set<number>();
    const consuming = channel.consume(queue, (message) => {
      if (message === null) this.#fail(new Error('the queue was deleted, or its node has ended'));
      else {
        held.add(message.fields.deliveryTag);
        this.#arrived.push({ channel, held, message });
      }
      this.#wake();
    });
    const { consumerTag } = await this.#ask('basic.consume', consuming);
    this.#stations.push({ channel, consumerTag, held });
    this.#room += most;
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#failing.abort();
  }

  /** @returns whether something woke it */
  #sleep(): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), PAUSE_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  }

  async #isEmpty(): Promise<boolean> {
    return (await this.#ready()) === 0 && this.#arrived.length === 0;
  }
}
