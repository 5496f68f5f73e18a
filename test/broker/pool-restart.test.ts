// A broker that restarts under load, or stays away, and what its clients hear of it.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Broker, startBroker } from '../support/broker.ts';
import { startCrew } from '../support/crew.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { type ProxyProcess, startProxyProcess } from '../support/service.ts';
import { declareQueues, SteadyPublisher } from '../support/steady.ts';
import { TrafficCheck } from '../support/traffic-check.ts';
import { WireClient } from '../support/wire-client.ts';

/** How long the last of them is away; of the others the same is asked after less. */
const AWAY_MS = 60_000;
const AWAY_SHORT_MS = 20_000;
/** Longer than the broker is away and starts. */
const PATIENT = ['--mode=pool', '--pool-wait-timeout=150'];
const HANDSHAKE_TIMEOUT_MS = 10_000;
const WAIT_TIMEOUT_MS = 4000;
/** From the broker's end until all have heard of it, on a busy machine. */
const SOON_MS = 5000;
/** What is held of a publisher while the broker is away: the proxy's part and those of the sockets' buffers. */
const HELD_OCTETS = 32 * 1024 * 1024;

const STATEFUL_END = /^connection\.close 320 CONNECTION_FORCED/;

await describeBrokers(['4.0', '4.3'], (version) => {
  let broker: Broker;
  let plain: ProxyProcess;
  let resuming: ProxyProcess;
  let impatient: ProxyProcess;
  const awayMs = version === '4.3' ? AWAY_MS : AWAY_SHORT_MS;

  beforeAll(async () => {
    broker = await startBroker(version);
    plain = await startProxyProcess(broker.port, PATIENT);
    resuming = await startProxyProcess(broker.port, [...PATIENT, '--resume', '--resume-timeout=150']);
    impatient = await startProxyProcess(broker.port, [
      '--mode=pool',
      `--pool-wait-timeout=${WAIT_TIMEOUT_MS / 1000}`,
    ]);
  });
  afterAll(async () => {
    for (const proxy of [plain, resuming, impatient]) await proxy?.stop();
    await broker?.stop();
  });

  it(
    'restarts under load: who has state is told, the others go on; with --resume nobody notices',
    { timeout: 180_000 },
    async () => {
      const without = await startCrew(plain.port, 'restart');
      const resumed = await startCrew(resuming.port, 'resumed restart');
      await sleep(1500);
      const began = performance.now();
      await broker.restart({});
      const took = performance.now() - began;

      const { client } = without.consumer;
      expect(client.end).toMatch(STATEFUL_END);
      expect(client.endedAt - began).toBeLessThan(took);
      await without.getsOn();
      await resumed.getsOn();
      expect([without.told, resumed.told, resumed.consumer.client.end]).toEqual([[], [], undefined]);
      expect(
        await Promise.all([without, resumed].map(async (crew) => crew.conclude(broker.port, 1))),
      ).toEqual([[], []]);
    },
  );

  it(
    `is gone for ${awayMs / 1000} s: who has state is told at once, the others wait, bounded, and go on`,
    { timeout: awayMs + 180_000 },
    async () => {
      const without = await startCrew(plain.port, 'outage');
      const resumed = await startCrew(resuming.port, 'resumed outage');
      const check = new TrafficCheck();
      await declareQueues(plain.port, 'large', 'impatient');
      const size = 20_000;
      const large = await SteadyPublisher.plain(check, plain.port, 'large', 'large', { size, pause: 10 });
      const hasty = await SteadyPublisher.plain(check, impatient.port, 'hasty', 'impatient');
      await sleep(1500);
      const [sent, began] = [large.messages.count, performance.now()];
      await broker.kill();

      const { client } = without.consumer;
      expect(await client.ended).toMatch(STATEFUL_END);
      expect(client.endedAt - began).toBeLessThan(SOON_MS);
      // Those for whom the wait is too long are told so in the end, and those who come are not kept either.
      expect(await hasty.client.ended).toMatch(STATEFUL_END);
      expect(hasty.client.endedAt - began).toBeGreaterThan(WAIT_TIMEOUT_MS);
      expect(hasty.client.endedAt - began).toBeLessThan(WAIT_TIMEOUT_MS + SOON_MS);
      const came = performance.now();
      await expect(WireClient.connect(impatient.port)).rejects.toThrow(/./);
      expect(performance.now() - came).toBeLessThan(HANDSHAKE_TIMEOUT_MS + SOON_MS);

      await sleep(awayMs - (performance.now() - began));
      expect((large.messages.count - sent) * size).toBeLessThan(HELD_OCTETS);
      expect([without.told, resumed.told, resumed.consumer.client.end]).toEqual([[], [], undefined]);
      await broker.restart({});
      await without.getsOn();
      await resumed.getsOn();
      expect([without.told, resumed.told, resumed.consumer.client.end, large.client.end]).toEqual([
        [],
        [],
        undefined,
        undefined,
      ]);
      await large.stop();
      await hasty.stop();
      expect(
        await Promise.all([without, resumed].map(async (crew) => crew.conclude(broker.port, 1))),
      ).toEqual([[], []]);
    },
  );
});
