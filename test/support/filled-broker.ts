// A broker of the 3.x era with something of every kind in it, as operators and clients leave it behind.
import { connect } from 'amqplib';
import type { Broker } from './broker.ts';

interface Queue {
  readonly vhost: string;
  readonly name: string;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly arguments: Record<string, unknown>;
}

interface Exchange {
  readonly vhost: string;
  readonly name: string;
  readonly type: string;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly internal: boolean;
  readonly arguments: Record<string, unknown>;
}

/** Names that are hard on paths, JSON and people. */
const ODD_VHOST = 'a/b';
const ODD_NAME = 'ü/%2F q "1"';
const VHOSTS = ['/', ODD_VHOST, 'nova %41 ü'];

/** Users and their passwords. */
export const PASSWORDS: Readonly<Record<string, string>> = {
  alice: 'pw-alice',
  'ü/user': 'x y %20',
  monitor: 'm',
};

function queue(name: string, args: Record<string, unknown>, flags = 'd', vhost = '/'): Queue {
  return { vhost, name, durable: flags.includes('d'), autoDelete: flags.includes('a'), arguments: args };
}

/** Queues by the arguments of their declares: `d` durable, `a` auto-delete. */
export const QUEUES: readonly Queue[] = [
  queue('plain', {}),
  queue('transient', {}, ''),
  queue('auto-delete', {}, 'da'),
  queue('transient auto-delete', {}, 'a'),
  queue('auto-delete with expiry', { 'x-expires': 3_600_000 }, 'da'),
  queue('reply_1', { 'x-expires': 1_800_000 }, ''),
  queue('classic', { 'x-queue-type': 'classic' }),
  queue('priorities', { 'x-max-priority': 10 }),
  queue('lazy', { 'x-queue-mode': 'lazy', 'x-queue-version': 2 }),
  queue('located', { 'x-queue-master-locator': 'min-masters', 'x-ha-policy': 'all' }),
  queue('limited', { 'x-max-length': 5, 'x-max-length-bytes': 5000, 'x-overflow': 'drop-head' }),
  queue('refusing', { 'x-max-length': 5, 'x-overflow': 'reject-publish-dlx' }),
  queue('dying', {
    'x-dead-letter-exchange': 'dead',
    'x-dead-letter-routing-key': 'k',
    'x-message-ttl': 9000,
  }),
  queue('single', { 'x-single-active-consumer': true, 'x-consumer-timeout': 60_000 }),
  queue('quorum', { 'x-queue-type': 'quorum', 'x-delivery-limit': 3, 'x-quorum-initial-group-size': 1 }),
  queue('quorum refusing', {
    'x-queue-type': 'quorum',
    'x-overflow': 'reject-publish-dlx',
    'x-max-length': 9,
  }),
  queue('stream', { 'x-queue-type': 'stream', 'x-max-age': '1D' }),
  queue(ODD_NAME, { 'x-message-ttl': 5 }),
  queue(ODD_NAME, {}, 'd', ODD_VHOST),
  queue('other', {}, '', 'nova %41 ü'),
];

function exchange(name: string, type: string, flags = 'd', args: Record<string, unknown> = {}, vhost = '/') {
  return {
    vhost,
    name,
    type,
    durable: flags.includes('d'),
    autoDelete: flags.includes('a'),
    internal: flags.includes('i'),
    arguments: args,
  };
}

/** Exchanges: `d` durable, `a` auto-delete, `i` internal. */
export const EXCHANGES: readonly Exchange[] = [
  exchange('openstack', 'topic', ''),
  exchange('reply_fanout', 'fanout', 'a'),
  exchange('durable', 'direct'),
  exchange('durable auto-delete', 'fanout', 'da'),
  exchange('dead', 'headers'),
  exchange('inside', 'topic', 'di', { 'alternate-exchange': 'dead' }),
  exchange(ODD_NAME, 'direct', '', {}, ODD_VHOST),
];

const MIRRORED = { 'ha-mode': 'all', 'ha-sync-mode': 'automatic' };

const POLICIES = [
  { name: 'ha-all', pattern: '.*', definition: MIRRORED, priority: 5 },
  {
    name: 'mixed',
    pattern: '^lim',
    definition: {
      'ha-mode': 'exactly',
      'ha-params': 2,
      'ha-promote-on-shutdown': 'always',
      'ha-sync-batch-size': 9,
      'max-length': 7,
      'queue-mode': 'lazy',
      'queue-master-locator': 'min-masters',
    },
    priority: 6,
  },
  { name: 'limits', pattern: '^x', definition: { 'delivery-limit': 5, expires: 9_000_000 }, priority: 0 },
];

