// What a configuration wants of a broker, in the order in which it is declared.
import type { Version } from '../../common/version.ts';
import type { MessagingConfig } from '../config.ts';
import type { Arguments } from '../config/kinds.ts';
import type { DeadLetters, QueueConfig } from '../config/types.ts';
import { retryQueueName } from './names.ts';

export interface ExchangeDeclaration {
  readonly kind: 'exchange';
  readonly name: string;
  readonly type: 'direct' | 'topic' | 'fanout' | 'headers';
  readonly durable: boolean;
  readonly arguments: Arguments;
  /** False: it has to be there already. */
  readonly declare: boolean;
}

/** Durable, not exclusive, not auto-delete. */
export interface QueueDeclaration {
  readonly kind: 'queue';
  readonly name: string;
  readonly arguments: Arguments;
  readonly declare: boolean;
  /** What it is for: a queue of the file, its dead letters, or its retries. */
  readonly role: 'queue' | 'dead letters' | 'retries';
  /** Why the queue is not of the type that one would expect. */
  readonly note?: string;
}

/** Of a queue to an exchange. */
export interface BindingDeclaration {
  readonly kind: 'binding';
  readonly source: string;
  readonly destination: string;
  readonly routingKey: string;
  readonly arguments: Arguments;
}

export type Declaration = ExchangeDeclaration | QueueDeclaration | BindingDeclaration;

/** Stands for no limit: RabbitMQ 4 takes -1 for that, but on 3.x a limit of -1 drops a message at its first return. */
export const NO_DELIVERY_LIMIT = 2 ** 31 - 1;

/** How many messages may wait for a retry at once, per delay; a publish beyond that is refused. */
export const RETRY_MAX_LENGTH = 10_000;

/** The highest priority that quorum queues tell apart, from RabbitMQ 4.3 on. 4.0 to 4.2 know two levels, 3.x none. */
const QUORUM_PRIORITY_MAX = 31;

/** What becomes of a queue on a version of RabbitMQ. */
export interface QueueForm {
  /** undefined where `arguments` says everything. */
  readonly type: 'quorum' | 'classic' | undefined;
  /** Who counts deliveries: the broker, or, for a classic queue, whoever consumes. */
  readonly limitedBy: 'broker' | 'consumer';
}

/** The type of a queue: quorum, unless priorities need a classic one on this version or the file says so. */
export function queueForm(queue: QueueConfig, version: Version): QueueForm {
  if (queue.arguments !== undefined) {
    const isCounted = queue.arguments['x-delivery-limit'] !== undefined;
    return { type: undefined, limitedBy: isCounted ? 'broker' : 'consumer' };
  }
  const type = queue.queueType ?? (needsClassic(queue, version) ? 'classic' : 'quorum');
  return { type, limitedBy: type === 'quorum' ? 'broker' : 'consumer' };
}

function needsClassic({ maxPriority }: QueueConfig, { major, minor }: Version): boolean {
  if (maxPriority === undefined) return false;
  const isStrict = major > 4 || (major === 4 && minor >= 3);
  return !isStrict || maxPriority > QUORUM_PRIORITY_MAX;
}

/** Where messages of a queue wait before they come back: publish them to the default exchange with one of these names. */
export function retryQueues(
  queue: QueueConfig,
): readonly { readonly name: string; readonly delayMs: number }[] {
  return queue.retryMs.map((delayMs) => ({ name: retryQueueName(queue.name, delayMs), delayMs }));
}

/**
 * Everything that a configuration wants, in order: exchanges, dead-letter exchanges, their queues and bindings, queues, queues for
 * retries, bindings. Nothing comes twice, and nothing refers to what comes later.
 */
export function declarations(
  config: Pick<MessagingConfig, 'exchanges'>,
  version: Version,
): readonly Declaration[] {
  const result = new Map<string, Declaration>();
  const add = (declaration: Declaration): void => {
    const key = identity(declaration);
    const other = result.get(key);
    // What one place has to find there, another one declares.
    if (other === undefined || (other.kind !== 'binding' && !other.declare)) result.set(key, declaration);
  };
  const queues = config.exchanges.flatMap((exchange) => exchange.queues);
  const deadLetters = queues.flatMap((queue) => queue.deadLetters ?? []);
  for (const { name, kind: type, durable, arguments: table, declare } of config.exchanges)
    if (name !== '') add({ kind: 'exchange', name, type, durable, arguments: table, declare });
  for (const { exchange: name, declareExchange } of deadLetters) {
    const isDeclared =
      declareExchange || deadLetters.some((one) => one.exchange === name && one.declareExchange);
    add({ kind: 'exchange', name, type: 'fanout', durable: true, arguments: {}, declare: isDeclared });
  }
  for (const letters of deadLetters)
    if (letters.queue !== undefined) add(deadLetterQueue(letters, letters.queue));
  for (const { queue, exchange: source, declareQueue } of deadLetters) {
    if (queue !== undefined && declareQueue)
      add({ kind: 'binding', source, destination: queue, routingKey: '', arguments: {} });
  }
  for (const queue of queues) add(queueDeclaration(queue, version));
  for (const queue of queues) {
    for (const { name, delayMs } of retryQueues(queue)) add(retryQueue(name, queue.name, delayMs));
  }
  for (const { name: source, queues } of config.exchanges) {
    for (const { name: destination, bindings } of queues) {
      for (const { routingKey, arguments: table } of bindings)
        add({ kind: 'binding', source, destination, routingKey, arguments: table });
    }
  }
  return [...result.values()];
}

