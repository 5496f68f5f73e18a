// Clients that die at any octet, and the others that notice nothing.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { drain, takeTurns } from '../support/mixed-turns.ts';
import { type ProxyProcess, startProxyProcess } from '../support/service.ts';
import { declareQueues, SteadyConsumer, SteadyPublisher, until } from '../support/steady.ts';
import { TrafficCheck } from '../support/traffic-check.ts';
import { dieGreeting, dieTalking, VICTIMS_CHANNELS } from '../support/victim.ts';
import { WireClient } from '../support/wire-client.ts';

const SECONDS = 15;
/** Clients that live and die at a time. */
const ABREAST = 4;
const WORKERS = 4;
/** Channels that are opened and closed again meanwhile. */
const LANES = 8;

/** What a broker logs of a channel or a connection in use that didn't end as it should. */
const ERRORS = /\[(?:error|critical)\]|\[warning\].*vhost: '\/'/;

const QUEUES = ['victims', 'turns', ...Array.from({ length: WORKERS }, (_, at) => `worker ${at}`)];

await describeBrokers(['4.0', '4.3'], (version) => {
  let broker: Broker;
  let proxy: ProxyProcess;

  beforeAll(async () => {
    broker = await startBroker(version);
    proxy = await startProxyProcess(broker.port, ['--mode=pool', '--pool-idle-timeout=1']);
  });
  afterAll(async () => {
    await proxy?.stop();
    await broker?.stop();
  });

  /** How many lines `rabbitmqctl list_… pid` prints. */
  async function listed(what: 'channels' | 'connections'): Promise<number> {
    return (await broker.ctl('-q', `list_${what}`, 'pid')).split('\n').filter((line) => line.startsWith('<'))
      .length;
  }

  it('those who die in the middle leave nothing behind', { timeout: 120_000 }, async () => {
    const check = new TrafficCheck();
    await declareQueues(proxy.port, ...QUEUES);
    const workers: (SteadyPublisher | SteadyConsumer)[] = [
      await SteadyConsumer.start(check, proxy.port, 'undertaker', 'victims'),
    ];
    for (let at = 0; at < WORKERS; at += 1) {
      const queue = `worker ${at}`;
      workers.push(
        await SteadyConsumer.start(check, proxy.port, `consumer ${at}`, queue),
        await SteadyPublisher.asking(check, proxy.port, `asking ${at}`, queue),
        await SteadyPublisher.plain(check, proxy.port, `plain ${at}`, queue),
      );
    }
    const baseline = await listed('channels');
    expect(baseline).toBeGreaterThanOrEqual(workers.length);
    const logged = (await broker.log()).length;

    const client = await WireClient.connect(proxy.port);
    const counts = { plain: 0, confirms: 0, transactions: 0, consumes: 0, gets: 0 };
    const deadline = performance.now() + SECONDS * 1000;
    const turns = Array.from({ length: LANES }, (_, at) =>
      takeTurns({ check, client, number: at + 1, name: `lane ${at}`, queue: 'turns' }, deadline, counts),
    );
    let deaths = 0;
    const die = async () => {
      while (performance.now() < deadline) {
        deaths += 1;
        if (deaths % 8 === 0) await dieGreeting(proxy.port);
        else await dieTalking(check, proxy.port, `victim ${deaths}`, 'victims');
      }
    };
    await Promise.all([...turns, ...Array.from({ length: ABREAST }, die)]);
    await client.close();

    // Those whose state was given back at the broker are in the pool, as many as there were at a time.
    const inUse = ABREAST * VICTIMS_CHANNELS.length + LANES;
    await sleep(1000);
    expect(await listed('channels')).toBeLessThanOrEqual(baseline + inUse);
    expect(workers.flatMap((worker) => worker.client.end ?? [])).toEqual([]);
    for (const worker of workers) if (worker instanceof SteadyPublisher) await worker.stop();
    const published = workers.flatMap((worker) => (worker instanceof SteadyPublisher ? worker.messages : []));
    for (const messages of published) messages.owe();
    await until('what the workers published', () => published.every(({ missing }) => missing.length === 0));
    for (const worker of workers) await worker.stop();

    const reader = await WireClient.connect(broker.port);
    await Promise.all(QUEUES.map(async (queue, at) => drain(check, await reader.channel(at + 1), queue)));
    await reader.close();
    expect([client, ...workers.map((worker) => worker.client)].flatMap(({ faults }) => faults)).toEqual([]);
    expect(check.conclude()).toEqual([]);
    expect(deaths).toBeGreaterThan(100);
    for (const { count } of published) expect(count).toBeGreaterThan(100);
    for (const count of Object.values(counts)) expect(count).toBeGreaterThan(10);

    // One channel that was forgotten would keep its connection.
    await sleep(3000);
    expect([await listed('connections'), await listed('channels')]).toEqual([0, 0]);
    const log = (await broker.log()).slice(logged).split('\n');
    expect(log.some((line) => line.includes('[info]'))).toBe(true);
    expect(log.filter((line) => ERRORS.test(line))).toEqual([]);
  });
});
