// Queues of a broker in the words of the file, where it has any.
import type { Version } from '../../common/version.ts';
import { formatDuration } from '../config/duration.ts';
import type { ArgumentValue } from '../config/kinds.ts';
import { DEAD_LETTER_BOUNDS, DELIVERY_LIMIT, DELIVERY_LIMIT_MAX } from '../config/table.ts';
import type { QueueConfig } from '../config/types.ts';
import { NO_DELIVERY_LIMIT, declarations } from './declarations.ts';
import type { Observed, ObservedQueue } from './observed.ts';
import { isSame } from './plan.ts';

/** A mapping of the file: what YAML and JSON both have. */
export type FileMap = Readonly<Record<string, ArgumentValue>>;

/** A queue for which the file says nothing. */
export const PLAIN: QueueConfig = {
  name: '',
  declare: true,
  queueType: undefined,
  maxPriority: undefined,
  messageTtlMs: undefined,
  maxLength: undefined,
  retryMs: [],
  arguments: undefined,
  bindings: [],
  prefetch: 1,
  deliveryLimit: DELIVERY_LIMIT,
  deadLetters: undefined,
};

/** Whether a queue is one of those that this configuration declares, exactly. */
export function isMadeBy(
  config: QueueConfig,
  { name, type, arguments: have }: ObservedQueue,
  version: Version,
): boolean {
  const exchange = {
    name: '',
    kind: 'direct',
    durable: true,
    declare: false,
    arguments: {},
    queues: [config],
  } as const;
  const made = declarations({ exchanges: [exchange] }, version).find(
    (one) => one.kind === 'queue' && one.name === name,
  );
  return made !== undefined && isSame(made.arguments, { 'x-queue-type': type, ...have });
}

/** The bounds of a dead-letter queue; undefined where it is none that the file could describe. */
export function boundsOf(queue: ObservedQueue, version: Version): FileMap | undefined {
  const { 'x-message-ttl': ttl, 'x-max-length': length } = queue.arguments;
  const isCount = (value: ArgumentValue | undefined): value is number | undefined =>
    value === undefined || (typeof value === 'number' && value > 0);
  if (!isCount(ttl) || !isCount(length)) return undefined;
  const deadLetters = {
    exchange: `${queue.name}.dlx`,
    declareExchange: true,
    queue: queue.name,
    declareQueue: true,
    messageTtlMs: ttl ?? 'none',
    maxLength: length ?? 'none',
  } as const;
  const sender = { ...PLAIN, name: `${queue.name}.sender`, deadLetters };
  if (!isMadeBy(sender, queue, version)) return undefined;
  return {
    ...(ttl === DEAD_LETTER_BOUNDS.messageTtlMs
      ? {}
      : { dlq_message_ttl: ttl === undefined ? 'none' : formatDuration(ttl) }),
    ...(length === DEAD_LETTER_BOUNDS.maxLength ? {} : { dlq_max_length: length ?? 'none' }),
  };
}

/** The keys of a queue without those of its dead letters; undefined where they would not declare what is there. */
export function describedQueue(queue: ObservedQueue, { exchanges, version }: Observed): FileMap | undefined {
  const { name, type, arguments: table } = queue;
  const numbers = ['x-delivery-limit', 'x-max-priority', 'x-message-ttl', 'x-max-length'].map(
    (key) => table[key],
  );
  if (numbers.some((value) => value !== undefined && typeof value !== 'number')) return undefined;
  const [limit, maxPriority, messageTtlMs, maxLength] = numbers as (number | undefined)[];
  const isUnlimited = limit === NO_DELIVERY_LIMIT;
  // RabbitMQ takes numbers that the keys don't.
  if (maxPriority === 0 || maxLength === 0) return undefined;
  if (limit !== undefined && !isUnlimited && (limit < 1 || limit > DELIVERY_LIMIT_MAX)) return undefined;
  const exchange = table['x-dead-letter-exchange'];
  // A file names no dead-letter exchange that isn't there.
  if (exchange !== undefined && (typeof exchange !== 'string' || !exchanges.has(exchange))) return undefined;
  const plain = {
    ...PLAIN,
    name,
    maxPriority,
    messageTtlMs,
    maxLength,
    deliveryLimit: isUnlimited ? ('none' as const) : (limit ?? DELIVERY_LIMIT),
    deadLetters:
      exchange === undefined
        ? undefined
        : {
            exchange,
            declareExchange: false,
            queue: undefined,
            declareQueue: false,
            messageTtlMs: 'none' as const,
            maxLength: 'none' as const,
          },
  };
  const isByDefault = isMadeBy(plain, queue, version);
  const typed = { ...plain, queueType: type === 'quorum' ? ('quorum' as const) : ('classic' as const) };
  if (!isByDefault && !isMadeBy(typed, queue, version)) return undefined;
  return {
    ...(isByDefault ? {} : { queue_type: typed.queueType }),
    ...(limit === undefined || limit === DELIVERY_LIMIT
      ? {}
      : { delivery_limit: isUnlimited ? 'none' : limit }),
    ...(maxPriority === undefined ? {} : { max_priority: maxPriority }),
    ...(messageTtlMs === undefined ? {} : { message_ttl: formatDuration(messageTtlMs) }),
    ...(maxLength === undefined ? {} : { max_length: maxLength }),
  };
}
