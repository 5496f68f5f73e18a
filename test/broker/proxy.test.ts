// The proxy's rules and its transparency against real brokers; each rule's case is named after its row in the table of
// what brokers answered to legacy clients.
import { type Channel, type ChannelModel, connect, type Options } from 'amqplib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import {
  connectPeer,
  frame,
  HEADER,
  method,
  readCloseFrame,
  startTestProxy,
  type TestProxy,
} from '../support/peers.ts';

const QUORUM = { type: 'quorum', durable: true, auto_delete: false, exclusive: false };
const CLASSIC = { type: 'classic', exclusive: true };

/** What a legacy client declares, and what RabbitMQ's management then says of it. */
const QUEUES: [row: string, Options.AssertQueue, expected: object][] = [
  ['1.1 transient', { durable: false }, { ...QUORUM, arguments: { 'x-queue-type': 'quorum' } }],
  [
    '1.2 transient, auto-delete',
    { durable: false, autoDelete: true },
    { ...QUORUM, arguments: { 'x-queue-type': 'quorum', 'x-expires': 1_800_000 } },
  ],
  [
    '1.2 transient, auto-delete, its own x-expires',
    { durable: false, autoDelete: true, expires: 60_000 },
    { ...QUORUM, arguments: { 'x-queue-type': 'quorum', 'x-expires': 60_000 } },
  ],
  ['1.3 exclusive', { durable: false, exclusive: true }, CLASSIC],
  ['1.4 durable, no type', { durable: true }, QUORUM],
  ['1.4 durable, classic', { durable: true, arguments: { 'x-queue-type': 'classic' } }, QUORUM],
  ['1.5 durable, auto-delete', { durable: true, autoDelete: true }, QUORUM],
  ['1.6 durable, quorum', { durable: true, arguments: { 'x-queue-type': 'quorum' } }, QUORUM],
  ['1.7 transient, quorum', { durable: false, arguments: { 'x-queue-type': 'quorum' } }, QUORUM],
  ['1.8 auto-delete, quorum', { autoDelete: true, arguments: { 'x-queue-type': 'quorum' } }, QUORUM],
  [
    '1.10 stream',
    { durable: true, arguments: { 'x-queue-type': 'stream' } },
    { type: 'stream', durable: true },
  ],
  ['1.11 empty type', { durable: false, arguments: { 'x-queue-type': '' } }, QUORUM],
  [
    '4.5 reject-publish-dlx',
    { durable: false, arguments: { 'x-overflow': 'reject-publish-dlx' } },
    {
      ...QUORUM,
      arguments: { 'x-queue-type': 'quorum', 'x-overflow': 'reject-publish' },
    },
  ],
  [
    '4.9 x-max-priority',
    { durable: true, maxPriority: 10 },
    { ...QUORUM, arguments: { 'x-queue-type': 'quorum' } },
  ],
  ['4.10 x-queue-mode', { durable: true, arguments: { 'x-queue-mode': 'lazy' } }, QUORUM],
  ['4.11 x-queue-version', { durable: true, arguments: { 'x-queue-version': 1 } }, QUORUM],
  [
    '4.12 x-queue-master-locator',
    { durable: true, arguments: { 'x-queue-master-locator': 'min-masters' } },
    QUORUM,
  ],
  [
    '4.13 exclusive with x-queue-master-locator',
    { exclusive: true, arguments: { 'x-queue-master-locator': 'min-masters' } },
    CLASSIC,
  ],
  ['4.14 x-ha-policy', { durable: false, arguments: { 'x-ha-policy': 'all' } }, QUORUM],
  [
    '9 reply queue of oslo.messaging',
    { durable: false, expires: 1_800_000 },
    { ...QUORUM, arguments: { 'x-queue-type': 'quorum', 'x-expires': 1_800_000 } },
  ],
];

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  let broker: Broker;
  let proxy: TestProxy;
  let url: string;
  const clients: ChannelModel[] = [];

  beforeAll(async () => {
    broker = await startBroker(version);
    proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
    url = `amqp://guest:guest@127.0.0.1:${proxy.port}/`;
  });
  afterAll(async () => {
    await proxy?.[Symbol.asyncDispose]();
    await broker?.stop();
  });

  async function client(at = url): Promise<ChannelModel> {
    const model = await connect(at);
    clients.push(model);
    return model;
  }

  describe('queue.declare', () => {
    it.each(QUEUES)('%s', async (row, options, expected) => {
      const model = await client();
      const channel = await model.createChannel();
      const name = `row ${row}`;
      await channel.assertQueue(name, options);
      await channel.assertQueue(name, options);
      await channel.checkQueue(name);
      expect(await broker.management.queue(name)).toMatchObject(expected);
      await model.close();
    });

    it('1.4 and 1.1: clients that declare one name durable and transient agree', async () => {
      const model = await client();
      const channel = await model.createChannel();
      await channel.assertQueue('shared', { durable: true });
      await channel.assertQueue('shared', { durable: false });
      await channel.assertQueue('shared', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
      await model.close();
    });

    it('1.17 a reserved name is refused by the broker as ever', async () => {
      const model = await client();
      const channel = await model.createChannel();
      channel.on('error', () => {});
      await expect(channel.assertQueue('amq.mine', { durable: false })).rejects.toThrow(
        "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix",
      );
      await model.close();
    });
  });

  describe('exchange.declare', () => {
    it('7.1 transient becomes durable, and a passive declare finds it', async () => {
      const model = await client();
      const channel = await model.createChannel();
      await channel.assertExchange('seven', 'topic', { durable: false });
      await channel.checkExchange('seven');
      expect(await broker.management.exchange('seven')).toMatchObject({ durable: true, auto_delete: false });
      await model.close();
    });

    it('7.7 auto-delete stays auto-delete: it goes with its last binding', async () => {
      const model = await client();
      const channel = await model.createChannel();
      await channel.assertExchange('fanout', 'fanout', { durable: false, autoDelete: true });
      const { queue } = await channel.assertQueue('', { exclusive: true });
      await channel.bindQueue(queue, 'fanout', '');
      expect(await broker.management.exchange('fanout')).toMatchObject({ durable: true, auto_delete: true });
      await channel.unbindQueue(queue, 'fanout', '');
      channel.on('error', () => {});
      await expect(channel.checkExchange('fanout')).rejects.toThrow('NOT_FOUND');
      await model.close();
    });
  });

  describe('a queue without a name', () => {
    it.each([
      ['1.14 transient', { durable: false }],
      ['1.14 transient, auto-delete', { durable: false, autoDelete: true }],
    ])('%s: is a durable quorum queue under the name that declare-ok tells', async (_row, options) => {
      const model = await client();
      const channel = await model.createConfirmChannel();
      const { queue } = await channel.assertQueue('', options);
      expect(await broker.management.queue(queue)).toMatchObject({
        ...QUORUM,
        arguments: { 'x-expires': 1_800_000 },
      });
      const got = new Promise<string>((resolve) => {
        void channel.consume(queue, (message) => resolve(message!.content.toString()), { noAck: true });
      });
      channel.sendToQueue(queue, Buffer.from('reply'));
      expect(await got).toBe('reply');
      await model.close();
    });

    it('1.21 its empty name means it in what follows on the channel', async () => {
      const model = await client();
      const channel = await model.createChannel();
      const { queue } = await channel.assertQueue('', { durable: false });
      await channel.bindQueue('', 'amq.direct', 'key');
      expect(await channel.purgeQueue('')).toEqual({ messageCount: 0 });
      const { consumerTag } = await channel.consume('', () => {});
      expect((await channel.checkQueue(queue)).consumerCount).toBe(1);
      await channel.cancel(consumerTag);
      await channel.deleteQueue(queue);
      await model.close();
    });

    it('1.13 exclusive: the broker names it as ever', async () => {
      const model = await client();
      const channel = await model.createChannel();
      const { queue } = await channel.assertQueue('', { exclusive: true });
      expect(queue).toMatch(/^amq\.gen-/);
      await channel.deleteQueue(queue);
      await model.close();
    });
  });

  describe('what was declared without the proxy', () => {
    const transientQueues = version !== '4.3'; // which refuses them

    it('7.2 a transient exchange is used as it is, and the log and a counter say so', async () => {
      const direct = await connect(broker.url);
      await (await direct.createChannel()).assertExchange('left behind', 'topic', { durable: false });
      const model = await client();
      const channel = await model.createChannel();
      await channel.assertExchange('left behind', 'topic', { durable: false });
      await channel.assertExchange('left behind', 'topic', { durable: false });
      await channel.assertQueue('bound to it', { durable: false });
      await channel.bindQueue('bound to it', 'left behind', '#');
      expect(await broker.management.exchange('left behind')).toMatchObject({ durable: false });
      const line = proxy
        .log()
        .find(({ msg }) => String(msg).includes("inequivalent arg 'durable' for exchange 'left behind'"));
      expect(line).toMatchObject({ level: 'warn' });
      expect(await proxy.metric('quorumbridge_proxy_meaning_changes_total{change="existing"}')).not.toEqual([
        ' 0',
      ]);
      await model.close();
      await direct.close();
    });

    it.each<[string, Options.AssertQueue, Options.AssertQueue]>([
      ['3.7 a durable classic queue', { durable: true }, { durable: false }],
      ['3.7 a durable classic queue, declared as such', { durable: true }, { durable: true }],
      [
        '3.10 a quorum queue without the expiry that auto-delete gets',
        { durable: true, arguments: { 'x-queue-type': 'quorum' } },
        { durable: false, autoDelete: true },
      ],
      ...(transientQueues
        ? ([['3.8 a transient classic queue', { durable: false }, { durable: false }]] as [
            string,
            object,
            object,
          ][])
        : []),
    ])('%s is used as it is', async (row, direct, legacy) => {
      const name = `existing ${row}`;
      const first = await connect(broker.url);
      const declaring = await first.createConfirmChannel();
      await declaring.assertQueue(name, direct);
      declaring.sendToQueue(name, Buffer.from('kept'));
      await declaring.waitForConfirms();
      const before = await broker.management.queue(name);
      const model = await client();
      const channel = await model.createChannel();
      await channel.assertQueue(name, legacy);
      const got = new Promise<string>((resolve) => {
        void channel.consume(name, (message) => resolve(message!.content.toString()), { noAck: true });
      });
      expect(await got).toBe('kept');
      expect(await broker.management.queue(name)).toMatchObject({
        type: before.type,
        durable: before.durable,
      });
      await model.close();
      await first.close();
    });

    it("3.11, 7.4 what the client itself asks for otherwise is refused as ever, on the client's own channel", async () => {
      const model = await client();
      const channel = await model.createChannel();
      await channel.assertQueue('lifetime', { durable: false, messageTtl: 1000 });
      await channel.assertExchange('kind', 'topic', { durable: false });
      const attempts = [
        (other: Channel) => other.assertQueue('lifetime', { durable: false, messageTtl: 2000 }),
        (other: Channel) => other.assertExchange('kind', 'fanout', { durable: false }),
      ];
      for (const attempt of attempts) {
        const other = await model.createChannel();
        other.on('error', () => {});
        await expect(attempt(other)).rejects.toThrow(/406 .*inequivalent arg '(x-message-ttl|type)'/);
      }
      await channel.checkQueue('lifetime');
      await model.close();
    });

    it('is looked up once for each declare, however often a client repeats itself or does not wait', async () => {
      const model = await client();
      const channel = await model.createChannel();
      const names = Array.from({ length: 20 }, (_, i) => `pipelined ${i}`);
      const declares = [...names, ...names].map((name) => channel.assertQueue(name, { durable: false }));
      channel.sendToQueue(names[0]!, Buffer.from('behind all declares'));
      const answers = await Promise.all(declares);
      expect(answers.map(({ queue }) => queue)).toEqual([...names, ...names]);
      await expect.poll(async () => (await channel.checkQueue(names[0]!)).messageCount).toBe(1);
      await model.close();
    });
  });

  describe('queue.delete', () => {
    it('6.2 if-unused and if-empty: deletes a queue for which they hold', async () => {
      const model = await client();
      const channel = await model.createChannel();
      await channel.assertQueue('to delete', { durable: false });
      expect(await channel.deleteQueue('to delete', { ifUnused: true, ifEmpty: true })).toEqual({
        messageCount: 0,
      });
      expect(await channel.deleteQueue('to delete', { ifUnused: true })).toEqual({ messageCount: 0 });
      await model.close();
    });

    it('6.2 closes the channel as classic queues do where they do not hold, and the connection lives on', async () => {
      const model = await client();
      const channel = await model.createConfirmChannel();
      await channel.assertQueue('in use', { durable: false });
      channel.sendToQueue('in use', Buffer.from('x'));
      await channel.waitForConfirms();
      const attempts: [Options.DeleteQueue, string][] = [
        [{ ifEmpty: true }, "PRECONDITION_FAILED - queue 'in use' in vhost '/' not empty"],
        [{ ifUnused: true }, "PRECONDITION_FAILED - queue 'in use' in vhost '/' in use"],
      ];
      for (const [condition, text] of attempts) {
        const other = await model.createChannel();
        other.on('error', () => {});
        await expect(other.deleteQueue('in use', condition)).rejects.toThrow(text);
        if (condition.ifEmpty === true) await channel.consume('in use', () => {});
      }
      await channel.checkQueue('in use');
      await model.close();
    });
  });

  it('5.3 a prefetch for the whole channel does not end the connection, and each consumer has it', async () => {
    const model = await client();
    const channel = await model.createConfirmChannel();
    await channel.assertQueue('prefetch', { durable: false });
    await channel.prefetch(2, true);
    const held: number[] = [0, 0];
    for (const consumer of [0, 1]) await channel.consume('prefetch', () => held[consumer]!++);
    for (let i = 0; i < 10; i++) channel.sendToQueue('prefetch', Buffer.from('x'));
    await channel.waitForConfirms();
    await expect.poll(() => held, { timeout: 10_000 }).toEqual([2, 2]);
    await model.close();
  });

  it('5.6 a consumer that wants to be cancelled on failover is accepted', async () => {
    const model = await client();
    const channel = await model.createChannel();
    await channel.assertQueue('failover', { durable: false });
    await channel.consume('failover', () => {}, { arguments: { 'x-cancel-on-ha-failover': true } });
    await model.close();
  });

  it('messages of every size come through as they were sent, in order', async () => {
    const model = await client();
    const channel = await model.createConfirmChannel();
    await channel.assertQueue('sizes', { durable: false });
    const sizes = [0, 1, 4096, 131_064, 131_065, 1_000_000, 7];
    const got: Buffer[] = [];
    const all = new Promise<void>((resolve) => {
      void channel.consume(
        'sizes',
        (message) => {
          got.push(message!.content);
          if (got.length === sizes.length) resolve();
        },
        { noAck: true },
      );
    });
    const sent = sizes.map((size) => Buffer.alloc(size, `${size} `));
    for (const body of sent) channel.sendToQueue('sizes', body);
    await channel.waitForConfirms();
    await all;
    expect(got.every((body, i) => body.equals(sent[i]!))).toBe(true);
    await model.close();
  });

  it('8.2 a client with a frame_max of 4096 connects, publishes and gets large messages', async () => {
    const model = await client(`${url}?frameMax=4096`);
    const channel = await model.createConfirmChannel();
    await channel.assertQueue('small frames', { durable: false });
    const sent = [
      Buffer.alloc(300_000, 'abc'),
      Buffer.alloc(4088, 1),
      Buffer.alloc(4089, 2),
      Buffer.alloc(0),
    ];
    const got: Buffer[] = [];
    for (const body of sent) channel.sendToQueue('small frames', body);
    await channel.waitForConfirms();
    await channel.consume('small frames', (message) => got.push(message!.content), { noAck: true });
    await expect.poll(() => got.length, { timeout: 10_000 }).toBe(sent.length);
    expect(got.every((body, i) => body.equals(sent[i]!))).toBe(true);
    await model.close();
  });

  it('8.2 a message header that does not fit such a client ends its connection with the reason', async () => {
    const sender = await client();
    const headers = { large: 'x'.repeat(5000) };
    const publisher = await sender.createConfirmChannel();
    await publisher.assertQueue('large headers', { durable: false });
    publisher.sendToQueue('large headers', Buffer.from('x'), { headers });
    await publisher.waitForConfirms();
    const model = await client(`${url}?frameMax=4096`);
    const failed = new Promise<Error>((resolve) => model.on('error', resolve));
    const channel = await model.createChannel();
    channel.on('error', () => {});
    void channel.consume('large headers', () => {}).catch(() => {});
    expect((await failed).message).toMatch(
      /501 .*content header of \d+ octets doesn't fit the client's frame_max of 4096/,
    );
    await sender.close();
  });

  it('a frame of 8 octets more than frame_max is taken, as the broker takes it', async () => {
    const model = await client();
    const channel = await model.createChannel();
    await channel.assertQueue('fudge', { durable: false });
    const size = 131_072;
    const header = Buffer.alloc(14);
    header.writeUInt16BE(60, 0);
    header.writeBigUInt64BE(BigInt(size), 4);
    const { stream } = (model as unknown as { connection: { stream: { write(octets: Buffer): void } } })
      .connection;
    const publish = method(1, 60, 40, Buffer.from('\0\0\0\x05fudge\0', 'latin1'));
    stream.write(Buffer.concat([publish, frame(2, 1, header), frame(3, 1, Buffer.alloc(size, 7))]));
    await expect
      .poll(async () => (await channel.get('fudge', { noAck: true })) !== false, { timeout: 10_000 })
      .toBe(true);
    await model.close();
  });

  it('a refused login is told as the broker tells it', async () => {
    await expect(connect(`amqp://guest:wrong@127.0.0.1:${proxy.port}/`)).rejects.toThrow(
      /403|ACCESS.REFUSED/,
    );
  });

  it("a client's crash frees its exclusive queue at once", async () => {
    const crashing = await client();
    const channel = await crashing.createChannel();
    await channel.assertQueue('mine', { exclusive: true });
    crashing.on('error', () => {});
    (
      crashing as unknown as { connection: { stream: { resetAndDestroy(): void } } }
    ).connection.stream.resetAndDestroy();
    await expect
      .poll(async () => {
        const next = await connect(url);
        try {
          const attempt = await next.createChannel();
          attempt.on('error', () => {});
          await attempt.assertQueue('mine', { exclusive: true });
          return 'free';
        } catch (error) {
          return (error as Error).message;
        } finally {
          await next.close();
        }
      })
      .toBe('free');
  });

  it('a malformed frame ends that connection alone, and the broker sees an orderly end', async () => {
    const other = await client();
    const bad = await connectPeer(proxy.port);
    bad.write(HEADER);
    await bad.frame();
    bad.write(frame(9, 0, Buffer.alloc(0)));
    expect(readCloseFrame(await bad.frame()).code).toBe(501);
    bad.socket.destroy();
    const channel = await other.createChannel();
    await channel.assertQueue('still here', { durable: false });
    await other.close();
  });
});

