// A failover rehearsed with a real broker: what was confirmed before connections were severed is there afterwards.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ask } from '../support/admin-client.ts';
import { queueDeclare } from '../support/amqp-frames.ts';
import { basicGet, confirmSelect } from '../support/amqp-methods.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { startTestProxy, type TestProxy } from '../support/peers.ts';
import { type WireChannel, WireClient } from '../support/wire-client.ts';

const POST = { method: 'POST' };

/** Publishes numbered messages until it is told to finish, and those that were not confirmed again after each loss. */
class Publisher {
  readonly confirmed = new Set<number>();
  /** How its connections ended. */
  readonly ends: string[] = [];
  readonly #port: number;
  readonly #queue: string;
  readonly #unconfirmed = new Set<number>();
  /** The delivery tag of the last message on this connection. */
  #lastTag = 0;
  #published = 0;
  #isFinishing = false;
  readonly #running: Promise<void>;

  constructor(port: number, queue: string) {
    this.#port = port;
    this.#queue = queue;
    this.#running = this.#run();
  }

  /** Waits until every message is confirmed. */
  async finish(): Promise<void> {
    this.#isFinishing = true;
    await this.#running;
  }

  get #isDone(): boolean {
    return this.#isFinishing && this.#unconfirmed.size === 0;
  }

  async #run(): Promise<void> {
    while (!this.#isDone) {
      await using client = await WireClient.connect(this.#port);
      const end = await Promise.race([client.ended, this.#publish(client).catch(() => client.ended)]);
      if (end !== undefined) this.ends.push(end);
    }
  }

  async #publish(client: WireClient): Promise<undefined> {
    const channel = await client.channel(1);
    await channel.ask(queueDeclare({ name: this.#queue, flags: 2 }));
    await channel.ask(confirmSelect(1));
    this.#lastTag = 0;
    while (!this.#isDone) await this.#round(channel);
  }

  /** Publishes ten messages, and waits for what the broker says to them. */
  async #round(channel: WireChannel): Promise<void> {
    while (this.#unconfirmed.size < 10 && !this.#isFinishing) this.#unconfirmed.add(this.#published++);
    const round = [...this.#unconfirmed];
    const { promise, resolve } = Promise.withResolvers<void>();
    const tags = new Map(round.map((number, at) => [this.#lastTag + 1 + at, number]));
    this.#lastTag += round.length;
    channel.onConfirm = (last, multiple, isAck) => {
      for (const [tag, number] of tags) {
        if (multiple ? tag > last : tag !== last) continue;
        tags.delete(tag);
        if (!isAck) continue;
        this.#unconfirmed.delete(number);
        this.confirmed.add(number);
      }
      if (tags.size === 0) resolve();
    };
    for (const number of round) channel.publish(this.#queue, Buffer.from(`${number}`));
    await promise;
  }
}

/** The bodies in a queue. */
async function all(port: number, queue: string): Promise<Set<number>> {
  await using client = await WireClient.connect(port);
  const channel = await client.channel(1);
  const found = new Set<number>();
  for (;;) {
    const { arrival } = await channel.ask(basicGet(1, queue));
    if (arrival === undefined) return found;
    found.add(Number(arrival.body.toString()));
  }
}

await describeBrokers(['4.3'], (version) => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker(version);
  });
  afterAll(() => broker?.stop());

  /** Lets a publisher publish, severs connections meanwhile, and looks for what was confirmed. */
  async function rehearse(proxy: TestProxy, queue: string, severs: readonly string[]): Promise<string[]> {
    const publisher = new Publisher(proxy.port, queue);
    const more = async (): Promise<void> => {
      const wanted = publisher.confirmed.size + 30;
      await expect.poll(() => publisher.confirmed.size, { timeout: 20_000 }).toBeGreaterThanOrEqual(wanted);
    };
    for (const query of severs) {
      await more();
      expect((await ask(proxy, `/faults/sever?${query}`, POST)).status).toBe(200);
    }
    await more();
    await publisher.finish();
    const found = await all(proxy.port, queue);
    expect([...publisher.confirmed].filter((number) => !found.has(number))).toEqual([]);
    expect(found.size).toBe(publisher.confirmed.size);
    return publisher.ends;
  }

  describe.each(['transparent', 'pool'])('in mode %s', (mode) => {
    it('a client that is severed connects again, and what was confirmed is there', async () => {
      const backend = `127.0.0.1:${broker.port}`;
      await using proxy = await startTestProxy({ backend, mode, faultInjection: true });
      expect(await rehearse(proxy, `severed-${mode}`, ['side=client', 'side=both'])).toEqual([
        'lost',
        'lost',
      ]);
    }, 60_000);

    it('a confirm comes as late as it is delayed', async () => {
      const backend = `127.0.0.1:${broker.port}`;
      await using proxy = await startTestProxy({ backend, mode, faultInjection: true });
      await using client = await WireClient.connect(proxy.port);
      const channel = await client.channel(1);
      const queue = `delayed-${mode}`;
      await channel.ask(queueDeclare({ name: queue, flags: 2 }));
      await channel.ask(confirmSelect(1));
      await ask(proxy, '/faults/delay?milliseconds=200', POST);
      const began = performance.now();
      const confirmed = new Promise<number>((resolve) => {
        channel.onConfirm = () => resolve(performance.now() - began);
      });
      channel.publish(queue, Buffer.from('delayed'));
      expect(await confirmed).toBeGreaterThanOrEqual(400);
      await ask(proxy, '/faults', { method: 'DELETE' });
      const { arrival } = await channel.ask(basicGet(1, queue));
      expect([arrival?.body.toString(), client.faults]).toEqual(['delayed', []]);
    }, 60_000);
  });

  it('in mode transparent the loss of the broker is told to the client, which connects again', async () => {
    const backend = `127.0.0.1:${broker.port}`;
    await using proxy = await startTestProxy({ backend, faultInjection: true });
    const ends = await rehearse(proxy, 'broker-lost', ['side=broker']);
    expect(ends).toEqual([expect.stringMatching(/^connection\.close 320 /)]);
  }, 60_000);

  it('in mode pool the loss of a shared connection costs no client its own, and no confirmed message', async () => {
    const backend = `127.0.0.1:${broker.port}`;
    await using proxy = await startTestProxy({ backend, mode: 'pool', faultInjection: true });
    expect(await rehearse(proxy, 'shared-lost', ['side=broker', 'side=broker&share=1'])).toEqual([]);
    expect(await proxy.metric('quorumbridge_proxy_pool_connections_lost_total')).toContain(
      '{reason="lost"} 2',
    );
  }, 60_000);

  it('in mode pool a client for whom more than --client-backlog is held back is treated as a slow one', async () => {
    const flags = { mode: 'pool', faultInjection: true, clientBacklog: '2MiB' };
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, ...flags });
    await using client = await WireClient.connect(proxy.port);
    await using other = await WireClient.connect(proxy.port);
    const channel = await client.channel(1);
    const publishing = await other.channel(1);
    const queue = 'backlog';
    await publishing.ask(queueDeclare({ name: queue, flags: 2 }));
    await publishing.ask(confirmSelect(1));
    const COUNT = 60;
    let confirmed = 0;
    publishing.onConfirm = (tag) => (confirmed = tag);
    for (let at = 0; at < COUNT; at++) publishing.publish(queue, Buffer.alloc(100_000));
    await expect.poll(() => confirmed, { timeout: 20_000 }).toBe(COUNT);
    await ask(proxy, '/faults/delay?milliseconds=10000&direction=broker_to_client', POST);
    for (let at = 0; at < COUNT; at++) channel.send(basicGet(1, queue));
    expect(await client.ended).toMatch(/^connection\.close 320 .*--client-backlog/);
  }, 60_000);
});
