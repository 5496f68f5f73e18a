import { randomUUID } from 'node:crypto';
import type { Options } from 'amqplib';

/** What is published. */
export interface OutgoingMessage {
  /** '' is the default exchange, whose routing keys are names of queues. */
  readonly exchange: string;
  readonly routingKey: string;
  /** Octets go as they are, a text as UTF-8, everything else as JSON. */
  readonly content: unknown;
  /** Default: a UUID of its own. It stays the same when the message is published again after a lost connection. */
  readonly messageId?: string;
  /** Default true: the message is written to disk. */
  readonly persistent?: boolean;
  /** Default true: a message that no queue gets is `returned`. */
  readonly mandatory?: boolean;
  /** From 0 to 255; queues without x-max-priority take no notice. */
  readonly priority?: number;
  readonly headers?: Readonly<Record<string, unknown>>;
  /** Milliseconds in a queue, after which the message is dead-lettered. */
  readonly expirationMs?: number;
  readonly correlationId?: string;
  readonly replyTo?: string;
  readonly type?: string;
  readonly appId?: string;
  /** Default: by what `content` is. */
  readonly contentType?: string;
  readonly contentEncoding?: string;
  /** Seconds since 1970. Default: now. */
  readonly timestamp?: number;
  /** Milliseconds until it has to be settled. Default: publish_timeout of the configuration. */
  readonly timeoutMs?: number;
}

/** A message as amqplib takes it. */
export interface Encoded {
  readonly messageId: string;
  readonly content: Buffer;
  readonly options: Options.Publish;
}

/** The last digits of UUIDs. */
const UUID_ENDS = Array.from({ length: 4096 }, (_, at) => at.toString(16).padStart(3, '0'));
let uuidStart = '';
let uuidEnd = UUID_ENDS.length;

/** A UUID whose last three digits count on from the one before: all else is random anew whenever they are through. */
function nextUuid(): string {
  if (uuidEnd === UUID_ENDS.length) {
    uuidStart = randomUUID().slice(0, -3);
    uuidEnd = 0;
  }
  return uuidStart + UUID_ENDS[uuidEnd++]!;
}

/** AMQP 0-9-1, section 4.2.5.3: a short string. */
const SHORT_STRING = 255;

/** @throws Error that names the field that can't be published and says what is expected */
export function encode(message: OutgoingMessage, now: number): Encoded {
  const { priority, expirationMs, headers, correlationId, replyTo, type, appId } = message;
  const { messageId = nextUuid(), persistent = true, mandatory = true } = message;
  const { contentEncoding, timestamp } = message;
  const { content, contentType } = contentOf(message.content);
  checkWhole('priority', priority, 255);
  checkWhole('expirationMs', expirationMs, 0xff_ff_ff_ff);
  checkWhole('timestamp', timestamp, Number.MAX_SAFE_INTEGER);
  checkShort('exchange', message.exchange);
  checkShort('routingKey', message.routingKey);
  checkShort('messageId', messageId);
  checkShort('correlationId', correlationId);
  checkShort('replyTo', replyTo);
  checkShort('type', type);
  checkShort('appId', appId);
  checkShort('contentEncoding', contentEncoding);
  const options: Options.Publish = {
    messageId,
    persistent,
    mandatory,
    contentType: message.contentType ?? contentType,
    timestamp: timestamp ?? Math.floor(now / 1000),
  };
  if (headers !== undefined) options.headers = headers;
  if (priority !== undefined) options.priority = priority;
  if (expirationMs !== undefined) options.expiration = expirationMs;
  if (correlationId !== undefined) options.correlationId = correlationId;
  if (replyTo !== undefined) options.replyTo = replyTo;
  if (type !== undefined) options.type = type;
  if (appId !== undefined) options.appId = appId;
  if (contentEncoding !== undefined) options.contentEncoding = contentEncoding;
  return { messageId, content, options };
}

function contentOf(value: unknown): { content: Buffer; contentType: string } {
  if (value instanceof Uint8Array) {
    const content = Buffer.isBuffer(value)
      ? value
      : Buffer.from(value.buffer, value.byteOffset, value.length);
    return { content, contentType: 'application/octet-stream' };
  }
  if (typeof value === 'string') return { content: Buffer.from(value), contentType: 'text/plain' };
  const json: string | undefined = JSON.stringify(value);
  if (json === undefined) throw new Error(`content: a ${typeof value} is no JSON`);
  return { content: Buffer.from(json), contentType: 'application/json' };
}

function checkWhole(field: string, value: number | undefined, max: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= 0 && value <= max)) return;
  throw new Error(`${field}: ${value} is not a whole number from 0 to ${max}`);
}

function checkShort(field: string, text: string | undefined): void {
  // A code unit of UTF-16 is three octets of UTF-8 at most.
  if (text === undefined || text.length * 3 <= SHORT_STRING) return;
  if (Buffer.byteLength(text) <= SHORT_STRING) return;
  throw new Error(`${field}: ${Buffer.byteLength(text)} octets are more than ${SHORT_STRING}`);
}
