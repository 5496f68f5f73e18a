// What is seen of the messaging kit from outside: metrics, events and traces.
import { AsyncLocalStorage } from 'node:async_hooks';
import { channel } from 'node:diagnostics_channel';
import * as api from '@opentelemetry/api';
import type { Channel, ConsumeMessage } from 'amqplib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseMessaging } from '../../../messaging/config.ts';
import { Delivery, type Surroundings } from '../../../messaging/consumer/delivery.ts';
import { type Context, handler } from '../../../messaging/consumer/handler.ts';
import { Session } from '../../../messaging/consumer/session.ts';
import { type Events, events } from '../../../messaging/observe/events.ts';
import { messagingMetrics } from '../../../messaging/observe/metrics.ts';
import { openTelemetry, type Propagator } from '../../../messaging/observe/propagation.ts';
import { Publisher, type PublisherSettings } from '../../../messaging/publisher/publisher.ts';
import { AnsweringBroker } from '../../support/answering-broker.ts';

let broker: AnsweringBroker;
const running: Publisher[] = [];
const unsubscribe: (() => void)[] = [];

beforeEach(async () => {
  broker = await new AnsweringBroker().start();
});
afterEach(async () => {
  for (const publisher of running.splice(0)) await publisher.close({ timeoutMs: 0 });
  for (const stop of unsubscribe.splice(0)) stop();
  await broker[Symbol.asyncDispose]();
});

function start(yaml = '', settings: Partial<PublisherSettings> = {}): Publisher {
  const text = `host: 127.0.0.1\nport: ${broker.port}\nreconnect_delay: 10ms\nusername: guest\npassword: guest\n${yaml}`;
  const publisher = new Publisher(parseMessaging('test.yaml', text, {}), { name: 'test', ...settings });
  running.push(publisher);
  return publisher;
}

/** What is told from now on, in its order. */
function listen<Name extends keyof Events>(name: Name): Events[Name][] {
  const told: Events[Name][] = [];
  const hear = (message: unknown): void => void told.push(message as Events[Name]);
  const heard = channel(`quorumbridge.messaging.${name}`);
  heard.subscribe(hear);
  unsubscribe.push(() => heard.unsubscribe(hear));
  return told;
}

const message = { exchange: '', routingKey: 'q', content: 'secret content', messageId: 'm1' };

/** A delivery whose channel takes whatever it is told. */
function deliver(
  properties: Record<string, unknown>,
  settings: Partial<Surroundings> = {},
  fields: Record<string, unknown> = {},
): Delivery {
  const calls = { on: () => {}, ack: () => {}, reject: () => {} } as unknown as Channel;
  const delivery = {
    content: Buffer.from('x'),
    fields: { redelivered: false, routingKey: 'q', ...fields },
    properties,
  } as unknown as ConsumeMessage;
  const rules = {
    queue: 'q',
    countedByBroker: true,
    countsDeaths: true,
    deliveryLimit: 2,
    deadLetterExchange: undefined,
    retries: [],
  };
  return new Delivery(delivery, new Session(calls), rules, {
    client: 'test',
    forwarder: undefined as never,
    propagator: undefined,
    signal: AbortSignal.abort(),
    onProblem: () => {},
    onBegun: () => {},
    onOutcome: () => {},
    ...settings,
  });
}

async function handle(delivery: Delivery, act: (context: Context) => Promise<void> | void): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const progress = { handled: () => {}, settled: resolve };
  delivery.handle(handler({ handle: (_, context) => act(context) }), progress);
  await promise;
}

