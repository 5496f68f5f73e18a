// A proxy of several processes in front of a real broker: clients of different workers share queues, and one of the processes is
// killed in the middle of it.
import { type Channel, type ChannelModel, connect } from 'amqplib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ConnectionsDocument, PoolDocument } from '../../proxy/admin/documents.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { type ProxyProcess, startProxyProcess } from '../support/service.ts';

const WORKERS = 2;
const MESSAGES = 40;
const PATIENCE = { timeout: 60_000 };

await describeBrokers(['4.3'], (version) => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker(version);
  });
  afterAll(() => broker?.stop());

  describe.each(['transparent', 'pool'])('mode %s', (mode) => {
    let proxy: ProxyProcess;
    const clients: ChannelModel[] = [];

    beforeAll(async () => {
      proxy = await startProxyProcess(broker.port, [
        `--workers=${WORKERS}`,
        `--mode=${mode}`,
        '--drain-timeout=2',
      ]);
    }, 60_000);
    afterAll(() => proxy?.stop());

    const join = async (): Promise<ChannelModel> => {
      const client = await connect(`amqp://127.0.0.1:${proxy.port}`);
      client.on('error', () => {}); // of those whose worker is killed, and at the drain
      clients.push(client);
      return client;
    };
    const read = async (path: string): Promise<unknown> => (await fetch(proxy.adminUrl + path)).json();
    const workersOf = async (): Promise<number[]> => {
      const { connections } = (await read('/connections')) as ConnectionsDocument;
      return connections.map(({ id }) => id % WORKERS).sort((a, b) => a - b);
    };
    const metric = async (name: string): Promise<number> => {
      const text = await (await fetch(`${proxy.adminUrl}/metrics`)).text();
      return Number(new RegExp(`^quorumbridge_proxy_${name} (.*)$`, 'm').exec(text)?.[1]);
    };

    it('carries messages between clients of different workers, and rewrites for all', async () => {
      const [one, other] = [await join(), await join()];
      expect(await workersOf()).toEqual([0, 1]);
      const [publisher, consumer] = [await one.createConfirmChannel(), await other.createChannel()];
      const queue = `workers-${mode}`;
      for (const channel of [publisher, consumer] as Channel[])
        await channel.assertQueue(queue, { durable: false });
      const got: string[] = [];
      await consumer.consume(queue, (message) => {
        if (message === null) return;
        got.push(message.content.toString());
        consumer.ack(message);
      });
      const sent = Array.from({ length: MESSAGES }, (_, number) => String(number));
      for (const body of sent) publisher.sendToQueue(queue, Buffer.from(body));
      await publisher.waitForConfirms();
      await expect.poll(() => got, PATIENCE).toEqual(sent);
      expect(await metric('rewrites_total{method="queue.declare"}')).toBe(2);
    });

    it('has a pool for each worker, shown as one', async () => {
      const response = await fetch(`${proxy.adminUrl}/pool`);
      const isPool = mode === 'pool';
      expect(response.status).toBe(isPool ? 200 : 404);
      const { connections, maxUpstreamConnections, groups } = isPool
        ? ((await response.json()) as PoolDocument)
        : { connections: WORKERS, maxUpstreamConnections: 100, groups: Array(WORKERS) as unknown[] };
      expect([connections, maxUpstreamConnections, groups.length]).toEqual([WORKERS, 100, WORKERS]);
    });

    it('goes on for the clients of one worker when the other is killed, and is whole again', async () => {
      const closed = clients.map(
        (client) => new Promise<boolean>((resolve) => client.once('close', () => resolve(true))),
      );
      const lines = proxy.log().trim().split('\n');
      const serving = lines.map((line) => JSON.parse(line) as { msg: string; worker: number; pid: number });
      const { pid } = serving.find(({ msg, worker }) => msg === 'a worker serves' && worker === 1)!;
      process.kill(pid, 'SIGKILL');
      expect(await Promise.race(closed)).toBe(true);
      await expect.poll(() => metric('worker_restarts_total'), PATIENCE).toBe(1);
      await expect.poll(() => metric('workers'), PATIENCE).toBe(WORKERS);
      expect(await workersOf()).toEqual([0]);
      const again = await (await join()).createConfirmChannel();
      again.sendToQueue(`workers-${mode}`, Buffer.from('after'));
      await again.waitForConfirms();
    });

    it('tells all who are left to go when it is told to end', async () => {
      expect(await workersOf()).toHaveLength(2);
      expect(await proxy.stop()).toBe(0);
      await expect(connect(`amqp://127.0.0.1:${proxy.port}`)).rejects.toThrow('ECONNREFUSED');
    });
  });
});
