// The proxy's limits as clients of a real broker meet them, beside the broker's own.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { frame, queueDeclare } from '../support/amqp-frames.ts';
import { basicGet, basicPublish, confirmSelect } from '../support/amqp-methods.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { hits } from '../support/limits-world.ts';
import { startTestProxy, type TestProxy } from '../support/peers.ts';
import { RawClient, type RawOptions } from '../support/raw-client.ts';

const HEARTBEAT = frame(8, 0, Buffer.alloc(0));
const DURABLE = 2;
/** channel_max of the broker, and of the proxy's limit. */
const CHANNELS = 30;
const FEWER = 4;
/** frame_max of the broker. */
const FRAME_MAX = 131_072;

/** A message on a channel, whose body comes in frames of this frame_max. */
function framesOf(channel: number, key: string, body: Buffer, frameMax: number): Buffer[] {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60, 0);
  header.writeBigUInt64BE(BigInt(body.length), 4);
  const bodies: Buffer[] = [];
  for (let at = 0; at < body.length; at += frameMax - 8)
    bodies.push(frame(3, channel, body.subarray(at, at + frameMax - 8)));
  // basic.publish without its content: a header of 22 octets.
  return [basicPublish(channel, key, '').subarray(0, -22), frame(2, channel, header), ...bodies];
}

