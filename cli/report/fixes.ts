import type { LedgerClient } from '../../proxy/ledger-document.ts';
import type { Usage } from '../../proxy/usage.ts';

/** The libraries whose own switches are known, as the report names them. */
export const LIBRARIES = [
  'oslo.messaging',
  'Celery',
  'kombu (py-amqp)',
  'pika',
  'amqplib',
  'rabbitmq-client',
  'php-amqplib',
  'Java client',
  'rabbitmq-c',
  'Go client',
] as const;

export type Library = (typeof LIBRARIES)[number];

/** What to change with each library, where its own words help more than AMQP's. */
export const LIBRARY_FIXES: Readonly<Record<Library, Readonly<Partial<Record<Usage, string>>>>> = {
  'oslo.messaging': {
    'transient-queue':
      '[oslo_messaging_rabbit] rabbit_quorum_queue=true and rabbit_transient_quorum_queue=true; 14.0.3 does not have the latter (16.1.0 does), so that its reply_ and fanout queues stay transient: upgrade it',
    'transient-exchange':
      '[oslo_messaging_rabbit] rabbit_quorum_queue=true for control exchanges, rabbit_transient_quorum_queue=true for fanout exchanges',
    'auto-delete-queue': '[oslo_messaging_rabbit] amqp_auto_delete=false, with rabbit_quorum_queue=true',
    'durable-classic-queue':
      '[oslo_messaging_rabbit] rabbit_quorum_queue=true in the place of amqp_durable_queues',
    'quorum-without-delivery-limit': '[oslo_messaging_rabbit] rabbit_quorum_delivery_limit, or the policy',
    'ha-policy-argument': '[oslo_messaging_rabbit] rabbit_ha_queues=false',
    'cancel-on-ha-failover': '[oslo_messaging_rabbit] enable_cancel_on_failover=false',
  },
  Celery: {
    'transient-queue':
      'control_queue_exclusive=True and event_queue_exclusive=True (Celery 5.6) for pidbox and event queues; another result backend than rpc:// for result queues',
    'auto-delete-queue': 'control_queue_exclusive=True and event_queue_exclusive=True (Celery 5.6)',
    'durable-classic-queue':
      "task_default_queue_type='quorum' (Celery 5.5); Queue(…, queue_arguments={'x-queue-type': 'quorum'}) before",
    'transient-exchange': 'control_queue_durable=True (Celery 5.6) makes its exchanges durable as well',
    'global-qos': 'worker_detect_quorum_queues=True, the default from Celery 5.5 on, with quorum task queues',
  },
  'kombu (py-amqp)': {
    'transient-queue':
      "Queue(…, durable=True, queue_arguments={'x-queue-type': 'quorum'}), or exclusive=True",
    'auto-delete-queue':
      "Queue(…, auto_delete=False, expires=SECONDS, queue_arguments={'x-queue-type': 'quorum'})",
    'durable-classic-queue': "Queue(…, queue_arguments={'x-queue-type': 'quorum'})",
    'transient-exchange': 'Exchange(…, durable=True)',
    'global-qos': 'Consumer.qos(prefetch_count=N, apply_global=False)',
    'small-frame-max': 'leave frame_max out',
  },
  pika: {
    'transient-queue':
      "queue_declare(…, durable=True, arguments={'x-queue-type': 'quorum'}), or exclusive=True",
    'transient-queue-server-named': "queue_declare('', exclusive=True)",
    'auto-delete-queue':
      "queue_declare(…, durable=True, arguments={'x-queue-type': 'quorum', 'x-expires': MILLISECONDS})",
    'durable-classic-queue': "queue_declare(…, durable=True, arguments={'x-queue-type': 'quorum'})",
    'transient-exchange': 'exchange_declare(…, durable=True)',
    'global-qos': 'basic_qos(prefetch_count=N, global_qos=False)',
    'small-frame-max': 'leave frame_max out of ConnectionParameters, or give 8192 at least',
  },
  amqplib: {
    'transient-queue':
      "assertQueue(name, {durable: true, arguments: {'x-queue-type': 'quorum'}}), or exclusive: true",
    'transient-queue-server-named': "assertQueue('', {exclusive: true})",
    'auto-delete-queue':
      "assertQueue(name, {durable: true, expires: MILLISECONDS, arguments: {'x-queue-type': 'quorum'}})",
    'durable-classic-queue': "assertQueue(name, {durable: true, arguments: {'x-queue-type': 'quorum'}})",
    'transient-exchange': 'assertExchange(name, type, {durable: true})',
    'max-priority': 'leave maxPriority out of assertQueue',
    'global-qos': 'channel.prefetch(N), without true as its second argument',
    'small-frame-max': 'upgrade to 0.10.7 or newer, and give no frameMax below 8192 in the URL',
  },
  'rabbitmq-client': {
    'transient-queue': "queueDeclare({queue, durable: true, arguments: {'x-queue-type': 'quorum'}})",
    'transient-exchange': 'exchangeDeclare({exchange, type, durable: true})',
    'small-frame-max': 'upgrade to 5.0.3 or newer, and give no frameMax below 8192',
  },
  'php-amqplib': {
    'transient-queue':
      "queue_declare($name, false, true, false, false, false, new AMQPTable(['x-queue-type' => 'quorum'])): by default it is not durable and auto-delete",
    'transient-queue-server-named': "queue_declare('', false, false, true)",
    'auto-delete-queue': 'the fifth argument of queue_declare (auto_delete) is true by default: give false',
    'durable-classic-queue':
      "queue_declare($name, false, true, false, false, false, new AMQPTable(['x-queue-type' => 'quorum']))",
    'transient-exchange': 'exchange_declare($name, $type, false, true, false)',
    'global-qos': 'basic_qos(0, N, false)',
  },
  'Java client': {
    'transient-queue': 'queueDeclare(name, true, false, false, Map.of("x-queue-type", "quorum"))',
    'transient-queue-server-named': 'queueDeclare() without arguments is exclusive',
    'durable-classic-queue': 'queueDeclare(name, true, false, false, Map.of("x-queue-type", "quorum"))',
    'queue-master-locator': "Spring AMQP's AnonymousQueue: queue.setLeaderLocator(null)",
    'transient-exchange': 'exchangeDeclare(name, type, true)',
    'global-qos': 'basicQos(N, false)',
    'small-frame-max': 'ConnectionFactory.setRequestedFrameMax(0), or 8192 at least',
  },
  'rabbitmq-c': {
    'transient-queue':
      'amqp_queue_declare with durable 1 and x-queue-type in its arguments; amqp-declare-queue -d',
    'transient-queue-server-named': 'amqp_queue_declare with exclusive 1',
    'transient-exchange': 'amqp_exchange_declare with durable 1',
    'global-qos': 'amqp_basic_qos with global 0',
    'small-frame-max': 'amqp_login with frame_max 131072',
  },
  'Go client': {
    'transient-queue':
      'QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}), or exclusive',
    'transient-queue-server-named': 'QueueDeclare("", false, true, true, false, nil)',
    'durable-classic-queue':
      'QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})',
    'transient-exchange': 'ExchangeDeclare(name, kind, true, …)',
    'global-qos': 'Qos(N, 0, false)',
    'small-frame-max': 'leave FrameSize out of amqp.Config, or give 8192 at least',
  },
};

