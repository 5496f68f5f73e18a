// What the project began with: a named, auto-delete, non-durable queue and a non-durable exchange, declared through the
// proxy, are a durable quorum queue and a durable exchange on RabbitMQ 4 - whatever the client is written in.
import { join } from 'node:path';
import { connect } from 'amqplib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startClient, startBroker } from '../support/broker.ts';
import type { Broker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { HOME } from '../support/processes.ts';
import { startProxyProcess } from '../support/service.ts';
import type { ProxyProcess } from '../support/service.ts';

const MESSAGES = 200;

await describeBrokers(
  ['4.0', '4.3'],
  (version) => {
    let broker: Broker;
    let proxy: ProxyProcess;
    beforeAll(async () => {
      broker = await startBroker(version);
      proxy = await startProxyProcess(broker.port);
    });
    afterAll(async () => {
      await proxy?.stop();
      await broker?.stop();
    });

    async function expectConverted(prefix: string): Promise<void> {
      expect(await broker.management.queue(`${prefix}-queue`)).toMatchObject({
        type: 'quorum',
        durable: true,
        auto_delete: false,
        exclusive: false,
      });
      expect(await broker.management.exchange(`${prefix}-exchange`)).toMatchObject({
        type: 'topic',
        durable: true,
        auto_delete: false,
      });
    }

    it("amqplib's queue is quorum and durable, its exchange durable, and no message is lost", async () => {
      const client = await connect(`amqp://guest:guest@127.0.0.1:${proxy.port}/`);
      const channel = await client.createConfirmChannel();
      await channel.assertExchange('amqplib-exchange', 'topic', { durable: false });
      await channel.assertQueue('amqplib-queue', { durable: false, autoDelete: true });
      await channel.bindQueue('amqplib-queue', 'amqplib-exchange', 'key');
      const received: string[] = [];
      const all = new Promise<void>((resolve) => {
        void channel.consume('amqplib-queue', (message) => {
          received.push(message!.content.toString());
          channel.ack(message!);
          if (received.length === MESSAGES) resolve();
        });
      });
      const sent = Array.from({ length: MESSAGES }, (_, number) => String(number));
      for (const text of sent) channel.publish('amqplib-exchange', 'key', Buffer.from(text));
      await channel.waitForConfirms();
      await all;
      expect(received).toEqual(sent);
      await expectConverted('amqplib');
      await client.close();
    });

    it("pika's queue is quorum and durable, its exchange durable, and no message is lost", async () => {
      const program = join(HOME, 'test/broker/pika_acceptance.py');
      const lines: string[] = [];
      const args = [String(proxy.port), 'pika', String(MESSAGES)];
      const client = startClient('pika', program, args, (line) => lines.push(line));
      try {
        await client.waitFor('its messages', 30_000, () => (lines.length > 0 ? true : undefined));
        expect(lines).toEqual([`received ${MESSAGES}`]);
        await expectConverted('pika');
      } finally {
        client.end();
      }
      expect((await client.exited).code).toBe(0);
    });

    it('their queues were auto-delete: they are gone with their last consumers, and the exchanges stay', async () => {
      await expect.poll(() => broker.management.queues(), { timeout: 10_000 }).toEqual([]);
      for (const name of ['amqplib-exchange', 'pika-exchange'])
        expect(await broker.management.exchange(name)).toMatchObject({ durable: true });
    });

    it('counts what it rewrote, and ends with 0 on SIGTERM', async () => {
      const metrics = await (await fetch(`${proxy.adminUrl}/metrics`)).text();
      expect(metrics).toContain('quorumbridge_proxy_rewrites_total{method="queue.declare"} 2\n');
      expect(metrics).toContain('quorumbridge_proxy_rewrites_total{method="exchange.declare"} 2\n');
      expect(await proxy.stop()).toBe(0);
    });
  },
  ['pika'],
);
