// The metrics of the messaging kit add up to what a broker has had to do.
import { connect } from 'amqplib';
import { expect, it, vi } from 'vitest';
import { parseMessaging } from '../../messaging/config.ts';
import { Consumers } from '../../messaging/consumer/consumers.ts';
import { handler } from '../../messaging/consumer/handler.ts';
import { messagingMetrics } from '../../messaging/observe/metrics.ts';
import { Publisher } from '../../messaging/publisher/publisher.ts';
import { startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';

await describeBrokers(['4.3'], (version) => {
  it('counts every publish and every delivery once, by what became of it', async () => {
    await using broker = await startBroker(version);
    const text = `
host: 127.0.0.1
port: ${broker.port}
exchanges:
  - name: ''
    kind: direct
    queues: [{name: work, delivery_limit: 1, retry: 1s, dlx_name: work.dlx, dlq_name: work.dead}]`;
    const config = parseMessaging('test.yaml', text, {});
    const consumers = new Consumers(config, {
      name: 'consumers',
      handlers: {
        work: handler({
          handle: (content, { attempt, reject, retryLater }) => {
            const word = String(content);
            if (word === 'poison' || (word === 'fails once' && attempt === 1)) throw new Error(word);
            if (word === 'reject') reject('no');
            if (word === 'later' && attempt === 1) retryLater();
          },
        }),
      },
    });
    const publisher = new Publisher(config, { name: 'publisher' });
    const { text: scrape } = messagingMetrics({ publishers: [publisher], consumers: [consumers] });
    const counted = async (): Promise<Record<string, number>> =>
      Object.fromEntries(
        [...(await scrape()).matchAll(/^rabbitmq_(.+) (\d+)$/gm)].map(([, name, value]) => [
          name,
          Number(value),
        ]),
      );
    await consumers.ready();
    const words = ['fine', 'fine', 'fine', 'fails once', 'poison', 'reject', 'later'];
    const results = await publisher.publishAll(
      [...words.map((content) => ['work', content]), ['nowhere', 'lost']].map(([routingKey, content]) => ({
        exchange: '',
        routingKey: routingKey!,
        content,
      })),
    );
    expect(results.map(({ status }) => status)).toEqual([...words.map(() => 'fulfilled'), 'rejected']);

    const ofQueue = '{client="consumers",queue="work"}';
    await vi.waitFor(
      async () =>
        expect(await counted()).toMatchObject({
          [`messages_consumed_total${ofQueue}`]: 10,
          [`messages_acked_total${ofQueue}`]: 5,
          [`messages_nacked_total${ofQueue}`]: 2,
          [`messages_retried_total${ofQueue}`]: 1,
          [`messages_dead_lettered_total${ofQueue}`]: 2,
        }),
      { timeout: 60_000, interval: 100 },
    );
    expect(await counted()).toMatchObject({
      'messages_published_total{client="publisher",outcome="confirmed"}': 7,
      'messages_published_total{client="publisher",outcome="returned"}': 1,
      'messages_unsettled{client="publisher"}': 0,
      'publish_latency_seconds_count{client="publisher"}': 7,
      'publish_latency_seconds_bucket{client="publisher",le="+Inf"}': 7,
      'connection_state{client="publisher",state="open"}': 1,
      'connection_state{client="consumers",state="open"}': 1,
    });

    const model = await connect(broker.url);
    const channel = await model.createChannel();
    const holds = async (queue: string): Promise<number> => (await channel.checkQueue(queue)).messageCount;
    await vi.waitFor(async () => expect(await holds('work.dead')).toBe(2), {
      timeout: 60_000,
      interval: 100,
    });
    expect(await holds('work')).toBe(0);
    await model.close();
    await publisher.close();
    await consumers.stop();
    const states = Object.entries(await counted()).filter(([name]) => name.startsWith('connection_state'));
    expect(states.filter(([, value]) => value === 1).map(([name]) => name)).toEqual([
      'connection_state{client="publisher",state="closed"}',
      'connection_state{client="consumers",state="closed"}',
    ]);
  });
});
