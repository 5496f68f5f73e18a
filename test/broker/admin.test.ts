// What an operator does by the admin API, with a real broker behind the proxy: in both modes.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ConnectionsDocument, PoolDocument } from '../../proxy/admin/documents.ts';
import { ask } from '../support/admin-client.ts';
import { queueDeclare } from '../support/amqp-frames.ts';
import { basicGet, confirmSelect } from '../support/amqp-methods.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { startTestProxy } from '../support/peers.ts';
import { WireClient } from '../support/wire-client.ts';

await describeBrokers(['4.3'], (version) => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker(version);
  });
  afterAll(() => broker?.stop());

  describe.each(['transparent', 'pool'])('in mode %s', (mode) => {
    it('a paused virtual host keeps its connections for many heartbeats, and loses nothing', async () => {
      await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, mode });
      await using client = await WireClient.connect(proxy.port, { heartbeat: 1 });
      const queue = `admin-${mode}`;
      const channel = await client.channel(1);
      await channel.ask(queueDeclare({ name: queue, flags: 2 }));
      await channel.ask(confirmSelect(1));
      const confirmed: number[] = [];
      channel.onConfirm = (tag) => confirmed.push(tag);
      const paused = await ask(proxy, '/vhosts/%2F/pause', { method: 'POST' });
      expect(paused.json()).toMatchObject({ vhost: '/', connections: 1 });
      channel.publish(queue, Buffer.from('held'));
      await sleep(7000);
      expect([client.end, confirmed]).toEqual([undefined, []]);
      await ask(proxy, '/vhosts/%2F/resume', { method: 'POST' });
      await expect.poll(() => confirmed).toEqual([1]);
      await channel.ask(basicGet(1, queue));
    }, 60_000);

    it('a connection that is closed gets 320, and others go on', async () => {
      await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, mode });
      await using client = await WireClient.connect(proxy.port);
      await using other = await WireClient.connect(proxy.port);
      await client.channel(1);
      const channel = await other.channel(1);
      const { connections } = (await ask(proxy, '/connections')).json() as ConnectionsDocument;
      expect(connections).toMatchObject([
        { id: 1, user: 'guest', vhost: '/', state: 'open', channels: 1 },
        { id: 2, user: 'guest', vhost: '/', state: 'open', channels: 1 },
      ]);
      await ask(proxy, '/connections/1', { method: 'DELETE' });
      await client.ended;
      expect(client.end).toMatch(/^connection\.close 320 /);
      await channel.ask(queueDeclare({ name: `admin-${mode}`, flags: 2 }));
      expect(other.end).toBeUndefined();
    }, 30_000);
  });

  it('the pool is shown as it is', async () => {
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, mode: 'pool' });
    await using client = await WireClient.connect(proxy.port);
    await using other = await WireClient.connect(proxy.port);
    for (const one of [client, other]) await (await one.channel(1)).ask(confirmSelect(1));
    const pool = (await ask(proxy, '/pool')).json() as PoolDocument;
    expect(pool).toMatchObject({
      connections: 1,
      groups: [
        {
          user: 'guest',
          virtualHost: '/',
          alive: true,
          clients: 2,
          connections: [{ state: 'open', channels: 2, blockedBy: null }],
        },
      ],
    });
  }, 30_000);
});
