// A cluster of three nodes that loses one: rows 2.5 and 8.3 to 8.5 of the table of what brokers answer to legacy clients. What
// 3.x kept alive as mirrored queues lives on through the proxy, and what clients declare past it does not.
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { basicConsume, entry, queueDeclare } from '../../support/amqp-frames.ts';
import { basicCancel, basicPublish, confirmSelect, prefetch } from '../../support/amqp-methods.ts';
import { type Broker, startBroker } from '../../support/broker.ts';
import { describeBrokers } from '../../support/describe-brokers.ts';
import { startTestProxy, type TestProxy } from '../../support/peers.ts';
import { RawClient } from '../../support/raw-client.ts';

const PASSIVE = 1;
const DURABLE = 2;
const EXCLUSIVE = 4;
const AUTO_DELETE = 8;
const NO_ACK = 2;

interface Legacy {
  readonly row: string;
  readonly flags: number;
  readonly expires?: number;
  readonly nameless?: true;
}

/** What legacy clients declare; all of them were mirrored with ha-all. */
const LEGACY: Legacy[] = [
  { row: '8.3 durable, classic', flags: DURABLE },
  { row: '8.4 transient', flags: 0 },
  { row: '8.4 transient, auto-delete', flags: AUTO_DELETE },
  { row: '8.4 without a name', flags: 0, nameless: true },
  { row: '8.5 with an expiry', flags: 0, expires: 1_800_000 },
];

function declareOf({ row, flags, expires, nameless }: Legacy): Buffer {
  const entries = expires === undefined ? [] : [entry('x-expires', { tag: 'I', value: expires })];
  return queueDeclare({ name: nameless ? '' : row, flags, entries });
}

