import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { describe, expect, it } from 'vitest';
import type { DelayDocument, FaultsDocument, StatsDocument } from '../../../../proxy/admin/documents.ts';
import { ask } from '../../../support/admin-client.ts';
import { method } from '../../../support/amqp-frames.ts';
import { AnsweringBroker } from '../../../support/answering-broker.ts';
import { generateCerts } from '../../../support/generated-certs.ts';
import {
  HEADER,
  OPEN_ARGUMENTS,
  Peer,
  startTestProxy,
  type TestProxy,
  tuneArguments,
} from '../../../support/peers.ts';
import { RawClient, startOk } from '../../../support/raw-client.ts';
import { WireClient } from '../../../support/wire-client.ts';

const POST = { method: 'POST' };
const DELETE = { method: 'DELETE' };
/** For what a busy machine may take long to do. */
const PATIENT = { timeout: 15_000 };

/** A proxy that lets faults be injected, in front of a broker that answers everything. */
async function start(mode: string, flags = {}): Promise<{ broker: AnsweringBroker; proxy: TestProxy }> {
  const broker = await new AnsweringBroker().start();
  const backend = `127.0.0.1:${broker.port}`;
  const proxy = await startTestProxy({ backend, mode, faultInjection: true, ...flags });
  const close = proxy[Symbol.asyncDispose];
  proxy[Symbol.asyncDispose] = async () => {
    await close();
    await broker[Symbol.asyncDispose]();
  };
  return { broker, proxy };
}

/** How a connection fails: the code of its error. */
async function failureOf({ socket }: Pick<WireClient | Peer, 'socket'>): Promise<string | undefined> {
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
  return error.code;
}

/** Milliseconds until a channel is opened. */
async function roundTrip(client: WireClient, channel: number): Promise<number> {
  const began = performance.now();
  await client.channel(channel);
  return performance.now() - began;
}

const faults = async (proxy: TestProxy): Promise<FaultsDocument> =>
  (await ask(proxy, '/faults')).json() as FaultsDocument;

describe('without --fault-injection', () => {
  it.each([
    ['GET', '/faults'],
    ['DELETE', '/faults'],
    ['POST', '/faults/sever'],
    ['POST', '/faults/delay'],
  ])('%s %s is refused, and the way out is said', async (verb, path) => {
    await using proxy = await startTestProxy({ backend: '127.0.0.1:1' });
    const { status, text } = await ask(proxy, path, { method: verb });
    expect([status, text]).toEqual([409, 'fault injection is off: start the proxy with --fault-injection\n']);
    expect(proxy.log().filter(({ msg }) => String(msg).startsWith('FAULT'))).toEqual([]);
  });
});

