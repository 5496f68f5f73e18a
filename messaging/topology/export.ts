// The file that describes what a broker has.
import { formatDuration } from '../config/duration.ts';
import type { ArgumentValue, Binding } from '../config/kinds.ts';
import type { BindingDeclaration } from './declarations.ts';
import { type FileMap, boundsOf, describedQueue } from './describe.ts';
import {
  type Observed,
  type ObservedExchange,
  type ObservedQueue,
  isBuiltIn,
  isPassing,
} from './observed.ts';
import { type Roles, rolesOf } from './roles.ts';

export interface Exported {
  /** The value of `exchanges`. */
  readonly exchanges: readonly FileMap[];
  /** What the broker has and a file has no words for. */
  readonly leftOut: readonly string[];
  /** Classic queues that have no `arguments` in the file: their delivery_limit is their consumers', and no broker knows it. */
  readonly countedByConsumers: readonly string[];
}

/**
 * Describes a virtual host by the keys of the file. Wherever those would not declare exactly what is there, the arguments are
 * given as they are.
 */
export function exportTopology(observed: Observed): Exported {
  const leftOut: string[] = [];
  const exchanges = [...observed.exchanges.values()].filter((one) => isExportable(one, leftOut));
  const queues = [...observed.queues.values()].filter((queue) => isQueueExportable(queue, leftOut));
  for (const { source, destination } of observed.exchangeBindings)
    leftOut.push(
      `the binding of exchange ${JSON.stringify(destination)} to exchange ${JSON.stringify(source)}`,
    );
  const roles = rolesOf(exchanges, queues, observed);
  const entries = [
    ...exchanges.filter(({ name }) => !roles.deadLetterExchanges.has(name)),
    // Of those that RabbitMQ makes, which are not declared, only what is bound to them matters.
    ...[...observed.exchanges.values()].filter(
      ({ name }) => isBuiltIn(name) && isBoundTo(name, queues, observed),
    ),
  ];
  const placed = new Set<string>();
  const result = entries.map((exchange): FileMap => {
    const own = queues.filter(
      ({ name }) => !roles.otherQueues.has(name) && bindingsOf(name, exchange.name, observed).length > 0,
    );
    const described = own.map((queue) => {
      const bindings = bindingsOf(queue.name, exchange.name, observed).map(fileBinding);
      const isFirst = !placed.has(queue.name);
      placed.add(queue.name);
      const body = isFirst ? describeQueue(queue, roles, observed) : { declare: false };
      return { name: queue.name, ...body, bindings };
    });
    return { ...describeExchange(exchange), ...(described.length === 0 ? {} : { queues: described }) };
  });
  const countedByConsumers = queues
    .filter((queue) => queue.type === 'classic' && !roles.otherQueues.has(queue.name))
    .filter((queue) => describedQueue(queue, observed) !== undefined)
    .map(({ name }) => name);
  const unbound = queues.filter(({ name }) => !roles.otherQueues.has(name) && !placed.has(name));
  if (unbound.length === 0) return { exchanges: result, leftOut, countedByConsumers };
  const body = unbound.map((queue) => ({
    name: queue.name,
    ...describeQueue(queue, roles, observed),
  }));
  const ofDefault = { name: '', kind: 'direct', queues: body };
  return { exchanges: [...result, ofDefault], leftOut, countedByConsumers };
}

function isExportable(exchange: ObservedExchange, leftOut: string[]): boolean {
  const { name, type, autoDelete, internal } = exchange;
  if (isBuiltIn(name)) return false;
  const why = internal
    ? 'internal'
    : autoDelete
      ? 'auto-delete'
      : ['direct', 'topic', 'fanout', 'headers'].includes(type)
        ? undefined
        : `of type ${type}`;
  if (why === undefined) return true;
  leftOut.push(`exchange ${JSON.stringify(name)}, which is ${why}`);
  return false;
}

function isQueueExportable(queue: ObservedQueue, leftOut: string[]): boolean {
  if (isPassing(queue)) return false;
  if (queue.durable && !queue.name.startsWith('amq.')) return true;
  leftOut.push(
    `queue ${JSON.stringify(queue.name)}, which ${queue.durable ? 'the broker named' : 'is not durable'}`,
  );
  return false;
}

function describeQueue(queue: ObservedQueue, roles: Roles, observed: Observed): FileMap {
  const { name, type, arguments: table } = queue;
  const exchange = table['x-dead-letter-exchange'];
  const keeper = roles.deadLetterQueues.get(name);
  const retries = roles.retries.get(name) ?? [];
  const described = describedQueue(queue, observed);
  if (described === undefined) return { arguments: { ...table, 'x-queue-type': type } };
  const letters =
    exchange === undefined
      ? {}
      : keeper === undefined
        ? { dlx_name: exchange, declare_dlx: false }
        : { dlx_name: exchange, dlq_name: keeper.name, ...boundsOf(keeper, observed.version) };
  return {
    ...described,
    ...letters,
    ...(retries.length === 0 ? {} : { retry: retries.map((delay) => formatDuration(delay)) }),
  };
}

function describeExchange({ name, type, durable, arguments: table }: ObservedExchange): FileMap {
  return {
    name,
    kind: type,
    ...(durable ? {} : { durable }),
    ...(isBuiltIn(name) ? { declare_exchange: false } : {}),
    ...(Object.keys(table).length === 0 ? {} : { arguments: table }),
  };
}

function isBoundTo(exchange: string, queues: readonly ObservedQueue[], observed: Observed): boolean {
  return queues.some(({ name }) => bindingsOf(name, exchange, observed).length > 0);
}

function bindingsOf(queue: string, exchange: string, observed: Observed): BindingDeclaration[] {
  return observed.bindings.filter(({ source, destination }) => source === exchange && destination === queue);
}

function fileBinding({ routingKey, arguments: table }: Binding): ArgumentValue {
  if (Object.keys(table).length === 0) return routingKey;
  return { ...(routingKey === '' ? {} : { routing_key: routingKey }), arguments: table };
}
