import { type Version, compareVersions } from '../../common/version.ts';
import type { MessagingConfig } from '../config.ts';
import type { QueueConfig } from '../config/types.ts';
import { NO_DELIVERY_LIMIT, queueForm, retryQueues } from '../topology/declarations.ts';

/** From here on RabbitMQ keeps its annotations when a message moves on. Not measured between 3.10 and 4.0: there none is counted twice. */
const KEEPS_COUNT: Version = { major: 3, minor: 13, patch: undefined };

/** What holds for the messages of a queue. */
export interface Rules {
  readonly queue: string;
  /** The broker counts what comes back, and makes dead letters of what came too often. */
  readonly countedByBroker: boolean;
  /** x-delivery-count goes on behind a trip as a dead letter, and has that trip in it. */
  readonly countsDeaths: boolean;
  /** How often a message may come back; undefined: without end. */
  readonly deliveryLimit: number | undefined;
  readonly deadLetterExchange: string | undefined;
  readonly retries: ReturnType<typeof retryQueues>;
}

/** A queue of a configuration as it is declared there: where it stands below several exchanges, only one of them declares it. */
export function queueOf(
  { exchanges }: Pick<MessagingConfig, 'exchanges'>,
  queue: string,
): QueueConfig | undefined {
  const found = exchanges.flatMap(({ queues }) => queues.filter(({ name }) => name === queue));
  return found.find(({ declare }) => declare) ?? found[0];
}

/** What holds for a queue on a version of RabbitMQ. */
export function rulesOf(queue: QueueConfig, version: Version): Rules {
  const own = queue.arguments ?? {};
  const exchange = own['x-dead-letter-exchange'];
  return {
    queue: queue.name,
    countedByBroker: queueForm(queue, version).limitedBy === 'broker',
    countsDeaths: compareVersions(version, KEEPS_COUNT) >= 0,
    deliveryLimit: limitOf(own['x-delivery-limit'] ?? queue.deliveryLimit),
    deadLetterExchange: queue.deadLetters?.exchange ?? (typeof exchange === 'string' ? exchange : undefined),
    retries: retryQueues(queue),
  };
}

function limitOf(value: unknown): number | undefined {
  const isLimit = typeof value === 'number' && value >= 0 && value < NO_DELIVERY_LIMIT;
  return isLimit ? value : undefined;
}
