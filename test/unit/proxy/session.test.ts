import { once } from 'node:events';
import * as fc from 'fast-check';
import net from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  connectPeer,
  frame,
  HEADER,
  method,
  openThrough,
  type Peer,
  readCloseFrame,
  ScriptedBroker,
  startTestProxy,
  type TestProxy,
  tuneArguments,
} from '../../support/peers.ts';

let broker: ScriptedBroker;
const running: AsyncDisposable[] = [];

beforeEach(async () => {
  broker = await new ScriptedBroker().start();
  running.push(broker);
});

afterEach(async () => {
  for (const one of running.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});

async function proxyTo(flags: Record<string, string | string[] | boolean> = {}): Promise<TestProxy> {
  const proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, ...flags });
  running.push(proxy);
  return proxy;
}

/** A client that has sent its protocol header, and the connection that the broker got for it. */
async function greet({ port }: TestProxy): Promise<{ client: Peer; upstream: Peer }> {
  const arriving = broker.next();
  const client = await connectPeer(port);
  client.write(HEADER);
  const upstream = await arriving;
  await upstream.take(8);
  return { client, upstream };
}

const PUBLISH_ARGUMENTS = Buffer.of(0, 0, 0, 1, 0x71, 0);

/** basic.publish and its content header: what comes before the body frames. */
function publishHead(channel: number, size: number): Buffer {
  const payload = Buffer.alloc(14);
  payload.writeUInt16BE(60, 0);
  payload.writeBigUInt64BE(BigInt(size), 4);
  return Buffer.concat([method(channel, 60, 40, PUBLISH_ARGUMENTS), frame(2, channel, payload)]);
}

function publish(channel: number, body: string): Buffer {
  return Buffer.concat([publishHead(channel, body.length), frame(3, channel, Buffer.from(body))]);
}

describe('octets that no rule concerns', () => {
  it('reach the broker and the client unchanged, whatever their cuts', async () => {
    const proxy = await proxyTo();
    const { client, upstream } = await openThrough(broker, proxy.port);
    const sent = Buffer.concat([
      publish(1, 'one'),
      frame(8, 0, Buffer.alloc(0)),
      publish(2, 'x'.repeat(5000)),
    ]);
    for (let at = 0; at < sent.length; at += 97) client.write(sent.subarray(at, at + 97));
    expect(await upstream.take(sent.length)).toEqual(sent);
    upstream.write(sent);
    expect(await client.take(sent.length)).toEqual(sent);
  });

  it('go on before their frame is complete', async () => {
    const proxy = await proxyTo();
    const { client, upstream } = await openThrough(broker, proxy.port);
    const message = Buffer.concat([publishHead(1, 50_000), frame(3, 1, Buffer.alloc(50_000, 7))]);
    client.write(message.subarray(0, 20_000));
    expect(await upstream.take(20_000)).toEqual(message.subarray(0, 20_000));
  });

  it('are not looked at when the client speaks AMQP 1.0', async () => {
    const proxy = await proxyTo();
    const arriving = broker.next();
    const client = await connectPeer(proxy.port);
    const octets = Buffer.from('AMQP\x03\x01\0\0 and then something that is no frame at all', 'latin1');
    client.write(octets);
    const upstream = await arriving;
    expect(await upstream.take(octets.length)).toEqual(octets);
    upstream.write(octets);
    expect(await client.take(octets.length)).toEqual(octets);
  });

  it("include the broker's answer to a version that it does not speak", async () => {
    const proxy = await proxyTo();
    const arriving = broker.next();
    const client = await connectPeer(proxy.port);
    client.write(Buffer.from('AMQP\x01\x01\x08\x00', 'latin1'));
    const upstream = await arriving;
    await upstream.take(8);
    upstream.socket.end(HEADER);
    expect(await client.take(8)).toEqual(HEADER);
    await client.until('the end', (peer) => peer.ended);
  });
});

