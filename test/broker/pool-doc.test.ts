// docs/pool.md's table of what clients get from the proxy itself, row by row, against a broker.
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { basicConsume, frame, method, queueDeclare, shortstr } from '../support/amqp-frames.ts';
import { basicPublish, channelOpen, confirmSelect } from '../support/amqp-methods.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { OFFENCES } from '../support/offences.ts';
import { connectPeer, HEADER, readCloseFrame, startTestProxy, type TestProxy } from '../support/peers.ts';
import { RawClient, type RawOptions } from '../support/raw-client.ts';
import { RelayLink } from '../support/relay-link.ts';
import { quorumQueue } from '../support/shared-upstream.ts';

const EXCLUSIVE = 4;
const WAIT = { poolWaitTimeout: '500ms' };
/** Together more than all socket buffers between a broker and a client hold. */
const LARGE = 'x'.repeat(120_000);
const LARGE_COUNT = 300;

/** The end of a channel or a connection, as a client hears it. */
const END = /^(?:channel\.close|connection\.close|closed)\b/;

interface Row {
  readonly situation: string;
  readonly reply: string;
  /** Of the proxy; none where the client's connection goes on. */
  readonly codes: readonly string[];
}

function rows(): Row[] {
  const text = readFileSync(new URL('../../docs/pool.md', import.meta.url), 'utf8');
  const table = text.split('## Errors\n')[1]!.split('\n## ')[0]!;
  const lines = table.split('\n').filter((line) => line.startsWith('| '));
  return lines.slice(1).map((line) => {
    const [situation, reply, code] = line.slice(2, -2).split(' | ');
    return {
      situation: situation!,
      reply: /^\d{3}/.exec(reply!)![0],
      codes: [...code!.matchAll(/[A-Z_]+(?=`)/g)].flat(),
    };
  });
}

await describeBrokers(['4.3'], () => {
  let broker: Broker;
  const proxies: TestProxy[] = [];
  beforeAll(async () => {
    broker = await startBroker('4.3');
  });
  afterEach(async () => {
    for (const proxy of proxies.splice(0)) await proxy[Symbol.asyncDispose]();
  });
  afterAll(async () => broker.stop());

  async function start(flags: Record<string, string> = {}): Promise<number> {
    const proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, mode: 'pool', ...flags });
    proxies.push(proxy);
    return proxy.port;
  }

  /** What a client hears that isn't let in. */
  async function refusal(port: number, options: RawOptions): Promise<string> {
    return RawClient.connect(port, options).then(
      () => 'let in',
      (error: unknown) => (error as Error).message,
    );
  }

  /** The end that a client comes to, whatever it hears before. */
  async function endOf(client: RawClient): Promise<string> {
    for (;;) {
      const heard = await client.hear();
      if (END.test(heard)) return heard;
    }
  }

  /** A client of the proxy with channel 1 open, and a queue `there`. */
  async function working(port: number): Promise<RawClient> {
    const client = await RawClient.connect(port, { channelMax: 20 });
    await client.channels(1);
    expect(await client.ask(quorumQueue(1, 'there'))).toMatch(/^queue\.declare-ok there/);
    return client;
  }

  /** What a client hears that sends this. */
  async function says(frames: Buffer, flags: Record<string, string> = {}): Promise<string> {
    await using client = await working(await start(flags));
    client.send(frames);
    return await endOf(client);
  }

  /** What clients hear that do what brokers end connections for. @param pattern of the offences' names */
  function offences(pattern: RegExp): () => Promise<string[]> {
    const found = OFFENCES.filter(({ name }) => pattern.test(name));
    return async () => Promise.all(found.map(async ({ frames }) => says(frames)));
  }

  async function waitsForChannel(): Promise<string> {
    const port = await start({ ...WAIT, maxUpstreamConnections: '1', maxChannelsPerConnection: '1' });
    await using first = await RawClient.connect(port);
    await using second = await RawClient.connect(port);
    for (const client of [first, second]) await client.channels(1);
    expect(await first.ask(confirmSelect(1))).toBe('confirm.select-ok');
    return await second.ask(confirmSelect(1));
  }

  async function findsNoBroker(): Promise<string> {
    const peer = await connectPeer(await start({ ...WAIT, backend: '127.0.0.1:1', breakerFailures: '0' }));
    peer.write(HEADER);
    const { code, text } = readCloseFrame(await peer.frame());
    peer.socket.destroy();
    return `connection.close ${code} ${text}`;
  }

  async function losesConsumer(): Promise<string> {
    await using client = await working(await start());
    expect(await client.ask(basicConsume({ name: 'there', tag: 'c' }))).toBe('basic.consume-ok c');
    await broker.ctl('close_all_connections', 'for a test');
    return await endOf(client);
  }

  async function declaresExclusive(): Promise<string> {
    const port = await start();
    await using other = await working(port);
    await using client = await working(port);
    expect(await client.ask(basicConsume({ name: 'there', tag: 'c' }))).toBe('basic.consume-ok c');
    expect(await other.ask(confirmSelect(1))).toBe('confirm.select-ok');
    return await client.ask(queueDeclare({ name: 'mine', flags: EXCLUSIVE }));
  }

  async function readsSlowly(): Promise<string> {
    const port = await start({ clientBacklog: '64KiB' });
    await using publisher = await working(port);
    await publisher.ask(quorumQueue(1, 'large'));
    await publisher.ask(confirmSelect(1));
    for (let i = 0; i < LARGE_COUNT; i++)
      expect(await publisher.ask(basicPublish(1, 'large', LARGE))).toBe(`basic.ack ${i + 1}`);
    await using relay = await new RelayLink(port).start();
    await using client = await working(relay.port);
    client.send(basicConsume({ name: 'large', tag: 'slow' }));
    expect(await client.hear()).toBe('basic.consume-ok slow');
    relay.set('blackhole');
    const refused = () => proxies[0]!.log().some(({ code }) => code === 'SHARED_LIMIT');
    await expect.poll(refused, { timeout: 20_000 }).toBe(true);
    relay.set('pass');
    return await endOf(client);
  }

  /** Messages that are never finished, on two channels. */
  async function isHeldTooMuch(): Promise<string> {
    const limits = { clientBacklog: '64KiB', maxMessageSize: '3MiB', maxBufferPerClient: '4MiB' };
    await using client = await RawClient.connect(await start(limits), { channelMax: 20 });
    await client.channels(1, 2);
    const part = 'x'.repeat(100_000);
    for (const channel of [1, 2]) {
      client.send(basicPublish(channel, 'there', '', { size: 3 * 1024 * 1024 }));
      for (let i = 0; i < 25; i++) client.send(frame(3, channel, Buffer.from(part)));
    }
    return await endOf(client);
  }

  async function usesChannelTooEarly(): Promise<string> {
    const peer = await connectPeer(await start());
    peer.write(HEADER);
    await peer.frame();
    peer.write(channelOpen(1));
    const { code, text } = readCloseFrame(await peer.frame());
    peer.socket.destroy();
    return `connection.close ${code} ${text}`;
  }

  /** Each situation's ways, by the words of the table: what a client hears then. */
  const ways: Record<string, () => Promise<string | string[]>> = {
    'a wrong user or password': async () => refusal(await start(), { password: 'wrong' }),
    'a virtual host that is not there, or that the user may not use': async () =>
      refusal(await start(), { virtualHost: 'nowhere' }),
    'no channel at the broker within `--pool-wait-timeout`': waitsForChannel,
    'no connection to the broker within `--pool-wait-timeout`': findsNoBroker,
    "a connection to the broker is lost, with what can't be made anew": losesConsumer,
    "an exclusive queue on a channel that can't be moved": declaresExclusive,
    'more than `--client-backlog` waits for the client': readsSlowly,
    'more is held of it than `--max-buffer-per-client`': isHeldTooMuch,
    'a message of more than `--max-message-size`': async () =>
      says(basicPublish(1, 'there', 'x'.repeat(1025)), { maxMessageSize: '1KiB' }),
    'a frame that is malformed, or larger than `frame_max`': offences(
      /^501: (?:an end|a frame of no|a frame beyond)/,
    ),
    'a body that is longer than its header says': offences(/^501: a body longer/),
    'malformed arguments': offences(/^502:|arguments$/),
    "a method that clients don't send": offences(/^503:/),
    'a method or a message on a channel that is not open, a second `channel.open`': offences(
      /^504: .*(?:not open|open channel)$/,
    ),
    'a frame on a channel before `connection.open`': usesChannelTooEarly,
    'more channels in `connection.tune-ok` than are offered': async () =>
      refusal(await start(), { askedChannels: 65_535 }),
    'a channel above `channel_max`': offences(/^504: .* beyond channel_max/),
    'content without its method, a method within content': offences(/^505:/),
    'the tag of a consumer that the channel has': offences(/^530:/),
    '`immediate`, `prefetch_size`, `channel.flow` that stops, `basic.recover` without requeue':
      offences(/^540:/),
    '`connection.update-secret`': async () =>
      says(method(0, 10, 70, Buffer.concat([Buffer.alloc(4), shortstr('')]))),
  };

  it('tries every row of the table, and every offence', () => {
    expect(Object.keys(ways)).toEqual(rows().map(({ situation }) => situation));
    const patterns = [/^50[1-5]:/, /^530:/, /^540:/];
    expect(OFFENCES.filter(({ name }) => !patterns.some((each) => each.test(name)))).toEqual([]);
  });

  it.each(rows())('$situation: $reply', async ({ situation, reply, codes }) => {
    const heard = [await ways[situation]!()].flat();
    expect(heard.length).toBeGreaterThan(0);
    const kind = codes.length === 0 ? 'channel' : 'connection';
    for (const text of heard) expect(text).toContain(`${kind}.close ${reply} `);
    // One of the codes for each client, and each of them for some.
    const logged = proxies.flatMap((proxy) =>
      proxy.log().flatMap(({ code }) => (code === undefined ? [] : [code])),
    );
    expect(logged).toHaveLength(codes.length === 0 ? 0 : heard.length);
    expect(new Set(logged)).toEqual(new Set(codes));
  });
});
