import { UsageError } from '../../common/errors.ts';
import type { MessagingConfig } from '../config.ts';

/** A queue of the file that keeps dead letters. */
export interface DeadLetterQueue {
  readonly name: string;
  /** The queues of the file whose dead letters it gets. */
  readonly feeders: readonly string[];
}

/** The queues that dead letters end in, in the order of the file. */
export function deadLetterQueues({ exchanges }: Pick<MessagingConfig, 'exchanges'>): DeadLetterQueue[] {
  const queues = exchanges.flatMap((exchange) => exchange.queues);
  const feeders = new Map<string, Set<string>>();
  const add = (keeper: string, queue: string): void =>
    void feeders.set(keeper, (feeders.get(keeper) ?? new Set()).add(queue));
  const senders = queues.flatMap(({ name, deadLetters, arguments: own }) => {
    const exchange = deadLetters?.exchange ?? own?.['x-dead-letter-exchange'];
    return typeof exchange === 'string' && exchange !== '' ? [{ name, exchange }] : [];
  });
  // Whatever is bound to a dead-letter exchange gets the dead letters of all that name it.
  for (const { name, exchange } of senders) {
    for (const { deadLetters } of queues) {
      if (deadLetters?.exchange === exchange && deadLetters.queue !== undefined) add(deadLetters.queue, name);
    }
    for (const bound of exchanges.find((one) => one.name === exchange)?.queues ?? []) add(bound.name, name);
  }
  return [...feeders].map(([name, from]) => ({ name, feeders: [...from] }));
}

/** @throws UsageError where the file has no such queue for dead letters */
export function deadLetterQueue(config: Pick<MessagingConfig, 'exchanges'>, name: string): DeadLetterQueue {
  const queues = deadLetterQueues(config);
  const found = queues.find((queue) => queue.name === name);
  if (found !== undefined) return found;
  const has = queues.map((queue) => queue.name).join(', ') || 'none: give its queues dlx_name and dlq_name';
  throw new UsageError(`option --queue: the file has no queue ${name} for dead letters; it has ${has}`);
}
