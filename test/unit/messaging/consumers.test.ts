import { once } from 'node:events';
import type { ConsumeMessage } from 'amqplib';
import { afterEach, describe, expect, it } from 'vitest';
import { parseMessaging } from '../../../messaging/config.ts';
import { attemptsOf, headersOfCopy, headersOfRetry } from '../../../messaging/consumer/attempts.ts';
import { Consumers } from '../../../messaging/consumer/consumers.ts';
import { type HandlerSettings, handler, valueOf } from '../../../messaging/consumer/handler.ts';
import { queueOf, rulesOf } from '../../../messaging/consumer/rules.ts';

function message(
  headers: Record<string, unknown>,
  redelivered = false,
  content = '',
  properties: Record<string, unknown> = {},
): ConsumeMessage {
  return {
    fields: { deliveryTag: 1, redelivered, exchange: '', routingKey: 'q', consumerTag: 'c' },
    properties: { headers, ...properties },
    content: Buffer.from(content),
  } as ConsumeMessage;
}

const death = (queue: string, reason: string, count: unknown) => ({ queue, reason, count });

describe('the attempt of a delivery', () => {
  it.each([
    ['is the first one without headers', {}, false, true, 1],
    ['counts what the broker has redelivered', { 'x-delivery-count': 2 }, true, true, 3],
    ['takes no count of another queue for its own', { 'x-delivery-count': 7 }, false, true, 1],
    ['takes no count from a queue that does not count', { 'x-delivery-count': 7 }, false, false, 1],
    [
      'counts one where a queue that does not count says that it came back',
      { 'x-attempt': 3 },
      true,
      false,
      5,
    ],
    ['counts what was tried before it was published again', { 'x-attempt': 3 }, false, true, 4],
    ['adds both', { 'x-attempt': 3, 'x-delivery-count': 1 }, true, true, 5],
    ['counts rejections and delivery limits of its own queue', deaths(), false, true, 6],
    ['does not believe what is no number', { 'x-attempt': '9', 'x-delivery-count': -1 }, true, true, 1],
    ['does not believe deaths that are none', { 'x-death': ['x', null] }, true, true, 1],
  ])('%s', (_, headers, redelivered, countedByBroker, attempt) => {
    const rules = { queue: 'q', countedByBroker, countsDeaths: false };
    expect(attemptsOf(message(headers, redelivered), rules).attempt).toBe(attempt);
  });

  it('does not count dead letters twice where the delivery count has them', () => {
    const back = message({ 'x-death': [death('q', 'rejected', 2)], 'x-delivery-count': 3 }, true);
    const rules = { queue: 'q', countedByBroker: true };
    expect(attemptsOf(back, { ...rules, countsDeaths: true })).toEqual({ attempt: 4, uncounted: 2 });
    expect(attemptsOf(back, { ...rules, countsDeaths: false })).toEqual({ attempt: 6, uncounted: 2 });
  });

  function deaths(): Record<string, unknown> {
    const all = [
      death('q', 'rejected', 3),
      death('q', 'delivery_limit', 2),
      death('q', 'expired', 5),
      death('other', 'rejected', 5),
    ];
    return { 'x-death': all };
  }

  it('is carried by copies in place of what the broker had counted', () => {
    const original = message({
      own: 1,
      CC: ['elsewhere'],
      'x-attempt': 1,
      'x-delivery-count': 2,
      'x-acquired-count': 2,
      'x-death': [],
      'x-first-death-queue': 'q',
      'x-last-death-reason': 'expired',
    });
    expect(headersOfRetry(original, 4)).toEqual({ own: 1, 'x-attempt': 4 });
    expect(headersOfCopy(original)).toEqual({ own: 1 });
  });
});

describe('a handler', () => {
  it.each([
    ['parsed JSON', 'application/json', undefined, { a: 1 }],
    ['parsed JSON with parameters', 'application/json; charset=utf-8', 'UTF-8', { a: 1 }],
    ['octets of what is encoded', 'application/json', 'gzip', Buffer.from('{"a":1}')],
    ['octets of what is something else', 'application/jsonl', undefined, Buffer.from('{"a":1}')],
    ['octets of what does not say what it is', undefined, undefined, Buffer.from('{"a":1}')],
  ])('gets %s', (_, contentType, contentEncoding, value) => {
    expect(valueOf(message({}, false, '{"a":1}', { contentType, contentEncoding }))).toEqual(value);
  });

  it('gets no JSON that is none, and nobody is told what it says', () => {
    const broken = message({}, false, 'sekret', { contentType: 'application/json' });
    expect(() => valueOf(broken)).toThrow(/^its content is no JSON$/);
  });

  it('gets no JSON that is not UTF-8', () => {
    const broken = message({}, false, '', { contentType: 'application/json' });
    broken.content = Buffer.from([0x22, 0xff, 0x22]);
    expect(() => valueOf(broken)).toThrow('The encoded data was not valid');
  });
});