/** A shovel between two URIs, one of which has a password: refused by brokers without the plugin. */
export const SHOVEL_PASSWORD = 'shovel-secret';

/** Makes all of it; the broker needs the plugin rabbitmq_shovel. Ends when the broker has counted the messages. */
export async function fillBroker(broker: Broker): Promise<void> {
  const call = async (method: string, steps: string[], body: object): Promise<void> => {
    const path = steps.map(encodeURIComponent).join('/');
    const response = await fetch(`${broker.managementUrl}/api/${path}`, {
      method,
      headers: {
        authorization: `Basic ${Buffer.from('guest:guest').toString('base64')}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  };
  const put = (steps: string[], body: object): Promise<void> => call('PUT', steps, body);

  const all = { configure: '.*', write: '.*', read: '.*' };
  for (const vhost of VHOSTS.slice(1)) {
    await put(['vhosts', vhost], { description: `of ${vhost}`, tags: 'x,y' });
    await put(['permissions', vhost, 'guest'], all);
  }
  for (const [name, password] of Object.entries(PASSWORDS)) {
    await put(['users', name], { password, tags: name === 'monitor' ? 'monitoring' : '' });
    await put(['permissions', '/', name], { ...all, configure: '^a' });
  }
  await put(['users', 'without password'], { password_hash: '', tags: '' });
  await put(['topic-permissions', '/', 'alice'], { exchange: 'amq.topic', write: '^a', read: '.*' });
  await put(['vhost-limits', ODD_VHOST, 'max-queues'], { value: 100 });
  await put(['user-limits', 'alice', 'max-connections'], { value: 10 });
  await put(['global-parameters', 'mqtt_default_vhosts'], { value: { 'O=x': '/' } });
  for (const { name, ...policy } of POLICIES) {
    await put(['policies', '/', name], { ...policy, 'apply-to': 'queues' });
  }
  await put(['operator-policies', '/', 'ceiling'], {
    pattern: '.*',
    definition: { 'max-length': 1000 },
    'apply-to': 'queues',
  });
  const uri = `amqp://shovel:${SHOVEL_PASSWORD}@127.0.0.1:1`;
  await put(['parameters', 'shovel', '/', 'away'], {
    value: { 'src-uri': uri, 'src-queue': 'plain', 'dest-uri': uri, 'dest-queue': 'elsewhere' },
  });
  for (const { vhost, name, durable, autoDelete, arguments: args } of QUEUES) {
    await put(['queues', vhost, name], { durable, auto_delete: autoDelete, arguments: args });
  }
  for (const { vhost, name, type, durable, autoDelete, internal, arguments: args } of EXCHANGES) {
    const body = { type, durable, auto_delete: autoDelete, internal, arguments: args };
    await put(['exchanges', vhost, name], body);
  }
  const bindings: [source: string, kind: string, destination: string, key: string, args?: object][] = [
    ['openstack', 'q', 'transient', 'a.#'],
    ['openstack', 'e', 'inside', 'b'],
    ['amq.topic', 'q', 'lazy', 'ü'],
    ['dead', 'q', 'plain', '', { 'x-match': 'all', n: 1, half: 1.5, deep: { list: [1, 'x', true] } }],
    ['durable auto-delete', 'q', 'quorum', ''],
  ];
  for (const [source, kind, destination, key, args = {}] of bindings) {
    const body = { routing_key: key, arguments: args };
    await call('POST', ['bindings', '/', 'e', source, kind, destination], body);
  }
}

/** A client that is connected when definitions are exported: what it alone uses, and messages that only it leaves. */
export async function leaveMessages(broker: Broker): Promise<AsyncDisposable> {
  const model = await connect(broker.url);
  const channel = await model.createConfirmChannel();
  await channel.assertQueue('exclusive', { exclusive: true });
  // Durable, but named by the broker.
  const { queue: named } = await channel.assertQueue('', { durable: true });
  await channel.bindQueue(named, 'openstack', 'named');
  for (const name of ['plain', 'plain', 'quorum', 'stream', 'transient', 'exclusive']) {
    channel.sendToQueue(name, Buffer.from('kept'), { persistent: true });
  }
  channel.sendToQueue('plain', Buffer.from('passing'), { persistent: false });
  channel.sendToQueue('quorum', Buffer.from('counted'), { persistent: false });
  await channel.waitForConfirms();
  // Unacknowledged ones are lost as well.
  await channel.get('plain');
  return { [Symbol.asyncDispose]: async () => model.close() };
}
