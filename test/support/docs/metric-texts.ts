// What docs/metrics.md says of metrics beyond their help text: values of labels that come up while a program runs, and
// what has to be known to read a number.
import { UPGRADE_PHASES } from '../../../common/contract.ts';
import { CONDITION_REASONS } from '../../../reconciler/conditions.ts';
import { EVENTS as RECONCILER_EVENTS } from '../../../reconciler/tellings.ts';
import { REQUEST_ERRORS } from '../../../webhook/errors.ts';
import { EVENTS as WEBHOOK_EVENTS } from '../../../webhook/events.ts';
import { code } from './table.ts';

const list = (values: Iterable<string>): string => [...values].map(code).join(', ');

/** Values of a label, by its name or by metric and name. */
export const LABELS: Readonly<Record<string, string>> = {
  // The proxy's.
  code: '[its error codes](errors.md#the-proxy)',
  change: '[changes of meaning](proxy.md#what-is-rewritten)',
  usage: '[what is looked for](report.md#what-is-looked-for)',
  vhost: 'a virtual host, or `other`',
  user: 'a user, or `other`',
  'quorumbridge_proxy_connections_closed_total reason':
    '`client` or `broker`, whose `connection.close` it was; `unopened`, which ended before it was open, without a word, and AMQP 1.0; or the proxy’s [error code](errors.md#the-proxy)',
  'quorumbridge_proxy_frames_failed_total direction': '`client_to_broker`, `broker_to_client`',
  'quorumbridge_proxy_frames_failed_total reason': 'the name of the reply code, such as `FRAME_ERROR`',
  'quorumbridge_proxy_channels_closed_total by': '`client`; `broker`, by an error; `connection`, which ended',
  'quorumbridge_proxy_pool_connections_lost_total reason':
    '`closed`, by the broker with a word; `lost`; `silent`, without heartbeats; `protocol`; `unreachable`, `timeout` and `refused` don’t occur here',
  'quorumbridge_proxy_pool_connections_failed_total reason':
    '`unreachable`, `timeout`, `refused` (the login), `closed`, `lost`, `silent`, `protocol`',
  'quorumbridge_proxy_pool_channels state': '`used` by a channel of a client; `idle`, kept to be used again',
  'quorumbridge_proxy_pool_logins_total result':
    '`proven`, the broker was asked; `known`, a connection with the same login is open; `refused`',
  // The webhook's.
  'quorumbridge_webhook_admissions_total kind':
    '`RabbitmqCluster`, `StatefulSet`, `RabbitMq`, or `other` for what is not handled',
  operation: '`CREATE`, `UPDATE`, `DELETE`, `CONNECT`',
  answer: '[`patched`, `unchanged`, `valid`, `passed`, `denied`](webhook.md#answers)',
  decision: '`yes`, `no`, `keep`; of RabbitMqs `default`, `keep`, `allow`, `deny`',
  'quorumbridge_webhook_decisions_total reason':
    'as in [injection.md](injection.md) and, of RabbitMqs, in [webhook.md](webhook.md#rabbitmqs)',
  'quorumbridge_webhook_bad_requests_total reason': list(Object.keys(REQUEST_ERRORS)),
  'quorumbridge_webhook_owner_lookups_total result': '`found`, `absent`, `unknown`',
  source: '`cache`, `live`',
  'quorumbridge_webhook_events_total reason': list(Object.keys(WEBHOOK_EVENTS)),
  'quorumbridge_webhook_events_total result':
    '`written`; `known`, another replica was first; `failed`; `left out`, too many',
  // The reconciler's.
  'quorumbridge_reconciler_reconciles_total result': '`done`, `failed`',
  resource: 'what is watched, such as `rabbitmqs.rabbitmq.openstack.org`',
  'quorumbridge_reconciler_upgrade_events_total result': '`published`, `failed`',
  'quorumbridge_reconciler_events_total reason': `[${Object.keys(RECONCILER_EVENTS).length} reasons](upgrade.md#events)`,
  'quorumbridge_reconciler_events_total result':
    '`written`; `known`, it is there already; `failed`; `left out`, more than 60 a minute',
  phase: `${list(UPGRADE_PHASES.filter((phase) => phase !== ''))}; \`none\` without an upgrade`,
  namespace: 'of the RabbitMq',
  name: 'of the RabbitMq',
  'quorumbridge_reconciler_condition type': `${list(Object.keys(CONDITION_REASONS))}, and others that somebody wrote`,
  // The messaging kit's.
  client: 'the `name` of the publisher or of the consumers',
  queue: 'a queue that has a handler',
};

/** What stands behind a metric's help text. */
export const NOTES: Readonly<Record<string, string>> = {
  quorumbridge_proxy_connections_active: 'TLS handshakes are included.',
  quorumbridge_proxy_limit_hits_total: '[limits.md](limits.md)',
  quorumbridge_proxy_clients: 'Needed since the start of the proxy.',
  quorumbridge_proxy_clients_evicted_total: '`--client-records` is how many there may be.',
  quorumbridge_proxy_last_rewrite_timestamp_seconds:
    'In mode observe: when a client last used what RabbitMQ 4 refuses.',
  quorumbridge_proxy_certificate_reloads_total: 'Authorities too.',
  quorumbridge_proxy_certificate_reload_failures_total: 'The old one stays in use, and the log says why.',
  quorumbridge_proxy_connections_closed_total:
    '`vhost` and `user` are empty where the broker has not let it in.',
  quorumbridge_proxy_handshake_duration_seconds: 'With TLS: from the end of its handshake.',
  quorumbridge_proxy_latency_seconds:
    'Written is handed to the socket, or held for a question of the proxy’s; one chunk in 256.',
  quorumbridge_proxy_frames_failed_total:
    'In mode pool those of the broker are in `pool_connections_lost_total` instead.',
  quorumbridge_proxy_buffered_bytes: 'As it was a quarter of a second ago at most.',
  quorumbridge_proxy_audit_lines_total:
    'Dropped are those that could not be written in time, or at all: [audit log](proxy.md#audit-log).',
  quorumbridge_proxy_pool_wait_timeouts_total: 'After `--pool-wait-timeout`.',
  quorumbridge_proxy_pool_resumed_total: 'With `--resume`.',
  quorumbridge_proxy_pool_moved_total: 'What they did belongs to one connection.',
  quorumbridge_proxy_pool_publishes_nacked_total:
    'In confirm mode, and their fate was unknown: they were nacked.',
  quorumbridge_proxy_pool_clients_lost_total: 'They got 320, since a loss took what can’t be made anew.',
  quorumbridge_webhook_admission_seconds_total: 'Questions to the API server are included.',
  quorumbridge_webhook_internal_errors_total: 'Each one is a bug.',
  quorumbridge_webhook_ca_not_after_timestamp_seconds: 'With `--tls-cert` it is not known.',
  quorumbridge_webhook_ca_bundle_failures_total: 'The log says why.',
  quorumbridge_reconciler_queue_depth: 'On a replica that waits: what it would begin with.',
  rabbitmq_messages_published_total: '`sent` is with `confirm: false`.',
  rabbitmq_publish_latency_seconds: 'Waiting for a connection is included.',
  rabbitmq_messages_dead_lettered_total: 'Where the queue has no dead-letter exchange they are dropped.',
};
