// What a broker has of the clients that share its connections, and clients that notice when another disturbs them.
import { confirmSelect, basicAck, basicPublish } from './amqp-methods.ts';
import { basicConsume, entry, longstr, queueDeclare } from './amqp-frames.ts';
import type { Broker } from './broker.ts';
import { RawClient, type RawOptions } from './raw-client.ts';

/** How long the management API may be behind. */
export const SEEN_MS = 6_000;

/** An advanced.config: the management API knows what there is after a second, by default after five. */
export const QUICK_MANAGEMENT =
  '[{rabbitmq_management,[{sample_retention_policies,' +
  '[{global,[{60,1}]},{basic,[{60,1}]},{detailed,[{10,1}]}]}]}].\n';

const DURABLE = 2;

/** queue.declare of a durable quorum queue, which no rule concerns. */
export function quorumQueue(channel: number, name: string): Buffer {
  return queueDeclare({ channel, name, flags: DURABLE, entries: [entry('x-queue-type', longstr('quorum'))] });
}

/** A virtual host of its own for some clients: all that the broker has there is theirs. */
export class SharedUpstream {
  readonly virtualHost: string;
  readonly #broker: Broker;

  private constructor(broker: Broker, virtualHost: string) {
    this.#broker = broker;
    this.virtualHost = virtualHost;
  }

  static async make(broker: Broker, virtualHost: string): Promise<SharedUpstream> {
    await broker.management.addVirtualHost(virtualHost);
    return new SharedUpstream(broker, virtualHost);
  }

  /** The names of the broker's connections; a new connection has a new name. */
  readonly connections = async (): Promise<string[]> => {
    const connections = await this.#broker.management.connections();
    return connections
      .filter(({ vhost }) => vhost === this.virtualHost)
      .map(({ name }) => name)
      .sort();
  };

  /** The name of the broker's connection, when there is exactly one. */
  async only(): Promise<string> {
    const deadline = Date.now() + SEEN_MS;
    for (;;) {
      const names = await this.connections();
      if (names.length === 1) return names[0]!;
      if (Date.now() > deadline) throw new Error(`not one connection: ${JSON.stringify(names)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** The numbers of the channels that the broker has open, of all connections. */
  readonly channels = async (): Promise<number[]> => {
    const channels = await this.#broker.management.channels();
    return channels
      .filter(({ vhost }) => vhost === this.virtualHost)
      .map(({ number }) => number)
      .sort((left, right) => left - right);
  };

  /**
   * What stands behind each channel that the broker has open: the connection's name, the channel's number and its
   * process, which another channel of the same number doesn't have.
   */
  async processes(): Promise<string[]> {
    const columns = ['vhost', 'connection', 'number', 'pid'];
    const listed = await this.#broker.ctl('-q', 'list_channels', '--no-table-headers', ...columns);
    return listed
      .split('\n')
      .filter((line) => line.startsWith(`${this.virtualHost}\t`))
      .sort();
  }
}

/** A client that publishes with confirms and consumes what it published, one message after the other, until it is stopped. */
export class Bystander implements AsyncDisposable {
  /** Milliseconds of each message so far, from its publish until it was confirmed and had come. */
  readonly roundTrips: number[] = [];
  readonly #client: RawClient;
  readonly #work: Promise<void>;
  #rounds = 0;
  #stopping = false;
  #failure: Error | undefined;

  private constructor(client: RawClient, queue: string) {
    this.#client = client;
    this.#work = this.#go(queue).catch((error: unknown) => {
      this.#failure = error as Error;
    });
  }

  /** @param queue a name that nobody else uses */
  static async start(port: number, queue: string, options: RawOptions): Promise<Bystander> {
    const client = await RawClient.connect(port, options);
    await client.channels(1, 2);
    const answers = [
      await client.ask(quorumQueue(1, queue)),
      await client.ask(confirmSelect(1)),
      await client.ask(basicConsume({ channel: 2, name: queue, tag: 'bystander' })),
    ];
    const expected = [`queue.declare-ok ${queue} 0 0`, 'confirm.select-ok', 'basic.consume-ok bystander'];
    if (answers.join() !== expected.join()) throw new Error(answers.join());
    return new Bystander(client, queue);
  }

  /** Waits for some more messages; rejects when anything but what it works for came to the client. */
  async goesOn(): Promise<void> {
    const enough = this.#rounds + 3;
    while (this.#rounds < enough) {
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true;
    await this.#work;
    await this.#client[Symbol.asyncDispose]();
  }

  async #go(queue: string): Promise<void> {
    for (; !this.#stopping; this.#rounds++) {
      const body = `${queue} ${this.#rounds}`;
      const tag = this.#rounds + 1;
      const began = performance.now();
      const heard = [await this.#client.ask(basicPublish(1, queue, body)), await this.#client.hear(2)].join();
      if (heard !== `basic.ack ${tag},basic.deliver bystander ${tag} 0 ${body}`)
        throw new Error(`the bystander at ${queue} heard: ${heard}`);
      this.roundTrips.push(performance.now() - began);
      this.#client.send(basicAck(2, tag));
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}