await describeBrokers(['4.0', '4.3'], (version) => {
  let broker: Broker;
  const clients: RawClient[] = [];

  beforeAll(async () => {
    broker = await startBroker(version, { conf: `channel_max = ${CHANNELS}` });
  });

  afterAll(async () => {
    await broker?.stop();
  });

  async function connect(port: number, options: RawOptions = {}): Promise<RawClient> {
    const client = await RawClient.connect(port, options);
    clients.push(client);
    return client;
  }

  async function leaveAll(): Promise<void> {
    for (const client of clients.splice(0)) await client.close();
  }

  /** What the first client too many hears; the broker knows of others only a little later. */
  async function refusal(port: number, options: RawOptions = {}): Promise<string> {
    for (let tries = 0; tries < 10; tries++) {
      try {
        await connect(port, options);
      } catch (error) {
        await leaveAll();
        return (error as Error).message;
      }
      await sleep(200);
    }
    await leaveAll();
    return 'let in';
  }

  function proxyTo(flags: Record<string, string>): Promise<TestProxy> {
    return startTestProxy({ backend: `127.0.0.1:${broker.port}`, ...flags });
  }

  describe.each(['transparent', 'pool'])('mode %s', (mode) => {
    it("refuses a user's connection too many as the broker does", async () => {
      await broker.ctl('set_user_limits', 'guest', '{"max-connections": 2}');
      const direct = await refusal(broker.port);
      await broker.ctl('clear_user_limits', 'guest', 'all');
      expect(direct).toContain('530 NOT_ALLOWED');
      await using proxy = await proxyTo({ mode, maxConnectionsPerUser: '2' });
      expect(await refusal(proxy.port)).toBe(direct);
    });

    it("refuses a virtual host's connection too many as the broker does", async () => {
      await broker.ctl('set_vhost_limits', '{"max-connections": 2}');
      const direct = await refusal(broker.port);
      await broker.ctl('clear_vhost_limits');
      expect(direct).toContain('530 NOT_ALLOWED');
      await using proxy = await proxyTo({ mode, maxConnectionsPerVhost: '2' });
      expect(await refusal(proxy.port)).toBe(direct);
    });

    it('tells who asks for more channels than are offered, where the broker hangs up without a word', async () => {
      expect(await refusal(broker.port, { askedChannels: CHANNELS + 1 })).toBe('closed');
      await using proxy = await proxyTo({ mode, maxChannelsPerClient: String(FEWER) });
      expect(await refusal(proxy.port, { askedChannels: FEWER + 1 })).toBe(
        'connection.close 530 NOT_ALLOWED - channel_max 5 where 4 channels are offered (--max-channels-per-client) (10.31)',
      );
      const client = await connect(proxy.port);
      await client.channels(1, 2, 3, 4);
      expect(await client.ask(queueDeclare({ name: `channels ${mode}`, flags: DURABLE }))).toBe(
        `queue.declare-ok channels ${mode} 0 0`,
      );
      await leaveAll();
    });

    it('lets publishes through at their rate: none is lost, and each is confirmed', async () => {
      const count = 450;
      await using proxy = await proxyTo({ mode, publishRate: '200' });
      const client = await connect(proxy.port);
      await client.channels(1);
      const name = `publishes ${mode}`;
      await client.ask(queueDeclare({ name, flags: DURABLE }));
      expect(await client.ask(confirmSelect(1))).toBe('confirm.select-ok');
      const began = performance.now();
      client.send(...Array.from({ length: count }, (_, i) => basicPublish(1, name, String(i))));
      let confirmed = 0;
      while (confirmed < count) {
        const [, tag] = /^basic\.ack (\d+)/.exec(await client.hear(1)) ?? [];
        confirmed = Math.max(confirmed, Number(tag));
      }
      const seconds = (performance.now() - began) / 1000;
      expect(seconds).toBeGreaterThan((count - 200) / 200);
      expect(seconds).toBeLessThan(5);
      expect(await client.ask(queueDeclare({ name, flags: 1 }))).toBe(`queue.declare-ok ${name} ${count} 0`);
      await leaveAll();
    });

    it('keeps clients that are held back for longer than their heartbeats take', async () => {
      await using proxy = await proxyTo({ mode, publishRate: '1' });
      const name = `held ${mode}`;
      const all = await Promise.all(Array.from({ length: 6 }, () => connect(proxy.port, { heartbeat: 1 })));
      for (const client of all) await client.channels(1);
      await all[0]!.ask(queueDeclare({ name, flags: DURABLE }));
      // Each waits for five others twice.
      for (const client of all) client.send(basicPublish(1, name, 'one'), basicPublish(1, name, 'two'));
      const beats = setInterval(() => {
        for (const client of all) client.send(HEARTBEAT);
      }, 400);
      try {
        await sleep(12_500);
        const watcher = await connect(broker.port);
        await watcher.channels(1);
        expect(await watcher.ask(queueDeclare({ name, flags: 1 }))).toBe(`queue.declare-ok ${name} 12 0`);
        const ended = proxy.log().filter(({ code }) => code !== undefined);
        expect(ended).toEqual([]);
      } finally {
        clearInterval(beats);
      }
      await leaveAll();
    });

    it('tells who asks for longer frames than are offered, where the broker hangs up without a word', async () => {
      expect(await refusal(broker.port, { askedFrames: FRAME_MAX + 1 })).toBe('closed');
      await using proxy = await proxyTo({ mode, maxFrameSize: '64KiB' });
      expect(await refusal(proxy.port, { askedFrames: FRAME_MAX })).toBe(
        'connection.close 530 NOT_ALLOWED - frame_max 131072 where 65536 is offered (--max-frame-size) (10.31)',
      );
    });

    it.each([4096, 8192, 65_536])('carries messages both ways in frames of %i octets', async (frameMax) => {
      await using proxy = await proxyTo({ mode, maxFrameSize: String(frameMax) });
      const client = await connect(proxy.port);
      await client.channels(1);
      const name = `frames ${mode} ${frameMax}`;
      await client.ask(queueDeclare({ name, flags: DURABLE }));
      const body = Buffer.alloc(200_000, 'm');
      client.send(...framesOf(1, name, body, frameMax), basicPublish(1, name, 'small'));
      for (const expected of ['<200000 octets>', 'small']) {
        let answer = 'basic.get-empty';
        while (answer === 'basic.get-empty') answer = await client.ask(basicGet(1, name));
        expect(answer).toMatch(new RegExp(`^basic.get-ok \\d+ 0 ${expected}$`));
      }
      expect(client.longest).toBe(frameMax);
      client.send(frame(3, 1, Buffer.alloc(frameMax + 1)));
      expect(await client.hear(0)).toMatch(/^connection.close 50[15] /);
      await leaveAll();
    });

    it('holds publishes that the broker does not take beyond --max-buffer, and loses none', async () => {
      await using proxy = await proxyTo({ mode, maxBuffer: '1MiB' });
      const name = `held in all ${mode}`;
      const all = await Promise.all(Array.from({ length: 8 }, () => connect(proxy.port)));
      for (const client of all) await client.channels(1);
      await all[0]!.ask(queueDeclare({ name, flags: DURABLE }));
      const watcher = await connect(broker.port);
      await watcher.channels(1);
      const publish = Buffer.concat(framesOf(1, name, Buffer.alloc(100_000), FRAME_MAX));
      // The memory alarm: RabbitMQ stops reading from who publishes.
      await broker.ctl('set_vm_memory_high_watermark', '0');
      try {
        for (const client of all) client.send(...Array.from({ length: 100 }, () => publish));
        await expect.poll(() => hits(proxy, 'max-buffer'), { timeout: 20_000 }).toBeGreaterThan(0);
        await expect(RawClient.connect(proxy.port)).rejects.toThrow(
          'the proxy holds more than 1048576 octets for its clients (--max-buffer): try again later',
        );
      } finally {
        await broker.ctl('set_vm_memory_high_watermark', '0.6');
      }
      const there = () => watcher.ask(queueDeclare({ name, flags: 1 }));
      await expect.poll(there, { timeout: 60_000, interval: 250 }).toBe(`queue.declare-ok ${name} 800 0`);
      await (await connect(proxy.port)).channels(1);
      await leaveAll();
    });
  });

  it('ends who begins more messages than it ends, in mode pool, and nobody who shares its connection', async () => {
    await using proxy = await proxyTo({
      mode: 'pool',
      maxMessageSize: '2MiB',
      clientBacklog: '1MiB',
      maxBufferPerClient: '4MiB',
    });
    const [one, other] = [await connect(proxy.port), await connect(proxy.port)];
    for (const client of [one, other]) await client.channels(1, 2, 3, 4);
    const name = 'not whole';
    await other.ask(queueDeclare({ name, flags: DURABLE }));
    const message = (channel: number) => framesOf(channel, name, Buffer.alloc(2_000_000), FRAME_MAX);
    for (const channel of [1, 2, 3]) one.send(...message(channel).slice(0, -1));
    expect(await one.hear(0)).toMatch(
      /^connection.close 320 CONNECTION_FORCED - \d+ octets are held of the client, more than 4194304/,
    );
    other.send(...message(1));
    const there = () => other.ask(queueDeclare({ name, flags: 1 }));
    await expect.poll(there, { timeout: 20_000 }).toBe(`queue.declare-ok ${name} 1 0`);
    expect(await hits(proxy, 'max-buffer-per-client')).toBe(1);
    await leaveAll();
  });
});
