// One connection of pool mode, without the pool, at real brokers: logins, channels that are used again, and its end.
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { makeCa, makeServingCertificate } from '../../certs/certificates.ts';
import { basicConsume, frame, queueDeclare } from '../support/amqp-frames.ts';
import { basicAck, basicGet, basicPublish, queueDelete } from '../support/amqp-methods.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { LIMITS, plainLogin, startUpstream, TestOwner, type TestUpstream } from '../support/upstreams.ts';

/** queue.declare's flag. */
const DURABLE = 2;

/** basic.publish's. */
const MANDATORY = 1;

/** basic.consume's. */
const NO_ACK = 2;

const MESSAGES = 5;
const FRAME_PAYLOAD = 100_000;

async function until(what: string, done: () => boolean, milliseconds = 20_000): Promise<void> {
  const deadline = Date.now() + milliseconds;
  while (!done()) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${milliseconds} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The methods that an owner got, with their channels: `60.71 on 1`. */
function methodsOf({ received }: TestOwner): string[] {
  const found: string[] = [];
  for (let at = 0; at < received.length; at += received.readUInt32BE(at + 3) + 8) {
    if (received[at] !== 1) continue;
    const [classId, methodId] = [received.readUInt16BE(at + 7), received.readUInt16BE(at + 9)];
    found.push(`${classId}.${methodId} on ${received.readUInt16BE(at + 1)}`);
  }
  return found;
}

/** All bodies that an owner got, one behind the other. */
function bodiesOf({ received }: TestOwner): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at < received.length;) {
    const end = at + 7 + received.readUInt32BE(at + 3);
    if (received[at] === 3) pieces.push(received.subarray(at + 7, end));
    at = end + 1;
  }
  return Buffer.concat(pieces);
}

