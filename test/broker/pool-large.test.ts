// Messages of all sizes on connections that clients share: what waits for the rest of its message lies in buffers that are
// used again and again, and none of them may be used too early.
import { createHash, randomBytes } from 'node:crypto';
import { connect, type ChannelModel } from 'amqplib';
import { describe, expect, it } from 'vitest';
import { describeBrokers } from '../support/describe-brokers.ts';
import { usePooledBroker } from '../support/pooled-broker.ts';

/** Around what a frame and what a read takes, and much more than either. */
const SIZES = [0, 1, 1000, 17_000, 65_536, 131_064, 131_065, 262_144, 300_000, 700_000, 1_500_000];
const ROUNDS = 6;
const PUBLISHERS = 3;

function digest(octets: Buffer): string {
  return createHash('sha256').update(octets).digest('hex');
}

/** Publishes messages of all sizes, the small ones between the large ones, and waits until they are confirmed. */
async function publishAll(model: ChannelModel, queue: string, first: number): Promise<string[]> {
  const channel = await model.createConfirmChannel();
  const ids: string[] = [];
  for (let i = 0; i < ROUNDS * SIZES.length; i++) {
    const content = randomBytes(SIZES[(first + i * 7) % SIZES.length]!);
    ids.push(`${first} ${i} ${digest(content)}`);
    channel.sendToQueue(queue, content, { messageId: ids.at(-1)! });
  }
  await channel.waitForConfirms();
  return ids;
}

await describeBrokers(['4.3'], (version) => {
  describe.each(['plain', 'TLS'] as const)('%s on both sides', (link) => {
    const served = usePooledBroker(version, link === 'TLS');

    it(
      'messages of all sizes arrive as they were published, in order, at consumers that read slowly',
      { timeout: 180_000 },
      async () => {
        await using pooled = await served.pool(`large ${link}`);
        const connectOne = (): Promise<ChannelModel> =>
          connect(pooled.url, { ca: [served.trust.ca], servername: 'localhost' });
        const models = await Promise.all(Array.from({ length: PUBLISHERS + 1 }, connectOne));
        const [consuming, ...publishing] = models as [ChannelModel, ...ChannelModel[]];
        const channel = await consuming.createChannel();
        const queues = publishing.map((_, at) => `large ${at}`);
        const arrived = new Map<string, string[]>(queues.map((queue) => [queue, []]));
        let left = PUBLISHERS * ROUNDS * SIZES.length;
        const { promise: all, resolve } = Promise.withResolvers<void>();
        await channel.prefetch(5);
        for (const queue of queues) {
          await channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
          await channel.consume(queue, (message) => {
            const { messageId } = message!.properties as { messageId: string };
            const [publisher, number] = messageId.split(' ');
            arrived.get(queue)!.push(`${publisher} ${number} ${digest(message!.content)}`);
            // So that the proxy has to wait for the client now and then.
            if (left % 20 === 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30);
            channel.ack(message!);
            if (--left === 0) resolve();
          });
        }
        const published = await Promise.all(
          publishing.map((model, at) => publishAll(model, queues[at]!, at)),
        );
        await all;
        expect(queues.map((queue) => arrived.get(queue))).toEqual(published);
        for (const model of models) await model.close();
      },
    );
  });
});