describe('the metrics', () => {
  it('count publishes by how they were settled, and those that are not', async () => {
    const publisher = start();
    const text = (): Promise<string> => messagingMetrics({ publishers: [publisher] }).text();
    const [kept, twice] = [publisher.publish(message), publisher.publish(message)];
    kept.catch(() => {});
    await expect(twice).rejects.toMatchObject({ failure: 'invalid' });
    await expect.poll(() => broker.published.length).toBe(1);
    const lines = (await text()).split('\n');
    expect(lines).toContain('rabbitmq_messages_published_total{client="test",outcome="invalid"} 1');
    expect(lines).toContain('rabbitmq_messages_published_total{client="test",outcome="confirmed"} 0');
    expect(lines).toContain('rabbitmq_messages_unsettled{client="test"} 1');
    expect(lines).toContain('rabbitmq_connection_state{client="test",state="open"} 1');
    expect(lines).toContain('rabbitmq_connection_state{client="test",state="closed"} 0');
    await publisher.close({ timeoutMs: 0 });
    expect(await text()).toContain('rabbitmq_messages_published_total{client="test",outcome="closed"} 1');
    expect(await text()).toContain('rabbitmq_connection_state{client="test",state="closed"} 1');
  });

  it('tell what was sent without confirms from what was confirmed', async () => {
    const publisher = start('publisher: {confirm: false}');
    await publisher.publish(message);
    const text = await messagingMetrics({ publishers: [publisher] }).text();
    expect(text).toContain('rabbitmq_messages_published_total{client="test",outcome="sent"} 1');
    expect(text).toContain('rabbitmq_publish_latency_seconds_count{client="test"} 0');
  });

  it('leave the metrics of the process to the program', async () => {
    expect(await messagingMetrics({}).text()).not.toContain('process_cpu');
  });

  it('refuse two of the same name', () => {
    const publishers = [start(), start()];
    expect(() => messagingMetrics({ publishers })).toThrow(
      'two publishers or consumers have the name "test": their metrics need names that differ',
    );
  });
});

describe('the events', () => {
  it('tell of a publish and of how it was settled, without its content and headers', async () => {
    const [published, settled] = [listen('publish'), listen('settle')];
    const publisher = start('publisher: {confirm: false}');
    await publisher.publish({ ...message, headers: { token: 'secret header' } });
    const where = { client: 'test', messageId: 'm1', exchange: '', routingKey: 'q' };
    expect(published).toEqual([{ ...where, octets: 14 }]);
    expect(settled).toEqual([{ ...where, outcome: 'sent', seconds: expect.any(Number) }]);
    expect(JSON.stringify([published, settled])).not.toContain('secret');
  });

  it('tell of what is refused at once, too', async () => {
    const settled = listen('settle');
    const publisher = start('', { maxWaiting: 0 });
    await expect(publisher.publish(message)).rejects.toMatchObject({ failure: 'overflow' });
    await expect(publisher.publish({ ...message, priority: 256 })).rejects.toMatchObject({
      failure: 'invalid',
    });
    expect(settled.map(({ outcome }) => outcome)).toEqual(['overflow', 'invalid']);
  });

  it('tell of a connection that opens, is lost, opens again and is closed', async () => {
    const told = listen('connection');
    const publisher = start();
    await publisher.ready();
    await expect.poll(() => publisher.state).toBe('open');
    broker.peers[0]!.socket.resetAndDestroy();
    await expect.poll(() => told.map(({ state }) => state)).toEqual(['open', 'connecting', 'open']);
    await publisher.close({ timeoutMs: 0 });
    expect(told.map(({ client, state }) => `${client} ${state}`)).toEqual(
      ['open', 'connecting', 'open', 'closed'].map((state) => `test ${state}`),
    );
    expect(told[1]!.reason).toMatch(/ECONNRESET|ended|closed/);
  });

  it('tell of a delivery that is given back, and of one that was given back once too often as a dead letter', async () => {
    const [delivered, outcomes] = [listen('deliver'), listen('outcome')];
    const nack = ({ nack: giveBack }: Context): void => giveBack();
    await handle(deliver({ messageId: 'm1' }), nack);
    const headers = { 'x-delivery-count': 2 };
    await handle(deliver({ messageId: 'm1', headers }, {}, { redelivered: true }), nack);
    const who = { client: 'test', queue: 'q', messageId: 'm1' };
    expect(delivered).toEqual([
      { ...who, attempt: 1, redelivered: false },
      { ...who, attempt: 3, redelivered: true },
    ]);
    expect(outcomes).toEqual([
      { ...who, attempt: 1, outcome: 'requeued', seconds: expect.any(Number) },
      { ...who, attempt: 3, outcome: 'rejected', seconds: expect.any(Number) },
    ]);
  });

  it('are made only while somebody listens', () => {
    expect(Object.values(events).map(({ hasSubscribers }) => hasSubscribers)).toEqual(
      Object.values(events).map(() => false),
    );
    listen('settle');
    expect(events.settle.hasSubscribers).toBe(true);
  });
});