describe('consumers', () => {
  const running: Consumers[] = [];
  afterEach(async () => {
    for (const consumers of running.splice(0)) await consumers.stop({ timeoutMs: 0 });
  });

  const file = (more = ''): string =>
    `host: 127.0.0.1\nport: 1\nreconnect_delay: 10ms\n${more}\nexchanges: [{name: e, kind: fanout, queues: [{name: a}, {name: b}]}]`;

  function start(
    queue: string,
    settings: Partial<HandlerSettings<unknown>> = {},
    yaml = file(),
    problems: string[] = [],
  ): Consumers {
    const handlers = { [queue]: handler({ handle: () => {}, ...settings }) };
    const onProblem = (text: string): void => void problems.push(text);
    const consumers = new Consumers(parseMessaging('test.yaml', yaml, {}), {
      name: 'test',
      handlers,
      onProblem,
    });
    running.push(consumers);
    return consumers;
  }

  it('refuse a handler of a queue that the file does not have, and name those that it has', () => {
    expect(() => start('c')).toThrow('handler of queue "c": the file has no such queue; it has a, b');
  });

  it('refuse a prefetch and a concurrency that are none', () => {
    expect(() => start('a', { prefetch: 65_536 })).toThrow('prefetch of queue a: 65536 is not');
    expect(() => start('a', { concurrency: 0 })).toThrow('concurrency of queue a: 0 is not');
  });

  it('are ready and healthy without a broker where the file says enabled: false', async () => {
    const problems: string[] = [];
    const consumers = start('a', {}, file('enabled: false'), problems);
    await consumers.ready();
    expect(consumers.isHealthy).toBe(true);
    expect(consumers.unconsumed).toEqual(new Map([['a', 'the file says enabled: false']]));
    expect(problems).toEqual([]);
  });

  it('give up after the attempts that they have, and say why', async () => {
    const problems: string[] = [];
    const consumers = start('a', {}, file('max_reconnect_attempts: 2'), problems);
    await expect(consumers.ready()).rejects.toThrow('given up after 2 attempts (max_reconnect_attempts)');
    expect(consumers.isHealthy).toBe(false);
    expect(problems[0]).toContain('connection refused');
    expect(consumers.unconsumed.get('a')).toContain('connection refused');
    await expect(consumers.ready()).rejects.toThrow('given up');
  });

  it('tell what the file is warned of', () => {
    const problems: string[] = [];
    start('a', {}, 'enabled: false\nexchanges: [{name: e, queues: [{name: a}]}]', problems);
    expect(problems).toEqual(['test.yaml:2:32: queue "a" has no bindings: it gets nothing of exchange "e"']);
  });

  it('are loud about a certificate that is not checked, whoever listens', async () => {
    const warned = once(process, 'warning');
    start('a', {}, file('tls: {enabled: true, skip_verify: true}'));
    const [warning] = (await warned) as [Error & { code: string }];
    expect(warning.code).toBe('QUORUMBRIDGE_SKIP_VERIFY');
    expect(warning.message).toContain(
      'test: the certificate of RabbitMQ at 127.0.0.1:1, virtual host / is not checked (skip_verify)',
    );
  });

  it('know a queue by the entry that declares it, wherever that stands', () => {
    const config = parseMessaging(
      'test.yaml',
      `
exchanges:
  - { name: first, kind: fanout, queues: [{ name: a, declare: false }] }
  - { name: second, kind: fanout, queues: [{ name: a, delivery_limit: 7 }, { name: b, declare: false }] }`,
      {},
    );
    expect(queueOf(config, 'a')?.deliveryLimit).toBe(7);
    expect(queueOf(config, 'b')?.declare).toBe(false);
    expect(queueOf(config, 'c')).toBeUndefined();
  });

  it('know the limit and the dead letters of a queue that has its arguments as they are', () => {
    const yaml = `
exchanges:
  - name: e
    kind: fanout
    queues:
      - name: a
        arguments: {x-queue-type: quorum, x-delivery-limit: 3, x-dead-letter-exchange: dead}
      - name: b
        delivery_limit: none`;
    const [counted, endless] = parseMessaging('test.yaml', yaml, {}).exchanges[0]!.queues;
    const version = { major: 4, minor: 3, patch: 0 };
    expect(rulesOf(counted!, version)).toEqual({
      queue: 'a',
      countedByBroker: true,
      countsDeaths: true,
      deliveryLimit: 3,
      deadLetterExchange: 'dead',
      retries: [],
    });
    expect(rulesOf(endless!, version).deliveryLimit).toBeUndefined();
  });
});
