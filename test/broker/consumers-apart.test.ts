// Consumers of several queues: what is wrong with one of them is its own matter.
import { type Channel, type ChannelModel, connect } from 'amqplib';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { parseMessaging } from '../../messaging/config.ts';
import { Consumers } from '../../messaging/consumer/consumers.ts';
import { handler } from '../../messaging/consumer/handler.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { DeafRelay, type Heard } from '../support/deaf-relay.ts';
import { describeBrokers } from '../support/describe-brokers.ts';

const LONG = { timeout: 90_000, interval: 50 };

/** So few channels that those which are left without an answer soon are half of them. */
const CHANNELS = 8;

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  let broker: Broker;
  let relay: DeafRelay;
  let model: ChannelModel;
  let channel: Channel;
  const running: Consumers[] = [];

  beforeAll(async () => {
    broker = await startBroker(version, { conf: `channel_max = ${CHANNELS}` });
    relay = await new DeafRelay(broker.port).start();
    model = await connect(broker.url);
    channel = await model.createChannel();
  });
  afterEach(async () => {
    relay.isKept = () => false;
    for (const consumers of running.splice(0)) await consumers.stop({ timeoutMs: 0 });
  });
  afterAll(async () => {
    await relay?.[Symbol.asyncDispose]();
    await model?.close();
    await broker?.stop();
  });

  /** Consumes from both queues of a file with the exchange `NAME`, the queues `NAME.bad` and `NAME.good`, and dead letters. */
  function start(name: string, keys = ''): { consumers: Consumers; problems: string[]; seen: string[] } {
    const text = `
host: 127.0.0.1
port: ${relay.port}
connect_timeout: 2s
reconnect_delay: 100ms
exchanges:
  - name: ${name}
    kind: fanout
    dlx_name: ${name}.dlx
    dlq_name: ${name}.dead
    queues: [{name: ${name}.bad, delivery_limit: 5${keys}}, {name: ${name}.good}, {name: ${name}.nobodys}]`;
    const problems: string[] = [];
    const seen: string[] = [];
    const of = (queue: string) => handler({ handle: () => void seen.push(queue) });
    const consumers = new Consumers(parseMessaging('test.yaml', text, {}), {
      name: 'test',
      handlers: { [`${name}.bad`]: of('bad'), [`${name}.good`]: of('good') },
      onProblem: (problem) => problems.push(problem),
    });
    running.push(consumers);
    return { consumers, problems, seen };
  }

  const isConsumed = async (queue: string): Promise<boolean> =>
    (await channel.checkQueue(queue)).consumerCount === 1;

  /** As the file with that exchange has its queues, but for the limit. */
  const declareOddly = (name: string, queue: string) =>
    channel.assertQueue(`${name}.${queue}`, {
      durable: true,
      arguments: {
        'x-queue-type': 'quorum',
        'x-delivery-limit': 9,
        'x-overflow': 'reject-publish',
        'x-dead-letter-exchange': `${name}.dlx`,
        'x-dead-letter-strategy': 'at-least-once',
      },
    });

  it('one that is there otherwise keeps itself from being consumed, says why, and is consumed once that is mended', async () => {
    await declareOddly('odd', 'bad');
    const { consumers, problems, seen } = start('odd');
    await vi.waitFor(() => expect(consumers.unconsumed.size).toBe(1), LONG);
    const why =
      'queue "odd.bad": x-delivery-limit: the file has 5, the broker has 9; quorumbridge topology plan tells the way out';
    expect(consumers.isHealthy).toBe(false);
    expect(consumers.unconsumed).toEqual(new Map([['odd.bad', why]]));
    expect(problems[0]).toContain(`queue "odd.bad" is not consumed: ${why}; the next try in `);
    expect(await isConsumed('odd.good')).toBe(true);
    channel.publish('odd', '', Buffer.from('x'));
    await vi.waitFor(() => expect(seen).toEqual(['good']), LONG);

    await channel.deleteQueue('odd.bad');
    await consumers.ready();
    expect(consumers.isHealthy).toBe(true);
    channel.publish('odd', '', Buffer.from('x'));
    await vi.waitFor(() => expect(seen.toSorted()).toEqual(['bad', 'good', 'good']), LONG);
  });

  it('one that nobody consumes here keeps nobody from anything, and is told', async () => {
    await declareOddly('else', 'nobodys');
    const { consumers, problems } = start('else');
    await consumers.ready();
    expect(problems).toEqual([
      'queue "else.nobodys": x-delivery-limit: the file has 20, the broker has 9; quorumbridge topology plan tells the way out; no queue that is consumed here needs it',
    ]);
  });

  it('one whose dead letters have no place is not consumed', async () => {
    await channel.assertExchange('lost.dlx', 'direct', { durable: true });
    const { consumers } = start('lost', ', dlx_name: lost.own, dlq_name: lost.own.dead');
    await vi.waitFor(() => expect([...consumers.unconsumed.keys()]).toEqual(['lost.good']), LONG);
    expect(consumers.unconsumed.get('lost.good')).toBe(
      'exchange "lost.dlx": type: the file has fanout, the broker has direct; quorumbridge topology plan tells the way out',
    );
  });

  const [declare, consume] = [50, 60];
  it.each([
    ['queue.declare', declare, 10, 'queue "deaf.10.bad": the broker has not answered the declaration'],
    ['basic.consume', consume, 20, 'the broker has not answered basic.consume'],
  ])(
    'one whose %s is never answered keeps nobody waiting, and is tried again',
    async (_, classId, methodId, why) => {
      const name = `deaf.${methodId}`;
      const { consumers, problems } = start(name);
      relay.isKept = (method) => isOf(method, [classId, methodId]) && method.octets.includes(`${name}.bad`);
      const reason = `${why} within 2 s (connect_timeout)`;
      await vi.waitFor(() => expect(consumers.unconsumed).toEqual(new Map([[`${name}.bad`, reason]])), LONG);
      expect(problems.join()).toContain(`queue "${name}.bad" is not consumed: ${reason}`);
      expect(await isConsumed(`${name}.good`)).toBe(true);
      relay.isKept = () => false;
      await consumers.ready();
      expect(await isConsumed(`${name}.bad`)).toBe(true);
    },
  );

  it('one that leaves too many channels unanswered costs the connection in the end, and not its channels', async () => {
    const { consumers, problems } = start('greedy');
    await consumers.ready();
    const before = relay.count;
    relay.isKept = (method) => isOf(method, [consume, 20]) && method.octets.includes('greedy.bad');
    await channel.deleteQueue('greedy.bad');
    await vi.waitFor(() => expect(relay.count).toBe(before + 1), LONG);
    expect(problems.join('\n')).toContain('was lost: the broker leaves its channels unanswered');
    expect(problems.filter((text) => text.includes('not answered basic.consume'))).toHaveLength(CHANNELS / 2);
    // A random half of each wait is left out, and the waits double.
    const delays = problems.flatMap((text) => /^queue .*; the next try in (\d+) ms$/.exec(text)?.[1] ?? []);
    const most = delays.map((delay, index) => Number(delay) / (100 * 2 ** index));
    expect(most.filter((part) => part < 0.49 || part > 1)).toEqual([]);
    relay.isKept = () => false;
    await consumers.ready();
  });
});

function isOf({ classId, methodId }: Heard, [wantedClass, wantedMethod]: [number, number]): boolean {
  return classId === wantedClass && methodId === wantedMethod;
}
