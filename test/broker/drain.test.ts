// A proxy that is drained under load: what was confirmed is there, what wasn't confirmed isn't, and everybody is told to go.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { basicConsume, queueDeclare } from '../support/amqp-frames.ts';
import { confirmSelect } from '../support/amqp-methods.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { startTestProxy } from '../support/peers.ts';
import { until } from '../support/steady.ts';
import { WireClient } from '../support/wire-client.ts';

const PUBLISHERS = 6;
const IDLE = 6;
/** Publishes of one client that may wait for their confirms. */
const WINDOW = 200;
const DRAIN_S = 6;
const PASSIVE = 1;
const NO_ACK = 2;

/** Publishes without a pause until it is told to go; `confirmed` and `published` are bodies. */
class Publisher {
  readonly published: string[] = [];
  readonly confirmed = new Set<string>();
  readonly nacked: number[] = [];
  readonly client: WireClient;
  readonly #done: Promise<void>;
  #open = 0;

  private constructor(client: WireClient, publishing: (own: Publisher) => Promise<void>) {
    this.client = client;
    this.#done = publishing(this);
  }

  static async start(port: number, queue: string, name: string): Promise<Publisher> {
    const client = await WireClient.connect(port);
    const channel = await client.channel(1);
    await channel.ask(confirmSelect(1));
    return new Publisher(client, async (own) => {
      let first = 1;
      channel.onConfirm = (tag, multiple, isAck) => {
        if (!isAck) own.nacked.push(tag);
        for (let number = multiple ? first : tag; number <= tag; number++) {
          const body = own.published[number - 1]!;
          if (own.confirmed.has(body)) continue;
          own.confirmed.add(body);
          own.#open--;
        }
        while (own.confirmed.has(own.published[first - 1] ?? '')) first++;
      };
      for (let number = 1; client.end === undefined; number++) {
        while (own.#open >= WINDOW && client.end === undefined) await sleep(1);
        const body = `${name} ${number}`;
        own.published.push(body);
        own.#open++;
        channel.publish(queue, Buffer.from(body));
        await client.drained();
        if (number % 10 === 0) await sleep(2);
      }
    });
  }

  async stopped(): Promise<void> {
    await this.client.ended;
    await this.#done;
  }
}

await describeBrokers(['4.0', '4.3'], (version) => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker(version);
  });
  afterAll(() => broker?.stop());

  /** Takes all out of a queue, past the proxy. */
  async function bodies(queue: string): Promise<string[]> {
    await using client = await WireClient.connect(broker.port);
    const channel = await client.channel(1);
    const { args } = await channel.ask(queueDeclare({ name: queue, flags: PASSIVE }));
    const count = args.readUInt32BE(1 + args[0]!);
    const all: string[] = [];
    channel.onDeliver = ({ body }) => all.push(body.toString());
    await channel.ask(basicConsume({ name: queue, flags: NO_ACK }));
    await until(`${count} messages`, () => all.length >= count);
    await sleep(500);
    return all;
  }

  describe.each(['transparent', 'pool'])('mode %s', (mode) => {
    it('a drain under load loses nothing that was confirmed, and takes nothing that was not', async () => {
      const queue = `drain ${mode}`;
      await using proxy = await startTestProxy({
        mode,
        backend: `127.0.0.1:${broker.port}`,
        drainTimeout: String(DRAIN_S),
      });
      {
        await using client = await WireClient.connect(proxy.port);
        const channel = await client.channel(1);
        await channel.ask(queueDeclare({ name: queue, flags: 2 }));
        await client.close();
      }
      const idle: WireClient[] = [];
      for (let i = 0; i < IDLE; i++) {
        idle.push(await WireClient.connect(proxy.port));
        await idle[i]!.channel(1);
      }
      const publishers: Publisher[] = [];
      for (let i = 0; i < PUBLISHERS; i++)
        publishers.push(await Publisher.start(proxy.port, queue, `publisher ${i}`));
      await sleep(1000);
      const confirmedBefore = publishers.map(({ confirmed }) => confirmed.size);
      const began = performance.now();
      await proxy.proxy.drain();
      const took = performance.now() - began;
      await Promise.all(publishers.map((each) => each.stopped()));
      expect(took).toBeLessThan(DRAIN_S * 1000);
      const ends = [...idle, ...publishers.map(({ client }) => client)].map(({ end }) => end);
      for (const end of ends)
        expect(end).toMatch(/^connection\.close 320 CONNECTION_FORCED - the proxy is shutting/);
      const lastIdle = Math.max(...idle.map(({ endedAt }) => endedAt));
      const firstBusy = Math.min(...publishers.map(({ client }) => client.endedAt));
      expect(lastIdle).toBeLessThan(firstBusy);
      const confirmed = publishers.flatMap(({ confirmed }) => [...confirmed]);
      // They went on under load all the while, and each one was stopped amid of it.
      for (const [i, each] of publishers.entries()) {
        expect(each.confirmed.size).toBeGreaterThan(confirmedBefore[i]! * 1.5);
        expect([each.nacked, each.client.faults]).toEqual([[], []]);
      }
      const unconfirmed = publishers.reduce((sum, one) => sum + one.published.length - one.confirmed.size, 0);
      expect(unconfirmed).toBeGreaterThan(0);
      expect((await bodies(queue)).sort()).toEqual(confirmed.sort());
      const lines = proxy.log().filter(({ msg }) => msg === 'draining');
      expect(lines.length).toBeGreaterThanOrEqual(3);
      expect(proxy.log().find(({ msg }) => msg === 'drained')).toMatchObject({
        told: 12,
        forced: 0,
        left: 0,
      });
    });
  });
});
