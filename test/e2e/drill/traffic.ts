// A legacy client that never gives up: it publishes with confirms, consumes, and connects again as oslo.messaging does,
// and knows of every message when it was confirmed and when it came.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'amqplib';
import type { ChannelModel, ConfirmChannel, Options } from 'amqplib';

export interface TrafficSettings {
  /** Where to connect, asked before each try, as a resolver would be. */
  url: () => Promise<string>;
  /** legacy: transient, shared queues, as oslo.messaging declares them by default; quorum: as with rabbit_quorum_queue. */
  declarations: 'legacy' | 'quorum';
  /** Told when it loses a connection and when it has one again. */
  onChange: (line: string) => void;
}

/** Milliseconds since the epoch. */
export interface Fate {
  queue: string;
  persistent: boolean;
  confirmedAt?: number;
  receivedAt?: number;
}

const EXCHANGE = 'openstack';
const TOPIC = 'conductor';
const TRANSIENT_QUEUE_TTL_MS = 1_800_000;
const PUBLISH_INTERVAL_MS = 50;
/** oslo.messaging's rabbit_retry_interval, rabbit_retry_backoff and rabbit_interval_max. */
const RETRY_MS = { first: 1000, step: 2000, most: 30_000 };
const CONNECT_TIMEOUT_MS = 5000;

export class Traffic {
  readonly fates = new Map<string, Fate>();
  readonly #settings: TrafficSettings;
  readonly #loops: Promise<void>[] = [];
  readonly #queues = [TOPIC, `${TOPIC}.host1`, `${TOPIC}_fanout_4f2d`];
  readonly #stopping = new AbortController();
  #isPublishing = true;
  #open = 0;

  constructor(settings: TrafficSettings) {
    this.#settings = settings;
  }

  start(): void {
    this.#loops.push(this.#again('publisher', (channel, lost) => this.#publish(channel, lost)));
    this.#loops.push(this.#again('consumer', (channel, lost) => this.#consume(channel, lost)));
  }

  /** Whether publisher and consumer both have their connections. */
  get flows(): boolean {
    return this.#open === 2;
  }

  get queues(): readonly string[] {
    return this.#queues;
  }