/** Products as libraries name themselves in their client-properties, where the platform says no more. */
const PRODUCTS: Readonly<Record<string, Library>> = {
  'Pika Python Client Library': 'pika',
  amqplib: 'amqplib',
  'rabbitmq-client': 'rabbitmq-client',
  AMQPLib: 'php-amqplib',
  'rabbitmq-c': 'rabbitmq-c',
  'AMQP 0.9.1 Client': 'Go client',
  'https://github.com/streadway/amqp': 'Go client',
};

type Traits = Pick<LedgerClient, 'product' | 'platform' | 'connectionName'>;

/**
 * The library that a client uses, as far as it can be told by what it says of itself and by the names it declares.
 * @param examples what it was seen to declare
 */
export function libraryOf(
  { product, platform, connectionName }: Traits,
  examples: readonly string[],
): Library | undefined {
  if (product === 'RabbitMQ') return platform === 'Java' ? 'Java client' : undefined;
  if (product !== 'py-amqp')
    return product !== null && Object.hasOwn(PRODUCTS, product) ? PRODUCTS[product] : undefined;
  const named = (pattern: RegExp): boolean => examples.some((example) => pattern.test(example));
  if (connectionName?.endsWith(':*:*') || named(/'reply_[0-9a-f]{32}'|_fanout_[0-9a-f]{32}'/))
    return 'oslo.messaging';
  return named(/celery|pidbox/) ? 'Celery' : 'kombu (py-amqp)';
}
