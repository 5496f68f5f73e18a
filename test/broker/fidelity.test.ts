// What no rule concerns passes octet by octet: both sides of the proxy are recorded while real clients work, and compared.
import { join } from 'node:path';
import { type ChannelModel, connect } from 'amqplib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Broker, runClient, startBroker, startClient } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { startTestProxy, type TestProxy } from '../support/peers.ts';
import { HOME } from '../support/processes.ts';
import { difference, methodOf, missing, recorded, Recorder, type Sides } from '../support/recorder.ts';

const QUORUM = { durable: true, arguments: { 'x-queue-type': 'quorum' } };

await describeBrokers(
  ['3.10', '4.0', '4.3'],
  (version) => {
    let broker: Broker;
    let proxy: TestProxy;
    let sides: Sides;

    beforeAll(async () => {
      broker = await startBroker(version);
      const behind = await new Recorder(broker.port).start();
      proxy = await startTestProxy({ backend: `127.0.0.1:${behind.port}` });
      sides = { behind, before: await new Recorder(proxy.port).start() };
    });
    afterAll(async () => {
      await sides?.before[Symbol.asyncDispose]();
      await proxy?.[Symbol.asyncDispose]();
      await sides?.behind[Symbol.asyncDispose]();
      await broker?.stop();
    });

    const url = () => `amqp://guest:guest@127.0.0.1:${sides.before.port}/`;

    const address = () => `amqp://127.0.0.1:${sides.before.port}`;
    const tool = (name: string, ...args: string[]) =>
      runClient('amqp-tools', name, ['-u', address(), ...args]);

    /** Queues that are there already, declared without the proxy. */
    async function existing(...queues: [name: string, options: object][]): Promise<void> {
      const model = await connect(broker.url);
      const channel = await model.createChannel();
      for (const [name, options] of queues) await channel.assertQueue(name, options);
      await model.close();
    }

    /**
     * Fails when an octet of one of the session's connections differs; returns how many octets passed in all.
     * @param connections how many there have to be; undefined where that is not certain.
     */
    async function expectFaithful(
      connections: number | undefined,
      session: () => Promise<void>,
    ): Promise<number> {
      const pairs = await recorded(sides, session);
      expect(pairs).toHaveLength(connections ?? pairs.length);
      for (const { before, behind } of pairs) {
        expect(difference(before.toBroker, behind.toBroker)).toBe('');
        expect(difference(behind.toClient, before.toClient)).toBe('');
      }
      return pairs.reduce((sum, { before }) => sum + before.toBroker.length + before.toClient.length, 0);
    }

    it('amqplib, durable and quorum by itself', async () => {
      const octets = await expectFaithful(1, async () => {
        const model = await connect(url());
        const channel = await model.createConfirmChannel();
        await channel.assertExchange('faithful', 'headers', {
          durable: true,
          arguments: { 'x-any': [1, 2.5, null] },
        });
        await channel.assertQueue('faithful', QUORUM);
        await channel.bindQueue('faithful', 'faithful', '', {
          'x-match': 'any',
          a: { nested: [true, 'text', 7] },
        });
        await channel.prefetch(10);
        let got = 0;
        await channel.consume('faithful', (message) => {
          got++;
          channel.ack(message!);
        });
        const headers = { a: 'ü', big: 2 ** 40, date: { '!': 'timestamp', value: 1_700_000_000 } };
        for (const size of [0, 1, 5000, 400_000]) {
          const body = Buffer.alloc(size, 0xce);
          channel.publish('faithful', '', body, { headers, persistent: true, priority: 3 });
          channel.sendToQueue('faithful', Buffer.alloc(size, 1), { expiration: 60_000 });
        }
        await channel.waitForConfirms();
        await expect.poll(() => got, { timeout: 10_000 }).toBeGreaterThanOrEqual(4);
        channel.publish('', 'nobody', Buffer.from('returned'), { mandatory: true });
        await channel.waitForConfirms();
        await model.close();
      });
      expect(octets).toBeGreaterThan(800_000);
    });

    it('amqplib, several connections at a time on one existing queue', async () => {
      await existing(['crowd', QUORUM]);
      await expectFaithful(5, async () => {
        const models: ChannelModel[] = [];
        for (let i = 0; i < 5; i++) models.push(await connect(url()));
        let got = 0;
        const work = models.map(async (model) => {
          const channel = await model.createConfirmChannel();
          await channel.prefetch(1);
          await channel.consume('crowd', (message) => {
            got++;
            channel.ack(message!);
          });
          for (let i = 0; i < 20; i++) channel.sendToQueue('crowd', Buffer.alloc(1000 * i, i));
          await channel.waitForConfirms();
        });
        await Promise.all(work);
        await expect.poll(() => got, { timeout: 10_000 }).toBe(100);
        await Promise.all(models.map((model) => model.close()));
      });
    });

    it('amqplib, exclusive queues that the broker names', async () => {
      await expectFaithful(1, async () => {
        const model = await connect(url());
        const channel = await model.createChannel();
        for (const options of [{ exclusive: true }, { exclusive: true, durable: false, autoDelete: true }]) {
          const { queue } = await channel.assertQueue('', options);
          expect(queue).toMatch(/^amq\.gen-/);
          await channel.bindQueue('', 'amq.direct', 'key');
          const got = new Promise<string>((resolve) => {
            void channel.consume(queue, (message) => message && resolve(message.content.toString()), {
              noAck: true,
            });
          });
          channel.publish('amq.direct', 'key', Buffer.from('reply'));
          expect(await got).toBe('reply');
          await channel.deleteQueue(queue);
        }
        await model.close();
      });
    });

    it('amqplib, nothing but passive declares, one of them refused', async () => {
      await existing(['there', { durable: true }]);
      await expectFaithful(1, async () => {
        const model = await connect(url());
        const channel = await model.createChannel();
        await channel.checkQueue('there');
        await channel.checkExchange('amq.topic');
        channel.on('error', () => {});
        await expect(channel.checkQueue('not there')).rejects.toThrow('404 (NOT-FOUND)');
        const next = await model.createChannel();
        expect(await next.checkQueue('there')).toMatchObject({ messageCount: 0 });
        await model.close();
      });
    });

    it('pika, durable and quorum by itself, with every type that it has', async () => {
      const octets = await expectFaithful(2, async () => {
        const program = join(HOME, 'test/broker/pika_faithful.py');
        const printed = await runClient('pika', program, [String(sides.before.port), 'pika']);
        expect(JSON.parse(printed)).toEqual({
          returned: ['back'],
          sizes: [0, 1, 4096, 131_064, 131_065, 300_000],
          own: ['kept', null],
          refused: 404,
        });
      });
      expect(octets).toBeGreaterThan(1_100_000);
    });

    it('kombu, durable and quorum by itself', async () => {
      await expectFaithful(2, async () => {
        const program = join(HOME, 'test/broker/kombu_faithful.py');
        const printed = await runClient('kombu', program, [String(sides.before.port), 'kombu', '30']);
        expect(JSON.parse(printed)).toEqual({ topic: 30, simple: 30 });
      });
    });

    it("the C client's tools, on existing queues", async () => {
      await existing(['tools', QUORUM], ['classic tools', { durable: true }]);
      await expectFaithful(8, async () => {
        const large = 'x'.repeat(20_000);
        for (const queue of ['tools', 'classic tools']) {
          await tool('amqp-publish', '-r', queue, '-p', '-C', 'text/plain', '-H', 'key: value', '-b', 'one');
          await tool('amqp-publish', '-r', queue, '-b', large);
          expect(await tool('amqp-consume', '-q', queue, '-p', '1', '-c', '2', 'cat')).toBe(`one${large}`);
        }
        await tool('amqp-publish', '-r', 'tools', '-b', 'last');
        expect(await tool('amqp-get', '-q', 'tools')).toBe('last');
      });
    });

    it("the C client's tools, on an exclusive queue that the broker names", async () => {
      await expectFaithful(undefined, async () => {
        const lines: string[] = [];
        const args = ['-u', address(), '-x', '-e', 'amq.topic', '-r', 'tools.#', '-c', '1', 'cat'];
        const consumer = startClient('amqp-tools', 'amqp-consume', args, (line) => lines.push(line));
        await consumer.waitFor('queue', 20_000, () => lines.find((line) => line.includes('amq.gen-')));
        for (let tries = 0; tries < 50 && !lines.includes('made'); tries++)
          // it may not have bound it yet
          await tool('amqp-publish', '-e', 'amq.topic', '-r', 'tools.made', '-b', 'made\n');
        expect(await consumer.exited).toMatchObject({ code: 0 });
        expect(lines).toContain('made');
      });
    });

    it('what a rule concerns differs, in its own frame alone, and the comparison sees it', async () => {
      const [pair] = await recorded(sides, async () => {
        const model = await connect(url());
        const channel = await model.createConfirmChannel();
        await channel.assertQueue('rewritten', { durable: false });
        channel.sendToQueue('rewritten', Buffer.from('x'));
        await channel.waitForConfirms();
        await model.close();
      });
      const { before, behind } = pair!;
      expect(difference(before.toBroker, behind.toBroker)).toMatch(/^frame \d+ of \d+: .* became /);
      // What the proxy asks on a channel of its own stands between the client's frames.
      const rest = missing(before.toBroker, behind.toBroker);
      expect(rest.map(methodOf)).toEqual(['50.10']);
      expect(missing(before.toClient, behind.toClient)).toEqual([]);
    });
  },
  ['amqp-tools', 'kombu', 'pika'],
);
