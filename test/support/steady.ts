// Clients that go on with one thing, on one channel that stays open, until they are told to stop.
import { setTimeout as sleep } from 'node:timers/promises';
import { basicConsume, entry, queueDeclare } from './amqp-frames.ts';
import { confirmSelect, prefetch } from './amqp-methods.ts';
import { acknowledge } from './mixed-turns.ts';
import type { Publisher, TrafficCheck } from './traffic-check.ts';
import { WireClient } from './wire-client.ts';
import type { WireChannel, WireOptions } from './wire-client.ts';

/** What one waits for, longer than it takes. */
const PATIENCE_MS = 30_000;
/** Messages without an answer; a publisher with confirms waits then. */
const WINDOW = 200;

/** What is put back ever so often is not dropped. */
const DELIVERY_LIMIT = entry('x-delivery-limit', { tag: 'I', value: 1_000_000 });

/** Waits until `isSo`; rejects otherwise. */
export async function until(what: string, isSo: () => boolean, milliseconds = PATIENCE_MS): Promise<void> {
  const deadline = performance.now() + milliseconds;
  while (!isSo()) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${milliseconds} ms`);
    await sleep(10);
  }
}

/** Declares queues that stay, and leaves. */
export async function declareQueues(port: number, ...names: string[]): Promise<void> {
  await using client = await WireClient.connect(port);
  const channel = await client.channel(1);
  for (const name of names) await channel.ask(queueDeclare({ name, flags: 2, entries: [DELIVERY_LIMIT] }));
  await channel.close();
  await client.close();
}

export interface SteadyOptions extends WireOptions {
  /** Milliseconds between two messages: default 5. */
  readonly pause?: number;
  /** Octets of a message besides what names it: default 100. */
  readonly size?: number;
}

export class SteadyPublisher {
  readonly client: WireClient;
  readonly channel: WireChannel;
  readonly messages: Publisher;
  readonly #isAsking: boolean;
  readonly #going: Promise<void>;
  #isStopped = false;

  private constructor(channel: WireChannel, messages: Publisher, isAsking: boolean, options: SteadyOptions) {
    this.client = channel.client;
    this.channel = channel;
    this.messages = messages;
    this.#isAsking = isAsking;
    this.#going = this.#go(options);
  }

  /** One without confirms: what it sends may arrive, or not. */
  static async plain(
    check: TrafficCheck,
    port: number,
    name: string,
    queue: string,
    options: SteadyOptions = {},
  ): Promise<SteadyPublisher> {
    const client = await WireClient.connect(port, options);
    return new SteadyPublisher(await client.channel(1), check.publisher(name, queue), false, options);
  }

  /** One with confirms: what is confirmed has to arrive. */
  static async asking(
    check: TrafficCheck,
    port: number,
    name: string,
    queue: string,
    options: SteadyOptions = {},
  ): Promise<SteadyPublisher> {
    const client = await WireClient.connect(port, options);
    const channel = await client.channel(1);
    const messages = check.publisher(name, queue, { confirms: true });
    channel.onConfirm = (tag, multiple, isAck) => messages.answered(tag, multiple, isAck);
    await channel.ask(confirmSelect(1));
    return new SteadyPublisher(channel, messages, true, options);
  }

  /** Publishes no more; waits until all is answered, and closes as the protocol wants it. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#going;
    if (this.client.end !== undefined) return;
    await until(
      `${this.messages.name}: answers`,
      () => this.messages.unanswered === 0 || this.client.end !== undefined,
    );
    await this.channel.close();
    await this.client.close();
  }

  async #go({ pause = 5, size = 100 }: SteadyOptions): Promise<void> {
    const { channel, client, messages } = this;
    while (!this.#isStopped && channel.ended === undefined) {
      if (!this.#isAsking || messages.unanswered < WINDOW) {
        if (!channel.publish(messages.queue, messages.next(size))) await client.drained();
      }
      await sleep(pause);
    }
  }
}

/** A consumer that acknowledges each message. */
export class SteadyConsumer {
  readonly client: WireClient;
  readonly channel: WireChannel;

  private constructor(channel: WireChannel) {
    this.client = channel.client;
    this.channel = channel;
  }

  static async start(
    check: TrafficCheck,
    port: number,
    name: string,
    queue: string,
    options: WireOptions = {},
  ): Promise<SteadyConsumer> {
    const client = await WireClient.connect(port, options);
    const channel = await client.channel(1);
    const receiver = check.receiver(name, queue);
    channel.onDeliver = ({ consumerTag, deliveryTag, redelivered, body }) => {
      if (consumerTag !== name) check.fault('consumer tag', `${consumerTag} at ${name}`);
      receiver.got(body, redelivered);
      if (!channel.isClosing) channel.send(acknowledge(1, deliveryTag));
    };
    await channel.ask(prefetch(1, 20, false));
    await channel.ask(basicConsume({ name: queue, tag: name }));
    return new SteadyConsumer(channel);
  }

  /** Closes as the protocol wants it. */
  async stop(): Promise<void> {
    if (this.client.end !== undefined) return;
    await this.channel.close();
    await this.client.close();
  }
}