describe('a malformed frame', () => {
  const cases: [string, Buffer, number, RegExp][] = [
    ['an unknown frame type', frame(9, 0, Buffer.alloc(4)), 501, /FRAME_ERROR - unknown frame type 9/],
    ['a wrong end octet', frame(3, 1, Buffer.alloc(4), 0x00), 501, /frame end octet is 0x00/],
    [
      'a frame beyond frame_max',
      frame(3, 1, Buffer.alloc(131_073)),
      501,
      /131081 octets exceeds frame_max 131072/,
    ],
    ['a heartbeat with a payload', frame(8, 0, Buffer.alloc(1)), 501, /heartbeat frame/],
    ['arguments that end too early', method(1, 50, 10, Buffer.of(0, 0, 9, 0x71)), 502, /SYNTAX_ERROR/],
    [
      'an unknown field type',
      method(1, 50, 10, Buffer.from('0000017100000000040161510000', 'hex')),
      502,
      /SYNTAX_ERROR/,
    ],
    [
      'a connection method on a channel',
      method(1, 10, 40),
      503,
      /COMMAND_INVALID - method 10.40 on channel 1/,
    ],
    ['a channel method on channel 0', method(0, 50, 10), 503, /COMMAND_INVALID/],
    ['content on channel 0', frame(3, 0, Buffer.alloc(4)), 504, /CHANNEL_ERROR/],
    [
      'a body without a header',
      frame(3, 7, Buffer.alloc(4)),
      505,
      /UNEXPECTED_FRAME - content body on channel 7/,
    ],
    ['a header without a publish', frame(2, 300, Buffer.alloc(14)), 505, /UNEXPECTED_FRAME - content header/],
  ];

  it.each(cases)(
    '%s closes that connection with its reply, and nobody else notices',
    async (_name, bad, code, text) => {
      const proxy = await proxyTo();
      const other = await openThrough(broker, proxy.port);
      const { client, upstream } = await openThrough(broker, proxy.port);
      const good = publish(1, 'before');
      client.write(good, bad);
      const close = readCloseFrame(await client.frame());
      expect(close.code).toBe(code);
      expect(close.text).toMatch(text);
      await client.until('the end', (peer) => peer.ended);
      // What came before the fault is the broker's, and then the proxy takes its leave of it.
      expect(await upstream.take(good.length)).toEqual(good);
      expect(readCloseFrame(await upstream.frame()).code).toBe(320);
      await upstream.until('the end', (peer) => peer.ended || peer.closed);
      const line = proxy.log().find(({ code: logged }) => logged === 'CLIENT_FRAME');
      expect(line).toMatchObject({
        level: 'warn',
        replyCode: expect.stringContaining(String(code)) as string,
      });
      expect(
        await proxy.metric('quorumbridge_proxy_errors_total{code="CLIENT_FRAME",class="permanent"}'),
      ).toEqual([' 1']);
      other.client.write(good);
      expect(await other.upstream.take(good.length)).toEqual(good);
    },
  );

  it('tells the method at fault', async () => {
    const proxy = await proxyTo();
    const { client } = await openThrough(broker, proxy.port);
    client.write(method(1, 50, 10, Buffer.of(0, 0, 9, 0x71)));
    expect(readCloseFrame(await client.frame()).method).toBe('50.10');
  });

  it('is a method where a content header is due', async () => {
    const proxy = await proxyTo();
    const { client } = await openThrough(broker, proxy.port);
    client.write(method(1, 60, 40, PUBLISH_ARGUMENTS), method(1, 20, 40));
    const close = readCloseFrame(await client.frame());
    expect(close).toMatchObject({ code: 505, method: '20.40' });
    expect(close.text).toContain('UNEXPECTED_FRAME - method on channel 1 where a content header is due');
  });

  it('is answered after the frame that the client is getting', async () => {
    const proxy = await proxyTo();
    const { client, upstream } = await openThrough(broker, proxy.port);
    const body = frame(3, 1, Buffer.alloc(1000, 7));
    upstream.write(body.subarray(0, 500));
    await client.until('half a frame', (peer) => peer.received.length === 500);
    client.write(frame(9, 0, Buffer.alloc(0)));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(client.received.length).toBe(500);
    upstream.write(body.subarray(500), frame(3, 1, Buffer.alloc(10)));
    expect(await client.take(body.length)).toEqual(body);
    expect(readCloseFrame(await client.frame()).code).toBe(501);
    await client.until('the end', (peer) => peer.ended);
    expect(client.received.length).toBe(0);
  });

  it('of the broker closes the connection with 541', async () => {
    const proxy = await proxyTo();
    const { client, upstream } = await openThrough(broker, proxy.port);
    upstream.write(frame(7, 0, Buffer.alloc(0)));
    expect(readCloseFrame(await client.frame()).code).toBe(541);
  });

  it('is measured by the frame_max that both sides agreed on', async () => {
    const proxy = await proxyTo();
    const { client, upstream } = await openThrough(broker, proxy.port, 8192);
    const largest = Buffer.concat([publishHead(1, 16_385), frame(3, 1, Buffer.alloc(8192))]);
    client.write(largest);
    expect(await upstream.take(largest.length)).toEqual(largest);
    client.write(frame(3, 1, Buffer.alloc(8193)));
    expect(readCloseFrame(await client.frame()).code).toBe(501);
  });
});

