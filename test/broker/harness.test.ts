import { connect } from 'amqplib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startBroker } from '../support/broker.ts';
import type { Broker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker(version);
  });
  afterAll(() => broker.stop());

  it('answers AMQP and the management API', async () => {
    expect((await broker.management.version()).startsWith(`${version}.`)).toBe(true);
    const client = await connect(broker.url);
    await (await client.createChannel()).assertQueue('kept', { durable: true });
    await client.close();
    expect(await broker.management.queue('kept')).toMatchObject({ durable: true, type: 'classic' });
  });

  it(`${version === '4.3' ? 'denies' : 'permits'} transient queues that are not exclusive, as upstream does`, async () => {
    const client = await connect(broker.url);
    const closed = new Promise<string>((resolve) =>
      client.once('error', (error: Error) => resolve(error.message)),
    );
    const channel = await client.createChannel();
    channel.on('error', () => {});
    const answer = await channel.assertQueue('transient', { durable: false }).then(
      () => 'declared',
      () => closed,
    );
    await client.close().catch(() => {});
    expect(answer).toMatch(
      version === '4.3' ? /Feature `transient_nonexcl_queues` is deprecated/ : /^declared$/,
    );
  });

  it('restarts on the same data with the listeners of an advanced.config, and is gone after its end', async () => {
    const advanced = `[{rabbit,[{tcp_listeners,[{"127.0.0.1",${broker.backendPort}}]}]}].`;
    await broker.restart({ advanced });
    const moved = await connect(`amqp://127.0.0.1:${broker.backendPort}/`);
    expect(await (await moved.createChannel()).checkQueue('kept')).toMatchObject({ queue: 'kept' });
    await moved.close();
    await expect(connect(broker.url)).rejects.toThrow(/ECONNREFUSED/);
    await broker.stop();
    await expect(connect(`amqp://127.0.0.1:${broker.backendPort}/`)).rejects.toThrow(/ECONNREFUSED/);
  });
});
