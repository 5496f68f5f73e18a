// Pool mode from the outside: clients share connections to the broker, and each sees a broker of its own.
import { connect, type ConsumeMessage } from 'amqplib';
import { describe, expect, it } from 'vitest';
import { basicConsume, method, queueDeclare, shortstr } from '../support/amqp-frames.ts';
import { basicGet, basicPublish, channelClose, confirmSelect, prefetch } from '../support/amqp-methods.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { type PooledClients, usePooledBroker } from '../support/pooled-broker.ts';
import { counted } from '../support/proxied-broker.ts';
import { RawClient } from '../support/raw-client.ts';
import { quorumQueue, SEEN_MS } from '../support/shared-upstream.ts';

const DURABLE = 2;
const METRIC = 'quorumbridge_proxy_pool_';

/** basic.publish with its content and the mandatory flag. */
function mandatoryPublish(channel: number, key: string, body: string): Buffer {
  const whole = basicPublish(channel, key, body);
  const names = [Buffer.alloc(2), shortstr(''), shortstr(key)];
  const plain = method(channel, 60, 40, Buffer.concat([...names, Buffer.of(0)]));
  const mandatory = method(channel, 60, 40, Buffer.concat([...names, Buffer.of(1)]));
  return Buffer.concat([mandatory, whole.subarray(plain.length)]);
}

/** Publishes, and waits until the broker has done so: an unroutable one behind it comes back. */
async function publishes(
  client: RawClient,
  channel: number,
  key: string,
  ...bodies: string[]
): Promise<void> {
  client.send(
    ...bodies.map((body) => basicPublish(channel, key, body)),
    mandatoryPublish(channel, 'nowhere', 'behind'),
  );
  expect(await client.hear(channel)).toBe('basic.return 312 NO_ROUTE behind');
}

async function closes(client: RawClient, ...channels: number[]): Promise<void> {
  for (const channel of channels) expect(await client.ask(channelClose(channel))).toBe('channel.close-ok');
}

