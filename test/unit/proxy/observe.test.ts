import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LedgerDocument } from '../../../proxy/ledger-document.ts';
import {
  basicConsume,
  encodeTable,
  type Entry,
  entry,
  exchangeDeclare,
  frame,
  longstr,
  method,
  queueDeclare,
  shortstr,
} from '../../support/amqp-frames.ts';
import {
  basicPublish,
  channelOpen,
  connectionClose,
  prefetch,
  queueBind,
  queueDelete,
} from '../../support/amqp-methods.ts';
import {
  connectPeer,
  HEADER,
  OPEN_ARGUMENTS,
  type Peer,
  ScriptedBroker,
  startTestProxy,
  type TestProxy,
  tuneArguments,
} from '../../support/peers.ts';

const PASSWORD = 'correct-horse-battery';

let broker: ScriptedBroker;
const running: AsyncDisposable[] = [];

beforeEach(async () => {
  broker = await new ScriptedBroker().start();
  running.push(broker);
});

afterEach(async () => {
  for (const one of running.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});

async function observe(flags: Record<string, string> = {}): Promise<TestProxy> {
  const proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, mode: 'observe', ...flags });
  running.push(proxy);
  return proxy;
}

async function get(proxy: TestProxy, path: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${proxy.proxy.adminAddress.port}${path}`);
  expect(response.status).toBe(200);
  return response.text();
}

async function ledgerOf(proxy: TestProxy): Promise<LedgerDocument> {
  return JSON.parse(await get(proxy, '/clients')) as LedgerDocument;
}

/** A longstr on its own: a length in four octets before it. */
function sized(octets: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(octets.length);
  return Buffer.concat([length, octets]);
}

function start(version: string): Buffer {
  const properties = encodeTable([entry('product', longstr('RabbitMQ')), entry('version', longstr(version))]);
  const texts = ['PLAIN AMQPLAIN', 'en_US'].map((text) => sized(Buffer.from(text)));
  return method(0, 10, 10, Buffer.concat([Buffer.of(0, 9), properties, ...texts]));
}

const PROPERTIES: Entry[] = [
  entry('product', longstr('py-amqp')),
  entry('product_version', longstr('5.1.1')),
  entry('connection_name', longstr('nova-compute:7:0b7e6a1c-93c2-4b3c-8f0a-2f6f1f4d5e6a')),
];

const RESPONSES: Readonly<Record<string, Buffer>> = {
  PLAIN: Buffer.from(`\0nova\0${PASSWORD}`),
  AMQPLAIN: encodeTable([entry('LOGIN', longstr('nova')), entry('PASSWORD', longstr(PASSWORD))]).subarray(4),
};

function startOk(mechanism: string, properties = PROPERTIES): Buffer {
  const parts = [
    encodeTable(properties),
    shortstr(mechanism),
    sized(RESPONSES[mechanism]!),
    shortstr('en_US'),
  ];
  return method(0, 10, 11, Buffer.concat(parts));
}

/** Two ends of a conversation that remember all they sent. */
interface Talk {
  readonly client: Peer;
  readonly upstream: Peer;
  /** Sends from one end and waits until the other has as many octets as were sent. */
  readonly say: (from: 'client' | 'broker', ...octets: Buffer[]) => Promise<void>;
  /** What each end has sent so far. */
  readonly sent: Record<'client' | 'broker', Buffer>;
}

async function talk(proxy: TestProxy): Promise<Talk> {
  const arriving = broker.next();
  const client = await connectPeer(proxy.port);
  client.write(HEADER);
  const upstream = await arriving;
  const sent = { client: HEADER, broker: Buffer.alloc(0) };
  const say: Talk['say'] = async (from, ...octets) => {
    sent[from] = Buffer.concat([sent[from], ...octets]);
    const [sender, receiver] = from === 'client' ? [client, upstream] : [upstream, client];
    sender.write(...octets);
    await receiver.until('all octets', ({ received }) => received.length >= sent[from].length);
  };
  return { client, upstream, say, sent };
}

/** The handshake of a client that answers connection.tune with these octets. */
async function letIn(
  { say }: Talk,
  mechanism = 'PLAIN',
  tuneOk = tuneArguments(131_072),
  properties = PROPERTIES,
): Promise<void> {
  await say('broker', start('3.10.8'));
  await say('client', startOk(mechanism, properties));
  await say('broker', method(0, 10, 30, tuneArguments(131_072)));
  await say('client', method(0, 10, 31, tuneOk), method(0, 10, 40, OPEN_ARGUMENTS));
  await say('broker', method(0, 10, 41, Buffer.of(0)));
}

const LOCATOR = entry('x-queue-master-locator', longstr('min-masters'));
const FAILOVER = entry('x-cancel-on-ha-failover', { tag: 't', value: 1 });

/** One of everything that the proxy would rewrite, pipelined as clients do that don't wait. */
const LEGACY = [
  channelOpen(1),
  queueDeclare({ name: 'tasks', flags: 8 }),
  queueDeclare({ name: '' }),
  queueDeclare({ name: 'own', flags: 4, entries: [LOCATOR] }),
  exchangeDeclare({ name: 'openstack' }),
  queueBind(1, 'tasks', 'openstack', 'key'),
  prefetch(1, 10, true),
  basicConsume({ name: 'tasks', entries: [FAILOVER] }),
  basicPublish(1, 'tasks', 'x'.repeat(10_000)),
  queueDelete(1, 'tasks', 3),
];

describe('a proxy in mode observe', () => {
  it.each([
    ['what the broker proposes', tuneArguments(131_072)],
    ['a frame_max of 4096', tuneArguments(4096)],
    ['a channel_max of 1', tuneArguments(131_072, 1)],
    ['no limits', tuneArguments(0, 0)],
  ])(
    'passes every octet as it came, in both directions, to a client that asks for %s',
    async (_what, tuneOk) => {
      const proxy = await observe();
      const conversation = await talk(proxy);
      await letIn(conversation, 'PLAIN', tuneOk);
      const { say, client, upstream, sent } = conversation;
      const small = tuneOk.readUInt32BE(2) === 4096;
      // A body in frames as large as they may be.
      const body = basicPublish(1, 'tasks', 'y'.repeat(small ? 4000 : 100_000));
      await say('client', ...LEGACY.filter((octets) => !small || octets.length < 4096), body);
      await say(
        'broker',
        method(1, 20, 11, Buffer.alloc(4)),
        frame(3, 1, Buffer.alloc(small ? 4088 : 131_064, 7)),
      );
      await say(
        'broker',
        method(1, 20, 40, Buffer.concat([Buffer.of(1, 148), shortstr('NOT_FOUND'), Buffer.alloc(4)])),
      );
      await say('client', method(1, 20, 41), connectionClose());
      await say('broker', method(0, 10, 51));
      expect(upstream.received.equals(sent.client)).toBe(true);
      expect(client.received.equals(sent.broker)).toBe(true);
      expect(await proxy.metric('quorumbridge_proxy_rewrites_total')).toEqual(
        (await proxy.metric('quorumbridge_proxy_rewrites_total')).filter((line) => line.endsWith(' 0')),
      );
    },
  );

  it('opens no channel of its own and lets clients have all channels that the broker offers', async () => {
    const proxy = await observe();
    const conversation = await talk(proxy);
    await letIn(conversation);
    await conversation.say('client', channelOpen(2047));
    expect(conversation.upstream.received.equals(conversation.sent.client)).toBe(true);
  });

  it('tells on /clients what each client used, as documented', async () => {
    const proxy = await observe();
    const conversation = await talk(proxy);
    await letIn(conversation, 'AMQPLAIN', tuneArguments(4096));
    await conversation.say('client', ...LEGACY.filter(({ length }) => length < 4096));
    const { mode, broker, evicted, summary, clients } = await ledgerOf(proxy);
    expect({ mode, broker, evicted }).toEqual({ mode: 'observe', broker: { version: '3.10.8' }, evicted: 0 });
    expect(summary).toMatchObject({ unneededSince: null, clients: 1, needing: 1 });
    expect(clients).toMatchObject([
      {
        user: 'nova',
        vhost: '/',
        connectionName: 'nova-compute:*:*',
        product: 'py-amqp',
        version: '5.1.1',
        platform: null,
        address: '127.0.0.1',
        needsProxy: true,
        connections: { now: 1, needing: 1, total: 1 },
        rewrites: {},
        changes: {},
      },
    ]);
    const examples = Object.entries(clients[0]!.usages).map(([usage, seen]) => [
      usage,
      seen.count,
      seen.example,
    ]);
    expect(Object.fromEntries(examples.map(([usage, ...seen]) => [usage, seen]))).toEqual({
      'small-frame-max': [1, 'frame_max 4096'],
      'transient-queue': [1, "queue 'tasks' (transient, auto-delete)"],
      'auto-delete-queue': [1, "queue 'tasks' (transient, auto-delete)"],
      'transient-queue-server-named': [1, 'queue without a name (transient)'],
      'exclusive-named-queue': [1, "queue 'own' (exclusive, x-queue-master-locator=min-masters)"],
      'queue-master-locator': [1, "queue 'own' (exclusive, x-queue-master-locator=min-masters)"],
      'transient-exchange': [1, "exchange 'openstack' (topic, transient)"],
      'global-qos': [1, 'a prefetch of 10 for a whole channel'],
      'cancel-on-ha-failover': [1, "a consumer of queue 'tasks' (x-cancel-on-ha-failover=true)"],
      'conditional-delete': [1, "delete of queue 'tasks' (if-unused, if-empty)"],
    });
    expect(await proxy.metric('quorumbridge_proxy_client_usages_total')).toContain(
      '{usage="transient-queue"} 1',
    );
    expect(await proxy.metric('quorumbridge_proxy_clients{')).toEqual([
      'needs_proxy="yes"} 1',
      'needs_proxy="no"} 0',
    ]);
    const [rewritten] = await proxy.metric('quorumbridge_proxy_last_rewrite_timestamp_seconds');
    expect(Number(rewritten)).toBeCloseTo(Date.now() / 1000, -2);
  });

  it('forgets a client that is gone when there is no room for another, and counts it', async () => {
    const proxy = await observe({ clientRecords: '1' });
    const conversation = await talk(proxy);
    await letIn(conversation, 'PLAIN', tuneArguments(4096));
    for (const { socket } of [conversation.client, conversation.upstream]) socket.destroy();
    await expect
      .poll(async () => (await ledgerOf(proxy)).clients)
      .toMatchObject([{ product: 'py-amqp', connections: { now: 0, needing: 0, total: 1 } }]);
    await letIn(await talk(proxy), 'PLAIN', tuneArguments(0), [entry('product', longstr('pika'))]);
    expect(await ledgerOf(proxy)).toMatchObject({
      evicted: 1,
      clients: [{ product: 'pika', needsProxy: false }],
    });
    expect(await proxy.metric('quorumbridge_proxy_clients_evicted_total')).toEqual([' 1']);
  });

  it.each(['PLAIN', 'AMQPLAIN'])(
    'has no password of a client that logs in by %s in /clients, its metrics or its log',
    async (mechanism) => {
      const proxy = await observe({ statsInterval: '200ms', logLevel: 'trace' });
      const conversation = await talk(proxy);
      await letIn(conversation, mechanism);
      await conversation.say('client', ...LEGACY);
      await expect.poll(() => proxy.log().map(({ msg }) => msg)).toContain('statistics since the start');
      const told = [await get(proxy, '/clients'), await get(proxy, '/metrics'), JSON.stringify(proxy.log())];
      expect(told[0]).toContain('"user":"nova"');
      for (const secret of [
        PASSWORD,
        Buffer.from(PASSWORD).toString('base64'),
        Buffer.from(PASSWORD).toString('hex'),
      ])
        for (const text of told) expect(text).not.toContain(secret);
    },
  );

  it('says in its statistics since when no client has used what RabbitMQ 4 refuses', async () => {
    const proxy = await observe({ statsInterval: '200ms' });
    const lines = (): unknown[] =>
      proxy.log().flatMap(({ msg, clients }) => (msg === 'statistics since the start' ? [clients] : []));
    await expect.poll(lines).not.toEqual([]);
    const { startedAt } = await ledgerOf(proxy);
    expect(lines()[0]).toBe(
      `no client has used what RabbitMQ 4 refuses since ${startedAt} (the start of the proxy)`,
    );
  });
});

describe('a proxy in mode transparent', () => {
  it('counts on /clients what it rewrote for each client', async () => {
    const proxy = await observe({ mode: 'transparent' });
    const arriving = broker.next();
    const client = await connectPeer(proxy.port);
    client.write(HEADER);
    const upstream = await arriving;
    await upstream.take(8);
    for (const [sender, receiver, octets] of [
      [upstream, client, start('4.3.6')],
      [client, upstream, startOk('PLAIN')],
      [upstream, client, method(0, 10, 30, tuneArguments(131_072))],
      [client, upstream, method(0, 10, 31, tuneArguments(4096))],
      [client, upstream, method(0, 10, 40, OPEN_ARGUMENTS)],
      [upstream, client, method(0, 10, 41, Buffer.of(0))],
    ] as const) {
      sender.write(octets);
      await receiver.frame();
    }
    const { mode, broker: seen, summary, clients } = await ledgerOf(proxy);
    expect({ mode, seen }).toEqual({ mode: 'transparent', seen: { version: '4.3.6' } });
    expect(summary.text).toMatch(/^1 of 1 clients needs the proxy; the last rewrite was at \d{4}-/);
    expect(clients).toMatchObject([{ needsProxy: true, rewrites: { 'connection.tune-ok': 1 } }]);
    for (const { socket } of [client, upstream]) socket.destroy();
    await expect
      .poll(async () => (await ledgerOf(proxy)).summary.text)
      .toMatch(/^no client has needed a rewrite since \d{4}-.*Z; 1 of 1 clients did before$/);
  });
});
