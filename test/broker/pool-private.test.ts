// What belongs to one client in pool mode: exclusive queues, returns, heartbeats, its share of the pool; and what the broker
// says to all who publish.
import { expect, it } from 'vitest';
import { basicConsume, frame, method, queueDeclare, shortstr } from '../support/amqp-frames.ts';
import { basicCancel, basicGet, basicPublish, channelClose, confirmSelect } from '../support/amqp-methods.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { usePooledBroker } from '../support/pooled-broker.ts';
import { counted } from '../support/proxied-broker.ts';
import { RawClient } from '../support/raw-client.ts';
import { Bystander, quorumQueue, SEEN_MS } from '../support/shared-upstream.ts';

const PASSIVE = 1;
const EXCLUSIVE = 4;
const AUTO_DELETE = 8;
const METRIC = 'quorumbridge_proxy_pool_';
const HEARTBEAT = frame(8, 0, Buffer.alloc(0));

const passively = (channel: number, name: string): Buffer => queueDeclare({ channel, name, flags: PASSIVE });
const exclusively = (channel: number, name: string): Buffer =>
  queueDeclare({ channel, name, flags: EXCLUSIVE });

/** basic.publish with the mandatory flag, to a queue that is not there, with a body. */
function unroutable(channel: number, body: string): Buffer {
  const args = [Buffer.alloc(2), shortstr(''), shortstr('nobody'), Buffer.of(1)];
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60, 0);
  header.writeBigUInt64BE(BigInt(body.length), 4);
  return Buffer.concat([
    method(channel, 60, 40, Buffer.concat(args)),
    frame(2, channel, header),
    frame(3, channel, Buffer.from(body)),
  ]);
}