await describeBrokers(['4.0', '4.3'], (version) => {
  describe.each(['plain', 'TLS'] as const)('%s on both sides', (link) => {
    const served = usePooledBroker(version, link === 'TLS');

    async function seen(pooled: PooledClients, connections: number, channels: number): Promise<string[]> {
      const { upstream } = pooled;
      await expect
        .poll(async () => [(await upstream.connections()).length, (await upstream.channels()).length], {
          timeout: SEEN_MS,
        })
        .toEqual([connections, channels]);
      return upstream.connections();
    }

    if (link === 'TLS')
      it('TLS connection', async () => {
        await using pooled = await served.pool('tls');
        await using client = await pooled.client();
        expect(await client.ask(queueDeclare({ flags: DURABLE }))).toBe('queue.declare-ok q 0 0');
        await publishes(client, 1, 'q', 'over TLS');
        expect(await client.ask(basicGet(1, 'q'))).toMatch(/^basic\.get-ok .* over TLS$/);
        const name = await pooled.upstream.only();
        const connections = await served.broker.management.connections();
        expect(connections.find((each) => each.name === name)).toMatchObject({ ssl: true, user: 'guest' });
        // A server that isn't to be trusted is not connected to, on either side.
        const stranger = RawClient.connect(pooled.proxy.port, {
          ...pooled.options,
          tls: { servername: 'localhost' },
        });
        await expect(stranger).rejects.toThrow(/certificate/);
        await using wrong = await served.pool('tls strange', {
          backendTlsServerName: 'rabbit.example.org',
          poolWaitTimeout: '1',
        });
        await expect(wrong.client()).rejects.toThrow(/320 .*ERR_TLS_CERT_ALTNAME_INVALID/);
      });

    if (link === 'TLS')
      it('clients share a connection with those of the same certificate only', async () => {
        await using pooled = await served.pool('certificates');
        const shown = { tls: { ...served.trust, ...served.certificate } };
        const clients = [
          await pooled.client(),
          await pooled.client([1], shown),
          await pooled.client(),
          await pooled.client([1], shown),
        ];
        for (const client of clients)
          expect(await client.ask(quorumQueue(1, 'q'))).toMatch(/^queue\.declare-ok q/);
        await seen(pooled, 2, 4);
        expect(await pooled.upstream.channels()).toEqual([1, 1, 2, 2]);
        for (const client of clients) await client.close();
      });

    it('connection multiplexing', async () => {
      await using pooled = await served.pool('multiplexing');
      const clients = [await pooled.client(), await pooled.client(), await pooled.client()];
      for (const [i, client] of clients.entries()) {
        const name = `q${i}`;
        expect(await client.ask(quorumQueue(1, name))).toBe(`queue.declare-ok ${name} 0 0`);
        expect(await client.ask(confirmSelect(1))).toBe('confirm.select-ok');
        expect(await client.ask(basicPublish(1, name, `of ${i}`))).toBe('basic.ack 1');
      }
      await seen(pooled, 1, 3);
      expect(await counted(pooled.proxy, `${METRIC}connections{kind="shared"}`)).toBe(1);
      expect(await counted(pooled.proxy, `${METRIC}connections_opened_total`)).toBe(1);
      expect(await counted(pooled.proxy, 'quorumbridge_proxy_connections_active')).toBe(3);
      for (const [i, client] of clients.entries()) {
        expect(await client.ask(basicGet(1, `q${i}`))).toBe(`basic.get-ok 1 0 of ${i}`);
        await client.close();
      }
      await seen(pooled, 1, 0);
    });

    it('safe channel reuse', async () => {
      await using pooled = await served.pool('reuse');
      const { upstream, proxy } = pooled;
      await using maker = await pooled.client();
      expect(await maker.ask(quorumQueue(1, 'q'))).toBe('queue.declare-ok q 0 0');
      await closes(maker, 1);
      const first = await pooled.client();
      await publishes(first, 1, 'q', 'a');
      const before = await upstream.processes();
      expect(before).toHaveLength(1);
      const opened = await counted(proxy, `${METRIC}channels_opened_total`);
      await closes(first, 1);
      // The same client on another number, and others, whose connections come and go.
      await first.channels(7);
      await publishes(first, 7, 'q', 'b', 'c');
      await first.close();
      for (const body of ['d', 'e']) {
        const next = await pooled.client([3]);
        await publishes(next, 3, 'q', body);
        expect(await upstream.processes()).toEqual(before);
        await next.close();
      }
      await using last = await pooled.client();
      for (const body of ['a', 'b', 'c', 'd', 'e'])
        expect(await last.ask(basicGet(1, 'q'))).toMatch(new RegExp(`^basic\\.get-ok \\d+ 0 ${body}$`));
      await seen(pooled, 1, 1);
      expect(await upstream.processes()).toEqual(before);
      expect(await counted(proxy, `${METRIC}channels_opened_total`)).toBe(opened);
      expect(await counted(proxy, `${METRIC}channels_reused_total`)).toBeGreaterThanOrEqual(4);
      expect(await counted(proxy, `${METRIC}connections_opened_total`)).toBe(1);
    });

    it('unsafe channel isolation', async () => {
      await using pooled = await served.pool('isolation');
      const { upstream } = pooled;
      const ask = async (client: RawClient, octets: Buffer, answer: string) =>
        expect(await client.ask(octets)).toBe(answer);
      /** What leaves state behind on channel 1, and what of it is in the queue of that name afterwards. */
      const states: [name: string, leave: (client: RawClient) => Promise<void>, kept: string[]][] = [
        ['confirms', async (client) => ask(client, confirmSelect(1), 'confirm.select-ok'), []],
        ['prefetch', async (client) => ask(client, prefetch(1, 1, false), 'basic.qos-ok'), []],
        [
          'consumer',
          async (client) => {
            const consume = basicConsume({ name: 'consumer', tag: 'left' });
            await ask(client, consume, 'basic.consume-ok left');
          },
          [],
        ],
        [
          'transaction',
          async (client) => {
            await ask(client, method(1, 90, 10), 'tx.select-ok');
            client.send(basicPublish(1, 'transaction', 'never committed'));
          },
          [],
        ],
        [
          'unacknowledged',
          async (client) => {
            await publishes(client, 1, 'unacknowledged', 'kept');
            await ask(client, basicGet(1, 'unacknowledged', false), 'basic.get-ok 1 0 kept');
          },
          ['1 kept'],
        ],
      ];
      const clients: RawClient[] = [];
      for (const [name] of states) {
        const client = await pooled.client([1, 2]);
        await ask(client, quorumQueue(2, name), `queue.declare-ok ${name} 0 0`);
        await closes(client, 2);
        await publishes(client, 1, 'nobody', 'so that it has a channel');
        clients.push(client);
      }
      const used = await upstream.processes();
      expect(used).toHaveLength(states.length);
      for (const [i, [, leave]] of states.entries()) {
        const client = clients[i]!;
        await leave(client);
        if (i % 2 === 0) client.send(channelClose(1));
        else client.reset();
      }
      const others: RawClient[] = [];
      for (const [name, , kept] of states) {
        const other = await pooled.client([1, 2]);
        others.push(other);
        await publishes(other, 1, name, 'after it');
        const found: string[] = [];
        await expect
          .poll(async () => {
            const answer = await other.ask(basicGet(2, name));
            if (answer !== 'basic.get-empty') found.push(answer.replace(/^basic\.get-ok \d+ /, ''));
            return found.toSorted();
          })
          .toEqual(['0 after it', ...kept]);
        // No confirm, no delivery of another's, no transaction, no prefetch.
        expect(await other.hearWithin(100)).toBe(undefined);
        for (const body of ['1', '2', '3']) other.send(basicPublish(2, name, body));
        await ask(other, basicConsume({ channel: 1, name, tag: 'own' }), 'basic.consume-ok own');
        for (const [i, body] of ['1', '2', '3'].entries())
          expect(await other.hear(1)).toBe(`basic.deliver own ${i + 1} 0 ${body}`);
      }
      const now = await upstream.processes();
      expect(now.filter((process) => used.includes(process))).toEqual([]);
      expect(await counted(pooled.proxy, `${METRIC}connections_opened_total`)).toBe(1);
      for (const client of [...clients, ...others]) await client[Symbol.asyncDispose]();
    });

    it('half a publish of a client that goes leaves nothing behind', async () => {
      await using pooled = await served.pool('half');
      await using other = await pooled.client();
      expect(await other.ask(quorumQueue(1, 'q'))).toBe('queue.declare-ok q 0 0');
      const whole = basicPublish(1, 'q', 'x'.repeat(20_000));
      for (const length of [5, 20, 40, 60, 200, 19_000]) {
        const client = await pooled.client();
        client.send(basicPublish(1, 'q', `before ${length}`), whole.subarray(0, length));
        await expect
          .poll(async () => other.ask(basicGet(1, 'q')))
          .toMatch(new RegExp(`^basic\\.get-ok \\d+ 0 before ${length}$`));
        client.reset();
        await using next = await pooled.client();
        await publishes(next, 1, 'q', `after ${length}`);
        expect(await other.ask(basicGet(1, 'q'))).toMatch(
          new RegExp(`^basic\\.get-ok \\d+ 0 after ${length}$`),
        );
      }
      expect(await counted(pooled.proxy, `${METRIC}connections_opened_total`)).toBe(1);
    });

    it('channel remapping', async () => {
      await using pooled = await served.pool('remapping');
      const { upstream } = pooled;
      await using left = await pooled.client([1, 7, 2046]);
      await using right = await pooled.client([1, 300]);
      for (const [client, name, channel] of [
        [left, 'left 1', 1],
        [left, 'left 7', 7],
        [left, 'left 2046', 2046],
        [right, 'right 1', 1],
        [right, 'right 300', 300],
      ] as const) {
        expect(await client.ask(quorumQueue(channel, name))).toBe(`queue.declare-ok ${name} 0 0`);
        expect(await client.ask(confirmSelect(channel))).toBe('confirm.select-ok');
        expect(await client.ask(basicConsume({ channel, name, tag: 'same' }))).toBe('basic.consume-ok same');
        expect(await client.ask(basicPublish(channel, name, 'x'))).toMatch(
          /^basic\.(ack 1|deliver same 1 0 x)$/,
        );
        expect(await client.hear(channel)).toMatch(/^basic\.(ack 1|deliver same 1 0 x)$/);
      }
      await seen(pooled, 1, 5);
      expect(await upstream.channels()).toEqual([1, 2, 3, 4, 5]);
      // Each message comes on the number of its own client.
      right.send(basicPublish(300, 'left 2046', 'to the left'));
      left.send(basicPublish(7, 'right 1', 'to the right'));
      expect((await left.hears(2)).sort()).toEqual([
        '2046 basic.deliver same 2 0 to the left',
        '7 basic.ack 2',
      ]);
      expect((await right.hears(2)).sort()).toEqual([
        '1 basic.deliver same 2 0 to the right',
        '300 basic.ack 2',
      ]);
      // Closing one's channel 1 leaves the other's.
      await closes(left, 1);
      expect(await right.ask(basicPublish(1, 'nowhere', 'x'))).toBe('basic.ack 2');
      expect(await left.hearWithin(200)).toBe(undefined);
    });

    it('idle timeout', async () => {
      await using pooled = await served.pool('idle', { poolIdleTimeout: '1.5' });
      const { upstream, proxy } = pooled;
      await using stays = await pooled.client();
      expect(await stays.ask(quorumQueue(1, 'q'))).toBe('queue.declare-ok q 0 0');
      const [name] = await seen(pooled, 1, 1);
      // A channel that is used keeps the connection, however long nothing comes.
      await new Promise((resolve) => setTimeout(resolve, 3000));
      expect(await upstream.connections()).toEqual([name]);
      expect(await stays.ask(basicGet(1, 'q'))).toBe('basic.get-empty');
      await stays.close();
      const left = Date.now();
      await expect.poll(upstream.connections, { timeout: SEEN_MS }).toEqual([]);
      expect(Date.now() - left).toBeGreaterThan(1000);
      expect(await counted(proxy, `${METRIC}connections{kind="shared"}`)).toBe(0);
      // Whoever comes then gets a new one.
      await using later = await pooled.client();
      await publishes(later, 1, 'q', 'later');
      const [next] = await seen(pooled, 1, 1);
      expect(next).not.toBe(name);
    });

    it('end-to-end message', async () => {
      await using pooled = await served.pool('end to end');
      const open = async () => connect(pooled.url, link === 'TLS' ? served.trust : {});
      const [publisher, consumer] = [await open(), await open()];
      const publishing = await publisher.createConfirmChannel();
      const consuming = await consumer.createChannel();
      await publishing.assertExchange('x', 'headers', { durable: true });
      await publishing.assertQueue('q', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
      await publishing.bindQueue('q', 'x', '', { 'x-match': 'all', wanted: true });
      const got: ConsumeMessage[] = [];
      await consuming.consume('q', (message) => {
        got.push(message!);
        consuming.ack(message!);
      });
      const properties = {
        contentType: 'text/plain',
        contentEncoding: 'identity',
        headers: { wanted: true, nested: { list: [1, 'two', null], big: 2 ** 40 }, text: 'grün' },
        deliveryMode: 2,
        priority: 4,
        correlationId: 'c',
        replyTo: 'r',
        expiration: '60000',
        messageId: 'm',
        timestamp: 1_700_000_000,
        type: 't',
        userId: 'guest',
        appId: 'a',
      };
      const bodies = [0, 1, 4096, 131_064, 131_065, 1_500_000, 7].map((size, i) =>
        Buffer.alloc(size, 0xce - i),
      );
      for (const body of bodies) publishing.publish('x', 'key', body, properties);
      publishing.publish('x', 'key', Buffer.from('not bound'), { headers: { wanted: false } });
      await publishing.waitForConfirms();
      await expect.poll(() => got.length, { timeout: 20_000 }).toBe(bodies.length);
      for (const [i, message] of got.entries()) {
        expect(message.content.equals(bodies[i]!)).toBe(true);
        expect(message.properties).toMatchObject(properties);
        expect(message.fields).toMatchObject({ exchange: 'x', routingKey: 'key', redelivered: false });
      }
      await seen(pooled, 1, 2);
      await publisher.close();
      await consumer.close();
    });

    it('concurrent operations', async () => {
      await using pooled = await served.pool('concurrent', { maxChannelsPerConnection: '25' });
      const clients = await Promise.all(
        Array.from({ length: 10 }, async () => connect(pooled.url, link === 'TLS' ? served.trust : {})),
      );
      const numbers = Array.from({ length: 30 }, (_, i) => i);
      /** Sends and takes messages on a channel; what came, in order. */
      const work = [
        async (client: (typeof clients)[0], name: string) => {
          const channel = await client.createConfirmChannel();
          await channel.assertQueue(name, { durable: true });
          const got: string[] = [];
          await channel.prefetch(5);
          await channel.consume(name, (message) => {
            got.push(message!.content.toString());
            channel.ack(message!);
          });
          for (const i of numbers) channel.sendToQueue(name, Buffer.from(`${name} ${i}`));
          await channel.waitForConfirms();
          await expect.poll(() => got.length, { timeout: 20_000 }).toBe(numbers.length);
          await channel.close();
          return got;
        },
        async (client: (typeof clients)[0], name: string) => {
          const got: string[] = [];
          for (const i of numbers) {
            const channel = await client.createChannel();
            await channel.assertQueue(name, { durable: true });
            channel.sendToQueue(name, Buffer.from(`${name} ${i}`));
            await expect
              .poll(async () => {
                const message = await channel.get(name, { noAck: true });
                return message !== false && got.push(message.content.toString());
              })
              .toBe(i + 1);
            await channel.close();
          }
          return got;
        },
      ];
      await Promise.all(
        clients.flatMap((client, i) =>
          [...work, ...work].map(async (each, j) => {
            const name = `${i}.${j}`;
            expect(await each(client, name)).toEqual(numbers.map((number) => `${name} ${number}`));
          }),
        ),
      );
      const opened = await counted(pooled.proxy, `${METRIC}connections_opened_total`);
      expect(opened).toBeGreaterThanOrEqual(2);
      expect(opened).toBeLessThanOrEqual(4);
      await Promise.all(clients.map((client) => client.close()));
      // Whose channel carries nothing is told so at once, and the broker a moment later.
      await expect.poll(() => counted(pooled.proxy, `${METRIC}channels{state="used"}`)).toBe(0);
    });
  });
});
