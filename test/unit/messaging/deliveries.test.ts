// What the broker is told of deliveries, and in which frames.
import { EventEmitter } from 'node:events';
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { QueueConsumer } from '../../../messaging/consumer/queue-consumer.ts';
import { handler } from '../../../messaging/consumer/handler.ts';
import { Session } from '../../../messaging/consumer/session.ts';

type Told = readonly [what: 'ack' | 'reject' | 'close', tag?: number, multiple?: boolean];

/** A channel with RabbitMQ's rules: a delivery tag that isn't outstanding is an error, and `multiple` takes all up to it. */
class FakeChannel extends EventEmitter {
  readonly outstanding = new Set<number>();
  readonly told: Told[] = [];
  readonly acked: number[] = [];
  #deliver: (message: ConsumeMessage) => void = () => {};

  async consume(_: string, onMessage: (message: ConsumeMessage) => void): Promise<{ consumerTag: string }> {
    this.#deliver = onMessage;
    return { consumerTag: 'c' };
  }

  deliver(deliveryTag: number): ConsumeMessage {
    const fields = { deliveryTag, redelivered: false };
    const message = { fields, properties: {}, content: Buffer.alloc(0) } as unknown as ConsumeMessage;
    this.outstanding.add(deliveryTag);
    this.#deliver(message);
    return message;
  }

  ack({ fields: { deliveryTag } }: ConsumeMessage, multiple = false): void {
    this.#check(deliveryTag);
    this.told.push(['ack', deliveryTag, multiple]);
    for (const tag of this.outstanding) {
      if (tag !== deliveryTag && !(multiple && tag < deliveryTag)) continue;
      this.outstanding.delete(tag);
      this.acked.push(tag);
    }
  }

  reject({ fields: { deliveryTag } }: ConsumeMessage): void {
    this.#check(deliveryTag);
    this.told.push(['reject', deliveryTag]);
    this.outstanding.delete(deliveryTag);
  }

  async prefetch(): Promise<void> {}

  async cancel(): Promise<void> {}

  async close(): Promise<void> {
    this.told.push(['close']);
    this.emit('close');
  }

  #check(tag: number): void {
    if (!this.outstanding.has(tag)) throw new Error(`unknown delivery tag ${tag}`);
  }
}

async function start(count: number): Promise<{
  channel: FakeChannel;
  session: Session;
  messages: ConsumeMessage[];
}> {
  const channel = new FakeChannel();
  const session = new Session(channel as unknown as Channel);
  await session.consume(
    'q',
    () => {},
    () => {},
  );
  const messages = Array.from({ length: count }, (_, at) => channel.deliver(at + 1));
  return { channel, session, messages };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

it('acks of one turn go as one, up to the first delivery that is not settled', async () => {
  const { channel, session, messages } = await start(6);
  for (const at of [1, 0, 2, 4]) expect(session.ack(messages[at]!)).toBe(true);
  expect(channel.told).toEqual([]);
  await turn();
  expect(channel.told).toEqual([
    ['ack', 5, false],
    ['ack', 3, true],
  ]);
  session.ack(messages[3]!);
  await turn();
  expect(channel.told.at(-1)).toEqual(['ack', 4, false]);
  expect([...channel.outstanding]).toEqual([6]);
});

it('whatever is settled in whatever order and turn, the broker hears of that and of nothing else', async () => {
  const steps = fc.array(
    fc.record({ at: fc.nat(19), what: fc.constantFrom('ack', 'ack', 'ack', 'reject', 'turn') }),
    { maxLength: 60 },
  );
  await fc.assert(
    fc.asyncProperty(steps, async (all) => {
      const { channel, session, messages } = await start(20);
      const settled = new Map<number, string>();
      for (const { at, what } of all) {
        if (what === 'turn') await turn();
        else if (!settled.has(at + 1)) {
          settled.set(at + 1, what);
          if (what === 'ack') session.ack(messages[at]!);
          else session.reject(messages[at]!, true);
        }
      }
      await turn();
      const acked = [...settled].filter(([, what]) => what === 'ack').map(([tag]) => tag);
      expect(channel.acked.toSorted((a, b) => a - b)).toEqual(acked.toSorted((a, b) => a - b));
      expect(channel.outstanding.size).toBe(20 - settled.size);
    }),
  );
});

it('closing tells of the acks first, and what is settled afterwards is dropped', async () => {
  const { channel, session, messages } = await start(3);
  session.ack(messages[0]!);
  await session.close();
  expect(channel.told).toEqual([['ack', 1, false], ['close']]);
  expect(session.ack(messages[1]!)).toBe(false);
  expect(session.reject(messages[2]!, true)).toBe(false);
  await turn();
  expect(channel.told).toHaveLength(2);
});

it('a retired session closes its channel once all is settled, and told', async () => {
  const { channel, session, messages } = await start(2);
  session.retire();
  session.ack(messages[0]!);
  await turn();
  session.ack(messages[1]!);
  expect(channel.told).toEqual([['ack', 1, false]]);
  await turn();
  expect(channel.told.slice(1)).toEqual([['ack', 2, false], ['close']]);
});

it('handlers that return at once, and those that do not, take their turns, however many wait', async () => {
  const channel = new FakeChannel();
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const outcomes: string[] = [];
  let [handled, running, most] = [0, 0, 0];
  const consumer = new QueueConsumer({
    client: 'test',
    queue: 'q',
    prefetch: 0,
    concurrency: 2,
    firstDelayMs: 1,
    answerMs: 60_000,
    forwarder: undefined as never,
    propagator: undefined,
    signal: new AbortController().signal,
    onProblem: (text) => void outcomes.push(text),
    onBegun: () => {},
    onOutcome: (outcome) => void outcomes.push(outcome),
    onConsuming: () => {},
    handler: handler({
      handle: () => {
        most = Math.max(most, ++running);
        handled++;
        if (handled > 2) {
          running--;
          return undefined;
        }
        return gate.then(() => void running--);
      },
    }),
  });
  const model = { createChannel: async () => channel } as unknown as ChannelModel;
  const rules = {
    queue: 'q',
    countedByBroker: true,
    countsDeaths: true,
    deliveryLimit: undefined,
    deadLetterExchange: undefined,
    retries: [],
  };
  consumer.start({ model, rules, refusal: undefined, declare: async () => {}, onChannelLeft: () => {} });
  await turn();
  const count = 50_000;
  for (let tag = 1; tag <= count; tag++) channel.deliver(tag);
  expect([handled, consumer.inFlight]).toEqual([2, 2]);
  open();
  await turn();
  expect([handled, consumer.inFlight, most]).toEqual([count, 0, 2]);
  expect(outcomes).toEqual(Array.from({ length: count }, () => 'acked'));
  await consumer.stop();
  expect(channel.outstanding.size).toBe(0);
});
