import { setTimeout as delay } from 'node:timers/promises';
import { Compile } from 'typebox/schema';
import { describe, expect, it } from 'vitest';
import { HEARTBEAT } from '../../../../amqp/connection.ts';
import type { ConnectionsDocument, StateDocument, StatsDocument } from '../../../../proxy/admin/documents.ts';
import { ask } from '../../../support/admin-client.ts';
import {
  connectPeer,
  HEADER,
  method,
  openThrough,
  readCloseFrame,
  ScriptedBroker,
  startTestProxy,
} from '../../../support/peers.ts';

/** basic.ack: a frame that nothing has to follow. */
const ACK = method(1, 60, 80, Buffer.alloc(9));

interface OpenApi {
  readonly paths: Record<
    string,
    Record<
      string,
      { readonly responses: Record<string, { content: Record<string, { schema?: { $ref?: string } }> }> }
    >
  >;
  readonly components: { readonly schemas: Record<string, object> };
}

/** Reads events of a stream until there are so many. */
async function events(url: string, count: number, init: RequestInit = {}): Promise<StateDocument[]> {
  const response = await fetch(url, init);
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  let text = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body!) {
    text += decoder.decode(chunk, { stream: true });
    const whole = text.split('\n\n').slice(0, -1);
    if (whole.length >= count)
      return whole.map((event) => JSON.parse(event.replace(/^event: state\ndata: /, '')) as StateDocument);
  }
  throw new Error(`the stream ended: ${text}`);
}

describe('GET /connections', () => {
  it('shows connections by the number that the log has, filtered, sorted and by pages', async () => {
    await using broker = await new ScriptedBroker().start();
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
    const { client } = await openThrough(broker, proxy.port);
    await openThrough(broker, proxy.port);
    const silent = await connectPeer(proxy.port);
    client.write(ACK);
    await broker.peers[0]!.take(ACK.length);
    const { status, json } = await ask(proxy, '/connections');
    expect(status).toBe(200);
    const { connections, ...counts } = json() as ConnectionsDocument;
    expect(counts).toEqual({ total: 3, matching: 3, offset: 0, limit: 100 });
    expect(
      connections.map(({ id, state, vhost, paused, tls }) => ({ id, state, vhost, paused, tls })),
    ).toEqual([
      { id: 1, state: 'open', vhost: '/', paused: false, tls: false },
      { id: 2, state: 'open', vhost: '/', paused: false, tls: false },
      { id: 3, state: 'header', vhost: null, paused: false, tls: false },
    ]);
    expect(connections[0]!.octetsFromClient - connections[1]!.octetsFromClient).toBe(ACK.length);
    expect(connections[0]!.port).toBe(client.socket.localPort);
    const logged = proxy.log().find(({ msg, connection }) => msg === 'connection open' && connection === 1);
    expect(logged?.['client']).toBe(`127.0.0.1 ${client.socket.localPort}`);

    const ids = async (query: string): Promise<number[]> =>
      ((await ask(proxy, `/connections?${query}`)).json() as ConnectionsDocument).connections.map(
        ({ id }) => id,
      );
    expect(await ids('vhost=%2F&sort=-id')).toEqual([2, 1]);
    expect(await ids('sort=-octetsFromClient&limit=1')).toEqual([1]);
    expect(await ids('sort=-octetsFromClient&limit=1&offset=1')).toEqual([2]);
    expect(await ids('state=header')).toEqual([3]);
    expect(await ids('user=nobody')).toEqual([]);
    expect(await ids('address=127.0.0.1&sort=vhost')).toEqual([1, 2, 3]);
    silent.socket.destroy();
  });

  it.each([
    ['limit=0', /^parameter limit=0: expected a whole number from 1 to 1000\n$/],
    ['limit=1e3', /^parameter limit=1e3: expected a whole number from 1 to 1000\n$/],
    ['sort=speed', /^parameter sort=speed: expected one of id, -id, user, /],
    ['state=opened', /^parameter state=opened: expected one of any, header, /],
    ['user=', /^parameter user=: expected a text that is not empty/],
    ['id=1&id=2', /^parameter id=1: it is given more than once\n$/],
    ['color=red', /^parameter color=red: unknown; there are user, vhost, /],
  ])('answers 400 to ?%s, and says what is wrong and what can be asked', async (query, text) => {
    await using proxy = await startTestProxy({ backend: '127.0.0.1:1' });
    const said = await ask(proxy, `/connections?${query}`);
    expect([said.status, said.text]).toEqual([400, expect.stringMatching(text)]);
  });
});

