import { retryQueueName } from '../topology/names.ts';
import {
  DEAD_LETTER_BOUNDS,
  DELIVERY_LIMIT,
  type ExchangeValues,
  type QueueValues,
  type RootValues,
  queueTable,
} from './table.ts';
import type { Check, DeadLetters, ExchangeConfig, QueueConfig } from './types.ts';

/** Keys that make arguments: `arguments` stands in place of all of them. */
const MAKES_ARGUMENTS = [
  'queueType',
  'deliveryLimit',
  'maxPriority',
  'messageTtlMs',
  'maxLength',
  'retryMs',
  'dlxName',
  'dlqName',
] as const;

/** The topology of a file, with every default filled in and every reference checked. */
export function exchangesOf(root: RootValues, check: Check): readonly ExchangeConfig[] {
  if (root.consumer.prefetchGlobal)
    check.warning(
      check.placeOf(root.consumer, 'prefetchGlobal'),
      'prefetch_global has no effect: each queue is consumed on a channel of its own. (RabbitMQ before 4.3 ends connections that have it and consume from quorum queues.)',
    );
  const read = root.exchanges.map((exchange) => ({
    exchange,
    queues: exchange.queues.map((queue) => ({ queue, config: queueOf(queue, exchange, root, check) })),
  }));
  for (const { exchange } of read) checkExchange(exchange, check);
  const queues = read.flatMap(({ queues }) => queues);
  checkNames(root.exchanges, queues, check);
  checkDeadLetters(root.exchanges, queues, check);
  return read.map(({ exchange, queues }) => ({
    name: exchange.name,
    kind: exchange.kind,
    durable: exchange.durable,
    // The default exchange is always there, and nobody may declare it.
    declare: exchange.declare && exchange.name !== '',
    arguments: exchange.arguments ?? {},
    queues: queues.map(({ config }) => config),
  }));
}

interface Read {
  readonly queue: QueueValues;
  readonly config: QueueConfig;
}

function queueOf(queue: QueueValues, exchange: ExchangeValues, root: RootValues, check: Check): QueueConfig {
  const { name, declare, queueType, maxPriority, messageTtlMs, maxLength, retryMs } = queue;
  if (queue.arguments !== undefined) {
    for (const property of MAKES_ARGUMENTS.filter((property) => check.isGiven(queue, property)))
      check.problem(
        check.placeOf(queue, property),
        `key "${queueTable[property].name}" says what arguments says already: give one of them`,
      );
  }
  if (name.startsWith('amq.') && declare)
    check.problem(
      check.placeOf(queue, 'name'),
      `queue ${JSON.stringify(name)}: names that begin with amq. are RabbitMQ's own: choose another one, or say declare: false`,
    );
  return {
    name,
    declare,
    queueType,
    maxPriority,
    messageTtlMs,
    maxLength,
    retryMs,
    arguments: queue.arguments,
    bindings: bindingsOf(queue, exchange, check),
    prefetch: queue.prefetch ?? root.consumer.prefetchCount,
    deliveryLimit: queue.deliveryLimit ?? DELIVERY_LIMIT,
    deadLetters: queue.arguments === undefined ? deadLettersOf(queue, exchange, check) : undefined,
  };
}

function bindingsOf(queue: QueueValues, exchange: ExchangeValues, check: Check): QueueConfig['bindings'] {
  const { bindings } = queue;
  if (exchange.name === '') {
    if (bindings.length > 0)
      check.problem(
        check.placeOf(queue, 'bindings'),
        'the default exchange takes no bindings: it reaches every queue by its name',
      );
    return [];
  }
  if (bindings.length > 0) return bindings;
  if (exchange.kind === 'fanout') return [{ routingKey: '', arguments: {} }];
  check.warning(
    check.placeOf(queue, 'bindings'),
    `queue ${JSON.stringify(queue.name)} has no bindings: it gets nothing of exchange ${JSON.stringify(exchange.name)}`,
  );
  return [];
}

function deadLettersOf(queue: QueueValues, exchange: ExchangeValues, check: Check): DeadLetters | undefined {
  const dlx = queue.dlxName ?? exchange.dlxName;
  const dlq = queue.dlqName ?? exchange.dlqName;
  const missing = (property: 'declareDlx' | 'declareDlq' | 'dlqName', wanted: string): void =>
    check.problem(
      check.placeOf(queue, property),
      `queue ${JSON.stringify(queue.name)} has no ${wanted}: give it here or for its exchange`,
    );
  if (dlx === undefined) {
    if (dlq !== undefined) missing('dlqName', 'dlx_name, through which dead letters reach its dlq_name');
    else if (queue.declareDlx && check.isGiven(queue, 'declareDlx')) missing('declareDlx', 'dlx_name');
    return undefined;
  }
  if (dlq === undefined && queue.declareDlq && check.isGiven(queue, 'declareDlq'))
    missing('declareDlq', 'dlq_name');
  const bounds = DEAD_LETTER_BOUNDS;
  return {
    exchange: dlx,
    declareExchange: queue.declareDlx,
    queue: dlq,
    declareQueue: queue.declareDlq && dlq !== undefined,
    messageTtlMs: queue.dlqMessageTtlMs ?? exchange.dlqMessageTtlMs ?? bounds.messageTtlMs,
    maxLength: queue.dlqMaxLength ?? exchange.dlqMaxLength ?? bounds.maxLength,
  };
}

