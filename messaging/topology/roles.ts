// Which queues and exchanges of a broker belong to others: a file describes them there.
import { RETRIES_MAX } from '../config/kinds.ts';
import { PLAIN, boundsOf, describedQueue, isMadeBy } from './describe.ts';
import { retryQueueName } from './names.ts';
import type { Observed, ObservedExchange, ObservedQueue } from './observed.ts';

/** What is part of another queue's description, and so no entry of its own. */
export interface Roles {
  /** Fanout exchanges that take dead letters, and whose every queue keeps those of some queue. */
  readonly deadLetterExchanges: ReadonlySet<string>;
  /** By the name of the queue whose dead letters it keeps. */
  readonly deadLetterQueues: ReadonlyMap<string, ObservedQueue>;
  /** Dead-letter queues and queues for retries. */
  readonly otherQueues: ReadonlySet<string>;
  readonly retries: ReadonlyMap<string, readonly number[]>;
}

/** Finds the queues and exchanges that keep the dead letters and the retries of others, as a file would declare them. */
export function rolesOf(
  exchanges: readonly ObservedExchange[],
  queues: readonly ObservedQueue[],
  observed: Observed,
): Roles {
  const byName = new Map(queues.map((queue) => [queue.name, queue]));
  // Keys for retries and dead letters come with those of the rest of the queue, or not at all.
  const describable = queues.filter((queue) => describedQueue(queue, observed) !== undefined);
  const retries = new Map<string, number[]>();
  const otherQueues = new Set<string>();
  for (const queue of queues) {
    const delayMs = queue.arguments['x-message-ttl'];
    const target = queue.arguments['x-dead-letter-routing-key'];
    if (typeof delayMs !== 'number' || typeof target !== 'string') continue;
    if (!describable.some(({ name }) => name === target)) continue;
    const known = retries.get(target) ?? [];
    const isRetry =
      delayMs > 0 &&
      known.length < RETRIES_MAX &&
      queue.name === retryQueueName(target, delayMs) &&
      !observed.bindings.some(({ destination }) => destination === queue.name) &&
      isMadeBy({ ...PLAIN, name: target, retryMs: [delayMs] }, queue, observed.version);
    if (!isRetry) continue;
    retries.set(
      target,
      [...known, delayMs].sort((a, b) => a - b),
    );
    otherQueues.add(queue.name);
  }
  const deadLetterExchanges = new Set<string>();
  const deadLetterQueues = new Map<string, ObservedQueue>();
  for (const exchange of exchanges) {
    const bound = observed.bindings.filter(({ source }) => source === exchange.name);
    const keepers = bound.flatMap(({ destination }) => byName.get(destination) ?? []);
    const senders = describable.filter(
      ({ name, arguments: table }) =>
        table['x-dead-letter-exchange'] === exchange.name &&
        !otherQueues.has(name) &&
        !keepers.includes(byName.get(name)!),
    );
    const isPlain =
      exchange.type === 'fanout' &&
      exchange.durable &&
      Object.keys(exchange.arguments).length === 0 &&
      bound.every(
        ({ routingKey, arguments: table }) => routingKey === '' && Object.keys(table).length === 0,
      ) &&
      !observed.exchangeBindings.some(({ source, destination }) =>
        [source, destination].includes(exchange.name),
      );
    const isKeeping = keepers.every(
      (keeper) =>
        !otherQueues.has(keeper.name) &&
        observed.bindings.filter(({ destination }) => destination === keeper.name).length === 1 &&
        boundsOf(keeper, observed.version) !== undefined,
    );
    if (!isPlain || !isKeeping || keepers.length === 0 || keepers.length !== bound.length) continue;
    // Each of them is named by one of the senders, or nobody would name it.
    if (senders.length < keepers.length) continue;
    deadLetterExchanges.add(exchange.name);
    for (const keeper of keepers) otherQueues.add(keeper.name);
    for (const [index, sender] of senders.entries())
      deadLetterQueues.set(sender.name, keepers[Math.min(index, keepers.length - 1)]!);
  }
  return { deadLetterExchanges, deadLetterQueues, otherQueues, retries };
}
