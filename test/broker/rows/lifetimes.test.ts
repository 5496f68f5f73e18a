// Queues that go by themselves: rows 1.2, 1.5, 1.8, 1.14, 4.1, 5.10 to 5.14 and 6.1 of the table of what brokers answer to
// legacy clients. Each is gone when it should be, and there while it should be.
import { describe, expect, it } from 'vitest';
import { basicConsume, entry, longstr, queueDeclare } from '../../support/amqp-frames.ts';
import {
  basicCancel,
  basicGet,
  basicPublish,
  confirmSelect,
  queueBind,
  queueDelete,
} from '../../support/amqp-methods.ts';
import { CONSUMER_ENDS } from '../../support/consumer-ends.ts';
import { describeBrokers } from '../../support/describe-brokers.ts';
import { useProxiedBroker } from '../../support/proxied-broker.ts';
import { RawClient } from '../../support/raw-client.ts';

const PASSIVE = 1;
const DURABLE = 2;
const AUTO_DELETE = 8;
/** Consumers that acknowledge nothing. */
const NO_ACK = 2;

/** Well below the expiry that the proxy adds, and well above what a deletion takes. */
const SOON = { timeout: 8000, interval: 100 };

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  const at = useProxiedBroker(version);

  async function client(port = at.through): Promise<RawClient> {
    const opened = await RawClient.connect(port);
    await opened.channels(1);
    return opened;
  }

  /** Whether the broker has a queue of that name. */
  async function exists(name: string): Promise<boolean> {
    await using witness = await client(at.direct);
    return !(await witness.ask(queueDeclare({ name, flags: PASSIVE }))).startsWith('channel.close 404 ');
  }

  async function consume(consumer: RawClient, name: string, tag = 'c'): Promise<void> {
    const frame = basicConsume({ name, tag, flags: NO_ACK });
    expect(await consumer.ask(frame)).toBe(`basic.consume-ok ${tag}`);
  }

  /** A message goes through the queue to the consumer. */
  async function delivers(consumer: RawClient, name: string): Promise<void> {
    await using publisher = await client(at.direct);
    expect(await publisher.ask(confirmSelect(1))).toBe('confirm.select-ok');
    expect(await publisher.ask(basicPublish(1, name, 'x'))).toBe('basic.ack 1');
    expect(await consumer.hear(1)).toMatch(/^basic\.deliver c \d+ 0 x$/);
  }

  describe('6.1 an auto-delete queue', () => {
    const kinds: [kind: string, flags: number, type?: string][] = [
      ['1.2 transient', AUTO_DELETE],
      ['1.5 durable', AUTO_DELETE | DURABLE],
      ['1.8 quorum', AUTO_DELETE | DURABLE, 'quorum'],
    ];

    function declared(name: string, flags: number, type?: string): Buffer {
      const entries = type === undefined ? [] : [entry('x-queue-type', longstr(type))];
      return queueDeclare({ name, flags, entries });
    }

    describe.each(kinds)('%s', (kind, flags, type) => {
      it.each(CONSUMER_ENDS)('is gone when its consumer %s', async (how, end) => {
        const name = `${kind} ${how}`;
        const consumer = await client();
        const answer = await consumer.ask(declared(name, flags, type));
        expect(answer).toBe(`queue.declare-ok ${name} 0 0`);
        await consume(consumer, name);
        await delivers(consumer, name);
        expect(await exists(name)).toBe(true);
        await end(consumer);
        await expect.poll(() => exists(name), SOON).toBe(false);
        consumer.reset();
      });
    });

    it.each(CONSUMER_ENDS)(
      'as the broker does it: a classic one is gone when its consumer %s',
      async (how, end) => {
        const name = `directly ${how}`;
        const consumer = await client(at.direct);
        const answer = await consumer.ask(queueDeclare({ name, flags: AUTO_DELETE | DURABLE }));
        expect(answer).toBe(`queue.declare-ok ${name} 0 0`);
        await consume(consumer, name);
        await end(consumer);
        await expect.poll(() => exists(name), SOON).toBe(false);
        consumer.reset();
      },
    );

    it.each(CONSUMER_ENDS)(
      'stays with one of its two consumers, and is gone when also the other %s',
      async (how, end) => {
        const name = `two, ${how}`;
        const first = await client();
        expect(await first.ask(queueDeclare({ name, flags: AUTO_DELETE }))).toMatch(/^queue\.declare-ok/);
        await consume(first, name);
        const second = await client();
        await consume(second, name);
        await end(first);
        await new Promise((resolve) => setTimeout(resolve, 700));
        expect(await exists(name)).toBe(true);
        await delivers(second, name);
        await end(second);
        await expect.poll(() => exists(name), SOON).toBe(false);
        for (const each of [first, second]) each.reset();
      },
    );

    it('stays with one of two consumers of the same channel', async () => {
      const name = 'two of a channel';
      await using consumer = await client();
      expect(await consumer.ask(queueDeclare({ name, flags: AUTO_DELETE }))).toMatch(/^queue\.declare-ok/);
      await consume(consumer, name, 'other');
      await consume(consumer, name);
      expect(await consumer.ask(basicCancel(1, 'other'))).toBe('basic.cancel-ok other');
      await new Promise((resolve) => setTimeout(resolve, 700));
      await delivers(consumer, name);
      expect(await consumer.ask(basicCancel(1, 'c'))).toBe('basic.cancel-ok c');
      await expect.poll(() => exists(name), SOON).toBe(false);
    });

    it('that was never consumed stays, also when it is only got from and its connection goes', async () => {
      const name = 'never consumed';
      const legacy = await client();
      expect(await legacy.ask(queueDeclare({ name, flags: AUTO_DELETE }))).toMatch(/^queue\.declare-ok/);
      expect(await legacy.ask(basicGet(1, name))).toBe('basic.get-empty');
      await legacy.close();
      await new Promise((resolve) => setTimeout(resolve, 1000));
      expect(await exists(name)).toBe(true);
    });

    it('1.14 without a name: is gone with its consumer, too', async () => {
      await using consumer = await client();
      const answer = await consumer.ask(queueDeclare({ name: '', flags: AUTO_DELETE }));
      const name = /^queue\.declare-ok (\S+) 0 0$/.exec(answer)![1]!;
      await consume(consumer, '');
      await delivers(consumer, name);
      expect(await consumer.ask(basicCancel(1, 'c'))).toBe('basic.cancel-ok c');
      await expect.poll(() => exists(name), SOON).toBe(false);
    });

    it('is gone with a consumer on another connection than the one that declared it', async () => {
      const name = 'declared elsewhere';
      await using declarer = await client();
      expect(await declarer.ask(queueDeclare({ name, flags: AUTO_DELETE }))).toMatch(/^queue\.declare-ok/);
      await using consumer = await client();
      await consume(consumer, name);
      expect(await consumer.ask(basicCancel(1, 'c'))).toBe('basic.cancel-ok c');
      await expect.poll(() => exists(name), SOON).toBe(false);
    });

    it('is gone with a consumer whose tag the broker chose, and that was told nothing', async () => {
      const name = 'tag of the broker';
      await using consumer = await client();
      expect(await consumer.ask(queueDeclare({ name, flags: AUTO_DELETE }))).toMatch(/^queue\.declare-ok/);
      const answer = await consumer.ask(basicConsume({ name }));
      const tag = /^basic\.consume-ok (\S+)$/.exec(answer)![1]!;
      expect(await consumer.ask(basicCancel(1, tag))).toBe(`basic.cancel-ok ${tag}`);
      await expect.poll(() => exists(name), SOON).toBe(false);
      const other = await client();
      const again = 'not told';
      expect(await other.ask(queueDeclare({ name: again, flags: AUTO_DELETE }))).toMatch(
        /^queue\.declare-ok/,
      );
      other.send(basicConsume({ name: again, tag: 'c', flags: NO_ACK | 8 }));
      await delivers(other, again);
      await other.close();
      await expect.poll(() => exists(again), SOON).toBe(false);
    });

    it('goes without ending the connection of a client whose messages are routed to it meanwhile, 20 times in a row', async () => {
      const name = 'bound while it goes';
      const message = basicPublish(1, 'bound', 'x', { exchange: 'amq.topic' });
      const answers = new Set<string>();
      const over = new AbortController();
      const publish = async (): Promise<void> => {
        await using publisher = await client(at.direct);
        answers.add(await publisher.ask(confirmSelect(1)));
        while (!over.signal.aborted && answers.size === 1)
          answers.add((await publisher.ask(message)).replace(/^basic\.ack \d+$/, 'confirm.select-ok'));
      };
      const publishing = Promise.all([publish(), publish()]);
      await using consumer = await client();
      for (let i = 0; i < 20; i++) {
        expect(await consumer.ask(queueDeclare({ name, flags: AUTO_DELETE }))).toMatch(/^queue\.declare-ok /);
        expect(await consumer.ask(queueBind(1, name, 'amq.topic', '#'))).toBe('queue.bind-ok');
        consumer.send(basicConsume({ name, tag: 'c', flags: NO_ACK }));
        await consumer.hears(3); // basic.consume-ok, and messages
        consumer.send(basicCancel(1, 'c'));
        while (!(await consumer.hear(1)).startsWith('basic.cancel-ok'));
      }
      await expect.poll(() => exists(name), SOON).toBe(false);
      over.abort();
      await publishing;
      expect([...answers]).toEqual(['confirm.select-ok']);
    });

    it('is there for a client that cancels and declares it again at once, 50 times in a row', async () => {
      const name = 'round and round';
      await using consumer = await client();
      for (let i = 0; i < 50; i++) {
        expect(await consumer.ask(queueDeclare({ name, flags: AUTO_DELETE }))).toMatch(
          new RegExp(`^queue\\.declare-ok ${name} 0 [01]$`),
        );
        await consume(consumer, name);
        consumer.send(basicPublish(1, name, String(i)));
        expect(await consumer.hear(1)).toMatch(new RegExp(`^basic\\.deliver c \\d+ 0 ${i}$`));
        expect(await consumer.ask(basicCancel(1, 'c'))).toBe('basic.cancel-ok c');
      }
      await expect.poll(() => exists(name), SOON).toBe(false);
    });

    it('is there for a client that does so without waiting for answers, 50 times in a row', async () => {
      const name = 'round in one go';
      await using consumer = await client();
      const round = (i: number) => [
        queueDeclare({ name, flags: AUTO_DELETE }),
        basicConsume({ name, tag: 'c', flags: NO_ACK }),
        basicPublish(1, name, String(i)),
      ];
      const answers = ['1 basic.consume-ok c', `1 queue.declare-ok ${name} 0 0`];
      consumer.send(...round(0));
      for (let i = 0; i < 50; i++) {
        // Quorum queues answer a cancel when they can, which may be behind what came later.
        const heard = await consumer.hears(i === 0 ? 3 : 4);
        const told = heard.map((text) =>
          text.replace(/deliver c \d+ 0/, 'deliver').replace(/(?<=0) 1$/, ' 0'),
        );
        const cancelled = i === 0 ? [] : ['1 basic.cancel-ok c'];
        expect(told.sort()).toEqual([...answers, ...cancelled, `1 basic.deliver ${i}`].sort());
        consumer.send(basicCancel(1, 'c'), ...(i < 49 ? round(i + 1) : []));
      }
      expect(await consumer.hear(1)).toBe('basic.cancel-ok c');
      await expect.poll(() => exists(name), SOON).toBe(false);
    });

    it.each<[how: string, end: (consumer: RawClient) => Promise<void>]>([
      ['a close', (consumer) => consumer.close()],
      [
        'a TCP reset',
        async (consumer) => {
          consumer.reset();
          await Promise.resolve();
        },
      ],
    ])('is there for a client that comes back at once after %s, 25 times in a row', async (how, end) => {
      const name = `back after ${how}`;
      let consumer = await client();
      for (let i = 0; i < 25; i++) {
        expect(await consumer.ask(queueDeclare({ name, flags: AUTO_DELETE }))).toMatch(/^queue\.declare-ok /);
        await consume(consumer, name);
        await new Promise((resolve) => setTimeout(resolve, 60)); // what the one before set off has come to its end
        await delivers(consumer, name);
        await end(consumer);
        consumer = await client();
      }
      consumer.reset();
      await expect.poll(() => exists(name), SOON).toBe(false);
    });
  });

  describe('an expiry', () => {
    it('4.1, 5.13 is kept: a queue that nobody uses is gone, and one with a consumer stays until it goes', async () => {
      const entries = [entry('x-expires', { tag: 'I', value: 1000 })];
      await using consumer = await client();
      for (const name of ['unused', 'used'])
        expect(await consumer.ask(queueDeclare({ name, entries }))).toBe(`queue.declare-ok ${name} 0 0`);
      await consume(consumer, 'used');
      // Quorum queues look at the clock every 5 seconds.
      await expect.poll(() => exists('unused'), { timeout: 20_000, interval: 500 }).toBe(false);
      expect(await exists('used')).toBe(true);
      expect(await consumer.ask(basicCancel(1, 'c'))).toBe('basic.cancel-ok c');
      await expect.poll(() => exists('used'), { timeout: 20_000, interval: 500 }).toBe(false);
    });
  });

  it('5.14 a consumer is told when its queue is deleted', async () => {
    const name = 'deleted under it';
    await using consumer = await client();
    expect(await consumer.ask(queueDeclare({ name }))).toBe(`queue.declare-ok ${name} 0 0`);
    await consume(consumer, name);
    await using other = await client();
    expect(await other.ask(queueDelete(1, name))).toBe('queue.delete-ok 0');
    expect(await consumer.hear(1)).toBe('basic.cancel c');
  });
});
