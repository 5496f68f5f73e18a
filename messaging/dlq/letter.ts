import { randomUUID } from 'node:crypto';
import type { ConsumeMessage, Options } from 'amqplib';
import { headersOfCopy } from '../consumer/attempts.ts';
import { REJECTED } from '../consumer/forwarder.ts';

/** How often a message was redriven, from which queue, and which time it was: by the last, what is returned is told apart. */
export const REDRIVEN = {
  count: 'x-redriven-count',
  from: 'x-redriven-from',
  id: 'x-redriven-id',
} as const;

/** Why a message is a dead letter. All of it is what headers say, and those of messages that clients published are theirs. */
export interface Death {
  readonly queue: string | undefined;
  /** RabbitMQ's word: rejected, expired, maxlen or delivery_limit. */
  readonly reason: string | undefined;
  /** How often it died there of that. */
  readonly count: number | undefined;
  /** Milliseconds since 1970. */
  readonly at: number | undefined;
  /** How it had come to that queue. */
  readonly exchange: string | undefined;
  readonly routingKey: string | undefined;
}

export interface Letter {
  readonly messageId: string | undefined;
  readonly death: Death;
  /** The file has the queue in which it died as one of those whose dead letters come here. */
  readonly isOfFeeder: boolean;
  /** What a handler said. */
  readonly rejection: string | undefined;
  /** How often it was redriven. */
  readonly redriven: number;
  /** Of its content. */
  readonly octets: number;
  readonly contentType: string | undefined;
  readonly headers: Readonly<Record<string, unknown>>;
}

/**
 * What a dead letter tells of itself. RabbitMQ's list has the latest death first; queues for retries are in it as well, so what counts is
 * the latest one in a queue whose dead letters come here.
 */
export function letterOf(message: ConsumeMessage, feeders: readonly string[]): Letter {
  const { properties, content } = message;
  const { messageId, contentType } = properties as { messageId: unknown; contentType: unknown };
  const headers: Readonly<Record<string, unknown>> = properties.headers ?? {};
  const deaths = deathsIn(headers['x-death']);
  const buried = text(headers[REJECTED.queue]);
  // A consumer's own dead letters carry none of RabbitMQ's list.
  if (buried !== undefined) {
    const routingKey = message.fields.routingKey;
    deaths.push({
      queue: buried,
      reason: 'rejected',
      count: 1,
      at: millisecondsOf(headers[REJECTED.at]),
      exchange: undefined,
      routingKey,
    });
  }
  const isOf = ({ queue }: Death): boolean => queue !== undefined && feeders.includes(queue);
  const death = deaths.find(isOf) ?? deaths[0] ?? NO_DEATH;
  return {
    messageId: text(messageId),
    death,
    isOfFeeder: isOf(death),
    rejection: text(headers[REJECTED.reason]),
    redriven: whole(headers[REDRIVEN.count]) ?? 0,
    octets: content.length,
    contentType: text(contentType),
    headers,
  };
}

/**
 * The properties with which a dead letter is published again: its own, so that its attempts begin anew. The broker refuses another
 * user's `user_id`, and what has expired would expire again.
 */
export function propertiesOfRedriven(
  message: ConsumeMessage,
  { redriven }: Letter,
  from: string,
): Options.Publish & { readonly id: string } {
  const id = randomUUID();
  const headers = headersOfCopy(message);
  for (const name of Object.values(REJECTED)) delete headers[name];
  const own: Record<string, unknown> = { ...message.properties };
  for (const name of ['userId', 'expiration', 'clusterId']) own[name] = undefined;
  return {
    ...own,
    mandatory: true,
    headers: { ...headers, [REDRIVEN.count]: redriven + 1, [REDRIVEN.from]: from, [REDRIVEN.id]: id },
    id,
  };
}

const NO_DEATH: Death = {
  queue: undefined,
  reason: undefined,
  count: undefined,
  at: undefined,
  exchange: undefined,
  routingKey: undefined,
};

function deathsIn(value: unknown): Death[] {
  if (!Array.isArray(value)) return [];
  return (value as (Readonly<Record<string, unknown>> | null)[]).map((death) => {
    const keys: unknown = death?.['routing-keys'];
    return {
      queue: text(death?.['queue']),
      reason: text(death?.['reason']),
      count: whole(death?.['count']),
      at: millisecondsOf(death?.['time']),
      exchange: text(death?.['exchange']),
      routingKey: Array.isArray(keys) ? text(keys[0]) : undefined,
    };
  });
}

/** Of a timestamp of AMQP's tables, which has seconds. */
function millisecondsOf(value: unknown): number | undefined {
  const seconds = whole((value as { readonly value?: unknown } | null | undefined)?.value);
  return seconds === undefined ? undefined : seconds * 1000;
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** Larger numbers are no count and no time. */
function whole(value: unknown): number | undefined {
  return Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) < 1e11
    ? Number(value)
    : undefined;
}