describe('DELETE /connections/{id}', () => {
  it('closes the connection with 320, at both ends, and no other', async () => {
    await using broker = await new ScriptedBroker().start();
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
    const { client, upstream } = await openThrough(broker, proxy.port);
    const other = await openThrough(broker, proxy.port);
    const said = await ask(proxy, '/connections/1', { method: 'DELETE' });
    expect([said.status, said.json()]).toEqual([202, { id: 1, closing: true }]);
    const close = readCloseFrame(await client.frame());
    expect([close.code, close.text]).toEqual([320, 'CONNECTION_FORCED - an operator closed the connection']);
    expect(readCloseFrame(await upstream.frame()).code).toBe(320);
    expect(await proxy.metric('quorumbridge_proxy_errors_total')).toContain(
      '{code="ADMIN_CLOSED",class="transient"} 1',
    );
    other.client.write(ACK);
    expect(await other.upstream.frame()).toEqual(ACK);
    expect((await ask(proxy, '/connections/77', { method: 'DELETE' })).status).toBe(404);
    const bad = await ask(proxy, '/connections/x', { method: 'DELETE' });
    expect([bad.status, bad.text]).toEqual([
      400,
      expect.stringContaining('parameter id=x: expected the number'),
    ]);
  });
});

describe('a virtual host that is paused', () => {
  it('is not read from, those who come later included, and gets what the broker sends', async () => {
    await using broker = await new ScriptedBroker().start();
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
    const { client, upstream } = await openThrough(broker, proxy.port);
    const paused = await ask(proxy, '/vhosts/%2F/pause', { method: 'POST' });
    expect(paused.json()).toEqual({ vhost: '/', until: expect.any(String), connections: 1 });
    const later = await openThrough(broker, proxy.port);
    client.write(ACK);
    later.client.write(ACK);
    const deliver = method(1, 60, 60, Buffer.alloc(12));
    upstream.write(deliver);
    expect(await client.frame()).toEqual(deliver);
    await delay(100);
    expect([upstream.received.length, later.upstream.received.length]).toEqual([0, 0]);
    const { connections } = (await ask(proxy, '/connections')).json() as ConnectionsDocument;
    expect(connections.map((one) => one.paused)).toEqual([true, true]);
    expect(((await ask(proxy, '/stats')).json() as StatsDocument).paused).toEqual([
      { vhost: '/', until: expect.any(String), connections: 2 },
    ]);
    const resumed = await ask(proxy, '/vhosts/%2F/resume', { method: 'POST' });
    expect(resumed.json()).toEqual({ vhost: '/', connections: 2 });
    expect([await upstream.frame(), await later.upstream.frame()]).toEqual([ACK, ACK]);
    expect((await ask(proxy, '/vhosts/%2F/resume', { method: 'POST' })).status).toBe(404);
  });

  it('goes on by itself, and a pause of another one holds nobody here', async () => {
    await using broker = await new ScriptedBroker().start();
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
    const { client, upstream } = await openThrough(broker, proxy.port);
    await ask(proxy, '/vhosts/other/pause', { method: 'POST' });
    client.write(ACK);
    expect(await upstream.frame()).toEqual(ACK);
    await ask(proxy, '/vhosts/%2F/pause?seconds=2', { method: 'POST' });
    client.write(ACK);
    await delay(500);
    expect(upstream.received.length).toBe(0);
    const frames: Buffer[] = [];
    while (frames.at(-1)?.[0] !== 1) frames.push(await upstream.frame());
    // Until then the broker hears that the client is there.
    const beats = frames.slice(0, -1);
    expect(beats.length).toBeGreaterThan(0);
    expect(beats).toEqual(beats.map(() => Buffer.from(HEARTBEAT)));
    expect(frames.at(-1)).toEqual(ACK);
    expect(proxy.log()).toContainEqual(
      expect.objectContaining({ vhost: '/', msg: 'the pause of a virtual host is over: its clients go on' }),
    );
  });

  it('can be left, and closed by an operator', async () => {
    await using broker = await new ScriptedBroker().start();
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
    const { client, upstream } = await openThrough(broker, proxy.port);
    await ask(proxy, '/vhosts/%2F/pause', { method: 'POST' });
    client.write(ACK);
    await ask(proxy, '/connections/1', { method: 'DELETE' });
    expect(readCloseFrame(await client.frame()).code).toBe(320);
    client.socket.end();
    upstream.socket.end();
    await client.until('the end', (peer) => peer.closed);
    expect(((await ask(proxy, '/connections')).json() as ConnectionsDocument).total).toBe(0);
  });
});

