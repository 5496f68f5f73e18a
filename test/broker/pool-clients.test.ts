// Clients of other languages and libraries in pool mode: they do what they do through the transparent proxy.
import { join } from 'node:path';
import { connect } from 'amqplib';
import { expect, it } from 'vitest';
import { runClient, startClient } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { FOREIGN_CLIENTS, itServesForeignClients } from '../support/foreign-clients.ts';
import { HOME } from '../support/processes.ts';

const MESSAGES = 200;

await describeBrokers(
  ['4.0', '4.3'],
  (version) => {
    const served = itServesForeignClients(version, ['--mode=pool']);

    const program = (name: string) => join(HOME, `test/broker/${name}.py`);

    /** A counter of the proxy. */
    async function counter(name: string): Promise<number> {
      const metrics = await (await fetch(`${served.proxy.adminUrl}/metrics`)).text();
      return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(metrics)?.[1]);
    }

    it('pika declares as clients of RabbitMQ 3 do, and loses no message', async () => {
      const lines: string[] = [];
      const args = [String(served.proxy.port), 'pika', String(MESSAGES)];
      const client = startClient('pika', program('pika_acceptance'), args, (line) => lines.push(line));
      try {
        await client.waitFor('its messages', 30_000, () => (lines.length > 0 ? true : undefined));
        expect(lines).toEqual([`received ${MESSAGES}`]);
        const { management } = served.broker;
        expect(await management.queue('pika-queue')).toMatchObject({ type: 'quorum', durable: true });
      } finally {
        client.end();
      }
      expect((await client.exited).code).toBe(0);
    });

    it('pika uses what AMQP has: returns, prefetch, an exclusive queue, transactions, a refused declare', async () => {
      const printed = await runClient('pika', program('pika_faithful'), [String(served.proxy.port), 'all']);
      expect(JSON.parse(printed)).toEqual({
        returned: ['back'],
        sizes: [0, 1, 4096, 131_064, 131_065, 300_000],
        own: ['kept', null],
        refused: 404,
      });
    });

    it('kombu works on quorum queues over two connections', async () => {
      const args = [String(served.proxy.port), 'kombu', '30'];
      const printed = await runClient('kombu', program('kombu_faithful'), args);
      expect(JSON.parse(printed)).toEqual({ topic: 30, simple: 30 });
    });

    it('amqplib: connections that come and go share one to the broker', async () => {
      const url = `amqp://guest:guest@127.0.0.1:${served.proxy.port}/`;
      const stays = await connect(url);
      const reading = await stays.createChannel();
      await reading.assertQueue('short', { durable: false });
      const opened = await counter('quorumbridge_proxy_pool_connections_opened_total');
      for (let i = 0; i < 50; i++) {
        const model = await connect(url);
        const channel = await model.createConfirmChannel();
        channel.sendToQueue('short', Buffer.from(String(i)));
        await channel.waitForConfirms();
        await model.close();
      }
      const got: string[] = [];
      await reading.consume('short', (message) => got.push(message!.content.toString()), { noAck: true });
      await expect.poll(() => got.length, { timeout: 10_000 }).toBe(50);
      expect(got).toEqual(Array.from({ length: 50 }, (_, i) => String(i)));
      expect(await counter('quorumbridge_proxy_pool_connections_opened_total')).toBe(opened);
      await stays.close();
    });
  },
  [...FOREIGN_CLIENTS, 'pika'],
);
