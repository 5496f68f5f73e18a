// The proxy's limits as clients of a real broker meet them, beside the broker's own.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { frame, queueDeclare } from '../support/amqp-frames.ts';
import { basicPublish, confirmSelect } from '../support/amqp-methods.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { startTestProxy, type TestProxy } from '../support/peers.ts';
import { RawClient, type RawOptions } from '../support/raw-client.ts';

const HEARTBEAT = frame(8, 0, Buffer.alloc(0));
const DURABLE = 2;
/** channel_max of the broker, and of the proxy's limit. */
const CHANNELS = 30;
const FEWER = 4;

await describeBrokers(['4.0', '4.3'], (version) => {
  let broker: Broker;
  const clients: RawClient[] = [];

  beforeAll(async () => {
    broker = await startBroker(version, { conf: `channel_max = ${CHANNELS}` });
  });

  afterAll(async () => {
    await broker?.stop();
  });

  async function connect(port: number, options: RawOptions = {}): Promise<RawClient> {
    const client = await RawClient.connect(port, options);
    clients.push(client);
    return client;
  }

  async function leaveAll(): Promise<void> {
    for (const client of clients.splice(0)) await client.close();
  }

  /** What the first client too many hears; the broker knows of others only a little later. */
  async function refusal(port: number, options: RawOptions = {}): Promise<string> {
    for (let tries = 0; tries < 10; tries++) {
      try {
        await connect(port, options);
      } catch (error) {
        await leaveAll();
        return (error as Error).message;
      }
      await sleep(200);
    }
    await leaveAll();
    return 'let in';
  }

  function proxyTo(flags: Record<string, string>): Promise<TestProxy> {
    return startTestProxy({ backend: `127.0.0.1:${broker.port}`, ...flags });
  }

  describe.each(['transparent', 'pool'])('mode %s', (mode) => {
    it("refuses a user's connection too many as the broker does", async () => {
      await broker.ctl('set_user_limits', 'guest', '{"max-connections": 2}');
      const direct = await refusal(broker.port);
      await broker.ctl('clear_user_limits', 'guest', 'all');
      expect(direct).toContain('530 NOT_ALLOWED');
      await using proxy = await proxyTo({ mode, maxConnectionsPerUser: '2' });
      expect(await refusal(proxy.port)).toBe(direct);
    });

    it("refuses a virtual host's connection too many as the broker does", async () => {
      await broker.ctl('set_vhost_limits', '{"max-connections": 2}');
      const direct = await refusal(broker.port);
      await broker.ctl('clear_vhost_limits');
      expect(direct).toContain('530 NOT_ALLOWED');
      await using proxy = await proxyTo({ mode, maxConnectionsPerVhost: '2' });
      expect(await refusal(proxy.port)).toBe(direct);
    });

    it('tells who asks for more channels than are offered, where the broker hangs up without a word', async () => {
      expect(await refusal(broker.port, { askedChannels: CHANNELS + 1 })).toBe('closed');
      await using proxy = await proxyTo({ mode, maxChannelsPerClient: String(FEWER) });
      expect(await refusal(proxy.port, { askedChannels: FEWER + 1 })).toBe(
        'connection.close 530 NOT_ALLOWED - channel_max 5 where 4 channels are offered (--max-channels-per-client) (10.31)',
      );
      const client = await connect(proxy.port);
      await client.channels(1, 2, 3, 4);
      expect(await client.ask(queueDeclare({ name: `channels ${mode}`, flags: DURABLE }))).toBe(
        `queue.declare-ok channels ${mode} 0 0`,
      );
      await leaveAll();
    });

    it('lets publishes through at their rate: none is lost, and each is confirmed', async () => {
      const count = 450;
      await using proxy = await proxyTo({ mode, publishRate: '200' });
      const client = await connect(proxy.port);
      await client.channels(1);
      const name = `publishes ${mode}`;
      await client.ask(queueDeclare({ name, flags: DURABLE }));
      expect(await client.ask(confirmSelect(1))).toBe('confirm.select-ok');
      const began = performance.now();
      client.send(...Array.from({ length: count }, (_, i) => basicPublish(1, name, String(i))));
      let confirmed = 0;
      while (confirmed < count) {
        const [, tag] = /^basic\.ack (\d+)/.exec(await client.hear(1)) ?? [];
        confirmed = Math.max(confirmed, Number(tag));
      }
      const seconds = (performance.now() - began) / 1000;
      expect(seconds).toBeGreaterThan((count - 200) / 200);
      expect(seconds).toBeLessThan(5);
      expect(await client.ask(queueDeclare({ name, flags: 1 }))).toBe(`queue.declare-ok ${name} ${count} 0`);
      await leaveAll();
    });

    it('keeps clients that are held back for longer than their heartbeats take', async () => {
      await using proxy = await proxyTo({ mode, publishRate: '1' });
      const name = `held ${mode}`;
      const all = await Promise.all(Array.from({ length: 6 }, () => connect(proxy.port, { heartbeat: 1 })));
      for (const client of all) await client.channels(1);
      await all[0]!.ask(queueDeclare({ name, flags: DURABLE }));
      // Each waits for five others twice.
      for (const client of all) client.send(basicPublish(1, name, 'one'), basicPublish(1, name, 'two'));
      const beats = setInterval(() => {
        for (const client of all) client.send(HEARTBEAT);
      }, 400);
      try {
        await sleep(12_500);
        const watcher = await connect(broker.port);
        await watcher.channels(1);
        expect(await watcher.ask(queueDeclare({ name, flags: 1 }))).toBe(`queue.declare-ok ${name} 12 0`);
        const ended = proxy.log().filter(({ code }) => code !== undefined);
        expect(ended).toEqual([]);
      } finally {
        clearInterval(beats);
      }
      await leaveAll();
    });
  });
});