describe('the first octets', () => {
  it.each([
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n'), /HTTP/],
    ['TLS on a plain listener', Buffer.of(0x16, 3, 1, 2, 0, 1, 0, 1), /TLS to a plain listener/],
    ['noise', Buffer.from('hello'), /68 65 6c 6c 6f/],
  ])(
    '%s are answered with the protocol header, and the log says what they look like',
    async (_name, octets, text) => {
      const proxy = await proxyTo();
      const client = await connectPeer(proxy.port);
      client.write(octets);
      expect(await client.take(8)).toEqual(HEADER);
      await client.until('the end', (peer) => peer.ended);
      expect(proxy.log().find(({ code }) => code === 'CLIENT_PROTOCOL_HEADER')?.msg).toMatch(text);
      expect(broker.peers).toHaveLength(0);
    },
  );

  it('that never come cost the broker no connection and end with the handshake timeout', async () => {
    const proxy = await proxyTo({ handshakeTimeout: '0.2' });
    const client = await connectPeer(proxy.port);
    await client.until('the end', (peer) => peer.ended);
    expect(broker.peers).toHaveLength(0);
    expect(proxy.log().some(({ code }) => code === 'HANDSHAKE_TIMEOUT')).toBe(true);
  });

  it('may come one at a time', async () => {
    const proxy = await proxyTo();
    const arriving = broker.next();
    const client = await connectPeer(proxy.port);
    for (const octet of HEADER) {
      client.write(Buffer.of(octet));
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    expect(await (await arriving).take(8)).toEqual(HEADER);
  });
});

describe('the end of one side', () => {
  it('client gone without connection.close: the broker is told at once', async () => {
    const proxy = await proxyTo();
    const { client, upstream } = await openThrough(broker, proxy.port);
    client.socket.resetAndDestroy();
    expect(readCloseFrame(await upstream.frame()).code).toBe(320);
    await upstream.until('the end', (peer) => peer.ended);
    upstream.socket.end();
    await upstream.until('closed', (peer) => peer.closed);
    expect(await proxy.metric('quorumbridge_proxy_connections_active')).toEqual([' 0']);
  });

  it('client half-closes: what the broker still sends reaches it', async () => {
    const proxy = await proxyTo();
    const { client, upstream } = await openThrough(broker, proxy.port);
    const close = method(0, 10, 50, Buffer.of(0, 200, 0, 0, 0, 0, 0));
    client.socket.end(close);
    expect(await upstream.take(close.length)).toEqual(close);
    await upstream.until('the end', (peer) => peer.ended);
    upstream.socket.end(method(0, 10, 51));
    expect(await client.frame()).toEqual(method(0, 10, 51));
    await client.until('the end', (peer) => peer.ended);
  });

  it('broker gone: the client gets 320 CONNECTION_FORCED', async () => {
    const proxy = await proxyTo();
    const { client, upstream } = await openThrough(broker, proxy.port);
    upstream.socket.resetAndDestroy();
    const close = readCloseFrame(await client.frame());
    expect(close).toMatchObject({ code: 320, text: 'CONNECTION_FORCED - the broker ended the connection' });
    await client.until('the end', (peer) => peer.ended);
    client.socket.end();
    expect(proxy.log().some(({ code }) => code === 'BACKEND_LOST')).toBe(true);
  });

  it('broker gone in the middle of a frame: the client is not sent a frame inside a frame', async () => {
    const proxy = await proxyTo();
    const { client, upstream } = await openThrough(broker, proxy.port);
    const half = frame(3, 1, Buffer.alloc(100)).subarray(0, 50);
    upstream.write(half);
    await client.until('half a frame', (peer) => peer.received.length === 50);
    upstream.socket.destroy();
    await client.until('the end', (peer) => peer.closed || peer.ended);
    expect(client.received).toEqual(half);
  });

  it('broker ends during the handshake: the client sees just that, which is how old brokers refuse a login', async () => {
    const proxy = await proxyTo();
    const arriving = broker.next();
    const client = await connectPeer(proxy.port);
    client.write(HEADER);
    const upstream = await arriving;
    upstream.socket.end(method(0, 10, 10));
    expect(await client.frame()).toEqual(method(0, 10, 10));
    await client.until('the end', (peer) => peer.ended);
    expect(client.received.length).toBe(0);
  });

  it('a close that both agreed on is no error', async () => {
    const proxy = await proxyTo();
    const { client, upstream } = await openThrough(broker, proxy.port);
    upstream.write(method(0, 10, 50, Buffer.of(1, 64, 2, 0x68, 0x69, 0, 0, 0, 0)));
    expect(readCloseFrame(await client.frame())).toMatchObject({ code: 320, text: 'hi' });
    client.write(method(0, 10, 51));
    await upstream.frame();
    upstream.socket.end();
    await client.until('the end', (peer) => peer.ended);
    expect(client.received.length).toBe(0);
    expect(proxy.log().find(({ msg }) => msg === 'the broker closed the connection')).toMatchObject({
      level: 'info',
      replyCode: 320,
      replyText: 'hi',
    });
  });
});

describe('timeouts and limits', () => {
  it('a backend that cannot be reached is told to the client and logged', async () => {
    const free = net.createServer().listen(0, '127.0.0.1');
    await once(free, 'listening');
    const { port } = free.address() as net.AddressInfo;
    free.close();
    const proxy = await proxyTo({ backend: `127.0.0.1:${port}` });
    const client = await connectPeer(proxy.port);
    client.write(HEADER);
    const close = readCloseFrame(await client.frame());
    expect(close.code).toBe(320);
    expect(close.text).toContain(`backend 127.0.0.1:${port} cannot be reached: ECONNREFUSED`);
    await client.until('the end', (peer) => peer.ended);
  });

  it('a backend that does not finish its TLS handshake is given up after the connect timeout', async () => {
    const proxy = await proxyTo({ backendTls: true, connectTimeout: '0.2' });
    const client = await connectPeer(proxy.port);
    client.write(HEADER);
    const close = readCloseFrame(await client.frame());
    expect(close.text).toContain(`backend 127.0.0.1:${broker.port} did not answer in time`);
    expect(proxy.log().some(({ code }) => code === 'BACKEND_CONNECT_TIMEOUT')).toBe(true);
  });

  it('a handshake that stops is ended', async () => {
    const proxy = await proxyTo({ handshakeTimeout: '0.2' });
    const arriving = broker.next();
    const client = await connectPeer(proxy.port);
    client.write(HEADER);
    (await arriving).write(method(0, 10, 10));
    await client.frame();
    expect(readCloseFrame(await client.frame()).text).toContain('the handshake took more than 0.2 s');
  });

  it('an idle connection is ended, and one with traffic is not', async () => {
    const proxy = await proxyTo({ idleTimeout: '0.6' });
    const idle = await openThrough(broker, proxy.port);
    const busy = await openThrough(broker, proxy.port);
    const heartbeat = frame(8, 0, Buffer.alloc(0));
    const timer = setInterval(() => busy.client.write(heartbeat), 100);
    expect(readCloseFrame(await idle.client.frame()).text).toContain('no traffic for 0.6 s');
    clearInterval(timer);
    expect(busy.client.ended).toBe(false);
  });

  it('connections beyond --max-connections are refused with the reason, and count again when one ends', async () => {
    const proxy = await proxyTo({ maxConnections: '1' });
    const { client, upstream } = await openThrough(broker, proxy.port);
    const refused = await connectPeer(proxy.port);
    expect(readCloseFrame(await refused.frame()).text).toContain('(--max-connections)');
    client.socket.destroy();
    await upstream.until('the end', (peer) => peer.ended);
    upstream.socket.end();
    await expect.poll(() => proxy.metric('quorumbridge_proxy_connections_active')).toEqual([' 0']);
    await openThrough(broker, proxy.port);
  });
});

describe('the statistics', () => {
  it('are logged at every interval and at the end', async () => {
    const proxy = await proxyTo({ statsInterval: '0.1' });
    const { client, upstream } = await openThrough(broker, proxy.port);
    const octets = Buffer.concat([
      method(1, 50, 10, Buffer.from('000001710000000000', 'hex')),
      method(1, 40, 10, Buffer.from('00000178066469726563740000000000', 'hex')),
    ]);
    client.write(octets);
    await upstream.frame();
    await upstream.frame();
    const lines = (): Record<string, unknown>[] =>
      proxy.log().filter(({ msg }) => msg === 'statistics since the start');
    const expected = { level: 'info', connections: 1, active: 1, queueRewrites: 1, exchangeRewrites: 1 };
    await expect.poll(() => lines().at(-1)).toMatchObject(expected);
    expect(lines().at(-1)?.['bytesForwarded']).toBeGreaterThan(octets.length);
  });
});

describe('clients that send anything', () => {
  it('end themselves, and the proxy serves the others', async () => {
    const proxy = await proxyTo();
    const witness = await openThrough(broker, proxy.port);
    const good = Buffer.concat([
      publish(1, 'x'),
      method(1, 50, 10, Buffer.from('000001710000000000', 'hex')),
    ]);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.uint8Array({ maxLength: 40 }),
        async (mutations, tail) => {
          const { client, upstream } = await openThrough(broker, proxy.port);
          upstream.socket.on('end', () => upstream.socket.end());
          const bad = Buffer.from(good);
          for (const [at, octet] of mutations) bad[at] = octet;
          client.write(bad, tail);
          client.socket.end();
          await client.until('the end', (peer) => peer.ended || peer.closed);
        },
      ),
      { numRuns: 40 },
    );
    witness.client.write(good);
    const forwarded = await witness.upstream.take(publish(1, 'x').length);
    expect(forwarded).toEqual(publish(1, 'x'));
    expect(await proxy.metric('quorumbridge_proxy_errors_total{code="INTERNAL",class="permanent"}')).toEqual([
      ' 0',
    ]);
  });
});

