// The circuit breaker before a real broker whose way is cut and comes back, in both modes that rewrite.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { queueDeclare } from '../support/amqp-frames.ts';
import { confirmSelect } from '../support/amqp-methods.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { startTestProxy, type TestProxy } from '../support/peers.ts';
import { RelayLink } from '../support/relay-link.ts';
import { until } from '../support/steady.ts';
import { WireClient } from '../support/wire-client.ts';

/** How a new client's connection goes: `in`, or what it was told. */
async function login(port: number): Promise<string> {
  try {
    const client = await WireClient.connect(port);
    await client.close();
    return 'in';
  } catch (error) {
    return (error as Error).message;
  }
}

async function isIn(proxy: TestProxy, state: string): Promise<boolean> {
  const samples = await proxy.metric('quorumbridge_proxy_breaker_state');
  return samples.includes(`{state="${state}"} 1`);
}

await describeBrokers(['4.3'], (version) => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker(version);
  });
  afterAll(() => broker?.stop());

  it('mode transparent: new clients are refused at once, and let in when the broker is back', async () => {
    await using relay = await new RelayLink(broker.port).start();
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${relay.port}` });
    await using first = await WireClient.connect(proxy.port);
    relay.set('sever');
    expect(await first.ended).toContain('320');
    for (let i = 0; i < 5; i++) await login(proxy.port);
    const began = performance.now();
    const whys = await Promise.all(Array.from({ length: 20 }, () => login(proxy.port)));
    for (const why of whys)
      expect(why).toMatch(/^connection\.close 320 CONNECTION_FORCED - the circuit breaker is open: 5 /);
    expect(performance.now() - began).toBeLessThan(1500);
    expect(await isIn(proxy, 'open')).toBe(true);
    const links = relay.count;
    relay.set('pass');
    await expect.poll(() => login(proxy.port), { timeout: 10_000, interval: 100 }).toBe('in');
    expect(relay.count - links).toBe(1);
    expect(await isIn(proxy, 'closed')).toBe(true);
    expect(proxy.log().filter(({ code }) => code === 'BREAKER_OPEN').length).toBeGreaterThan(1);
  });

  describe('mode pool', () => {
    it('clients that are connected publish on when the broker is back, and those that came meanwhile get in', async () => {
      await using relay = await new RelayLink(broker.port).start();
      await using proxy = await startTestProxy({
        mode: 'pool',
        backend: `127.0.0.1:${relay.port}`,
        poolWaitTimeout: '30',
      });
      await using first = await WireClient.connect(proxy.port);
      const channel = await first.channel(1);
      await channel.ask(queueDeclare({ name: 'breaker', flags: 2 }));
      await channel.ask(confirmSelect(1));
      let confirmed = 0;
      channel.onConfirm = () => confirmed++;
      channel.publish('breaker', Buffer.from('before'));
      await until('a confirm', () => confirmed === 1);
      relay.set('sever');
      await expect.poll(() => isIn(proxy, 'open'), { timeout: 20_000 }).toBe(true);
      const waiting = login(proxy.port);
      const refusals = 'quorumbridge_proxy_breaker_refused_total ';
      await expect
        .poll(async () => Number((await proxy.metric(refusals))[0]), { timeout: 10_000 })
        .toBeGreaterThan(0);
      relay.set('pass');
      expect(await waiting).toBe('in');
      channel.publish('breaker', Buffer.from('after'));
      await until('a confirm', () => confirmed === 2);
      expect([first.end, first.faults]).toEqual([undefined, []]);
      expect(await isIn(proxy, 'closed')).toBe(true);
    });
  });
});