const sleep = async (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

await describeBrokers(['4.0', '4.3'], (version) => {
  const served = usePooledBroker(version, false);

  it('an exclusive queue belongs to one client alone, over all of its channels, and goes with it', async () => {
    await using pooled = await served.pool('exclusive');
    const { virtualHost } = pooled.upstream;
    await using bystander = await Bystander.start(pooled.proxy.port, 'bystander', { virtualHost });
    const shared = await pooled.upstream.only();
    await using other = await pooled.client([1, 2]);
    const owner = await pooled.client([1, 2]);
    for (const channel of [1, 2]) {
      expect(await owner.ask(passively(channel, 'bystander'))).toMatch(/^queue\.declare-ok/);
      expect(await other.ask(passively(channel, 'bystander'))).toMatch(/^queue\.declare-ok/);
    }
    expect(await pooled.upstream.connections()).toEqual([shared]);

    expect(await owner.ask(exclusively(1, 'mine'))).toBe('queue.declare-ok mine 0 0');
    await expect.poll(pooled.upstream.connections, { timeout: SEEN_MS }).toHaveLength(2);
    expect(await pooled.upstream.connections()).toContain(shared);
    expect(await owner.ask(basicConsume({ channel: 1, name: 'mine', tag: 'own' }))).toBe(
      'basic.consume-ok own',
    );
    owner.send(basicPublish(2, 'mine', 'over channel 2'));
    expect(await owner.hear(1)).toBe('basic.deliver own 1 0 over channel 2');
    await owner.channels(3);
    expect(await owner.ask(passively(3, 'mine'))).toBe('queue.declare-ok mine 0 1');
    const queue = (await owner.ask(exclusively(2, ''))).split(' ')[1]!;
    expect(queue).toMatch(/^amq\.gen-/);
    owner.send(basicPublish(3, queue, 'for a reply'));
    await expect.poll(async () => owner.ask(basicGet(2, queue))).toMatch(/^basic\.get-ok 1 0 for a reply$/);

    // Others are told what the broker tells them, on that channel alone.
    await using direct = await RawClient.connect(served.broker.port, { virtualHost });
    await direct.channels(1);
    const told = await direct.ask(passively(1, 'mine'));
    expect(told).toMatch(/^channel\.close 405 RESOURCE_LOCKED - /);
    expect(await other.ask(passively(1, 'mine'))).toBe(told);
    expect(await other.ask(passively(2, 'bystander'))).toMatch(/^queue\.declare-ok/);
    await bystander.goesOn();

    owner.reset();
    await expect
      .poll(async () => {
        await using asking = await pooled.client();
        return await asking.ask(passively(1, 'mine'));
      })
      .toMatch(/^channel\.close 404 /);
    await expect.poll(pooled.upstream.connections, { timeout: SEEN_MS }).toEqual([shared]);
    await bystander.goesOn();
  });

  it('who is alone on a connection keeps it for an exclusive queue, and others come to another one', async () => {
    await using pooled = await served.pool('alone');
    await using owner = await pooled.client([1], { name: 'owner' });
    expect(await owner.ask(quorumQueue(1, 'q'))).toBe('queue.declare-ok q 0 0');
    expect(await owner.ask(exclusively(1, 'mine'))).toBe('queue.declare-ok mine 0 0');
    const own = await pooled.upstream.only();
    await using other = await pooled.client([1], { name: 'other' });
    expect(await other.ask(passively(1, 'mine'))).toMatch(/^channel\.close 405 RESOURCE_LOCKED - /);
    await expect.poll(pooled.upstream.connections, { timeout: SEEN_MS }).toHaveLength(2);
    expect(await pooled.upstream.connections()).toContain(own);
    expect(await counted(pooled.proxy, `${METRIC}connections{kind="private"}`)).toBe(1);
    await owner.close();
    await using later = await pooled.client();
    expect(await later.ask(passively(1, 'mine'))).toMatch(/^channel\.close 404 /);
  });

  it('a client that cannot be moved is told so, and may declare exclusive queues when it connects again', async () => {
    await using pooled = await served.pool('unmovable');
    const { virtualHost } = pooled.upstream;
    await using bystander = await Bystander.start(pooled.proxy.port, 'bystander', { virtualHost });
    const consumes = async (): Promise<RawClient> => {
      const client = await pooled.client([1], { name: 'consumer' });
      expect(await client.ask(quorumQueue(1, 'q'))).toMatch(/^queue\.declare-ok q /);
      expect(await client.ask(basicConsume({ name: 'q', tag: 'c' }))).toBe('basic.consume-ok c');
      return client;
    };
    await using first = await consumes();
    expect(await first.ask(exclusively(1, 'mine'))).toMatch(/^connection\.close 320 CONNECTION_FORCED - /);
    await bystander.goesOn();
    await using again = await consumes();
    expect(await again.ask(exclusively(1, 'mine'))).toBe('queue.declare-ok mine 0 0');
    again.send(basicPublish(1, 'q', 'x'));
    expect(await again.hear(1)).toBe('basic.deliver c 1 0 x');
    await bystander.goesOn();
  });

  it('what cannot be routed comes back to whom it came from', async () => {
    await using pooled = await served.pool('returns');
    const clients = [await pooled.client(), await pooled.client(), await pooled.client()];
    const numbers = Array.from({ length: 50 }, (_, i) => i);
    for (const number of numbers)
      for (const [i, client] of clients.entries()) client.send(unroutable(1, `${i} ${number}`));
    for (const [i, client] of clients.entries()) {
      const heard: string[] = [];
      while (heard.length < numbers.length) heard.push(await client.hear(1));
      expect(heard).toEqual(numbers.map((number) => `basic.return 312 NO_ROUTE ${i} ${number}`));
    }
    expect(await pooled.upstream.only()).not.toBe('');
    // Also when the channel is closed behind it, and somebody else has the broker's channel then.
    for (const [i, client] of clients.entries()) {
      client.send(unroutable(1, `last of ${i}`), channelClose(1));
      expect(await client.hear(1)).toBe(`basic.return 312 NO_ROUTE last of ${i}`);
      expect(await client.hear(1)).toBe('channel.close-ok');
    }
    for (const client of clients) {
      expect(await client.hearWithin(50)).toBe(undefined);
      await client.close();
    }
  });

  it('who publishes is told that the broker is blocked, and goes on when it is not', async () => {
    await using pooled = await served.pool('blocked');
    const { virtualHost } = pooled.upstream;
    await using direct = await RawClient.connect(served.broker.port, { virtualHost });
    await direct.channels(1);
    await using publisher = await pooled.client();
    await using consumer = await pooled.client();
    for (const client of [direct, publisher])
      expect(await client.ask(confirmSelect(1))).toBe('confirm.select-ok');
    expect(await publisher.ask(quorumQueue(1, 'q'))).toBe('queue.declare-ok q 0 0');
    expect(await consumer.ask(basicConsume({ name: 'q', tag: 'c' }))).toBe('basic.consume-ok c');
    await served.broker.ctl('set_vm_memory_high_watermark', '0.0000001');
    try {
      for (const client of [direct, publisher]) client.send(basicPublish(1, 'q', 'x'));
      const told = await direct.hear();
      expect(told).toBe('connection.blocked low on memory');
      expect(await publisher.hear()).toBe(told);
      expect(await consumer.hearWithin(500)).toBe(undefined);
    } finally {
      await served.broker.ctl('set_vm_memory_high_watermark', '0.6');
    }
    for (const client of [direct, publisher]) {
      const heard = [await client.hear(), await client.hear()];
      expect(heard.toSorted()).toEqual(['basic.ack 1', 'connection.unblocked']);
    }
    expect(await publisher.ask(basicPublish(1, 'q', 'y'))).toBe('basic.ack 2');
  });

  it('a client has the heartbeats that it agreed to', async () => {
    await using pooled = await served.pool('heartbeats', { upstreamHeartbeat: '0' });
    await using silent = await pooled.client([1], { heartbeat: 1 });
    await using without = await pooled.client([1], { heartbeat: 0 });
    await using lively = await pooled.client([1], { heartbeat: 1 });
    const began = Date.now();
    const beating = setInterval(() => lively.send(HEARTBEAT), 500);
    try {
      expect(await silent.hearWithin(8000)).toBe('closed');
      expect(Date.now() - began).toBeGreaterThan(1500);
      expect(Date.now() - began).toBeLessThan(4500);
      expect(silent.heartbeats).toBeGreaterThanOrEqual(1);
      await lively.overhears(3000);
      expect(lively.heartbeats).toBeGreaterThanOrEqual(4);
      for (const client of [lively, without])
        expect(await client.ask(quorumQueue(1, 'q'))).toMatch(/^queue\.declare-ok q/);
      expect(without.heartbeats).toBe(0);
    } finally {
      clearInterval(beating);
    }
  });

  it('waits for a channel at the broker end with 506, or when one becomes free', async () => {
    await using pooled = await served.pool('exhausted', {
      maxUpstreamConnections: '1',
      maxChannelsPerConnection: '2',
      poolWaitTimeout: '1',
    });
    const { virtualHost } = pooled.upstream;
    await using bystander = await Bystander.start(pooled.proxy.port, 'bystander', { virtualHost });
    await using late = await pooled.client();
    const began = Date.now();
    late.send(basicPublish(1, 'bystander', 'x'));
    expect(await late.hear(1)).toMatch(/^(connection|channel)\.close 506 RESOURCE_ERROR - .*1 s/);
    expect(Date.now() - began).toBeGreaterThan(900);
    expect(Date.now() - began).toBeLessThan(3000);
    // Another virtual host would need another connection.
    await expect(RawClient.connect(pooled.proxy.port)).rejects.toThrow(
      /connection\.close 506 RESOURCE_ERROR/,
    );
    await bystander.goesOn();

    await using patient = await pooled.client();
    const answer = patient.ask(passively(1, 'bystander'));
    await sleep(300);
    expect(await counted(pooled.proxy, `${METRIC}waiting`)).toBe(1);
    await bystander[Symbol.asyncDispose]();
    expect(await answer).toMatch(/^queue\.declare-ok bystander/);
    expect(await counted(pooled.proxy, `${METRIC}wait_timeouts_total`)).toBeGreaterThanOrEqual(1);
  });

  it('what RabbitMQ 4 refuses is rewritten', async () => {
    await using pooled = await served.pool('legacy');
    await using client = await pooled.client([1, 2]);
    await using other = await pooled.client();
    expect(await client.ask(queueDeclare({ name: 'transient' }))).toBe('queue.declare-ok transient 0 0');
    expect(await client.ask(queueDeclare({ name: 'passing', flags: AUTO_DELETE }))).toBe(
      'queue.declare-ok passing 0 0',
    );
    const named = await client.ask(queueDeclare({ name: '' }));
    expect(named).toMatch(/^queue\.declare-ok quorumbridge\.gen-\S+ 0 0$/);
    const management = served.broker.managementOf(pooled.upstream.virtualHost);
    for (const name of ['transient', 'passing'])
      expect(await management.queue(name)).toMatchObject({ type: 'quorum', durable: true, exclusive: false });
    // One that the other client has declared so is declared again.
    expect(await other.ask(queueDeclare({ name: 'transient' }))).toBe('queue.declare-ok transient 0 0');
    await pooled.upstream.only();
    // Auto-delete: gone with its last consumer.
    const consume = basicConsume({ channel: 2, name: 'passing', tag: 'c' });
    expect(await client.ask(consume)).toBe('basic.consume-ok c');
    expect(await client.ask(basicCancel(2, 'c'))).toBe('basic.cancel-ok c');
    const names = async () => (await management.queues()).map(({ name }) => name);
    await expect.poll(names, { timeout: 10_000 }).not.toContain('passing');
    expect(await names()).toContain('transient');
  });
});