describe('a drain', () => {
  it('refuses new clients, lets clients finish, and closes the rest with 320', async () => {
    const proxy = await proxyTo({ drainTimeout: '3' });
    const finishing = await openThrough(broker, proxy.port);
    const staying = await openThrough(broker, proxy.port);
    const admin = `http://127.0.0.1:${proxy.proxy.adminAddress.port}`;
    const drained = proxy.proxy.drain();
    expect((await fetch(`${admin}/livez`)).status).toBe(200);
    const ready = await fetch(`${admin}/readyz`);
    expect([ready.status, await ready.text()]).toEqual([503, expect.stringContaining('draining')]);
    await expect(connectPeer(proxy.port)).rejects.toThrow('ECONNREFUSED');
    const good = publish(1, 'still works');
    finishing.client.write(good);
    expect(await finishing.upstream.take(good.length)).toEqual(good);
    const close = readCloseFrame(await staying.client.frame());
    expect(close.code).toBe(320);
    expect(close.text).toContain('shutting down');
    expect(readCloseFrame(await staying.upstream.frame()).code).toBe(320);
    for (const { client, upstream } of [finishing, staying]) {
      client.socket.end();
      upstream.socket.end();
    }
    await drained;
  });

  it('is over at once when nobody is connected', async () => {
    const proxy = await proxyTo({ drainTimeout: '3600' });
    await proxy.proxy.drain();
  });
});

