// Upgrade events on a real broker: what consumers get, what a restart of either side makes of it, and who is told of trouble.
import { type Channel, type ChannelModel, connect } from 'amqplib';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { Consumers, UPGRADE_EXCHANGE, handler, parseMessaging, upgradeEvent } from '../../messaging/index.ts';
import { ReconcilerStats } from '../../reconciler/metrics.ts';
import type { UpgradePhase } from '../../reconciler/types.ts';
import { type UpgradeEvents, startUpgradeEvents } from '../../reconciler/upgrade-events.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { rabbitmq, saved } from '../unit/reconciler/observations.ts';
import { readableLog } from '../unit/webhook/harness.ts';

const KEY = { namespace: 'openstack', name: 'rabbitmq' };
const at = (upgradePhase: UpgradePhase) => rabbitmq({}, { upgradePhase, upgrade: saved, upgradeSequence: 1 });
const idOf = (phase: string) => `rabbitmq-uid.1.${phase}`;

await describeBrokers(['4.3'], (version) => {
  let broker: Broker;
  let model: ChannelModel;
  let channel: Channel;
  const running: UpgradeEvents[] = [];
  beforeAll(async () => {
    broker = await startBroker(version);
    model = await connect(broker.url);
    model.on('error', () => {});
    channel = await model.createChannel();
  });
  afterEach(async () => {
    await Promise.all(running.splice(0).map((events) => events.close()));
  });
  afterAll(async () => {
    await model?.close().catch(() => {});
    await broker?.stop();
  });

  /** As a replica of the reconciler has them. */
  function start(vhost = '/') {
    const { log, lines } = readableLog();
    const stats = new ReconcilerStats();
    const file = `rabbitmq: { port: ${broker.port}, vhost: ${vhost}, reconnect_delay: 100ms }`;
    const events = startUpgradeEvents({ config: parseMessaging('file', file, {}), log, stats });
    running.push(events);
    const published = (): number =>
      [...stats.upgradeEvents].find(([{ result }]) => result === 'published')?.[1] ?? 0;
    const until = (count: number) => vi.waitFor(() => expect(published()).toBe(count), 60_000);
    return { events, stats, lines, until };
  }

  it('come once for each change, the same again from another replica, and are typed for a handler', async () => {
    const first = start();
    // Nobody has bound a queue yet: that is no failure.
    first.events.seen(KEY, at('DeletingResources'));
    await first.until(1);
    const got: string[] = [];
    const handle = handler({
      schema: upgradeEvent,
      handle: ({ phase, from, to }, { message: { properties, fields } }) => {
        got.push(`${String(properties.messageId)} ${fields.routingKey} ${phase} ${from} ${String(to)}`);
      },
    });
    const exchange = `{ name: ${UPGRADE_EXCHANGE}, queues: [{ name: told, bindings: ["*.*.*"] }] }`;
    const file = `rabbitmq: { port: ${broker.port}, exchanges: [${exchange}] }`;
    const config = parseMessaging('file', file, {});
    const consumers = new Consumers(config, { name: 'told', handlers: { told: handle } });
    try {
      await consumers.ready();
      for (const phase of ['WaitingForPods', 'WaitingForPods', 'WaitingForCluster'] as const)
        first.events.seen(KEY, at(phase));
      await first.until(3);
      const other = start();
      other.events.seen(KEY, at('WaitingForCluster'));
      await other.until(1);
      const line = (phase: string) => `${idOf(phase)} openstack.rabbitmq.${phase} ${phase} 3.10 4.2`;
      const expected = ['WaitingForPods', 'WaitingForCluster', 'WaitingForCluster'].map(line);
      await vi.waitFor(() => expect(got).toEqual(expected), 30_000);
    } finally {
      await consumers.stop();
    }
  });

  it('wait for a broker that is away, and arrive in their order', async () => {
    await channel.assertExchange(UPGRADE_EXCHANGE, 'topic', { durable: true });
    // A quorum queue of a broker that is killed soon after its declaration comes back empty.
    await channel.assertQueue('later', { durable: true, arguments: { 'x-queue-type': 'classic' } });
    await channel.bindQueue('later', UPGRADE_EXCHANGE, '#');
    const { events, stats, lines, until } = start();
    events.seen(KEY, at('DeletingResources'));
    await until(1);
    await broker.kill();
    events.seen(KEY, at('WaitingForPods'));
    events.seen(KEY, at('WaitingForCluster'));
    expect(stats.eventsBroker?.stats.waiting).toBe(2);
    await vi.waitFor(
      () => expect(lines.map(({ msg }) => msg)).toContain('upgrade events wait for their broker'),
      30_000,
    );
    await broker.restart({});
    await until(3);
    expect(lines.map(({ msg }) => msg)).toEqual([
      'upgrade events wait for their broker',
      'the broker for upgrade events is reached again',
    ]);
    model = await connect(broker.url);
    channel = await model.createChannel();
    const ids: unknown[] = [];
    for (let message = await channel.get('later'); message !== false; message = await channel.get('later'))
      ids.push(message.properties.messageId);
    // What was sent twice has the same id.
    expect([...new Set(ids)]).toEqual(['DeletingResources', 'WaitingForPods', 'WaitingForCluster'].map(idOf));
  });

  it('tell once of an exchange of another kind, and wait', async () => {
    const management = broker.managementOf('other');
    await management.addVirtualHost('other');
    await management.permit('guest', { configure: '.*', write: '.*', read: '.*' });
    const other = await connect(`${broker.url}other`);
    const own = await other.createChannel();
    await own.assertExchange(UPGRADE_EXCHANGE, 'fanout', { durable: true });
    await other.close();
    const { events, stats, lines } = start('other');
    events.seen(KEY, at('WaitingForPods'));
    await vi.waitFor(() => expect(lines).toHaveLength(1), 30_000);
    expect(lines[0]).toMatchObject({ msg: 'upgrade events wait for their broker' });
    expect(lines[0]?.['why']).toContain("inequivalent arg 'type' for exchange 'quorumbridge.upgrade'");
    expect(stats.eventsBroker?.stats.waiting).toBe(1);
  });
});
