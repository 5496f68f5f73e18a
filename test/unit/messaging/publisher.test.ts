import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseMessaging } from '../../../messaging/config.ts';
import { Line } from '../../../messaging/publisher/line.ts';
import { encode } from '../../../messaging/publisher/message.ts';
import { Publisher } from '../../../messaging/publisher/publisher.ts';
import { AnsweringBroker } from '../../support/answering-broker.ts';

let broker: AnsweringBroker;
const problems: string[] = [];
const running: Publisher[] = [];

beforeEach(async () => {
  broker = await new AnsweringBroker().start();
  problems.length = 0;
});
afterEach(async () => {
  for (const publisher of running.splice(0)) await publisher.close({ timeoutMs: 0 });
  await broker[Symbol.asyncDispose]();
});

function start(yaml = ''): Publisher {
  const text = `host: 127.0.0.1\nport: ${broker.port}\nreconnect_delay: 10ms\n${yaml}`;
  const settings = { name: 'test', onProblem: (problem: string) => void problems.push(problem) };
  const publisher = new Publisher(parseMessaging('test.yaml', text, {}), settings);
  running.push(publisher);
  return publisher;
}

const message = (content: string, timeoutMs = 60_000) => ({
  exchange: '',
  routingKey: 'q',
  content,
  timeoutMs,
});

describe('a publisher whose broker confirms nothing', () => {
  it('lets time run out, and makes another connection, on which the others are published again', async () => {
    const publisher = start();
    const late = publisher.publish(message('late', 300)).catch((error: unknown) => error);
    const [first, second] = [publisher.publish(message('1')), publisher.publish(message('2'))];
    first.catch(() => {});
    second.catch(() => {});
    expect(await late).toMatchObject({ name: 'PublishError', failure: 'timed-out', sent: true });
    expect(String(await late)).toContain('the broker has not confirmed it within 0.3 s (publish_timeout)');
    await expect.poll(() => broker.published.map(({ body }) => body)).toEqual(['late', '1', '2', '1', '2']);
    expect(problems.join()).toContain('the broker confirms nothing');
    expect(publisher.stats).toMatchObject({ republished: 2, waiting: 2, failed: { 'timed-out': 1 } });
    await publisher.close({ timeoutMs: 0 });
    await expect(first).rejects.toMatchObject({ failure: 'closed', sent: true });
  });

  it('publishes what is lost with a connection again, in its order and with its number', async () => {
    const publisher = start();
    const all = publisher.publishAll(['1', '2', '3'].map((content) => message(content)));
    await expect.poll(() => broker.published.length).toBe(3);
    broker.peers[0]!.socket.resetAndDestroy();
    await expect.poll(() => broker.published.map(({ body }) => body)).toEqual(['1', '2', '3', '1', '2', '3']);
    await publisher.close({ timeoutMs: 0 });
    expect((await all).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
  });

  it('tells of no confirmation where none is asked for', async () => {
    const publisher = start('publisher: {confirm: false}');
    await expect(publisher.publish(message('x'))).resolves.toMatchObject({ confirmed: false });
    await publisher.flush();
    expect(publisher.stats).toMatchObject({ confirmed: 0, sent: 1, waiting: 0 });
  });

  it('takes a messageId once as long as it is under way', async () => {
    const publisher = start();
    const one = publisher.publish({ ...message('1'), messageId: 'same' }).catch(() => {});
    await expect(publisher.publish({ ...message('2'), messageId: 'same' })).rejects.toMatchObject({
      failure: 'invalid',
    });
    await publisher.close({ timeoutMs: 0 });
    await one;
  });
});

it('a publisher can be closed while it waits for a broker that never answers', async () => {
  const { server } = broker;
  server.removeAllListeners('connection');
  const publisher = start('connect_timeout: 1s');
  await once(server, 'connection');
  const pending = publisher.publish(message('x')).catch((error: unknown) => error);
  await publisher.close({ timeoutMs: 0 });
  expect(await pending).toMatchObject({ failure: 'closed', sent: false });
});

it.each([
  'exchange',
  'routingKey',
  'messageId',
  'correlationId',
  'replyTo',
  'type',
  'appId',
  'contentEncoding',
])('a message whose %s is longer than a short string is refused, in octets of UTF-8', (field) => {
  const of = (text: string): (() => unknown) => {
    const sent = { exchange: '', routingKey: '', content: '', [field]: text };
    return () => encode(sent, 0);
  };
  for (const fits of ['x'.repeat(255), '€'.repeat(85), '']) expect(of(fits)).not.toThrow();
  for (const long of ['x'.repeat(256), '€'.repeat(86)])
    expect(of(long)).toThrow(`${field}: ${Buffer.byteLength(long)} octets are more than 255`);
});

it('messages have UUIDs of their own', () => {
  const ids = Array.from(
    { length: 10_000 },
    () => encode({ exchange: '', routingKey: '', content: '' }, 0).messageId,
  );
  expect(new Set(ids).size).toBe(ids.length);
  for (const id of ids)
    expect(id).toMatch(/^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
});

it('a line gives what it was given, in its order, with what is put back first', () => {
  const line = new Line<number>();
  for (let at = 0; at < 5000; at++) line.push(at);
  for (let at = 0; at < 3000; at++) expect(line.shift()).toBe(at);
  line.putBack([1, 2]);
  expect([line.shift(), line.shift(), line.shift()]).toEqual([1, 2, 3000]);
  expect(line.length).toBe(1999);
  line.clear();
  expect(line.shift()).toBeUndefined();
});