/** basic.publish of a body in several frames. */
function largePublish(channel: number, key: string, body: Buffer): Buffer {
  const publish = basicPublish(channel, key, '');
  // Behind the method's frame, its content header's frame header, class and weight.
  publish.writeBigUInt64BE(BigInt(body.length), publish.readUInt32BE(3) + 8 + 7 + 4);
  const frames = [publish];
  for (let at = 0; at < body.length; at += FRAME_PAYLOAD)
    frames.push(frame(3, channel, body.subarray(at, at + FRAME_PAYLOAD)));
  return Buffer.concat(frames);
}

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  let folder: string;
  let broker: Broker;
  let encrypted: Record<string, string | boolean>;
  const started: TestUpstream[] = [];
  let sweeping: NodeJS.Timeout;

  beforeAll(async () => {
    const ca = await makeCa({ commonName: 'ca', days: 1 });
    const server = await makeServingCertificate({ ca, dnsNames: ['localhost'], ips: ['127.0.0.1'], days: 1 });
    const files = { 'ca.crt': ca.cert, 'tls.crt': server.cert, 'tls.key': server.key };
    folder = await mkdtemp(join(tmpdir(), 'quorumbridge-upstream-'));
    await writeFile(join(folder, 'ca.crt'), ca.cert);
    broker = await startBroker(version, {
      files,
      conf: `
listeners.ssl.1 = 127.0.0.1:@AMQPS@
ssl_options.cacertfile = @FILES@/ca.crt
ssl_options.certfile = @FILES@/tls.crt
ssl_options.keyfile = @FILES@/tls.key`,
    });
    encrypted = {
      backend: `127.0.0.1:${broker.amqpsPort}`,
      backendTls: true,
      backendTlsCa: join(folder, 'ca.crt'),
      backendTlsServerName: 'localhost',
    };
    sweeping = setInterval(() => {
      for (const { upstream } of started) upstream.sweep(performance.now());
    }, 250);
  });
  afterEach(() => {
    for (const { upstream } of started.splice(0)) upstream.destroy();
  });
  afterAll(async () => {
    clearInterval(sweeping);
    await broker?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  function start(
    settings: Parameters<typeof startUpstream>[1] = {},
    flags: Record<string, string | boolean> = { backend: `127.0.0.1:${broker.port}` },
  ): TestUpstream {
    const test = startUpstream(flags, settings);
    started.push(test);
    return test;
  }

  async function opened(...args: Parameters<typeof start>): Promise<TestUpstream> {
    const test = start(...args);
    test.upstream.open('/');
    await until('it is open', () => test.upstream.state === 'open');
    return test;
  }

  async function ended(test: TestUpstream): Promise<ReturnType<TestUpstream['end']>> {
    await until('its end', () => test.end() !== undefined);
    return test.end();
  }

  /** Makes a queue with nothing in it, on a channel of its own. */
  async function makeQueue({ upstream }: TestUpstream, name: string): Promise<void> {
    const owner = new TestOwner();
    const channel = owner.take(upstream);
    owner.send(channel, queueDelete(1, name));
    owner.send(channel, queueDeclare({ channel: 1, name, flags: DURABLE }));
    await until('the queue', () => methodsOf(owner).includes('50.11 on 1'));
    channel.release(() => owner.told.push('settled'));
    await until('the channel is closed', () => owner.told.length > 0);
  }

  describe('a login', () => {
    it.each(['plain', 'TLS'])('is taken, and the connection has its name: %s', async (kind) => {
      const { upstream, events } = await opened({}, kind === 'plain' ? undefined : encrypted);
      expect(events[1]).toMatch(/^authenticated \d+ 131072 60$/);
      expect(events[2]).toBe('opened');
      expect(upstream.frameMax).toBe(131_072);
      const listed = await broker.ctl('-q', 'list_connections', 'user', 'vhost', 'ssl', 'client_properties');
      expect(listed).toContain(`guest\t/\t${kind === 'TLS'}`);
      expect(listed).toContain('"a pool"');
      expect(listed).toContain('"Quorumbridge"');
    });

    it('with a wrong password is refused with what the broker says', async () => {
      const test = start({ credentials: plainLogin('guest', 'wrong') });
      expect(await ended(test)).toEqual({
        kind: 'refused',
        replyCode: 403,
        text:
          'ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. ' +
          'For details see the broker logfile.',
        method: 0,
      });
      expect(JSON.stringify(test.log())).not.toContain('wrong');
    });

    it('that the broker cannot read is refused without a word', async () => {
      const credentials = { ...plainLogin(), response: Buffer.from('no separators') };
      const test = start({ credentials });
      const end = await ended(test);
      expect([end?.kind, end?.replyCode]).toEqual(['refused', undefined]);
    });

    it('may come behind the greeting', async () => {
      const test = start({ credentials: undefined });
      await until('the greeting', () => test.events.length === 1);
      test.upstream.open('/');
      test.upstream.login(plainLogin());
      await until('it is open', () => test.upstream.state === 'open');
    });

    it('to a virtual host that is not there is told so', async () => {
      const test = start();
      test.upstream.open('nope');
      const end = await ended(test);
      expect(end).toMatchObject({ kind: 'closed', replyCode: 530, method: 0x000a_0028 });
      expect(end?.text).toMatch(/^NOT_ALLOWED - .*nope/);
      expect(test.events[1]).toMatch(/^authenticated/);
    });
  });

  describe('a channel', () => {
    it('is opened by frames that follow at once', async () => {
      const test = await opened();
      await makeQueue(test, 'pipelined');
      const owner = new TestOwner();
      const channel = owner.take(test.upstream, 77);
      owner.publish(channel, 'pipelined', 'a message');
      owner.send(channel, basicGet(77, 'pipelined'));
      await until('the message', () => owner.received.includes('a message'));
      expect(methodsOf(owner)).toEqual(['60.71 on 77']);
    });

    it('that published is used again, on the same number, and the broker opens no other', async () => {
      const test = await opened();
      await makeQueue(test, 'reuse');
      const { channelsOpened } = test.stats.pool;
      for (let i = 1; i <= 50; i++) {
        const owner = new TestOwner();
        const channel = owner.take(test.upstream, i);
        expect(channel.number).toBe(1);
        for (let n = 0; n < 5; n++) owner.publish(channel, 'reuse', 'm');
        channel.release(() => owner.told.push('settled'));
        await until('it is settled', () => owner.told.length > 0, LIMITS.handshakeTimeout - 500);
        expect(owner.received).toHaveLength(0);
      }
      expect(test.stats.pool.channelsOpened).toBe(channelsOpened + 1);
      expect(test.stats.pool.channelsReused).toBe(49);
      expect((await broker.ctl('-q', 'list_channels', 'number')).trim().split('\n').at(-1)).toBe('1');
      expect(await broker.ctl('-q', 'list_queues', 'name', 'messages_ready')).toContain('reuse\t250');
    });

    it('that got messages is used again, and its next owner counts from 1', async () => {
      const test = await opened();
      await makeQueue(test, 'gets');
      for (const local of [3, 4]) {
        const owner = new TestOwner();
        const channel = owner.take(test.upstream, local);
        for (let n = 1; n <= 3; n++) owner.publish(channel, 'gets', 'm');
        for (let n = 1; n <= 3; n++) owner.send(channel, basicGet(local, 'gets'));
        await until('three messages', () => methodsOf(owner).length === 3);
        expect(methodsOf(owner)).toEqual(Array.from({ length: 3 }, () => `60.71 on ${local}`));
        expect(owner.received.readBigUInt64BE(11)).toBe(1n);
        channel.release(() => owner.told.push('settled'));
        await until('it is settled', () => owner.told.length > 0);
      }
      expect(test.stats.pool.channelsReused).toBe(1);
    });

    it.each([1, 1000])('is told of a refused publish before it is settled: the last of %i', async (count) => {
      const test = await opened();
      const owner = new TestOwner();
      const channel = owner.take(test.upstream, 9);
      for (let n = 1; n < count; n++) owner.publish(channel, 'nobody', 'm');
      owner.publish(channel, 'key', 'm', 'no-such-exchange');
      owner.onReceive = () => owner.told.push('received');
      channel.release(() => owner.told.push('settled'));
      await until('it is settled', () => owner.told.includes('settled'));
      expect(methodsOf(owner)).toEqual(['20.40 on 9']);
      expect(owner.received.readUInt16BE(11)).toBe(404);
      expect(owner.told).toEqual(['received', 'settled']);
      // The number is the broker's no more: it is opened anew, and works.
      const next = new TestOwner();
      const again = next.take(test.upstream);
      expect(again.number).toBe(1);
      next.publish(again, 'nobody', 'm');
      again.release(() => next.told.push('settled'));
      await until('the next one is settled', () => next.told.length > 0);
      expect(test.stats.pool.channelsIdle).toBe(1);
      expect(test.end()).toBeUndefined();
    });

    it('gets what was returned before it is settled', async () => {
      const test = await opened();
      const owner = new TestOwner();
      const channel = owner.take(test.upstream, 9);
      const returned = basicPublish(9, 'nobody', 'unroutable');
      returned[returned.readUInt32BE(3) + 6] = MANDATORY;
      for (let n = 0; n < 100; n++) owner.send(channel, Buffer.from(returned));
      let before = 0;
      channel.release(() => {
        before = methodsOf(owner).length;
      });
      await until('it is settled', () => before > 0);
      expect(before).toBe(100);
      expect(test.stats.pool.channelsIdle).toBe(1);
    });

    it('with a consumer is closed, and what it had goes back', async () => {
      const test = await opened();
      await makeQueue(test, 'dirty');
      const owner = new TestOwner();
      const channel = owner.take(test.upstream, 2);
      owner.publish(channel, 'dirty', 'a message');
      owner.send(channel, basicConsume({ channel: 2, name: 'dirty', tag: 'ctag' }));
      await until('the delivery', () => owner.received.includes('a message'));
      channel.release(() => owner.told.push('settled'));
      await until('it is settled', () => owner.told.length > 0);
      expect(await broker.ctl('-q', 'list_queues', 'name', 'consumers')).toContain('dirty\t0');
      const next = new TestOwner();
      const again = next.take(test.upstream, 5);
      expect(again.number).toBe(channel.number);
      next.send(again, basicGet(5, 'dirty', false));
      await until('the message', () => next.received.includes('a message'));
      next.send(again, basicAck(5, 1));
      expect(next.received.readBigUInt64BE(11)).toBe(1n);
      expect(test.stats.pool.channelsReused).toBe(0);
    });

    it('that the broker closes while it is being closed is free behind both answers', async () => {
      const test = await opened();
      for (let i = 0; i < 20; i++) {
        const owner = new TestOwner();
        const channel = owner.take(test.upstream, 2);
        expect(channel.number).toBe(1);
        // The passive declare is refused with 404 about when the broker hears of the close.
        owner.send(channel, queueDeclare({ channel: 2, name: 'nope', flags: 1 }));
        channel.release(() => owner.told.push('settled'));
        await until('it is settled', () => owner.told.length > 0, LIMITS.handshakeTimeout - 500);
      }
      expect(test.end()).toBeUndefined();
    });
  });

  it.each(['plain', 'TLS'])('carries large messages of many at a time intact: %s', async (kind) => {
    const test = await opened({}, kind === 'plain' ? undefined : encrypted);
    const bodies = Array.from({ length: 8 }, (_, i) => randomBytes(300_000 + i * 1000));
    await Promise.all(bodies.map((_, i) => makeQueue(test, `large-${i}`)));
    const owners = bodies.map(() => new TestOwner());
    for (const [i, owner] of owners.entries()) {
      const name = `large-${i}`;
      const channel = owner.take(test.upstream, i + 1);
      for (let n = 0; n < MESSAGES; n++) owner.send(channel, largePublish(i + 1, name, bodies[i]!));
      owner.send(channel, basicConsume({ channel: i + 1, name, tag: 'ctag', flags: NO_ACK }));
    }
    await until('all of it', () => owners.every(({ octets }, i) => octets > bodies[i]!.length * MESSAGES));
    for (const [i, owner] of owners.entries()) {
      const methods = ['60.21', ...Array.from({ length: MESSAGES }, () => '60.60')];
      expect(methodsOf(owner)).toEqual(methods.map((id) => `${id} on ${i + 1}`));
      const expected = Buffer.concat(Array.from({ length: MESSAGES }, () => bodies[i]!));
      expect(bodiesOf(owner).equals(expected)).toBe(true);
    }
  });

  describe('the connection', () => {
    it('is kept by heartbeats, ours and the broker’s', async () => {
      const test = await opened({ limits: { ...LIMITS, heartbeat: 1 } });
      const [frames, written] = [test.stats.brokerFrames.all, test.upstream.socket.bytesWritten];
      await new Promise((resolve) => setTimeout(resolve, 6000));
      expect(test.end()).toBeUndefined();
      expect(test.stats.brokerFrames.all - frames).toBeGreaterThan(3);
      expect(test.upstream.socket.bytesWritten - written).toBeGreaterThan(3 * 8);
      const listed = await broker.ctl('-q', 'list_connections', 'timeout');
      expect(listed.trim().split('\n').at(-1)).toBe('1');
    });

    it('tells that the broker takes no publishes, and that it does again', async () => {
      const test = await opened();
      const owner = new TestOwner();
      const channel = owner.take(test.upstream);
      await broker.ctl('set_vm_memory_high_watermark', '0.000001');
      try {
        owner.publish(channel, 'nobody', 'm');
        await until('it is blocked', () => test.upstream.blockedBy !== undefined);
      } finally {
        await broker.ctl('set_vm_memory_high_watermark', '0.6');
      }
      await until('it is not', () => test.upstream.blockedBy === undefined);
      expect(owner.told).toEqual([expect.stringContaining('blocked low on memory'), 'blocked undefined']);
    });

    it('is closed by the broker with its reason', async () => {
      const test = await opened();
      const owner = new TestOwner();
      owner.take(test.upstream, 4);
      await broker.ctl('close_all_connections', 'maintenance');
      expect(await ended(test)).toMatchObject({ kind: 'closed', replyCode: 320 });
      expect(test.end()?.text).toMatch(/^CONNECTION_FORCED - .*maintenance/);
      expect(owner.told).toEqual(['lost 4: closed']);
      await until('the socket is closed', () => test.upstream.socket.destroyed);
    });

    it('is closed by us as brokers want it', async () => {
      const test = await opened();
      test.upstream.close('idle');
      expect(await ended(test)).toEqual({ kind: 'ended', text: 'idle' });
      await until('the socket is closed', () => test.upstream.socket.destroyed, 1000);
    });
  });
});