  /** Publishes no more, waits for what is under way, and disconnects. */
  async stop(): Promise<void> {
    this.#isPublishing = false;
    const deadline = Date.now() + 10_000;
    const isOpen = () => [...this.fates.values()].some(({ receivedAt }) => receivedAt === undefined);
    while (isOpen() && this.flows && Date.now() < deadline) await sleep(100);
    this.#stopping.abort();
    await Promise.all(this.#loops);
  }

  /** A connection, what is done with it, and all that anew whenever it is lost. */
  async #again(
    name: string,
    work: (channel: ConfirmChannel, lost: AbortSignal) => Promise<void>,
  ): Promise<void> {
    let delay = RETRY_MS.first;
    let told = '';
    while (!this.#stopping.signal.aborted) {
      let connection: ChannelModel | undefined;
      const lost = new AbortController();
      const lose = (error?: Error): void => lost.abort(error ?? new Error('the connection was closed'));
      try {
        connection = await connect(await this.#settings.url(), { timeout: CONNECT_TIMEOUT_MS });
        connection.on('error', lose);
        connection.on('close', lose);
        const channel = await connection.createConfirmChannel();
        channel.on('error', lose);
        channel.on('close', () => lose(new Error('the channel was closed')));
        await this.#declare(channel);
        this.#settings.onChange(`${name}: connected`);
        delay = RETRY_MS.first;
        told = '';
        this.#open += 1;
        try {
          await work(channel, AbortSignal.any([lost.signal, this.#stopping.signal]));
        } finally {
          this.#open -= 1;
        }
      } catch (error) {
        const reason = lost.signal.aborted ? lost.signal.reason : error;
        const why = (reason as Error).message.split('\n')[0]!;
        if (!this.#stopping.signal.aborted && why !== told) this.#settings.onChange(`${name}: ${why}`);
        told = why;
      }
      await connection?.close().catch(() => {}); // it is closed already
      await sleep(delay, undefined, { signal: this.#stopping.signal }).catch(() => {});
      delay = Math.min(delay + RETRY_MS.step, RETRY_MS.most);
    }
  }

  async #declare(channel: ConfirmChannel): Promise<void> {
    const [topic, server, fanout] = this.#queues as [string, string, string];
    const isQuorum = this.#settings.declarations === 'quorum';
    const shape = (more: Record<string, unknown> = {}): Options.AssertQueue => ({
      durable: isQuorum,
      exclusive: false,
      autoDelete: false,
      arguments: { ...(isQuorum ? { 'x-queue-type': 'quorum' } : {}), ...more },
    });
    // amqp_durable_queues, which goes with rabbit_quorum_queue, is about exchanges too.
    await channel.assertExchange(EXCHANGE, 'topic', { durable: isQuorum, autoDelete: false });
    await channel.assertExchange(`${TOPIC}_fanout`, 'fanout', { durable: isQuorum, autoDelete: true });
    for (const queue of [topic, server]) {
      await channel.assertQueue(queue, shape());
      await channel.bindQueue(queue, EXCHANGE, queue);
    }
    await channel.assertQueue(fanout, shape({ 'x-expires': TRANSIENT_QUEUE_TTL_MS }));
    await channel.bindQueue(fanout, `${TOPIC}_fanout`, fanout);
  }

  /** What was not confirmed over the last connection is sent once more, as oslo.messaging does. */
  async #publish(channel: ConfirmChannel, lost: AbortSignal): Promise<void> {
    for (const [id, fate] of this.fates) if (fate.confirmedAt === undefined) this.#send(channel, id, fate);
    for (let number = this.fates.size; !lost.aborted; number += 1) {
      if (this.#isPublishing) {
        const id = randomUUID();
        const fate: Fate = {
          queue: this.#queues[number % this.#queues.length]!,
          persistent: number % 2 === 0,
        };
        this.fates.set(id, fate);
        this.#send(channel, id, fate);
      }
      await sleep(PUBLISH_INTERVAL_MS);
    }
    throw lost.reason;
  }

  #send(channel: ConfirmChannel, messageId: string, fate: Fate): void {
    const isFanout = fate.queue === this.#queues[2];
    const [exchange, key] = isFanout ? [`${TOPIC}_fanout`, ''] : [EXCHANGE, fate.queue];
    const content = Buffer.from(JSON.stringify({ 'oslo.version': '2.0', 'oslo.message': messageId }));
    channel.publish(exchange, key, content, { messageId, persistent: fate.persistent }, (error: unknown) => {
      if (error === null || error === undefined) fate.confirmedAt ??= Date.now();
    });
  }

  async #consume(channel: ConfirmChannel, lost: AbortSignal): Promise<void> {
    const cancelled = new AbortController();
    // For the whole channel, which quorum queues do not know.
    await channel.prefetch(10, this.#settings.declarations === 'legacy');
    for (const queue of this.#queues) {
      await channel.consume(queue, (message) => {
        if (message === null) {
          cancelled.abort(new Error(`the broker cancelled the consumer of ${queue}`));
          return;
        }
        const fate = this.fates.get((message.properties as { messageId: string }).messageId);
        if (fate !== undefined) fate.receivedAt ??= Date.now();
        channel.ack(message);
      });
    }
    const over = AbortSignal.any([lost, cancelled.signal]);
    while (!over.aborted) await sleep(PUBLISH_INTERVAL_MS);
    throw over.reason;
  }
}

/** The longest time between two moments of a kind, in milliseconds, and when it began. */
export function longestGap(moments: readonly number[]): { milliseconds: number; from: number } {
  const sorted = moments.toSorted((a, b) => a - b);
  let longest = { milliseconds: 0, from: sorted[0] ?? 0 };
  for (let at = 1; at < sorted.length; at += 1) {
    const milliseconds = sorted[at]! - sorted[at - 1]!;
    if (milliseconds > longest.milliseconds) longest = { milliseconds, from: sorted[at - 1]! };
  }
  return longest;
}
