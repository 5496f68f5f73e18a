// Many clients with many channels that do everything at once, checked message by message.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { queueDeclare } from '../support/amqp-frames.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { drain, type Lane, takeTurns } from '../support/mixed-turns.ts';
import { type ProxyProcess, startProxyProcess } from '../support/service.ts';
import { declareQueues } from '../support/steady.ts';
import { TrafficCheck } from '../support/traffic-check.ts';
import { WireClient } from '../support/wire-client.ts';

const CLIENTS = 50;
const CHANNELS = 20;
const SECONDS = 20;
/** Clients with an exclusive queue, which get connections of their own. */
const PRIVATE = 3;
/** 50 × 20 channels need five of 200 each. */
const UPSTREAMS = 6 + PRIVATE;

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1);
}

await describeBrokers(['4.0', '4.3'], (version) => {
  let broker: Broker;
  let proxy: ProxyProcess;

  beforeAll(async () => {
    broker = await startBroker(version);
    proxy = await startProxyProcess(broker.port, ['--mode=pool', `--max-upstream-connections=${UPSTREAMS}`]);
  });
  afterAll(async () => {
    await proxy?.stop();
    await broker?.stop();
  });

  it(
    `${CLIENTS} clients × ${CHANNELS} channels: nothing lost, doubled, crossed or out of order`,
    { timeout: 180_000 },
    async () => {
      const check = new TrafficCheck();
      const counts = { plain: 0, confirms: 0, returns: 0, transactions: 0, consumes: 0, gets: 0, errs: 0 };
      const lanes: Lane[] = [];
      const clients: WireClient[] = [];
      const queues: string[] = [];
      for (const owner of numbers(CLIENTS)) {
        const client = await WireClient.connect(proxy.port);
        const queue = `of client ${owner}`;
        clients.push(client);
        queues.push(queue);
        for (const number of numbers(CHANNELS))
          lanes.push({ check, client, number, name: `${owner}/${number}`, queue, limitsChannels: true });
      }
      await declareQueues(proxy.port, ...queues);
      const own = CHANNELS + 1;
      for (const client of clients.slice(0, PRIVATE)) {
        const channel = await client.channel(own);
        await channel.ask(queueDeclare({ channel: own, name: '', flags: 4 }));
      }

      const deadline = performance.now() + SECONDS * 1000;
      const turns = lanes.map((lane) => takeTurns(lane, deadline, counts));
      const connections = await broker.ctl('-q', 'list_connections', 'pid');
      await Promise.all(turns);
      expect(connections.match(/^</gm)?.length).toBeLessThanOrEqual(UPSTREAMS);
      expect(clients.flatMap(({ end = [] }) => end)).toEqual([]);
      for (const client of clients) await client.close();

      const reader = await WireClient.connect(broker.port);
      await Promise.all(
        queues.map(async (queue, index) => drain(check, await reader.channel(index + 1), queue)),
      );
      await reader.close();

      expect(clients.flatMap(({ faults }) => faults)).toEqual([]);
      expect(check.conclude()).toEqual([]);
      // None of it was for nothing.
      for (const count of Object.values(counts)) expect(count).toBeGreaterThan(CLIENTS);
      const { published, confirmed, promised, arrived, redelivered } = check.tally;
      expect(Math.min(published, promised, arrived)).toBeGreaterThan(CLIENTS * CHANNELS);
      expect(Math.min(confirmed, redelivered)).toBeGreaterThan(CLIENTS);
    },
  );
});