describe.each(['transparent', 'pool'])('in mode %s', (mode) => {
  it('the log begins with a warning, and faults are counted where they are looked for', async () => {
    const { proxy } = await start(mode);
    await using _ = proxy;
    await using client = await WireClient.connect(proxy.port);
    expect(proxy.log()[0]).toMatchObject({
      level: 'warn',
      msg: expect.stringMatching(/^FAULT INJECTION IS ON/),
    });
    expect(await faults(proxy)).toEqual({ enabled: true, injected: { sever: 0, delay: 0 }, delays: [] });
    await ask(proxy, '/faults/delay?milliseconds=1&user=guest', POST);
    await ask(proxy, '/faults/sever', POST);
    await client.ended;
    expect(await proxy.metric('quorumbridge_proxy_faults_injected_total')).toEqual([
      '{fault="sever"} 1',
      '{fault="delay"} 1',
    ]);
    const { faults: shown } = (await ask(proxy, '/stats')).json() as StatsDocument;
    expect(shown).toMatchObject({
      injected: { sever: 1, delay: 1 },
      delays: [{ milliseconds: 1, direction: 'both', user: 'guest', vhost: null }],
    });
    const warned = proxy.log().filter(({ msg }) => String(msg).startsWith('fault injected by the admin API'));
    expect(warned).toMatchObject([
      { level: 'warn', milliseconds: 1, user: 'guest' },
      { level: 'warn', side: 'both', severed: { clients: 1, broker: 1 } },
    ]);
  });

  it('a client that is severed hears a reset and no word, and others go on', async () => {
    const { proxy } = await start(mode);
    await using _ = proxy;
    await using client = await WireClient.connect(proxy.port);
    await using other = await WireClient.connect(proxy.port);
    const failure = failureOf(client);
    const { status, json } = await ask(proxy, '/faults/sever?side=client&id=1', POST);
    expect([status, json()]).toEqual([200, { clients: 1, broker: 0 }]);
    expect([await failure, await client.ended]).toEqual(['ECONNRESET', 'lost']);
    await other.channel(1);
    await expect
      .poll(() => proxy.metric('quorumbridge_proxy_connections_closed_total'), PATIENT)
      .toContain('{vhost="/",user="guest",reason="FAULT_INJECTED"} 1');
    expect(await proxy.metric('quorumbridge_proxy_errors_total')).toEqual(
      expect.arrayContaining([
        '{code="FAULT_INJECTED",class="transient"} 1',
        '{code="CLIENT_LOST",class="transient"} 0',
      ]),
    );
    expect(proxy.log()).toContainEqual(expect.objectContaining({ connection: 1, code: 'FAULT_INJECTED' }));
  });

  it('those that are severed are as many as was asked for, of those that are meant', async () => {
    const { proxy } = await start(mode);
    await using _ = proxy;
    const clients = await Promise.all(Array.from({ length: 5 }, () => WireClient.connect(proxy.port)));
    const left = (): number => clients.filter(({ end }) => end === undefined).length;
    const sever = async (query: string): Promise<unknown> => {
      const { status, json, text } = await ask(proxy, `/faults/sever?side=client&${query}`, POST);
      return status === 200 ? json() : `${status} ${text}`;
    };
    expect(await sever('user=nobody')).toBe('404 no open connection is meant\n');
    expect(await sever('vhost=other')).toBe('404 no open connection is meant\n');
    expect(await sever('share=40&count=2')).toBe('400 parameter count=2: give share or count, not both\n');
    expect(await sever('count=2&user=guest')).toEqual({ clients: 2, broker: 0 });
    await expect.poll(left, PATIENT).toBe(3);
    expect(await sever('share=34&vhost=%2F')).toEqual({ clients: 2, broker: 0 });
    await expect.poll(left, PATIENT).toBe(1);
    expect(await sever('count=9')).toEqual({ clients: 1, broker: 0 });
    await expect.poll(left, PATIENT).toBe(0);
    expect((await faults(proxy)).injected).toEqual({ sever: 3, delay: 0 });
  });

  it('a delay holds what clients send and what they are sent, whole and in order, until it is ended', async () => {
    const { broker, proxy } = await start(mode);
    await using _ = proxy;
    await using client = await WireClient.connect(proxy.port);
    const channel = await client.channel(1);
    await ask(proxy, '/faults/delay?milliseconds=150&vhost=%2F', POST);
    expect(await roundTrip(client, 2)).toBeGreaterThanOrEqual(300);
    await using later = await WireClient.connect(proxy.port);
    expect(await roundTrip(later, 1)).toBeGreaterThanOrEqual(300);
    const began = performance.now();
    const bodies = Array.from({ length: 50 }, (_none, at) => `message ${at} ${'x'.repeat(at * 100)}`);
    for (const body of bodies) channel.publish('q', Buffer.from(body));
    await expect.poll(() => broker.published.map(({ body }) => body), PATIENT).toEqual(bodies);
    expect(broker.published[0]!.at - began).toBeGreaterThanOrEqual(150);

    await ask(proxy, '/faults/delay?milliseconds=10000', POST);
    channel.publish('q', Buffer.from('last'));
    const ended = await ask(proxy, '/faults', DELETE);
    expect([ended.json(), await faults(proxy)]).toMatchObject([{ ended: 2 }, { delays: [] }]);
    await expect.poll(() => broker.published.at(-1)!.body, PATIENT).toBe('last');
    expect([client.faults, later.faults]).toEqual([[], []]);
  });

  it('a delay concerns the direction, the user and the virtual host that it is for', async () => {
    const { broker, proxy } = await start(mode);
    await using _ = proxy;
    await using client = await WireClient.connect(proxy.port);
    const channel = await client.channel(1);
    const other = await RawClient.connect(proxy.port, { user: 'nova', password: 'x', virtualHost: 'v' });
    await using __ = other;
    for (const query of ['user=nova', 'vhost=v', 'user=guest&vhost=v'])
      await ask(proxy, `/faults/delay?milliseconds=10000&${query}`, POST);
    await ask(proxy, '/faults/delay?milliseconds=10000&direction=broker_to_client&user=guest', POST);
    expect((await faults(proxy)).delays.map(({ connections }) => connections)).toEqual([1, 1, 0, 1]);
    channel.publish('q', Buffer.from('undelayed'));
    await expect.poll(() => broker.published.map(({ body }) => body), PATIENT).toEqual(['undelayed']);
    let isOpen = false;
    const opening = client.channel(2).then(() => (isOpen = true));
    await expect
      .poll(async () => (await proxy.metric('quorumbridge_proxy_buffered_bytes'))[1], PATIENT)
      .not.toMatch(/ 0$/);
    expect(isOpen).toBe(false);
    await ask(proxy, '/faults', DELETE);
    await opening;
  });

  it('at most ten delays run at a time', async () => {
    const { proxy } = await start(mode);
    await using _ = proxy;
    for (let one = 0; one < 10; one++) await ask(proxy, '/faults/delay?user=nobody', POST);
    const refused = await ask(proxy, '/faults/delay', POST);
    expect([refused.status, refused.text]).toEqual([
      409,
      'too many delays run already: DELETE /faults ends them\n',
    ]);
    expect((await ask(proxy, '/faults', DELETE)).json()).toEqual({ ended: 10 });
  });

  it('a delay ends by itself, and what it held goes on', async () => {
    const { proxy } = await start(mode);
    await using _ = proxy;
    await using client = await WireClient.connect(proxy.port);
    const began = Date.now();
    const { json } = await ask(proxy, '/faults/delay?milliseconds=10000&seconds=1', POST);
    expect(Date.parse((json() as DelayDocument).until)).toBeGreaterThanOrEqual(began + 1000);
    await client.channel(1);
    expect((await faults(proxy)).delays).toEqual([]);
    const over = proxy.log().filter(({ msg }) => msg === 'an injected delay has ended');
    expect(over).toMatchObject([{ milliseconds: 10_000, why: 'its time is over' }]);
  });

  it('what is held is bounded: then the client is not read from, and nothing is lost', async () => {
    const { broker, proxy } = await start(mode);
    await using _ = proxy;
    await using client = await WireClient.connect(proxy.port);
    const channel = await client.channel(1);
    await ask(proxy, '/faults/delay?milliseconds=10000', POST);
    const body = Buffer.alloc(64 * 1024, 'x');
    const COUNT = 400; // 25 MiB, more than sockets take
    for (let at = 0; at < COUNT; at++) channel.publish('q', body);
    const held = async (): Promise<number> =>
      Number((await proxy.metric('quorumbridge_proxy_buffered_bytes'))[0]!.split(' ')[1]);
    await expect.poll(held, PATIENT).toBeGreaterThan(1 << 20);
    const { octetsFromClient } = (
      (await ask(proxy, '/connections')).json() as { connections: [{ octetsFromClient: number }] }
    ).connections[0];
    // One read of 256 KiB may come on top.
    expect([octetsFromClient < (1 << 20) + 300_000, broker.published.length]).toEqual([true, 0]);
    expect(client.socket.writableLength).toBeGreaterThan(0);
    await ask(proxy, '/faults', DELETE);
    const isWhole = (): boolean =>
      broker.published.map((one) => one.body).join('').length === COUNT * body.length;
    await expect.poll(isWhole, PATIENT).toBe(true);
  });

  it('what a client sent before its end is delayed, and gets through', async () => {
    const { broker, proxy } = await start(mode);
    await using _ = proxy;
    const client = await WireClient.connect(proxy.port);
    const channel = await client.channel(1);
    await ask(proxy, '/faults/delay?milliseconds=100', POST);
    channel.publish('q', Buffer.from('last words'));
    await client.close();
    expect([client.end, broker.published.map(({ body }) => body)]).toEqual(['closed', ['last words']]);
    await expect.poll(() => proxy.metric('quorumbridge_proxy_connections_active'), PATIENT).toEqual([' 0']);
  });

  it('a proxy that is closed waits for no delay', async () => {
    const { proxy } = await start(mode);
    await using _ = proxy;
    await using client = await WireClient.connect(proxy.port);
    await ask(proxy, '/faults/delay?milliseconds=10000', POST);
    const opening = client.channel(1).catch(({ message }: Error) => message);
    await proxy.proxy.close();
    expect(await opening).toBe('lost');
  });
});