const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

describe('a trace', () => {
  const contexts = new AsyncLocalStorage<api.Context>();
  const key = api.createContextKey('traceparent');
  let propagator: Propagator;
  beforeEach(() => {
    // What OpenTelemetry's SDK sets up: contexts by AsyncLocalStorage, and W3C's header.
    api.context.setGlobalContextManager({
      active: () => contexts.getStore() ?? api.ROOT_CONTEXT,
      with: (context, work, self, ...args) => contexts.run(context, () => work.apply(self, args)),
      bind: (_, target) => target,
      enable: () => expect.fail('not called'),
      disable() {
        return this;
      },
    });
    api.propagation.setGlobalPropagator({
      inject: (context, carrier, setter) => {
        const value = context.getValue(key);
        if (typeof value === 'string') setter.set(carrier, 'traceparent', value);
      },
      extract: (context, carrier, getter) => {
        const value = getter.get(carrier, 'traceparent');
        return value === undefined ? context : context.setValue(key, value);
      },
      fields: () => ['traceparent'],
    });
    propagator = openTelemetry(api);
  });
  afterEach(() => {
    api.context.disable();
    api.propagation.disable();
  });

  const present = (): unknown => api.context.active().getValue(key);
  const within = <T>(value: string, work: () => T): T =>
    api.context.with(api.ROOT_CONTEXT.setValue(key, value), work);

  it('goes from who publishes into the headers, beside those of the message', () => {
    const headers: Record<string, unknown> = { own: 1 };
    within(TRACEPARENT, () => propagator.inject(headers));
    expect(headers).toEqual({ own: 1, traceparent: TRACEPARENT });
  });

  it('is written by a publisher, which leaves the headers that it was given as they are', async () => {
    const publisher = start('publisher: {confirm: false}', { propagator });
    const octets: Buffer[] = [];
    await publisher.ready();
    broker.peers[0]!.socket.on('data', (chunk: Buffer) => octets.push(chunk));
    const headers = {};
    await within(TRACEPARENT, () => publisher.publish({ ...message, headers }));
    await expect.poll(() => Buffer.concat(octets).toString('latin1')).toContain(TRACEPARENT);
    expect(headers).toEqual({});
  });

  it('goes from the headers to the handler, as far as it goes on', async () => {
    const seen: unknown[] = [];
    const delivery = deliver({ headers: { traceparent: TRACEPARENT } }, { propagator });
    await handle(delivery, async () => {
      seen.push(present());
      await Promise.resolve();
      seen.push(present());
    });
    expect(seen).toEqual([TRACEPARENT, TRACEPARENT]);
    expect(present()).toBeUndefined();
  });

  it.each([{ traceparent: 7 }, { traceparent: { a: 1 } }, Object.create({ traceparent: TRACEPARENT }), {}])(
    'is none where the header is no text: %j',
    (headers: Record<string, unknown>) => {
      expect(propagator.run(headers, present)).toBeUndefined();
    },
  );

  it('whose propagator throws fails the publish, which is settled all the same', async () => {
    const inject = (): never => {
      throw new Error('no context');
    };
    const publisher = start('', { propagator: { ...propagator, inject } });
    await expect(publisher.publish(message)).rejects.toMatchObject({
      failure: 'invalid',
      message: 'no context',
    });
  });
});
