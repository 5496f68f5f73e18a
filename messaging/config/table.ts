// Every key of the file. The loader, the JSON Schema and the tables of docs/messaging.md are made of this.
import { heartbeat, url } from './connection-kinds.ts';
import { type Key, type Values, key, listOf, section } from './keys.ts';
import {
  argumentTable,
  bindings,
  choice,
  duration,
  name,
  orNone,
  retry,
  text,
  trueOrFalse,
  wholeNumber,
} from './kinds.ts';

const DAY_MS = 86_400_000;
/** RabbitMQ counts lengths in 32 bits. */
const LENGTH_MAX = 2 ** 32 - 1;
const length = wholeNumber({ min: 1, max: LENGTH_MAX });
const prefetch = wholeNumber({ min: 1, max: 65_535 });
const positive = duration({ min: 1 });

/** The same bounds for the dead-letter queues of an exchange and of one queue. */
const deadLetterTable = {
  dlxName: key(name(), {
    name: 'dlx_name',
    description: 'The fanout exchange that takes what is rejected or was delivered too often.',
    defaultText: "the exchange's; none: such messages are dropped",
  }),
  dlqName: key(name(), {
    name: 'dlq_name',
    description: 'The queue bound to it, which keeps them.',
    defaultText: "the exchange's",
  }),
  dlqMessageTtlMs: key(orNone(positive), {
    name: 'dlq_message_ttl',
    description: 'How long it keeps a message.',
    defaultText: "the exchange's, or 7d",
  }),
  dlqMaxLength: key(orNone(length), {
    name: 'dlq_max_length',
    description: 'How many messages it keeps; the oldest make room.',
    defaultText: "the exchange's, or 100000",
  }),
};

/** What an exchange says of them for all of its queues. */
const deadLetterDefaults = {
  dlxName: ofQueues(deadLetterTable.dlxName, 'none'),
  dlqName: ofQueues(deadLetterTable.dlqName, 'none'),
  dlqMessageTtlMs: ofQueues(deadLetterTable.dlqMessageTtlMs, '7d'),
  dlqMaxLength: ofQueues(deadLetterTable.dlqMaxLength, '100000'),
};

function ofQueues<T>(spec: Key<T>, defaultText: string): Key<T> {
  return {
    ...spec,
    defaultText,
    description: `The \`${spec.name}\` of its queues that have none of their own.`,
  };
}

/** The bounds of dead-letter queues for which nothing is said. */
export const DEAD_LETTER_BOUNDS = { messageTtlMs: 7 * DAY_MS, maxLength: 100_000 } as const;

/** RabbitMQ 4's own limit, and here that of 3.x too. */
export const DELIVERY_LIMIT = 20;
export const DELIVERY_LIMIT_MAX = 1_000_000;

export const queueTable = {
  name: key(name(), { name: 'name', description: "The queue's name.", required: true }),
  bindings: key(bindings, {
    name: 'bindings',
    description:
      'Routing keys that bind it to the exchange; for headers exchanges mappings with `arguments`. A fanout exchange needs none.',
    default: [],
  }),
  declare: key(trueOrFalse, {
    name: 'declare',
    description: 'Whether the queue is declared here. Otherwise it has to be there, and is only bound.',
    default: true,
  }),
  queueType: key(choice('quorum', 'classic'), {
    name: 'queue_type',
    description: 'Classic queues are on one node only.',
    defaultText: 'quorum; classic where `max_priority` needs it',
  }),
  prefetch: key(prefetch, {
    name: 'prefetch',
    description: 'How many unacknowledged messages each consumer of it may have.',
    defaultText: '`prefetch_count` of `consumer`',
  }),
  deliveryLimit: key(orNone(wholeNumber({ min: 1, max: DELIVERY_LIMIT_MAX })), {
    name: 'delivery_limit',
    description: 'How often a message may come back before it is a dead letter.',
    defaultText: String(DELIVERY_LIMIT),
  }),
  maxPriority: key(wholeNumber({ min: 1, max: 255 }), {
    name: 'max_priority',
    description:
      'The highest priority of its messages. Before RabbitMQ 4.3, and above 31, this makes it a classic queue.',
  }),
  messageTtlMs: key(duration({ min: 0 }), {
    name: 'message_ttl',
    description: 'How long a message may wait before it is a dead letter.',
  }),
  maxLength: key(length, {
    name: 'max_length',
    description: 'How many messages it may hold. Publishes beyond that are refused.',
  }),
  retryMs: key(retry, {
    name: 'retry',
    description:
      'Queues in which a message waits before it comes back: true for one minute, a delay, or a ladder of delays as in `[5s, 1m, 10m]`.',
    default: [],
  }),
  declareDlx: key(trueOrFalse, {
    name: 'declare_dlx',
    description: 'Whether `dlx_name` is declared here.',
    default: true,
  }),
  declareDlq: key(trueOrFalse, {
    name: 'declare_dlq',
    description: 'Whether `dlq_name` is declared and bound here.',
    default: true,
  }),
  ...deadLetterTable,
  arguments: key(argumentTable, {
    name: 'arguments',
    description:
      'The arguments exactly as the broker gets them, in place of all keys that make arguments. For queues of other programs.',
  }),
};