/** The part of it that one queue needs: its exchanges and bindings, where its dead letters go, and where its retries wait. */
export function declarationsOf(
  { exchanges }: Pick<MessagingConfig, 'exchanges'>,
  queue: string,
  version: Version,
): readonly Declaration[] {
  const own = exchanges.flatMap((exchange) => {
    const queues = exchange.queues.filter(({ name }) => name === queue);
    return queues.length === 0 ? [] : [{ ...exchange, queues }];
  });
  return declarations({ exchanges: own }, version);
}

/** A text that two declarations have in common only if they are of the same thing. */
export function identity(declaration: Declaration): string {
  if (declaration.kind !== 'binding') return JSON.stringify([declaration.kind, declaration.name]);
  const { kind, source, destination, routingKey, arguments: table } = declaration;
  return JSON.stringify([kind, source, destination, routingKey, sorted(table)]);
}

function sorted(table: Arguments): unknown {
  return Object.entries(table).sort(([a], [b]) => (a < b ? -1 : 1));
}

function queueDeclaration(queue: QueueConfig, version: Version): QueueDeclaration {
  const { name, declare } = queue;
  if (queue.arguments !== undefined)
    return { kind: 'queue', name, declare, role: 'queue', arguments: queue.arguments };
  const { type } = queueForm(queue, version);
  const isClassic = type === 'classic';
  const isChosen = queue.queueType === undefined && isClassic;
  return {
    kind: 'queue',
    name,
    declare,
    role: 'queue',
    arguments: isClassic ? classicArguments(queue) : quorumArguments(queue),
    ...(isChosen
      ? {
          note: `classic, on one node only: quorum queues tell priorities up to ${QUORUM_PRIORITY_MAX} apart from RabbitMQ 4.3 on`,
        }
      : {}),
  };
}

function classicArguments({ maxPriority, messageTtlMs, maxLength, deadLetters }: QueueConfig): Arguments {
  return {
    'x-queue-type': 'classic',
    ...(maxPriority === undefined ? {} : { 'x-max-priority': maxPriority }),
    ...(messageTtlMs === undefined ? {} : { 'x-message-ttl': messageTtlMs }),
    ...(maxLength === undefined ? {} : { 'x-max-length': maxLength, 'x-overflow': 'reject-publish' }),
    ...(deadLetters === undefined ? {} : { 'x-dead-letter-exchange': deadLetters.exchange }),
  };
}

function quorumArguments({ deliveryLimit, messageTtlMs, maxLength, deadLetters }: QueueConfig): Arguments {
  const isBounded = maxLength !== undefined || deadLetters !== undefined;
  return {
    'x-queue-type': 'quorum',
    'x-delivery-limit': deliveryLimit === 'none' ? NO_DELIVERY_LIMIT : deliveryLimit,
    ...(messageTtlMs === undefined ? {} : { 'x-message-ttl': messageTtlMs }),
    ...(maxLength === undefined ? {} : { 'x-max-length': maxLength }),
    // RabbitMQ keeps dead letters until they have arrived only where it need not drop anything.
    ...(isBounded ? { 'x-overflow': 'reject-publish' } : {}),
    ...(deadLetters === undefined
      ? {}
      : { 'x-dead-letter-exchange': deadLetters.exchange, 'x-dead-letter-strategy': 'at-least-once' }),
  };
}

function deadLetterQueue(
  { messageTtlMs, maxLength, declareQueue }: DeadLetters,
  name: string,
): QueueDeclaration {
  return {
    kind: 'queue',
    name,
    declare: declareQueue,
    role: 'dead letters',
    arguments: {
      'x-queue-type': 'quorum',
      // RabbitMQ 4 would drop a message that has been looked at 20 times.
      'x-delivery-limit': NO_DELIVERY_LIMIT,
      ...(messageTtlMs === 'none' ? {} : { 'x-message-ttl': messageTtlMs }),
      ...(maxLength === 'none' ? {} : { 'x-max-length': maxLength }),
    },
  };
}

function retryQueue(name: string, queue: string, delayMs: number): QueueDeclaration {
  return {
    kind: 'queue',
    name,
    declare: true,
    role: 'retries',
    arguments: {
      'x-queue-type': 'quorum',
      'x-message-ttl': delayMs,
      'x-max-length': RETRY_MAX_LENGTH,
      'x-overflow': 'reject-publish',
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': queue,
      'x-dead-letter-strategy': 'at-least-once',
    },
  };
}
