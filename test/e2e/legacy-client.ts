// A client of the RabbitMQ 3.x era: amqplib with the declarations that oslo.messaging (14.0 and 16.1, default options)
// makes for an RPC server and its callers. No queue is durable, exclusive or auto-delete; queues of one process have
// x-expires, encoded as a 32-bit integer.
import { randomBytes, randomUUID } from 'node:crypto';
import { connect } from 'amqplib';
import type { ChannelModel, ConfirmChannel, ConsumeMessage } from 'amqplib';

const TRANSIENT_QUEUE_TTL_MS = 1_800_000;
const ROUND_TIMEOUT_MS = 30_000;

export interface LegacyOptions {
  /** amqp:// or amqps:// */
  url: string;
  /** PEM of the CA that signed the server's certificate, where it is not a public one. */
  ca?: string;
  /** The control exchange; `openstack` by default in oslo.messaging. */
  exchange: string;
  topic: string;
}

/** The properties that this client sets; amqplib types them `any`. */
interface Properties {
  messageId?: string;
  replyTo?: string;
  correlationId?: string;
}

export interface Round {
  sent: number;
  /** Messages that the broker confirmed to the publisher. */
  confirmed: number;
  /** Distinct messages consumed and acknowledged. */
  received: number;
  lost: number;
}

/** One RPC server and one caller, on a connection each. */
export class LegacyClient {
  readonly queues: string[];
  readonly exchanges: string[];
  readonly #options: LegacyOptions;
  readonly #connections: ChannelModel[] = [];
  readonly #names: { topic: string; server: string; fanoutExchange: string; fanout: string; reply: string };
  readonly #sent = new Set<string>();
  readonly #received = new Set<string>();
  #confirmed = 0;
  #server: ConfirmChannel | undefined;
  #caller: ConfirmChannel | undefined;
  #failure: Error | undefined;