const exchangeTable = {
  name: key(name({ takesEmpty: true }), {
    name: 'name',
    description:
      "The exchange's name; empty for the default exchange, whose queues are reached by their names alone.",
    required: true,
  }),
  kind: key(choice('direct', 'topic', 'fanout', 'headers'), {
    name: 'kind',
    description: 'How it routes.',
    default: 'topic',
  }),
  durable: key(trueOrFalse, {
    name: 'durable',
    description: 'Whether it outlives a restart of the broker.',
    default: true,
  }),
  declare: key(trueOrFalse, {
    name: 'declare_exchange',
    description: 'Whether the exchange is declared here. Otherwise it has to be there.',
    default: true,
  }),
  ...deadLetterDefaults,
  arguments: key(argumentTable, {
    name: 'arguments',
    description: 'Arguments of its declaration, such as `alternate-exchange`.',
  }),
  queues: key(listOf(queueTable), { name: 'queues', description: 'The queues bound to it.', default: [] }),
};

const tlsTable = {
  enabled: key(trueOrFalse, {
    name: 'enabled',
    description: 'Whether the connection is encrypted.',
    defaultText: 'true for an amqps:// url, else false',
  }),
  certFile: key(text, {
    name: 'cert_file',
    description: "The client's certificate with its chain, PEM.",
  }),
  keyFile: key(text, { name: 'key_file', description: 'Its private key, PEM.' }),
  caFile: key(text, {
    name: 'ca_file',
    aliases: ['root_ca'],
    description: "Authorities that the broker's certificate may be of, PEM.",
    defaultText: "Node's own list",
  }),
  serverName: key(text, {
    name: 'server_name',
    description: "The name that the broker's certificate must have.",
    defaultText: '`host`',
  }),
  skipVerify: key(trueOrFalse, {
    name: 'skip_verify',
    aliases: ['insecure_skip_validation'],
    description: 'Take any certificate of the broker: whoever sits between may read and change everything.',
    default: false,
  }),
};

const publisherTable = {
  confirm: key(trueOrFalse, {
    name: 'confirm',
    env: 'RABBITMQ_PUBLISHER_CONFIRM',
    description: 'Whether a publish waits for the broker to confirm it.',
    default: true,
  }),
  publishTimeoutMs: key(positive, {
    name: 'publish_timeout',
    description: 'How long it waits.',
    default: 10_000,
  }),
};

const consumerTable = {
  prefetchCount: key(prefetch, {
    name: 'prefetch_count',
    env: 'RABBITMQ_PREFETCH_COUNT',
    description: 'How many unacknowledged messages each consumer may have.',
    default: 10,
  }),
  prefetchGlobal: key(trueOrFalse, {
    name: 'prefetch_global',
    description:
      'Without effect here, where each queue is consumed on a channel of its own: whether the consumers of a channel share that number.',
    default: false,
  }),
};

export const rootTable = {
  enabled: key(trueOrFalse, {
    name: 'enabled',
    description:
      'Whether programs consume at all. A publisher that is made, and commands that are told to do something, work anyway.',
    default: true,
  }),
  url: key(url, {
    name: 'url',
    description: 'amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…, in place of the five keys below.',
    secret: true,
  }),
  host: key(text, {
    name: 'host',
    env: 'RABBITMQ_HOST',
    description: "The broker's name or address.",
    defaultText: 'localhost',
  }),
  port: key(wholeNumber({ min: 1, max: 65_535 }), {
    name: 'port',
    env: 'RABBITMQ_PORT',
    description: 'Its port.',
    defaultText: '5672, with TLS 5671',
  }),
  username: key(text, {
    name: 'username',
    env: 'RABBITMQ_USER',
    description: 'Who logs in.',
    defaultText: 'guest',
  }),
  password: key(text, {
    name: 'password',
    env: 'RABBITMQ_PASSWORD',
    description: 'The password.',
    defaultText: 'guest',
    secret: true,
  }),
  vhost: key(text, {
    name: 'vhost',
    env: 'RABBITMQ_VHOST',
    description: 'The virtual host.',
    defaultText: '/',
  }),
  connectTimeoutMs: key(positive, {
    name: 'connect_timeout',
    description:
      'How long connecting may take, and each answer of the broker where something is declared or consumed.',
    default: 30_000,
  }),
  heartbeatSeconds: key(heartbeat, {
    name: 'heartbeat',
    description: 'How often either side shows that it is alive, in whole seconds; 0 for never.',
    default: 10,
  }),
  maxReconnectAttempts: key(wholeNumber({ min: 0, max: 1_000_000 }), {
    name: 'max_reconnect_attempts',
    description: 'How often in a row connecting again is tried; 0 for without end.',
    default: 0,
  }),
  reconnectDelayMs: key(positive, {
    name: 'reconnect_delay',
    description: 'The wait before the first of them. It doubles up to 30 seconds, with a random part.',
    default: 1000,
  }),
  tls: section(tlsTable, { name: 'tls', description: 'Encryption.' }),
  publisher: section(publisherTable, { name: 'publisher', description: 'Publishing.' }),
  consumer: section(consumerTable, { name: 'consumer', description: 'Consuming.' }),
  exchanges: key(listOf(exchangeTable), {
    name: 'exchanges',
    description: 'The topology, by exchange.',
    default: [],
  }),
};

/** Keys that files of other programs have at the top, with where they belong. */
export const FLAT_KEYS: Readonly<Record<string, { readonly section: string; readonly key: string }>> = {
  publisher_confirm: { section: 'publisher', key: 'confirm' },
  publish_timeout: { section: 'publisher', key: 'publish_timeout' },
  prefetch_count: { section: 'consumer', key: 'prefetch_count' },
  prefetch_global: { section: 'consumer', key: 'prefetch_global' },
};

export type RootValues = Values<typeof rootTable>;
export type ExchangeValues = Values<typeof exchangeTable>;
export type QueueValues = Values<typeof queueTable>;
