import { UsageError } from '../../common/errors.ts';
import type { Distribution } from '../../common/distribution.ts';
import { type Metrics, createMetrics } from '../../common/metrics.ts';
import type { ConnectorState } from '../connector.ts';
import type { QueueStats } from '../consumer/consumers.ts';
import type { PublisherStats } from '../publisher/publisher.ts';

/** What is read of a Publisher. */
interface PublisherSource {
  readonly name: string;
  readonly state: ConnectorState;
  readonly stats: PublisherStats;
  readonly latency: Distribution;
}

/** What is read of Consumers. */
interface ConsumersSource {
  readonly name: string;
  readonly state: ConnectorState;
  readonly queues: ReadonlyMap<string, QueueStats>;
}

/** Whose metrics they are. Names must differ, which the label `client` has. */
export interface MetricsSources {
  readonly publishers?: readonly PublisherSource[];
  readonly consumers?: readonly ConsumersSource[];
}

const STATES: readonly ConnectorState[] = ['connecting', 'open', 'failed', 'closed'];

/** Adds the kit's metrics to others. @throws UsageError for two of the same name */
export function registerMessagingMetrics(
  metrics: Metrics,
  { publishers = [], consumers = [] }: MetricsSources,
): void {
  const clients = [...publishers, ...consumers];
  const twice = clients.find(({ name }, at) => clients.findIndex((one) => one.name === name) !== at);
  if (twice !== undefined)
    throw new UsageError(
      `two publishers or consumers have the name ${JSON.stringify(twice.name)}: their metrics need names that differ`,
    );
  const ofPublishers = (read: (stats: PublisherStats) => number) => () =>
    publishers.map(({ name, stats }) => [{ client: name }, read(stats)] as const);
  const ofQueues = (read: (stats: QueueStats) => number) => () =>
    consumers.flatMap(({ name, queues }) =>
      [...queues].map(([queue, stats]) => [{ client: name, queue }, read(stats)] as const),
    );
  const client = ['client'];
  const queue = ['client', 'queue'];

  metrics.counter(
    'rabbitmq_messages_published_total',
    'Publishes that were settled, by how',
    () =>
      publishers.flatMap(({ name, stats: { confirmed, sent, failed } }) =>
        Object.entries({ confirmed, sent, ...failed }).map(
          ([outcome, count]) => [{ client: name, outcome }, count] as const,
        ),
      ),
    ['client', 'outcome'],
  );
  metrics.counter(
    'rabbitmq_messages_republished_total',
    'Messages that were sent again after a connection or a channel was lost',
    ofPublishers(({ republished }) => republished),
    client,
  );
  metrics.gauge(
    'rabbitmq_messages_unsettled',
    'Publishes that are not settled yet',
    ofPublishers(({ waiting }) => waiting),
    client,
  );
  metrics.histogram('rabbitmq_publish_latency_seconds', 'From a publish to its confirmation', () =>
    publishers.map(({ name, latency }) => [{ client: name }, latency] as const),
  );
  metrics.counter(
    'rabbitmq_messages_consumed_total',
    'Deliveries that were taken up for the handler',
    ofQueues(({ consumed }) => consumed),
    queue,
  );
  metrics.counter(
    'rabbitmq_messages_acked_total',
    'Messages that were acked',
    ofQueues(({ acked }) => acked),
    queue,
  );
  metrics.counter(
    'rabbitmq_messages_nacked_total',
    'Messages that were given back to their queue',
    ofQueues(({ requeued }) => requeued),
    queue,
  );
  metrics.counter(
    'rabbitmq_messages_retried_total',
    'Messages that wait in a queue for a delay before they come back',
    ofQueues(({ retried }) => retried),
    queue,
  );
  metrics.counter(
    'rabbitmq_messages_dead_lettered_total',
    'Messages that were rejected or had no attempts left',
    ofQueues(({ rejected }) => rejected),
    queue,
  );
  metrics.gauge(
    'rabbitmq_connection_state',
    'Which state the connection to the broker is in: 1 for that one, 0 for the others',
    () =>
      clients.flatMap(({ name, state }) =>
        STATES.map((one) => [{ client: name, state: one }, one === state ? 1 : 0] as const),
      ),
    ['client', 'state'],
  );
}

/**
 * The kit's metrics by themselves, in Prometheus' text format, to be served or put behind those of the program's own registry.
 * @throws UsageError for two of the same name
 */
export function messagingMetrics(sources: MetricsSources): Pick<Metrics, 'text' | 'contentType'> {
  const metrics = createMetrics({ ofProcess: false });
  registerMessagingMetrics(metrics, sources);
  return metrics;
}
