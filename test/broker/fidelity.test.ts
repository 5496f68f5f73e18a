// What no rule concerns passes octet by octet: both sides of the proxy are recorded while real clients work, and compared.
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { connect } from 'amqplib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { startTestProxy, type TestProxy } from '../support/peers.ts';

/** A TCP relay that keeps what passes, of one connection at a time. */
class Recorder implements AsyncDisposable {
  toBroker: Buffer = Buffer.alloc(0);
  toClient: Buffer = Buffer.alloc(0);
  readonly #server: net.Server;

  constructor(port: number) {
    this.#server = net.createServer((client) => {
      const onward = net.connect({ host: '127.0.0.1', port });
      client.on('data', (octets: Buffer) => {
        this.toBroker = Buffer.concat([this.toBroker, octets]);
      });
      onward.on('data', (octets: Buffer) => {
        this.toClient = Buffer.concat([this.toClient, octets]);
      });
      for (const socket of [client, onward]) socket.on('error', () => socket.destroy());
      client.pipe(onward).pipe(client);
    });
  }

  async start(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    await Promise.resolve();
  }
}

/** The stream with the channel_max of connection.tune or tune-ok set to 0: the one thing that is negotiated. */
function withoutChannelMax(stream: Buffer, methodId: number): Buffer {
  const copy = Buffer.from(stream);
  const at = copy.indexOf(Buffer.of(0, 10, 0, methodId));
  expect(at).toBeGreaterThan(0);
  copy.writeUInt16BE(0, at + 4);
  return copy;
}

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  let broker: Broker;
  let behind: Recorder;
  let proxy: TestProxy;
  let before: Recorder;

  beforeAll(async () => {
    broker = await startBroker(version);
    behind = await new Recorder(broker.port).start();
    proxy = await startTestProxy({ backend: `127.0.0.1:${behind.port}` });
    before = await new Recorder(proxy.port).start();
  });
  afterAll(async () => {
    await before?.[Symbol.asyncDispose]();
    await proxy?.[Symbol.asyncDispose]();
    await behind?.[Symbol.asyncDispose]();
    await broker?.stop();
  });

  it('a client that speaks durable and quorum by itself: not an octet differs but the channel_max', async () => {
    const model = await connect(`amqp://guest:guest@127.0.0.1:${before.port}/`);
    const channel = await model.createConfirmChannel();
    await channel.assertExchange('faithful', 'headers', {
      durable: true,
      arguments: { 'x-any': [1, 2.5, null] },
    });
    await channel.assertQueue('faithful', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
    await channel.bindQueue('faithful', 'faithful', '', {
      'x-match': 'any',
      a: { nested: [true, 'text', 7] },
    });
    await channel.prefetch(10);
    let got = 0;
    await channel.consume('faithful', (message) => {
      got++;
      channel.ack(message!);
    });
    const headers = { a: 'ü', big: 2 ** 40, date: { '!': 'timestamp', value: 1_700_000_000 } };
    for (const size of [0, 1, 5000, 400_000]) {
      channel.publish('faithful', '', Buffer.alloc(size, 0xce), { headers, persistent: true, priority: 3 });
      channel.sendToQueue('faithful', Buffer.alloc(size, 1), { expiration: 60_000 });
    }
    await channel.waitForConfirms();
    await expect.poll(() => got, { timeout: 10_000 }).toBeGreaterThanOrEqual(4);
    channel.publish('', 'nobody', Buffer.from('returned'), { mandatory: true });
    await channel.waitForConfirms();
    await model.close();
    await expect.poll(() => behind.toClient.length).toBe(before.toClient.length);
    const sent = [before.toBroker, behind.toBroker].map((stream) => withoutChannelMax(stream, 31));
    expect(sent[0]!.equals(sent[1]!)).toBe(true);
    const received = [before.toClient, behind.toClient].map((stream) => withoutChannelMax(stream, 30));
    expect(received[0]!.equals(received[1]!)).toBe(true);
    expect(sent[0]!.length).toBeGreaterThan(800_000);
  });
});