describe('frame_max', () => {
  it('below what the protocol allows does not cut the broker off', async () => {
    const proxy = await proxyTo();
    const { client, upstream } = await openThrough(broker, proxy.port, 1);
    const large = method(
      0,
      10,
      50,
      Buffer.concat([Buffer.of(1, 64, 200), Buffer.alloc(200, 0x61), Buffer.alloc(4)]),
    );
    upstream.write(large);
    expect(await client.frame()).toEqual(large);
  });

  it('of a client below 8192 is not shown to the broker, whose large bodies are cut', async () => {
    const proxy = await proxyTo();
    const { client, upstream } = await greet(proxy);
    upstream.write(method(0, 10, 30, tuneArguments(131_072)));
    expect(await client.frame()).toEqual(method(0, 10, 30, tuneArguments(131_072, 2046)));
    client.write(method(0, 10, 31, tuneArguments(4096)));
    expect(await upstream.frame()).toEqual(method(0, 10, 31, tuneArguments(131_072)));
    upstream.write(frame(3, 1, Buffer.alloc(5000, 9)));
    expect(await client.frame()).toEqual(frame(3, 1, Buffer.alloc(4088, 9)));
    expect(await client.frame()).toEqual(frame(3, 1, Buffer.alloc(912, 9)));
    upstream.write(method(1, 60, 60, Buffer.alloc(5000)));
    const close = readCloseFrame(await client.frame());
    expect(close).toMatchObject({ code: 501, method: '60.60' });
    expect(proxy.log().find(({ code }) => code === 'CLIENT_FRAME_MAX')).toBeDefined();
  });

  it('of 0 on one side leaves the other side its limit', async () => {
    const proxy = await proxyTo();
    const { client, upstream } = await greet(proxy);
    upstream.write(method(0, 10, 30, tuneArguments(8192)));
    await client.frame();
    client.write(method(0, 10, 31, tuneArguments(0)), frame(3, 1, Buffer.alloc(8193)));
    expect(readCloseFrame(await client.frame()).text).toContain('exceeds frame_max 8192');
  });
});