await describeBrokers(['4.3'], (version) => {
  it('8.2 without the proxy a client with a frame_max of 4096 is refused', async () => {
    await using broker = await startBroker(version);
    await expect(connect(`${broker.url}?frameMax=4096`)).rejects.toThrow(/closed|ECONNRESET/);
  });
});

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  it('PROXY v2: the broker knows each client by its own address, and health checks do not disturb it', async () => {
    await using broker = await startBroker(version, { advanced: '[{rabbit,[{proxy_protocol,true}]}].\n' });
    await using proxy = await startTestProxy({
      backend: `127.0.0.1:${broker.port}`,
      backendProxyProtocol: 'v2',
    });
    const admin = `http://127.0.0.1:${proxy.proxy.adminAddress.port}`;
    expect((await fetch(`${admin}/readyz`)).status).toBe(200);
    const model = await connect(`amqp://guest:guest@127.0.0.1:${proxy.port}/`);
    const { localPort } = (model as unknown as { connection: { stream: { localPort: number } } }).connection
      .stream;
    await expect
      .poll(
        async () => (await broker.ctl('-q', 'list_connections', 'peer_port')).includes(String(localPort)),
        {
          timeout: 10_000,
        },
      )
      .toBe(true);
    await model.close();
  });

  it('a broker that is killed: its clients get 320, and the proxy says that it is not ready', async () => {
    const broker = await startBroker(version);
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
    const model = await connect(`amqp://guest:guest@127.0.0.1:${proxy.port}/`);
    const failed = new Promise<Error>((resolve) => model.on('error', resolve).on('close', resolve));
    await broker.stop();
    expect((await failed).message).toContain('CONNECTION_FORCED');
    const admin = `http://127.0.0.1:${proxy.proxy.adminAddress.port}`;
    await expect.poll(async () => (await fetch(`${admin}/readyz`)).status, { timeout: 10_000 }).toBe(503);
  });
});