describe('GET /events', () => {
  it('tells the state each second, with the connections that are asked for, and ends with the proxy', async () => {
    await using broker = await new ScriptedBroker().start();
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
    const url = `http://127.0.0.1:${proxy.proxy.adminAddress.port}/events?sort=-id`;
    const telling = events(url, 2);
    await openThrough(broker, proxy.port);
    const [before, after] = await telling;
    expect(before!.connections.total).toBeLessThanOrEqual(1);
    expect(after!.connections.connections.map(({ id }) => id)).toEqual([1]);
    expect(after!.stats.uptimeSeconds).toBeGreaterThan(before!.stats.uptimeSeconds);
    const endless = events(url, 1000).catch((error: Error) => error.message);
    await delay(100);
    await proxy.proxy.close();
    expect(await endless).toMatch(/^the stream ended: event: state\n/);
  });

  it('has a bounded number of listeners, whose places are free again when they go', async () => {
    await using proxy = await startTestProxy({ backend: '127.0.0.1:1' });
    const url = `http://127.0.0.1:${proxy.proxy.adminAddress.port}/events`;
    const leaving = new AbortController();
    const listening = await Promise.all(
      Array.from({ length: 8 }, () => fetch(url, { signal: leaving.signal })),
    );
    expect(listening.map(({ status }) => status)).toEqual(Array(8).fill(200));
    const ninth = await ask(proxy, '/events');
    expect([ninth.status, ninth.text]).toEqual([503, '8 listen already, the limit\n']);
    leaving.abort();
    await delay(100);
    expect(await events(url, 1)).toHaveLength(1);
  });
});

describe('profiles', () => {
  it('are what the developer tools read, one at a time', async () => {
    await using proxy = await startTestProxy({ backend: '127.0.0.1:1' });
    const first = ask(proxy, '/debug/profile?seconds=1');
    await delay(100);
    const second = await ask(proxy, '/debug/heap-profile?seconds=1');
    expect([second.status, second.text]).toEqual([409, 'a profile is being taken already\n']);
    const profile = (await first).json() as { nodes: unknown[]; startTime: number; endTime: number };
    expect(profile.nodes.length).toBeGreaterThan(1);
    expect(profile.endTime - profile.startTime).toBeGreaterThan(900_000);
    const heap = (await ask(proxy, '/debug/heap-profile?seconds=1')).json() as {
      head: unknown;
      samples: unknown[];
    };
    expect(heap.head).toBeDefined();
  });

  it('end early when nobody waits for them any more', async () => {
    await using proxy = await startTestProxy({ backend: '127.0.0.1:1' });
    const gone = new AbortController();
    const asked = ask(proxy, '/debug/profile?seconds=60', { signal: gone.signal });
    await delay(100);
    gone.abort();
    await expect(asked).rejects.toThrow('aborted');
    await delay(100);
    expect((await ask(proxy, '/debug/profile?seconds=1')).status).toBe(200);
  });
});

