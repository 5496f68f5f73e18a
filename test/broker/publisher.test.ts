// The publisher of the messaging kit: every publish settles, whatever the broker and the network do.
import { once } from 'node:events';
import { type Channel, type ChannelModel, connect } from 'amqplib';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { parseMessaging } from '../../messaging/config.ts';
import type { PublishError } from '../../messaging/publisher/errors.ts';
import { Publisher, type PublisherSettings } from '../../messaging/publisher/publisher.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';

const LONG = { timeout: 60_000, interval: 50 };

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  let broker: Broker;
  let model: ChannelModel;
  let channel: Channel;
  const running: Publisher[] = [];

  beforeAll(async () => {
    broker = await startBroker(version);
    await open();
  });
  afterEach(async () => {
    for (const publisher of running.splice(0)) await publisher.close({ timeoutMs: 0 });
  });
  afterAll(async () => {
    await model?.close();
    await broker?.stop();
  });

  async function open(): Promise<void> {
    model = await connect(`amqp://127.0.0.1:${broker.port}`);
    model.on('error', () => {}); // brokers are stopped here
    channel = await model.createChannel();
  }

  function start(yaml = '', settings: Partial<PublisherSettings> = {}): Publisher {
    const text = `host: 127.0.0.1\nport: ${broker.port}\nreconnect_delay: 100ms\n${yaml}`;
    const publisher = new Publisher(parseMessaging('test.yaml', text, {}), { name: 'test', ...settings });
    running.push(publisher);
    return publisher;
  }

  async function queue(name: string, settings: Record<string, unknown> = {}): Promise<string> {
    await channel.assertQueue(name, { durable: true, arguments: { 'x-queue-type': 'quorum', ...settings } });
    await channel.purgeQueue(name);
    return name;
  }

  async function takeAll(name: string): Promise<{ id: string; text: string }[]> {
    const found = [];
    for (;;) {
      const message = await channel.get(name, { noAck: true });
      if (message === false) return found;
      found.push({ id: String(message.properties.messageId), text: message.content.toString() });
    }
  }

  const failed = (promise: Promise<unknown>): Promise<PublishError> =>
    promise.then(
      () => expect.fail('it was confirmed'),
      (error: unknown) => error as PublishError,
    );

  describe('a publish', () => {
    it('is confirmed with all that it was given, persistent, and in its order', async () => {
      const name = await queue('published');
      const publisher = start();
      const results = await publisher.publishAll(
        ['one', 'two', 'three'].map((text) => ({ exchange: '', routingKey: name, content: text })),
      );
      expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled']);
      expect((await takeAll(name)).map(({ text }) => text)).toEqual(['one', 'two', 'three']);
      const { messageId } = await publisher.publish({
        exchange: '',
        routingKey: name,
        content: { a: 1 },
        priority: 3,
        headers: { h: 'x' },
        expirationMs: 60_000,
        correlationId: 'c',
        replyTo: 'r',
        type: 't',
        appId: 'app',
      });
      const message = await channel.get(name, { noAck: true });
      expect(message).toMatchObject({
        properties: {
          messageId,
          deliveryMode: 2,
          priority: 3,
          headers: { h: 'x' },
          expiration: '60000',
          correlationId: 'c',
          replyTo: 'r',
          type: 't',
          appId: 'app',
          contentType: 'application/json',
        },
      });
      expect(publisher.stats).toMatchObject({ published: 4, confirmed: 4, waiting: 0 });
    });

    it('that no queue gets is returned, and those around it are confirmed', async () => {
      const name = await queue('around');
      const publisher = start();
      const [one, lost, other] = await publisher.publishAll([
        { exchange: '', routingKey: name, content: 'one' },
        { exchange: '', routingKey: 'nobody', content: 'lost' },
        { exchange: '', routingKey: name, content: 'other' },
      ]);
      expect([one!.status, lost!.status, other!.status]).toEqual(['fulfilled', 'rejected', 'fulfilled']);
      expect((lost as PromiseRejectedResult).reason).toMatchObject({ failure: 'returned', sent: true });
      expect(String((lost as PromiseRejectedResult).reason)).toContain('routing key "nobody"');
      await publisher.publish({ exchange: '', routingKey: 'nobody', content: '', mandatory: false });
    });

    it('that a full queue rejects is nacked', async () => {
      const name = 'full';
      await channel.assertQueue(name, {
        durable: true,
        arguments: { 'x-max-length': 1, 'x-overflow': 'reject-publish' },
      });
      const publisher = start();
      await publisher.publish({ exchange: '', routingKey: name, content: '1' });
      const failures: string[] = [];
      for (let at = 0; at < 3; at++) {
        await publisher
          .publish({ exchange: '', routingKey: name, content: '2' })
          .catch(({ failure }: PublishError) => failures.push(failure));
      }
      expect(failures).toContain('nacked');
      await channel.deleteQueue(name);
    });

    it('to an exchange that there is not is refused, it alone, and the others are confirmed once', async () => {
      const name = await queue('beside');
      const publisher = start();
      const good = Array.from({ length: 20 }, (_, at) => ({
        exchange: '',
        routingKey: name,
        content: String(at),
      }));
      const bad = { exchange: 'no-such', routingKey: 'x', content: '' };
      const results = await publisher.publishAll([...good.slice(0, 10), bad, ...good.slice(10)]);
      expect(results.map(({ status }) => status)).toEqual(
        Array.from({ length: 21 }, (_, at) => (at === 10 ? 'rejected' : 'fulfilled')),
      );
      const { reason } = results[10] as PromiseRejectedResult;
      expect(reason).toMatchObject({ failure: 'refused' });
      expect(String(reason)).toContain("no exchange 'no-such'");
      const ids = new Set((await takeAll(name)).map(({ id }) => id));
      expect(ids.size).toBe(20);
    });

    it('that cannot be sent is invalid, and names the field', async () => {
      const publisher = start();
      const base = { exchange: '', routingKey: 'q', content: '' };
      const wrong = await failed(publisher.publish({ ...base, priority: 256 }));
      expect(wrong).toMatchObject({ failure: 'invalid', sent: false });
      expect(wrong.message).toBe('priority: 256 is not a whole number from 0 to 255');
      const long = await failed(publisher.publish({ ...base, correlationId: 'x'.repeat(300) }));
      expect(long.message).toContain('correlationId: 300 octets');
      const circular: Record<string, unknown> = {};
      circular['self'] = circular;
      expect(await failed(publisher.publish({ ...base, content: circular }))).toMatchObject({
        failure: 'invalid',
      });
      const odd = { ...base, headers: { h: Symbol('x') as unknown } };
      expect(await failed(publisher.publish(odd))).toMatchObject({ failure: 'invalid' });
      expect(publisher.stats.failed.invalid).toBe(4);
    });
  });

  describe('without a connection', { timeout: 180_000 }, () => {
    it('messages wait, keep their order and their number, and no more than may', async () => {
      // Stopped in order: of one that is killed soon after, a queue's declaration may be lost.
      const name = await queue('waited', { 'x-queue-type': 'classic' });
      const closed = once(model, 'close');
      const restarted = broker.restart({});
      await closed;
      const publisher = start('', { maxWaiting: 5, maxWaitingOctets: 100 });
      const messages = ['1', '2', '3', '4', '5'];
      const waiting = publisher.publishAll(
        messages.map((text) => ({ exchange: '', routingKey: name, content: text, timeoutMs: 120_000 })),
      );
      const more = await failed(publisher.publish({ exchange: '', routingKey: name, content: '6' }));
      expect(more).toMatchObject({ failure: 'overflow', sent: false });
      await restarted;
      await open();
      const settled = (await waiting).map((one) => (one.status === 'rejected' ? one.reason : one.status));
      expect(settled.map(String)).toEqual(messages.map(() => 'fulfilled'));
      expect((await takeAll(name)).map(({ text }) => text)).toEqual(messages);
    });

    it('time runs out for those that wait for too long', async () => {
      const publisher = start('publisher: {publish_timeout: 200ms}', {});
      await publisher.ready();
      await model.close();
      await broker.kill();
      const late = await failed(publisher.publish({ exchange: '', routingKey: 'q', content: '' }));
      expect(late.failure).toBe('timed-out');
      await broker.restart({});
      await open();
      await publisher.ready();
    });
  });

  it('closing settles all that is left', async () => {
    const problems: string[] = [];
    const publisher = start('', { onProblem: (problem) => problems.push(problem) });
    await publisher.ready();
    const pending = publisher.publish({ exchange: '', routingKey: await queue('left'), content: 'x' });
    await publisher.close();
    await expect(pending).resolves.toMatchObject({ confirmed: true });
    expect(problems).toEqual([]);
    const after = await failed(publisher.publish({ exchange: '', routingKey: 'q', content: '' }));
    expect(after).toMatchObject({ failure: 'closed', sent: false });
  });

  it('closing leaves nothing behind that was sent without confirms', async () => {
    // A quorum queue may not have taken what its channel has, when that closes: only confirms tell.
    const name = await queue('unconfirmed', { 'x-queue-type': 'classic' });
    const publisher = start('publisher: {confirm: false}');
    await publisher.ready();
    const messages = Array.from({ length: 500 }, () => ({ exchange: '', routingKey: name, content: 'x' }));
    const results = await publisher.publishAll(messages);
    await publisher.close();
    expect(results.every(({ status }) => status === 'fulfilled')).toBe(true);
    await vi.waitFor(async () => {
      const { messageCount } = await channel.checkQueue(name);
      expect(messageCount).toBe(messages.length);
    }, LONG);
  });

  it('gives up after the attempts that it has, and says why', async () => {
    const text = 'host: 127.0.0.1\nport: 1\nreconnect_delay: 10ms\nmax_reconnect_attempts: 2';
    const publisher = new Publisher(parseMessaging('test.yaml', text, {}), { name: 'test' });
    running.push(publisher);
    const waiting = failed(publisher.publish({ exchange: '', routingKey: 'q', content: '' }));
    await expect(publisher.ready()).rejects.toThrow('given up after 2 attempts (max_reconnect_attempts)');
    expect(await waiting).toMatchObject({ failure: 'closed', sent: false });
    expect(publisher.state).toBe('failed');
  });
});
