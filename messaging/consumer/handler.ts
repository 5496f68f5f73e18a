import type { ConsumeMessage } from 'amqplib';

/** Whatever turns a value into a T, or throws what is wrong with it: a schema of zod, or a function of one's own. */
export interface Schema<T> {
  parse(value: unknown): T;
}

/** One delivery. The first of `ack`, `nack`, `reject` and `retryLater` decides what becomes of it; a second one throws. */
export interface Context {
  /** From 1: the how manieth delivery of this message it is, as far as that was counted. */
  readonly attempt: number;
  /** The broker had given the message to somebody before. */
  readonly redelivered: boolean;
  readonly headers: Readonly<Record<string, unknown>>;
  /** As amqplib has it, with properties, fields and octets. */
  readonly message: ConsumeMessage;
  /** Aborted when the consumers are told to stop: what takes long may end early by throwing. */
  readonly signal: AbortSignal;
  /** It is done. Returning does the same. */
  readonly ack: () => void;
  /** It comes back, up to the delivery limit; throwing does the same. With `requeue: false` it is rejected. */
  readonly nack: (options?: { readonly requeue?: boolean }) => void;
  /** It is a dead letter. @param reason for the dead letter's header x-rejected-reason */
  readonly reject: (reason?: string) => void;
  /**
   * It comes back after a delay, up to the delivery limit.
   * @param delayMs one of the queue's `retry`; default: the next one of that ladder, by the attempt
   * @throws Error for a queue without such a delay
   */
  readonly retryLater: (delayMs?: number) => void;
}

export interface HandlerSettings<T> {
  /** Content that isn't of this shape is rejected, with the reason in the dead letter's header x-rejected-reason. */
  readonly schema?: Schema<T>;
  /** How many run at a time. Default: as many as there may be unacknowledged. */
  readonly concurrency?: number;
  /** How many messages may be unacknowledged; 0 is without a bound. Default: `prefetch` of the queue in the file. */
  readonly prefetch?: number;
  /** Gets the parsed JSON of messages whose contentType is application/json, and the octets (a Buffer) of all others. */
  handle(message: T, context: Context): Promise<void> | void;
}

/** Made by {@link handler}. */
export interface Handler {
  readonly concurrency: number | undefined;
  readonly prefetch: number | undefined;
  /** Checks a message. @throws what the schema says about it */
  readonly accept: (value: unknown) => (context: Context) => Promise<void> | void;
}

/** What a program does with the messages of a queue; `message` has the type of the schema. */
export function handler<T>(settings: HandlerSettings<T> & { readonly schema: Schema<T> }): Handler;
export function handler(settings: HandlerSettings<unknown>): Handler;
export function handler<T>(settings: HandlerSettings<T>): Handler {
  const { schema, concurrency, prefetch } = settings;
  return {
    concurrency,
    prefetch,
    accept: (value) => {
      const message = schema === undefined ? (value as T) : schema.parse(value);
      return (context) => settings.handle(message, context);
    },
  };
}

/** What a handler gets. @throws Error for JSON that is none */
export function valueOf({ properties, content }: ConsumeMessage): unknown {
  const { contentType, contentEncoding } = properties;
  const isJson = /^application\/json(?:\s*;|$)/i.test(String(contentType ?? ''));
  const isPlain = contentEncoding === undefined || /^(?:|utf-?8|identity)$/i.test(String(contentEncoding));
  if (!isJson || !isPlain) return content;
  const written = new TextDecoder('utf-8', { fatal: true }).decode(content);
  try {
    return JSON.parse(written);
  } catch {
    // The parser quotes what it could not read, and contents belong in no log.
    throw new Error('its content is no JSON');
  }
}
