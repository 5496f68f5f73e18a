// The way to the broker fails without a word, or with a broker that wants to be left alone.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { type Broker, startBroker } from '../support/broker.ts';
import { type Crew, startCrew } from '../support/crew.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { confirmSelect } from '../support/amqp-methods.ts';
import { queueDeclare } from '../support/amqp-frames.ts';
import { RelayLink } from '../support/relay-link.ts';
import { type ProxyProcess, startProxyProcess } from '../support/service.ts';
import { declareQueues, SteadyConsumer, SteadyPublisher, until } from '../support/steady.ts';
import { TrafficCheck } from '../support/traffic-check.ts';
import { WireClient } from '../support/wire-client.ts';

const HEARTBEAT_S = 2;
/** The proxy looks at its clocks a few times a second; on a busy machine it is late. A third interval would take longer. */
const SLACK_MS = 1750;
const DETECTED_MS = HEARTBEAT_S * 2000 + SLACK_MS;

await describeBrokers(['4.0', '4.3'], (version) => {
  let broker: Broker;
  let relay: RelayLink;
  let plain: ProxyProcess;
  let resuming: ProxyProcess;

  beforeAll(async () => {
    broker = await startBroker(version);
    relay = await new RelayLink(broker.port).start();
    const args = ['--mode=pool', `--upstream-heartbeat=${HEARTBEAT_S}`, '--pool-wait-timeout=60'];
    plain = await startProxyProcess(relay.port, args);
    resuming = await startProxyProcess(relay.port, [...args, '--resume']);
  });
  afterEach(() => {
    relay.answerDelay = 0;
    relay.set('pass');
  });
  afterAll(async () => {
    for (const proxy of [plain, resuming]) await proxy?.stop();
    await relay?.[Symbol.asyncDispose]();
    await broker?.stop();
  });

  /** Whether a connection upstream is kept alive by nothing but heartbeats, for longer than silence is borne. */
  async function staysUp(crew: Crew): Promise<void> {
    const links = relay.count;
    await sleep(DETECTED_MS + HEARTBEAT_S * 1000);
    expect([crew.told, crew.consumer.client.end, relay.count - links]).toEqual([[], undefined, 0]);
  }

  it(
    'a silent way is found out within two heartbeat intervals, and another one is taken',
    { timeout: 120_000 },
    async () => {
      const without = await startCrew(plain.port, 'frozen');
      const resumed = await startCrew(resuming.port, 'resumed frozen');
      await staysUp(without);
      const links = relay.count;
      const began = performance.now();
      relay.freeze();
      expect(await without.consumer.client.ended).toMatch(/^connection\.close 320 CONNECTION_FORCED/);
      expect(without.consumer.client.endedAt - began).toBeLessThan(DETECTED_MS);
      await until('new ways', () => relay.count > links + 1);
      expect(performance.now() - began).toBeLessThan(DETECTED_MS + 2000);
      await without.getsOn();
      await resumed.getsOn();
      expect([without.told, resumed.told, resumed.consumer.client.end]).toEqual([[], [], undefined]);
      expect(
        await Promise.all([without, resumed].map(async (crew) => crew.conclude(broker.port, 1))),
      ).toEqual([[], []]);
    },
  );

  it(
    'a way that stays silent for new connections, and then refuses them, is tried until it is there',
    { timeout: 120_000 },
    async () => {
      const without = await startCrew(plain.port, 'away');
      const resumed = await startCrew(resuming.port, 'resumed away');
      await sleep(1000);
      relay.set('blackhole');
      await without.consumer.client.ended;
      await sleep(4000);
      relay.set('sever');
      await sleep(4000);
      relay.set('pass');
      await without.getsOn();
      await resumed.getsOn();
      expect([without.told, resumed.told, resumed.consumer.client.end]).toEqual([[], [], undefined]);
      expect(
        await Promise.all([without, resumed].map(async (crew) => crew.conclude(broker.port, 1))),
      ).toEqual([[], []]);
    },
  );

  it.each([
    ['without --resume', () => plain],
    ['with --resume', () => resuming],
  ])('%s: what the broker has and did not confirm in time is nacked', async (name, proxy) => {
    const queue = `unknown ${name}`;
    const check = new TrafficCheck();
    await declareQueues(proxy().port, queue);
    const client = await WireClient.connect(proxy().port);
    const channel = await client.channel(1);
    const messages = check.publisher('p', queue, { confirms: true });
    channel.onConfirm = (tag, multiple, isAck) => messages.answered(tag, multiple, isAck);
    await channel.ask(confirmSelect(1));
    const publish = (count: number) => {
      for (let at = 0; at < count; at += 1) channel.publish(queue, messages.next());
    };
    publish(20);
    await until('confirms', () => messages.confirmed === 20);

    relay.answerDelay = 3000;
    publish(30);
    const direct = await WireClient.connect(broker.port);
    const other = await direct.channel(1);
    const stored = async () => {
      const { args } = await other.ask(queueDeclare({ name: queue, flags: 1 }));
      return args.readUInt32BE(1 + args[0]!);
    };
    while ((await stored()) < 50) await sleep(20);
    expect(messages.unanswered).toBe(30);
    relay.set('sever');
    await until('nacks', () => messages.unanswered === 0);
    expect([messages.confirmed, check.tally.nacked]).toEqual([20, 30]);

    relay.answerDelay = 0;
    relay.set('pass');
    publish(10);
    await until('confirms', () => messages.unanswered === 0);
    expect([messages.confirmed, check.tally.nacked]).toEqual([30, 30]);
    expect(client.end).toBeUndefined();
    await channel.close();
    await client.close();
    expect(await stored()).toBe(60);
    await direct.close();
    expect(client.faults).toEqual([]);
  });

  it('connection.blocked is told to those who publish and want to hear it, and then unblocked', async () => {
    const check = new TrafficCheck();
    const { port } = plain;
    await declareQueues(port, 'blocked');
    const consumer = await SteadyConsumer.start(check, port, 'c', 'blocked');
    const asking = await SteadyPublisher.asking(check, port, 'p', 'blocked');
    const deaf = await SteadyPublisher.plain(check, port, 'deaf', 'blocked', { hearsBlocked: false });
    await until('messages', () => asking.messages.arrived > 10);
    await broker.ctl('set_vm_memory_high_watermark', '0.0000001');
    await until('connection.blocked', () => asking.client.blocked.length > 0);
    const late = await SteadyPublisher.plain(check, port, 'late', 'blocked');
    await until('connection.blocked for who came late', () => late.client.blocked.length > 0);
    await sleep(1000);
    const { confirmed } = asking.messages;
    await broker.ctl('set_vm_memory_high_watermark', '0.6');
    await until(
      'connection.unblocked',
      () => asking.client.blocked.length > 1 && late.client.blocked.length > 1,
    );
    await until('confirms', () => asking.messages.confirmed > confirmed + 50);
    for (const { client } of [asking, late])
      expect(client.blocked).toEqual([expect.stringMatching(/^blocked .*memory/), 'unblocked']);
    expect([deaf.client.blocked, consumer.client.blocked]).toEqual([[], []]);
    for (const publisher of [asking, deaf, late]) {
      await publisher.stop();
      publisher.messages.owe();
    }
    const published = [asking, deaf, late].map(({ messages }) => messages);
    await until('all messages', () => published.every(({ missing }) => missing.length === 0));
    await consumer.stop();
    expect([asking, deaf, late, consumer].flatMap(({ client }) => client.faults)).toEqual([]);
    expect(check.conclude()).toEqual([]);
  });
});
