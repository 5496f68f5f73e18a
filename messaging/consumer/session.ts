import type { Channel, ConsumeMessage } from 'amqplib';

/** The channel of one consumer, from its opening to its end. What is told to a channel that is gone is dropped: its messages come back. */
export class Session {
  readonly #channel: Channel;
  readonly #unsettled = new Set<ConsumeMessage>();
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
      this.#unsettled.add(message);
      onMessage(message);
    });
    this.#consumerTag = consumerTag;
  }

  /** No further message comes; those that are here can be settled. */
  async cancel(): Promise<void> {
    if (this.#isOpen && this.#consumerTag !== undefined)
      await this.#channel.cancel(this.#consumerTag).catch(() => {}); // it went meanwhile
  }

  ack(message: ConsumeMessage): boolean {
    return this.#settle(message, () => this.#channel.ack(message));
  }

  /** @param requeue it comes back, and quorum queues count it: basic.nack isn't counted by RabbitMQ 4.3 */
  reject(message: ConsumeMessage, requeue: boolean): boolean {
    return this.#settle(message, () => this.#channel.reject(message, requeue));
  }

  /** Closes the channel when all its messages are settled. */
  retire(): void {
    this.#isRetired = true;
    this.#closeIfDone();
  }

  #settle(message: ConsumeMessage, send: () => void): boolean {
    this.#unsettled.delete(message);
    if (!this.#isOpen) return false;
    send();
    this.#closeIfDone();
    return true;
  }

  #closeIfDone(): void {
    if (!this.#isRetired || !this.#isOpen || this.#unsettled.size > 0) return;
    this.#isOpen = false;
    this.#channel.close().catch(() => {}); // the broker closed it at the same time
  }
}