  constructor(options: LegacyOptions) {
    this.#options = options;
    const { topic, exchange } = options;
    const hex = () => randomBytes(16).toString('hex');
    this.#names = {
      topic,
      server: `${topic}.host1`,
      fanoutExchange: `${topic}_fanout`,
      fanout: `${topic}_fanout_${hex()}`,
      reply: `reply_${hex()}`,
    };
    this.queues = [topic, this.#names.server, this.#names.fanout, this.#names.reply];
    this.exchanges = [exchange, this.#names.fanoutExchange];
  }

  /** Connects, declares and consumes. Rejects with the broker's own words when it refuses. */
  async start(): Promise<void> {
    await this.#inBrokersWords(async () => {
      const { topic, server, fanoutExchange, fanout, reply } = this.#names;
      const { exchange } = this.#options;
      this.#server = await this.#open();
      await this.#server.assertExchange(exchange, 'topic', { durable: false, autoDelete: false });
      await this.#server.assertExchange(fanoutExchange, 'fanout', { durable: false, autoDelete: true });
      for (const queue of [topic, server]) {
        await this.#server.assertQueue(queue, { durable: false, exclusive: false, autoDelete: false });
        await this.#server.bindQueue(queue, exchange, queue);
        await this.#consume(this.#server, queue);
      }
      await this.#declareTransient(this.#server, fanout);
      await this.#server.bindQueue(fanout, fanoutExchange, fanout);
      await this.#consume(this.#server, fanout);
      this.#caller = await this.#open();
      await this.#declareTransient(this.#caller, reply);
      await this.#consume(this.#caller, reply);
    });
  }

  /** `each` messages of every kind: casts to the topic, the server and all servers, and calls that are answered. */
  async round(each: number): Promise<Round> {
    return this.#inBrokersWords(async () => {
      const { topic, server, fanoutExchange, reply } = this.#names;
      const { exchange } = this.#options;
      for (let n = 0; n < each; n += 1) {
        this.#publish(this.#caller!, exchange, topic, {});
        this.#publish(this.#caller!, exchange, server, {});
        this.#publish(this.#caller!, fanoutExchange, '', {});
        this.#publish(this.#caller!, exchange, topic, { replyTo: reply, correlationId: randomUUID() });
      }
      const expected = each * 5;
      const deadline = Date.now() + ROUND_TIMEOUT_MS;
      while (this.#received.size < expected && Date.now() < deadline && this.#failure === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      if (this.#failure !== undefined) throw this.#failure;
      await Promise.all([this.#caller!.waitForConfirms(), this.#server!.waitForConfirms()]);
      const received = [...this.#received].filter((id) => this.#sent.has(id)).length;
      return {
        sent: this.#sent.size,
        confirmed: this.#confirmed,
        received,
        lost: this.#sent.size - received,
      };
    });
  }

  /** Stops as oslo.messaging does: the server deletes its fanout queue. */
  async close(): Promise<void> {
    if (this.#failure === undefined) await this.#server?.deleteQueue(this.#names.fanout);
    await Promise.all(this.#connections.map((connection) => connection.close().catch(() => {})));
  }

  /** Deletes what the client declared, by a connection of its own; what is gone already counts as deleted. */
  async forget(server: { url: string; ca?: string }): Promise<void> {
    const connection = await dial(server);
    const channel = await connection.createChannel();
    for (const queue of this.queues) await channel.deleteQueue(queue);
    for (const exchange of this.exchanges) await channel.deleteExchange(exchange);
    await connection.close();
  }

  async #open(): Promise<ConfirmChannel> {
    const connection = await dial(this.#options);
    connection.on('error', (error: Error) => (this.#failure ??= error));
    this.#connections.push(connection);
    const channel = await connection.createConfirmChannel();
    channel.on('error', (error: Error) => (this.#failure ??= error));
    channel.on(
      'return',
      () => (this.#failure ??= new Error('a mandatory message came back: its queue is gone')),
    );
    return channel;
  }

  async #declareTransient(channel: ConfirmChannel, queue: string): Promise<void> {
    const lifetime = { 'x-expires': TRANSIENT_QUEUE_TTL_MS };
    await channel.assertQueue(queue, {
      durable: false,
      exclusive: false,
      autoDelete: false,
      arguments: lifetime,
    });
  }

  async #consume(channel: ConfirmChannel, queue: string): Promise<void> {
    await channel.consume(queue, (message) => {
      if (message === null) this.#failure ??= new Error(`the broker cancelled the consumer of ${queue}`);
      else this.#take(channel, message);
    });
  }

  #take(channel: ConfirmChannel, message: ConsumeMessage): void {
    const { messageId, replyTo, correlationId } = message.properties as Properties;
    this.#received.add(messageId ?? '');
    if (replyTo !== undefined) {
      this.#publish(channel, '', replyTo, {
        mandatory: true,
        ...(correlationId === undefined ? {} : { correlationId }),
      });
    }
    channel.ack(message);
  }

  #publish(
    channel: ConfirmChannel,
    exchange: string,
    key: string,
    options: { replyTo?: string; correlationId?: string; mandatory?: boolean },
  ): void {
    const messageId = randomUUID();
    this.#sent.add(messageId);
    const content = Buffer.from(JSON.stringify({ 'oslo.version': '2.0', 'oslo.message': messageId }));
    channel.publish(
      exchange,
      key,
      content,
      { ...options, messageId, contentType: 'application/json' },
      (error: unknown) => {
        if (error === null || error === undefined) this.#confirmed += 1;
      },
    );
  }

  /** amqplib rejects a pending call without the reason, which comes by an event just after or before. */
  async #inBrokersWords<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      throw this.#failure ?? error;
    }
  }
}

function dial({ url, ca }: { url: string; ca?: string }): Promise<ChannelModel> {
  return connect(url, { timeout: 10_000, ...(ca === undefined ? {} : { ca: [ca] }) });
}