describe('the side of the broker', () => {
  it('may have ended while that is held back: a connection that is severed then is gone at once', async () => {
    const { broker, proxy } = await start('transparent');
    await using _ = proxy;
    await using client = await WireClient.connect(proxy.port);
    await ask(proxy, '/faults/delay?milliseconds=10000', POST);
    broker.peers[0]!.socket.destroy();
    let isOpen = false;
    const opening = client.channel(1).then(
      () => (isOpen = true),
      () => {},
    );
    await ask(proxy, '/faults/sever', POST);
    await Promise.all([opening, client.ended]);
    await expect.poll(() => proxy.metric('quorumbridge_proxy_connections_active'), PATIENT).toEqual([' 0']);
    expect(isOpen).toBe(false);
  });

  it('is reset for each client in mode transparent: the client is told 320, as when a broker is lost', async () => {
    const { broker, proxy } = await start('transparent');
    await using _ = proxy;
    await using client = await WireClient.connect(proxy.port);
    const failure = failureOf(broker.peers[0]!);
    const { json } = await ask(proxy, '/faults/sever?side=broker', POST);
    expect(json()).toEqual({ clients: 0, broker: 1 });
    expect(await failure).toBe('ECONNRESET');
    expect(await client.ended).toMatch(/^connection\.close 320 CONNECTION_FORCED/);
    await expect
      .poll(() => proxy.metric('quorumbridge_proxy_connections_closed_total'), PATIENT)
      .toContain('{vhost="/",user="guest",reason="FAULT_INJECTED"} 1');
  });

  it('is reset together with a client that came by TLS', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'quorumbridge-faults-'));
    const certs = await generateCerts(folder);
    const files = { tlsCert: join(folder, 'server.crt'), tlsKey: join(folder, 'server.key') };
    const { broker, proxy } = await start('transparent', { listen: ['amqps://127.0.0.1:0'], ...files });
    await using _ = proxy;
    const socket = tls.connect({ port: proxy.port, ca: certs['ca.crt'], servername: 'localhost' });
    const client = new Peer(socket);
    const openOk = method(0, 10, 41, Buffer.of(0));
    client.write(
      HEADER,
      startOk({}),
      method(0, 10, 31, tuneArguments(131_072)),
      method(0, 10, 40, OPEN_ARGUMENTS),
    );
    await client.until('connection.open-ok', ({ received }) => received.includes(openOk));
    const failures = Promise.all([failureOf(broker.peers[0]!), failureOf(client)]);
    expect((await ask(proxy, '/faults/sever', POST)).json()).toEqual({ clients: 1, broker: 1 });
    expect(await failures).toEqual(['ECONNRESET', 'ECONNRESET']);
    await rm(folder, { recursive: true });
  });

  it('is reset together with the client', async () => {
    const { broker, proxy } = await start('transparent');
    await using _ = proxy;
    await using client = await WireClient.connect(proxy.port);
    const failures = Promise.all([failureOf(broker.peers[0]!), failureOf(client)]);
    expect((await ask(proxy, '/faults/sever', POST)).json()).toEqual({ clients: 1, broker: 1 });
    expect([await failures, await client.ended]).toEqual([['ECONNRESET', 'ECONNRESET'], 'lost']);
  });

  it('is a shared connection in mode pool: its clients have another one soon', async () => {
    const { broker, proxy } = await start('pool');
    await using _ = proxy;
    await using client = await WireClient.connect(proxy.port);
    await using other = await WireClient.connect(proxy.port);
    await client.channel(1);
    const failures = broker.peers.map((peer) => failureOf(peer));
    const byId = await ask(proxy, '/faults/sever?id=1', POST);
    expect([byId.status, byId.text]).toEqual([
      400,
      'parameter id=1: in mode pool clients share connections to the broker; give side=client, or no id\n',
    ]);
    expect((await ask(proxy, '/faults/sever?side=broker&user=nobody', POST)).status).toBe(404);
    const { json } = await ask(proxy, '/faults/sever?side=broker&user=guest&vhost=%2F', POST);
    expect(json()).toEqual({ clients: 0, broker: 1 });
    expect(await Promise.any(failures)).toBe('ECONNRESET');
    await other.channel(1);
    expect([client.end, other.end]).toEqual([undefined, undefined]);
    await expect
      .poll(() => proxy.metric('quorumbridge_proxy_pool_connections_lost_total'), PATIENT)
      .toContain('{reason="lost"} 1');
  });
});