await describeBrokers(['4.0', '4.3'], (version) => {
  /** The last one is the home of what is declared there, and is killed. */
  const nodes: Broker[] = [];
  const proxies: TestProxy[] = [];
  /** The names of the queues by row. */
  const queues = new Map<string, string>();

  const client = async (port: number): Promise<RawClient> => {
    const opened = await RawClient.connect(port);
    await opened.channels(1);
    return opened;
  };
  /** By way of a node that stays. */
  const elsewhere = () => client(proxies[0]!.port);
  /** By way of the node that is lost. */
  const home = () => client(proxies[2]!.port);

  beforeAll(async () => {
    const first = await startBroker(version);
    nodes.push(first);
    if (!first.clusters) return;
    for (let i = 0; i < 2; i++) nodes.push(await startBroker(version, { join: first }));
    await first.ctl('await_online_nodes', '3', '--timeout', '60');
    for (const { port } of nodes) proxies.push(await startTestProxy({ backend: `127.0.0.1:${port}` }));
  }, 300_000);
  afterAll(async () => {
    for (const proxy of proxies) await proxy[Symbol.asyncDispose]();
    for (const node of nodes.reverse()) await node.stop();
  });
  beforeEach((context) => context.skip(!nodes[0]!.clusters, 'no clusters with a Docker engine'));

  it.each(LEGACY)('$row: is declared and filled at the node that will be lost', async (legacy) => {
    await using raw = await home();
    const name = /^queue\.declare-ok (.+) 0 0$/.exec(await raw.ask(declareOf(legacy)))![1]!;
    queues.set(legacy.row, name);
    expect(await raw.ask(confirmSelect(1))).toBe('confirm.select-ok');
    expect(await raw.ask(basicPublish(1, name, 'kept'))).toBe('basic.ack 1');
  });

  it('8.5, 2.5 consumers elsewhere go on when that node is killed, and its clients are told', async () => {
    const lost = nodes.at(-1)!;
    await using direct = await client(lost.port);
    const directly = queueDeclare({ name: 'directly', flags: DURABLE });
    expect(await direct.ask(directly)).toBe('queue.declare-ok directly 0 0');
    await using owner = await home();
    expect(await owner.ask(queueDeclare({ name: 'own', flags: EXCLUSIVE }))).toMatch(/^queue\.declare-ok/);
    const name = 'consumed elsewhere';
    expect(await owner.ask(queueDeclare({ name }))).toBe(`queue.declare-ok ${name} 0 0`);
    await using consumer = await elsewhere();
    const consume = basicConsume({ name, tag: 'c', flags: NO_ACK });
    expect(await consumer.ask(consume)).toBe('basic.consume-ok c');
    owner.send(basicPublish(1, name, 'before'));
    expect(await consumer.hear(1)).toMatch(/^basic\.deliver c \d+ 0 before$/);

    await lost.stop();
    nodes.pop();
    expect(await owner.hear(0)).toMatch(/^connection\.close 320 /);
    expect(await direct.hear(0)).toBe('closed');
    await using publisher = await elsewhere();
    expect(await publisher.ask(confirmSelect(1))).toBe('confirm.select-ok');
    expect(await publisher.ask(basicPublish(1, name, 'after'))).toBe('basic.ack 1');
    expect(await consumer.hear(1)).toMatch(/^basic\.deliver c \d+ 0 after$/);
  });

  it.each(LEGACY)(
    '$row: is there at the others, with its message, for whoever declares it',
    async (legacy) => {
      const name = queues.get(legacy.row)!;
      await using raw = await elsewhere();
      const again = legacy.nameless ? queueDeclare({ name, flags: PASSIVE }) : declareOf(legacy);
      expect(await raw.ask(again)).toMatch(/^queue\.declare-ok /);
      expect(await raw.ask(basicConsume({ name, tag: 'c', flags: NO_ACK }))).toBe('basic.consume-ok c');
      expect(await raw.hear(1)).toMatch(/^basic\.deliver c 1 [01] kept$/);
      expect(await raw.ask(basicCancel(1, 'c'))).toBe('basic.cancel-ok c');
    },
  );

  it('6.1 of these, the auto-delete one is gone with its consumer', async () => {
    const gone = async () => {
      await using raw = await elsewhere();
      const name = queues.get('8.4 transient, auto-delete')!;
      return (await raw.ask(queueDeclare({ name, flags: PASSIVE }))).startsWith('channel.close 404 ');
    };
    await expect.poll(gone, { timeout: 8000 }).toBe(true);
  });

  it('8.4 a queue that is new then works, though one of three nodes is missing', async () => {
    await using raw = await elsewhere();
    expect(await raw.ask(queueDeclare({ name: 'new' }))).toBe('queue.declare-ok new 0 0');
    raw.send(basicPublish(1, 'new', 'x'));
    expect(await raw.ask(basicConsume({ name: 'new', tag: 'c', flags: NO_ACK }))).toBe('basic.consume-ok c');
    expect(await raw.hear(1)).toMatch(/^basic\.deliver c 1 0 x$/);
  });

  it('8.3 a durable queue that was declared past the proxy is not to be had, and others are', async () => {
    await using direct = await client(nodes[0]!.port);
    await direct.channels(2);
    // The broker gives up after more than a minute, and answers on other channels in between.
    direct.send(queueDeclare({ name: 'directly', flags: DURABLE }));
    expect(await direct.ask(prefetch(2, 1, false))).toBe('basic.qos-ok');
    expect(await direct.hearWithin(500)).toBeUndefined();

    await using through = await client(proxies[0]!.port);
    await through.channels(2);
    through.send(queueDeclare({ name: 'directly', flags: DURABLE }), prefetch(2, 1, false));
    // The proxy gives up asking after 2 seconds, and its own declare is no equal of what can't be looked at.
    const heard = [await through.hearWithin(10_000), await through.hearWithin(10_000)];
    expect(heard).toContain('basic.qos-ok');
    expect(heard).toContainEqual(expect.stringMatching(/^channel\.close 406 .* 'x-queue-type'/));
  });

  it(`2.5 the name of an exclusive queue of the lost node is ${version === '4.3' ? 'locked, which nothing heals' : 'free'}`, async () => {
    await using raw = await elsewhere();
    expect(await raw.ask(queueDeclare({ name: 'own', flags: EXCLUSIVE }))).toMatch(
      version === '4.3' ? /^channel\.close 405 RESOURCE_LOCKED/ : /^queue\.declare-ok own 0 0$/,
    );
  });
});