describe('the OpenAPI document', () => {
  it('has exactly the paths and methods that there are', async () => {
    await using proxy = await startTestProxy({ backend: '127.0.0.1:1' });
    const { paths } = (await ask(proxy, '/openapi.json')).json() as OpenApi;
    const { text } = await ask(proxy, '/nothing');
    const served = text
      .replace('not found: there are ', '')
      .trim()
      .split(/, | and /);
    expect(served.sort()).toEqual(Object.keys(paths).sort());
    for (const [path, methods] of Object.entries(paths)) {
      const { status, headers } = await ask(proxy, path.replaceAll(/\{\w+\}/g, 'x'), { method: 'PUT' });
      const allowed = headers
        .get('allow')!
        .split(', ')
        .filter((one) => one !== 'HEAD');
      expect([path, status, allowed.map((one) => one.toLowerCase())]).toEqual([
        path,
        405,
        Object.keys(methods),
      ]);
    }
  });

  it('describes the documents that are answered, field by field', async () => {
    await using broker = await new ScriptedBroker().start();
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, faultInjection: true });
    await openThrough(broker, proxy.port, 4096);
    await openThrough(broker, proxy.port);
    const { paths, components } = (await ask(proxy, '/openapi.json')).json() as OpenApi;
    const complaints = (name: string, document: unknown): unknown => {
      const check = Compile({ ...components.schemas[name] });
      return check.Check(document) ? [] : check.Errors(document);
    };
    const documents: Record<string, unknown> = {};
    const take = async (path: string, init?: RequestInit): Promise<void> => {
      const { status, headers, json } = await ask(proxy, path, init);
      const pattern = path.replace(/\?.*/, '').replace('%2F', '{vhost}').replace(/\/1$/, '/{id}');
      const verb = (init?.method ?? 'GET').toLowerCase();
      const { content } = paths[pattern]![verb]!.responses[status]!;
      const name = content[headers.get('content-type')!]!.schema!.$ref!.split('/').at(-1)!;
      documents[name] = json();
    };
    await take('/vhosts/%2F/pause', { method: 'POST' });
    await take('/faults/delay', { method: 'POST' });
    await take('/faults');
    await take('/stats');
    await take('/connections');
    await take('/clients');
    await take('/debug/heap');
    await take('/config/effective');
    await take('/reload', { method: 'POST' });
    [documents['State']] = await events(`http://127.0.0.1:${proxy.proxy.adminAddress.port}/events`, 1);
    await take('/vhosts/%2F/resume', { method: 'POST' });
    await take('/faults/sever?id=2', { method: 'POST' });
    await take('/faults', { method: 'DELETE' });
    await take('/connections/1', { method: 'DELETE' });
    for (const [name, document] of Object.entries(documents))
      expect([name, complaints(name, document)]).toEqual([name, []]);
    expect(Object.keys(documents).concat('Pool').sort()).toEqual(Object.keys(components.schemas).sort());
    expect(complaints('Connections', { ...(documents['Connections'] as object), more: 1 })).not.toEqual([]);
  });

  it('describes the pool', async () => {
    await using proxy = await startTestProxy({ backend: '127.0.0.1:1', mode: 'pool' });
    const { components } = (await ask(proxy, '/openapi.json')).json() as OpenApi;
    const pool = (await ask(proxy, '/pool')).json();
    expect(Compile({ ...components.schemas['Pool'] }).Check(pool)).toBe(true);
    await using other = await startTestProxy({ backend: '127.0.0.1:1' });
    const said = await ask(other, '/pool');
    expect([said.status, said.text]).toEqual([
      404,
      'there is no pool: the mode is transparent (--mode=pool)\n',
    ]);
  });
});

it('shows a connection whose client never says more than its header', async () => {
  await using broker = await new ScriptedBroker().start();
  await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
  const arriving = broker.next();
  const client = await connectPeer(proxy.port);
  client.write(HEADER);
  await (await arriving).take(8);
  const { connections } = (await ask(proxy, '/connections')).json() as ConnectionsDocument;
  expect(connections).toMatchObject([{ state: 'handshake', user: null, vhost: null, channels: 0 }]);
});
