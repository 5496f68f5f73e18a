// The consumer manager of the messaging kit: what becomes of messages, and that consumers always come back.
import { type ConfirmChannel, type ChannelModel, type GetMessage, connect } from 'amqplib';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { parseMessaging } from '../../messaging/config.ts';
import { Consumers } from '../../messaging/consumer/consumers.ts';
import { type Context, type Handler, handler } from '../../messaging/consumer/handler.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';

const LONG = { timeout: 60_000, interval: 50 };

/** What a program would have zod for. */
const order = {
  parse(value: unknown): { id: number } {
    const { id } = (value ?? {}) as { id?: unknown };
    if (typeof id !== 'number') throw new Error('id: expected a number');
    return { id };
  },
};

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  let broker: Broker;
  let model: ChannelModel;
  let channel: ConfirmChannel;
  const running: Consumers[] = [];

  beforeAll(async () => {
    broker = await startBroker(version);
    await open();
  });
  afterEach(async () => {
    for (const consumers of running.splice(0)) await consumers.stop({ timeoutMs: 0 });
  });
  afterAll(async () => {
    await model?.close();
    await broker?.stop();
  });

  async function open(): Promise<void> {
    model = await connect(broker.url);
    model.on('error', () => {}); // brokers are stopped here
    channel = await model.createConfirmChannel();
  }

  /** Consumes from a queue of its own with dead letters in `NAME.dead`. @param keys of the queue, `key: value` */
  async function start(
    name: string,
    keys: string,
    of: Handler,
  ): Promise<{ consumers: Consumers; problems: string[] }> {
    const text = `
host: 127.0.0.1
port: ${broker.port}
reconnect_delay: 100ms
exchanges:
  - name: ''
    kind: direct
    queues: [{name: ${name}, dlx_name: ${name}.dlx, dlq_name: ${name}.dead${keys === '' ? '' : `, ${keys}`}}]`;
    const problems: string[] = [];
    const consumers = new Consumers(parseMessaging('test.yaml', text, {}), {
      name: 'test',
      handlers: { [name]: of },
      onProblem: (problem) => problems.push(problem),
    });
    running.push(consumers);
    await consumers.ready();
    return { consumers, problems };
  }

  async function send(queue: string, content: unknown, headers: Record<string, unknown> = {}): Promise<void> {
    const contentType = 'application/json';
    channel.sendToQueue(queue, Buffer.from(JSON.stringify(content)), {
      contentType,
      persistent: true,
      headers,
    });
    await channel.waitForConfirms();
  }

  async function takeOne(queue: string): Promise<GetMessage> {
    return vi.waitFor(async () => {
      const message = await channel.get(queue, { noAck: true });
      if (message === false) throw new Error(`nothing in ${queue}`);
      return message;
    }, LONG);
  }

  const holds = async (queue: string): Promise<number> => (await channel.checkQueue(queue)).messageCount;

  describe('a message', () => {
    it('is handled as its schema types it, and acked when the handler returns', async () => {
      const seen: number[] = [];
      const of = handler({ schema: order, handle: ({ id }) => void seen.push(id) });
      const { consumers } = await start('typed', '', of);
      await send('typed', { id: 1, more: true });
      await send('typed', { id: 2 });
      await vi.waitFor(() => expect(consumers.stats.acked).toBe(2), LONG);
      expect(seen).toEqual([1, 2]);
      expect(consumers.isHealthy).toBe(true);
      await consumers.stop();
      expect(await holds('typed')).toBe(0);
    });

    it('whose payload is invalid is a dead letter with the reason, once, and those behind it are handled', async () => {
      const seen: number[] = [];
      const of = handler({ schema: order, handle: ({ id }) => void seen.push(id) });
      const { consumers } = await start('invalid', '', of);
      await send('invalid', { id: 'one' }, { own: 'kept' });
      channel.sendToQueue('invalid', Buffer.from('{'), { contentType: 'application/json', messageId: 'm' });
      await send('invalid', { id: 3 });
      await vi.waitFor(() => expect(consumers.stats).toMatchObject({ acked: 1, rejected: 2 }), LONG);
      expect(seen).toEqual([3]);
      const letters = [await takeOne('invalid.dead'), await takeOne('invalid.dead')];
      const wrong = letters.find(({ properties }) => properties.headers?.['own'] === 'kept')!;
      expect(wrong.properties.headers).toMatchObject({
        'x-rejected-reason': 'invalid payload: id: expected a number',
        'x-rejected-queue': 'invalid',
        'x-rejected-at': { '!': 'timestamp', value: expect.any(Number) as number },
      });
      expect(wrong.content.toString()).toBe('{"id":"one"}');
      const noJson = letters.find(({ properties }) => properties.messageId === 'm')!;
      expect(noJson.properties.headers?.['x-rejected-reason']).toContain('invalid payload: ');
      expect(await holds('invalid.dead')).toBe(0);
    });

    it.each(['quorum', 'classic'])(
      'that always fails goes through its delivery limit to the dead letters, once (%s)',
      async (type) => {
        const name = `poison.${type}`;
        const attempts: number[] = [];
        const of = handler({
          handle: (_, { attempt }) => {
            attempts.push(attempt);
            throw new Error('poison');
          },
        });
        const { consumers, problems } = await start(name, `queue_type: ${type}, delivery_limit: 3`, of);
        await send(name, 'x');
        const letter = await takeOne(`${name}.dead`);
        expect(letter.content.toString()).toBe('"x"');
        expect(attempts).toEqual([1, 2, 3, 4]);
        expect(problems[3]).toContain('the handler threw at attempt 4: poison');
        await consumers.stop();
        expect([await holds(name), await holds(`${name}.dead`)]).toEqual([0, 0]);
      },
    );

    it('to be retried later comes back after its delay, with its properties and the attempt, up to the limit', async () => {
      const seen: { attempt: number; at: number; context: Context }[] = [];
      const of = handler({
        handle: (_, context) => {
          seen.push({ attempt: context.attempt, at: performance.now(), context });
          context.retryLater();
        },
      });
      const { consumers, problems } = await start('later', 'delivery_limit: 3, retry: [300ms, 600ms]', of);
      const properties = {
        messageId: 'm',
        correlationId: 'c',
        timestamp: 1,
        contentEncoding: 'odd',
        type: 't',
      };
      channel.sendToQueue('later', Buffer.from('x'), { persistent: true, ...properties });
      await channel.waitForConfirms();
      const letter = await takeOne('later.dead');
      expect(letter.content.toString()).toBe('x');
      expect(seen.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4]);
      const waits = seen.slice(1).map(({ at }, index) => at - seen[index]!.at);
      // A clock of the broker's may be some milliseconds apart.
      expect(waits.map((wait, index) => wait > [250, 550, 550][index]!)).toEqual([true, true, true]);
      expect(seen.at(-1)!.context.message.properties).toMatchObject(properties);
      expect(consumers.stats).toMatchObject({ retried: 3, rejected: 1 });
      expect(problems).toEqual([]);
    });

    it.each([
      { given: 'rejected', requeued: 0, expected: [1, 2, 3, 4] },
      // What was given back before the last death is forgotten by 3.x and 4.0, and on 4.0 the first time behind a death looks like the arrival.
      {
        given: 'given back and rejected',
        requeued: 2,
        expected: { '3.10': [1, 2, 3, 3, 4], '4.0': [1, 2, 2, 3, 3, 4], '4.3': [1, 2, 3, 4] }[version],
      },
    ])('counts its attempts behind dead letters of others ($given)', async ({ requeued, expected }) => {
      const name = `foreign.${requeued}`;
      const back = (to: string) => ({ 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': to });
      const durable = true;
      const quorum = { 'x-queue-type': 'quorum' };
      await channel.assertQueue(name, { durable, arguments: { ...quorum, ...back(`${name}.wait`) } });
      const waits = { ...quorum, ...back(name), 'x-message-ttl': 200 };
      await channel.assertQueue(`${name}.wait`, { durable, arguments: waits });
      const attempts: number[] = [];
      const of = handler({
        handle: (_, { attempt, nack }) => {
          attempts.push(attempt);
          if (attempt < 4) nack({ requeue: attempt === requeued });
        },
      });
      const { consumers } = await start(name, 'declare: false', of);
      await send(name, 'x');
      await vi.waitFor(() => expect(consumers.stats.acked).toBe(1), LONG);
      expect(attempts).toEqual(expected);
    });

    it('is decided about once: a second decision throws, and changes nothing', async () => {
      const errors: string[] = [];
      const of = handler({
        handle: (_, { reject, ack, retryLater }) => {
          for (const decide of [() => retryLater(5), () => reject('no'), () => ack()]) {
            try {
              decide();
            } catch (error) {
              errors.push(String(error));
            }
          }
          throw new Error('after all');
        },
      });
      const { consumers } = await start('once', 'retry: 1s', of);
      await send('once', 'x');
      const letter = await takeOne('once.dead');
      expect(letter.properties.headers).toMatchObject({ 'x-rejected-reason': 'no' });
      expect(errors[0]).toContain('retryLater: queue "once" has no delay of 5 ms; it has 1s');
      expect(errors[1]).toContain('it was rejected before; only one decision can be taken');
      await vi.waitFor(() => expect(consumers.stats.rejected).toBe(1), LONG);
      expect(consumers.stats).toEqual({ acked: 0, requeued: 0, rejected: 1, retried: 0 });
    });
  });

  it('no more handlers run at a time than may, and no more messages are unacknowledged', async () => {
    let atATime = 0;
    let most = 0;
    const gate = Promise.withResolvers<void>();
    const of = handler({
      concurrency: 2,
      prefetch: 4,
      handle: async () => {
        most = Math.max(most, ++atATime);
        await gate.promise;
        atATime--;
      },
    });
    const { consumers } = await start('bounded', '', of);
    for (let at = 0; at < 8; at++) await send('bounded', at);
    await vi.waitFor(async () => expect(await holds('bounded')).toBe(4), LONG);
    expect(most).toBe(2);
    gate.resolve();
    await vi.waitFor(() => expect(consumers.stats.acked).toBe(8), LONG);
    expect(most).toBe(2);
  });

  it('what fails does not hold up the others while it is held back', async () => {
    const order: unknown[] = [];
    const of = handler({
      concurrency: 1,
      prefetch: 2,
      handle: (message) => {
        order.push(message);
        const others = order.filter((one) => one !== 'bad');
        if (message === 'bad' && others.length < 3) throw new Error('not yet');
      },
    });
    const { consumers } = await start('damped', '', of);
    channel.sendToQueue('damped', Buffer.from('"bad"'), { contentType: 'application/json' });
    for (let at = 0; at < 3; at++) await send('damped', at);
    await vi.waitFor(() => expect(consumers.stats.acked).toBe(4), LONG);
    expect(order.filter((message) => message !== 'bad')).toEqual([0, 1, 2]);
    expect(order.at(-1)).toBe('bad');
  });

  describe('consuming', () => {
    it('goes on when the queue is deleted: it is declared again, and until then it is not healthy', async () => {
      const seen: unknown[] = [];
      const { consumers, problems } = await start(
        'deleted',
        '',
        handler({ handle: (m) => void seen.push(m) }),
      );
      await send('deleted', 'before');
      await vi.waitFor(() => expect(seen).toEqual(['before']), LONG);
      await channel.deleteQueue('deleted');
      await vi.waitFor(() => expect(problems[0]).toContain('queue "deleted" is not consumed'), LONG);
      expect(consumers.isHealthy).toBe(false);
      expect([...consumers.unconsumed.keys()]).toEqual(['deleted']);
      await consumers.ready();
      await send('deleted', 'after');
      await vi.waitFor(() => expect(seen).toEqual(['before', 'after']), LONG);
      expect(consumers.isHealthy).toBe(true);
    });

    it('goes on when the broker closes the channel', async () => {
      const seen: unknown[] = [];
      const of = handler({
        handle: (message, { message: raw }) => {
          seen.push(message);
          // A tag that was never given: the broker closes the channel (406).
          if (seen.length === 1) raw.fields.deliveryTag = 999;
        },
      });
      const { consumers, problems } = await start('channel', '', of);
      await send('channel', 'x');
      await vi.waitFor(() => expect(seen).toEqual(['x', 'x']), LONG);
      await consumers.ready();
      expect(problems[0]).toContain('PRECONDITION_FAILED');
    });

    it('goes on after the broker was restarted, and nothing is lost', async () => {
      const seen = new Set<unknown>();
      const of = handler({ handle: (message) => void seen.add(message) });
      const { consumers, problems } = await start('restarted', '', of);
      await send('restarted', 'before');
      await vi.waitFor(() => expect(seen).toEqual(new Set(['before'])), LONG);
      await model.close();
      await broker.restart({});
      await open();
      await consumers.ready();
      await send('restarted', 'after');
      await vi.waitFor(() => expect(seen).toEqual(new Set(['before', 'after'])), LONG);
      expect(problems[0]).toContain('the connection to the broker was lost');
    });
  });

  it('stopping finishes what is in flight, and the rest stays in the queue', async () => {
    const begun = Promise.withResolvers<void>();
    const of = handler({
      concurrency: 1,
      prefetch: 3,
      handle: async (_, { signal }) => {
        begun.resolve();
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      },
    });
    const { consumers } = await start('stopped', '', of);
    for (let at = 0; at < 3; at++) await send('stopped', at);
    await begun.promise;
    expect(await consumers.stop()).toBe(0);
    expect(consumers.stats.acked).toBe(1);
    expect(consumers.isHealthy).toBe(false);
    await expect(consumers.ready()).rejects.toThrow('the consumers are stopped');
    await vi.waitFor(async () => expect(await holds('stopped')).toBe(2), LONG);
  });

  it('what is acked last, while the consumers are stopped, does not come back', async () => {
    const count = 20;
    const gate = Promise.withResolvers<void>();
    const { consumers } = await start('last', 'prefetch: 20', handler({ handle: () => gate.promise }));
    for (let at = 0; at < count; at++) channel.sendToQueue('last', Buffer.alloc(1), { persistent: true });
    await channel.waitForConfirms();
    await vi.waitFor(() => expect(consumers.queues.get('last')?.consumed).toBe(count), LONG);
    const stopping = consumers.stop();
    // By then they are cancelled: a consumer that is counts until all that it has is settled.
    for (let answers = 0; answers < 10; answers++) await holds('last');
    gate.resolve();
    expect(await stopping).toBe(0);
    expect(consumers.stats.acked).toBe(count);
    // What comes back does so before it.
    await send('last', 'the end');
    expect(String((await takeOne('last')).content)).toBe('"the end"');
  });

  it('stopping gives up on what takes too long, says so, and it comes back', async () => {
    const begun = Promise.withResolvers<void>();
    const of = handler({
      handle: () => {
        begun.resolve();
        return new Promise(() => {});
      },
    });
    const { consumers, problems } = await start('endless', '', of);
    await send('endless', 'x');
    await begun.promise;
    expect(await consumers.stop({ timeoutMs: 50 })).toBe(1);
    expect(problems.at(-1)).toContain('1 messages were not finished within 0.05 s');
    await vi.waitFor(async () => expect(await holds('endless')).toBe(1), LONG);
  });
});
