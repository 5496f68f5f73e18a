import type { Channel, ConsumeMessage } from 'amqplib';
import { closeChannel } from '../connection.ts';

/** The channel of one consumer, from its opening to its end. What is told to a channel that is gone is dropped: its messages come back. */
export class Session {
  readonly #channel: Channel;
  /** Delivery tags in the order in which they came: the first one is the lowest. */
  readonly #unsettled = new Set<number>();
  /** The broker is told of them when the turn is over. */
  #acked: ConsumeMessage[] = [];
  #consumerTag: string | undefined;
  #isOpen = true;
  #isRetired = false;

  constructor(channel: Channel) {
    this.#channel = channel;
    channel.on('close', () => {
      this.#isOpen = false;
    });
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** @param onEnd the broker has cancelled the consumer */
  async consume(
    queue: string,
    onMessage: (message: ConsumeMessage) => void,
    onEnd: () => void,
  ): Promise<void> {
    const { consumerTag } = await this.#channel.consume(queue, (message) => {
      if (message === null) {
        onEnd();
        return;
      }
      this.#unsettled.add(message.fields.deliveryTag);
      onMessage(message);
    });
    this.#consumerTag = consumerTag;
  }

  /**
   * No further message comes; those that are here can be settled. RabbitMQ holds acks of quorum queues back when more than 32 are
   * under way, and forgets them when the channel is closed; a cancel behind them takes them along.
   */
  async cancel(): Promise<void> {
    this.#tellAcks();
    if (this.#isOpen && this.#consumerTag !== undefined)
      await this.#channel.cancel(this.#consumerTag).catch(() => {}); // it went meanwhile
  }

  /** The broker is told when the turn is over, and of all at once that can be: an ack of a quorum queue is an entry of its log. */
  ack(message: ConsumeMessage): boolean {
    this.#unsettled.delete(message.fields.deliveryTag);
    if (!this.#isOpen) return false;
    if (this.#acked.push(message) === 1) process.nextTick(this.#endTurn);
    return true;
  }

  /** @param requeue it comes back, and quorum queues count it: basic.nack isn't counted by RabbitMQ 4.3 */
  reject(message: ConsumeMessage, requeue: boolean): boolean {
    this.#unsettled.delete(message.fields.deliveryTag);
    if (!this.#isOpen) return false;
    this.#channel.reject(message, requeue);
    this.#closeIfDone();
    return true;
  }

  /** Closes the channel when all its messages are settled. */
  retire(): void {
    this.#isRetired = true;
    this.#closeIfDone();
  }

  /** Closes the channel: what isn't settled goes back to its queue. Resolves when the broker has heard of all that is. */
  async close(): Promise<void> {
    this.#tellAcks();
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await closeChannel(this.#channel);
  }

  readonly #endTurn = (): void => {
    this.#tellAcks();
    this.#closeIfDone();
  };

  #tellAcks(): void {
    const acked = this.#acked;
    this.#acked = [];
    if (!this.#isOpen) return;
    const [lowest = Infinity] = this.#unsettled;
    let last: ConsumeMessage | undefined;
    let count = 0;
    try {
      for (const message of acked) {
        const { deliveryTag } = message.fields;
        if (deliveryTag > lowest) this.#channel.ack(message);
        else {
          count++;
          if (last === undefined || deliveryTag > last.fields.deliveryTag) last = message;
        }
      }
      // The broker takes it for all up to this one, and refuses a number that it has been told of before.
      if (last !== undefined) this.#channel.ack(last, count > 1);
    } catch {
      // IllegalOperationError: the connection is being closed
    }
  }

  #closeIfDone(): void {
    if (this.#isRetired && this.#isOpen && this.#acked.length === 0 && this.#unsettled.size === 0)
      void this.close();
  }
}
