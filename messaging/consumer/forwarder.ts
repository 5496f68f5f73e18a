import type { ConsumeMessage } from 'amqplib';
import type { MessagingConfig } from '../config.ts';
import type { OutgoingMessage } from '../publisher/message.ts';
import { Publisher } from '../publisher/publisher.ts';
import { headersOfCopy, headersOfRetry } from './attempts.ts';

/** Headers of dead letters that a consumer has rejected with a reason. */
export const REJECTED = {
  reason: 'x-rejected-reason',
  queue: 'x-rejected-queue',
  at: 'x-rejected-at',
} as const;

/** Longer reasons are cut: a message's headers have to go into one frame. */
const REASON_MAX = 1000;

/**
 * Publishes copies of messages, with confirms: for another attempt, or as dead letters with a reason. It has a connection of its
 * own, made when the first one is published: RabbitMQ reads nothing, not even acks, from connections that publish while it is short of
 * memory or disk.
 */
export class Forwarder {
  readonly #config: Pick<MessagingConfig, 'connection' | 'publisher'>;
  readonly #settings: { readonly name: string; readonly onProblem: (text: string) => void };
  #publisher: Publisher | undefined;

  constructor(
    { connection, publisher }: Pick<MessagingConfig, 'connection' | 'publisher'>,
    settings: { readonly name: string; readonly onProblem: (text: string) => void },
  ) {
    // The original is acked once the copy is safe.
    this.#config = { connection, publisher: { ...publisher, confirm: true } };
    this.#settings = settings;
  }

  /** To a queue in which it waits before it comes back. @param attempts made until now */
  async postpone(message: ConsumeMessage, queue: string, attempts: number): Promise<void> {
    await this.#publish(message, {
      exchange: '',
      routingKey: queue,
      headers: headersOfRetry(message, attempts),
    });
  }

  /** To the end of the queue that it came from, where it expires as before. @param attempts made until now */
  async requeue(message: ConsumeMessage, queue: string, attempts: number): Promise<void> {
    const { expiration } = message.properties as Properties;
    const expirationMs = Number(expiration);
    await this.#publish(message, {
      exchange: '',
      routingKey: queue,
      headers: headersOfRetry(message, attempts),
      ...(expiration === undefined || Number.isNaN(expirationMs) ? {} : { expirationMs }),
    });
  }

  /** To a dead-letter exchange, with the routing key that the message came with. */
  async bury(message: ConsumeMessage, exchange: string, queue: string, reason: string): Promise<void> {
    const text = reason.length > REASON_MAX ? `${reason.slice(0, REASON_MAX)}…` : reason;
    const headers = {
      ...headersOfCopy(message),
      [REJECTED.reason]: text,
      [REJECTED.queue]: queue,
      // Of AMQP's type for it, in seconds, as in x-death.
      [REJECTED.at]: { '!': 'timestamp', value: Math.floor(Date.now() / 1000) },
    };
    await this.#publish(message, { exchange, routingKey: message.fields.routingKey, headers });
  }

  async close(timeoutMs: number): Promise<void> {
    await this.#publisher?.close({ timeoutMs });
  }

  /** Without its expiration, as RabbitMQ's own dead letters are: a retry would come back early. */
  async #publish(
    { properties, content }: ConsumeMessage,
    target: Pick<OutgoingMessage, 'exchange' | 'routingKey' | 'headers' | 'expirationMs'>,
  ): Promise<void> {
    if (this.#publisher === undefined || this.#publisher.state === 'failed')
      this.#publisher = new Publisher(this.#config, this.#settings);
    const { contentType = '', deliveryMode } = properties as Properties;
    const copied: Record<string, unknown> = {};
    for (const name of COPIED) {
      const value = (properties as Properties)[name];
      if (value !== undefined) copied[name] = value;
    }
    await this.#publisher.publish({
      ...copied,
      ...target,
      content,
      contentType,
      persistent: deliveryMode === 2,
    });
  }
}

const COPIED = [
  'messageId',
  'priority',
  'correlationId',
  'replyTo',
  'type',
  'appId',
  'contentEncoding',
  'timestamp',
] as const;

/** amqplib's type has `any` for these. */
interface Properties extends Readonly<Record<(typeof COPIED)[number], unknown>> {
  readonly contentType: string | undefined;
  readonly expiration: string | undefined;
  readonly deliveryMode: number | undefined;
}
