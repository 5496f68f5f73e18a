// A walk through the messages of a queue. What isn't taken stays: the broker has it until it is acked, whatever becomes of this process.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import { messageOf } from '../../common/errors.ts';
import { BrokerFailure } from '../errors.ts';

/** Messages of one channel that are neither acked nor given back, at most; their contents are in memory until they are decided on. */
const PREFETCH = 100;

/** How long nothing comes until the queue is asked whether it is empty, and until somebody else is taken to have its messages. */
const PAUSE_MS = 500;
const STALL_MS = 30_000;

/** More messages that are given back at once come back to quorum queues of RabbitMQ 3.10 in any order, of one channel or of several. */
const TOGETHER = 32;

/** Quorum queues have what is given back a moment later. How often, and how far apart, that is asked for. */
const SETTLING_TRIES = 40;
const SETTLING_MS = 50;

export interface WalkSettings {
  readonly queue: string;
  /** So many messages are looked at, at most: what comes back to the queue meanwhile is not looked at twice. */
  readonly count: number;
  /** So many messages will be taken, at most. */
  readonly takes?: number | undefined;
  readonly signal: AbortSignal;
  /**
   * Called for each message in its order. A promise: the message is acked when it resolves to true, and stays when to false; many may be
   * under way. `stay`: it stays. `end`: it stays, and no further one is looked at.
   */
  readonly visit: Visit;
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
 * is kept on as many channels as it needs, each with a prefetch.
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
  readonly #prefetch: number;
  readonly #stations: Station[] = [];
  readonly #arrived: Arrived[] = [];
  readonly #underWay = new Set<Promise<void>>();
  readonly #failing = new AbortController();
  readonly #signal: AbortSignal;
  #failure: unknown;
  #kept = 0;
  #isEnding = false;
  #wake: () => void = () => {};

  constructor(model: ChannelModel, settings: WalkSettings) {
    this.#model = model;
    this.#settings = settings;
    this.#signal = AbortSignal.any([settings.signal, this.#failing.signal]);
    this.#prefetch = Math.max(1, Math.min(PREFETCH, settings.count, settings.takes ?? PREFETCH));
  }

  async run(): Promise<void> {
    const { count } = this.#settings;
    const signal = this.#signal;
    const wake = (): void => this.#wake();
    signal.addEventListener('abort', wake);
    try {
      let visited = 0;
      let heardAt = performance.now();
      while (visited < count && !signal.aborted && !this.#isEnding) {
        // Whoever keeps all that it may have gets no more.
        if (this.#kept >= this.#stations.length * this.#prefetch) await this.#consume();
        const next = this.#arrived.shift();
        if (next !== undefined) {
          visited++;
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
    // What has ended already has given back what it had.
    for (const { channel, consumerTag } of this.#stations) await channel.cancel(consumerTag).catch(() => {});
    let ready = await this.#ready().catch(() => undefined);
    for (const { channel, held } of this.#stations) {
      try {
        // Not by the channel's end: RabbitMQ 4.3 counts that as a failed delivery, and basic.nack it doesn't.
        const tags = [...held];
        for (let at = 0; at < tags.length; at += TOGETHER) {
          const some = tags.slice(at, at + TOGETHER);
          channel.nack({ fields: { deliveryTag: some.at(-1) } } as ConsumeMessage, true);
          // The next ones belong behind these, and whoever looks next finds all.
          if (ready !== undefined) ready = await this.#untilReady(ready + some.length);
        }
        await channel.close();
      } catch {
        // it has ended already
      }
    }
  }

  /** @returns undefined where it doesn't come to that: somebody else takes them */
  async #untilReady(count: number): Promise<number | undefined> {
    for (let tries = 0; tries < SETTLING_TRIES; tries++) {
      if ((await this.#ready()) >= count) return count;
      await sleep(SETTLING_MS);
    }
    return undefined;
  }

  async #ready(): Promise<number> {
    const channel = await this.#model.createChannel();
    // The same refusal rejects the call.
    channel.on('error', () => {});
    const { messageCount } = await channel.checkQueue(this.#settings.queue);
    await channel.close();
    return messageCount;
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
    const channel = await this.#model.createChannel();
    channel.on('error', (error) => this.#fail(error));
    channel.on('close', () => {
      if (!this.#isEnding) this.#fail(new Error('the connection was lost'));
    });
    await channel.prefetch(this.#prefetch);
    const held = new Set<number>();
    const { consumerTag } = await channel.consume(this.#settings.queue, (message) => {
      if (message === null) this.#fail(new Error('the queue was deleted, or its node has ended'));
      else {
        held.add(message.fields.deliveryTag);
        this.#arrived.push({ channel, held, message });
      }
      this.#wake();
    });
    this.#stations.push({ channel, consumerTag, held });
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
