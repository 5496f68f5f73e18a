import type { ChannelModel, ConfirmChannel, Options } from 'amqplib';
import { messageOf } from '../../common/errors.ts';
import { BrokerFailure } from '../errors.ts';
import { REDRIVEN } from './letter.ts';

/**
 * Publishes dead letters with confirms. Unlike a Publisher it changes no property, takes messages with the same messageId or none, and
 * never sends one twice: what isn't confirmed stays where it is.
 */
export class Outgoing {
  readonly #channel: ConfirmChannel;
  readonly #timeoutMs: number;
  /** By their x-redriven-id, why no queue got them. The broker says so before it confirms. */
  readonly #returned = new Map<unknown, string>();
  #failure: Error | undefined;

  private constructor(channel: ConfirmChannel, timeoutMs: number) {
    this.#channel = channel;
    this.#timeoutMs = timeoutMs;
    channel.on('error', (error) => {
      this.#failure = error;
    });
    channel.on('return', ({ properties, fields }) => {
      const { replyText } = fields as unknown as { replyText: string };
      this.#returned.set(properties.headers?.[REDRIVEN.id], replyText);
    });
  }

  /** @param timeoutMs how long the broker may take to confirm a message */
  static async open(model: ChannelModel, timeoutMs: number): Promise<Outgoing> {
    return new Outgoing(await model.createConfirmChannel(), timeoutMs);
  }

  /**
   * @returns undefined when the broker has it, else why it hasn't
   * @throws BrokerFailure where the broker doesn't say: it may have it
   */
  publish(
    { exchange, routingKey }: { readonly exchange: string; readonly routingKey: string },
    content: Buffer,
    { id, ...options }: Options.Publish & { readonly id: string },
  ): Promise<string | undefined> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () =>
          reject(
            new BrokerFailure(
              `the broker has not confirmed a message within ${this.#timeoutMs / 1000} s (publish_timeout)`,
            ),
          ),
        this.#timeoutMs,
      );
      const settle = (error: Error | null): void => {
        clearTimeout(timer);
        const returned = this.#returned.get(id);
        this.#returned.delete(id);
        if (error === null)
          resolve(returned === undefined ? undefined : `no queue got it there (${returned})`);
        else if (error.message === 'message nacked')
          resolve('the broker could not keep it: the queue may be full');
        else reject(new BrokerFailure(this.#failure?.message ?? 'the connection was lost'));
      };
      try {
        this.#channel.publish(exchange, routingKey, content, options, settle);
      } catch (error) {
        clearTimeout(timer);
        reject(new BrokerFailure(this.#failure?.message ?? messageOf(error)));
      }
    });
  }
}