function checkExchange(exchange: ExchangeValues, check: Check): void {
  if (exchange.name.startsWith('amq.') && exchange.declare)
    check.problem(
      check.placeOf(exchange, 'name'),
      `exchange ${JSON.stringify(exchange.name)}: names that begin with amq. are RabbitMQ's own: say declare_exchange: false`,
    );
  if (exchange.name === '' && exchange.declare && check.isGiven(exchange, 'declare'))
    check.problem(
      check.placeOf(exchange, 'declare'),
      'the default exchange is always there: nobody may declare it',
    );
}

/** No name is given to two things. */
function checkNames(exchanges: readonly ExchangeValues[], queues: readonly Read[], check: Check): void {
  const seen = new Map<string, ExchangeValues>();
  for (const exchange of exchanges) {
    if (seen.has(exchange.name))
      check.problem(
        check.placeOf(exchange, 'name'),
        `exchange ${JSON.stringify(exchange.name)} is there twice: put its queues together`,
      );
    seen.set(exchange.name, exchange);
  }
  const declared = new Map<string, string>();
  const declare = (values: object, property: string, name: string, as: string): void => {
    const other = declared.get(name);
    if (other !== undefined && (other !== as || as === 'a queue'))
      check.problem(
        check.placeOf(values, property),
        `${JSON.stringify(name)} is ${other === as ? `${as} twice` : `${other} and ${as}`}: choose another name, or say declare: false where it is only bound`,
      );
    declared.set(name, as);
  };
  for (const { queue, config } of queues) if (config.declare) declare(queue, 'name', config.name, 'a queue');
  for (const { queue, config } of queues) {
    for (const delay of config.retryMs)
      declare(queue, 'retryMs', retryQueueName(config.name, delay), 'a queue for retries');
  }
  for (const { queue, config } of queues) {
    const { deadLetters } = config;
    if (deadLetters?.queue !== undefined && deadLetters.declareQueue)
      declare(queue, 'dlqName', deadLetters.queue, 'a queue for dead letters');
  }
}

/** Dead letters arrive somewhere, and whoever shares a dead-letter exchange or queue says the same of it. */
function checkDeadLetters(exchanges: readonly ExchangeValues[], queues: readonly Read[], check: Check): void {
  const bounds = new Map<string, DeadLetters>();
  const keepers = new Map<string, Set<string>>();
  for (const { config } of queues) {
    const { deadLetters } = config;
    if (deadLetters?.queue === undefined) continue;
    keepers.set(
      deadLetters.exchange,
      (keepers.get(deadLetters.exchange) ?? new Set()).add(deadLetters.queue),
    );
  }
  const told = new Set<string>();
  for (const { queue, config } of queues) {
    const { deadLetters } = config;
    if (deadLetters === undefined) continue;
    const at = check.placeOf(queue, 'dlxName');
    const name = JSON.stringify(deadLetters.exchange);
    const own = exchanges.find((exchange) => exchange.name === deadLetters.exchange);
    const keeping = keepers.get(deadLetters.exchange) ?? new Set();
    if (deadLetters.queue !== undefined && deadLetters.declareQueue) {
      const other = bounds.get(deadLetters.queue) ?? deadLetters;
      if (other.messageTtlMs !== deadLetters.messageTtlMs || other.maxLength !== deadLetters.maxLength)
        check.problem(
          check.placeOf(queue, 'dlqName'),
          `dead-letter queue ${JSON.stringify(deadLetters.queue)} has other bounds for another queue: give both the same dlq_message_ttl and dlq_max_length`,
        );
      bounds.set(deadLetters.queue, deadLetters);
    }
    if (!deadLetters.declareExchange || told.has(deadLetters.exchange)) continue;
    told.add(deadLetters.exchange);
    if (own !== undefined && (own.kind !== 'fanout' || !own.durable || own.arguments !== undefined))
      check.problem(
        at,
        `exchange ${name} takes dead letters: it has to be a durable fanout exchange without arguments`,
      );
    if (keeping.size === 0 && (own === undefined || own.queues.length === 0))
      check.problem(
        at,
        `nothing is bound to ${name}, and dead letters would be lost: give dlq_name, or say declare_dlx: false where another program declares it`,
      );
    if (keeping.size > 1)
      check.warning(
        at,
        `${[...keeping].map((one) => JSON.stringify(one)).join(' and ')} each get all dead letters of ${name}: give each its own dlx_name to tell them apart`,
      );
  }
}
