// The audit log: its lines, that they are documented, and that whoever reads them slowly or not at all holds up nobody.
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLogger } from '../../../common/log.ts';
import { AuditLog } from '../../../proxy/telemetry/audit.ts';
import { TelemetryStats } from '../../../proxy/telemetry/stats.ts';
import { encodeTable, entry, longstr, shortstr } from '../../support/amqp-frames.ts';
import {
  connectPeer,
  HEADER,
  method,
  OPEN_ARGUMENTS,
  type Peer,
  ScriptedBroker,
  startTestProxy,
  type TestProxy,
  tuneArguments,
} from '../../support/peers.ts';
import { channelOpen } from '../../support/amqp-methods.ts';

/** Connections end by events of both sockets, on a machine that may be busy. */
const PATIENCE = { timeout: 15_000 };

type Line = Record<string, unknown>;

const document = readFileSync(new URL('../../../docs/proxy.md', import.meta.url), 'utf8');
const [, section = ''] = /^## Audit log\n([^]*?)(?:^## |$(?![^]))/m.exec(document) ?? [];

/** Fields that docs/proxy.md gives to lines of this event, in its order. */
function documented(event: string): string[] {
  const rows = [...section.matchAll(/^\| `(\w+)` \| ((?:all|`\w+`)(?:, `\w+`)*) \|/gm)];
  return rows
    .filter(([, , events]) => events === 'all' || events!.includes(`\`${event}\``))
    .map(([, field]) => field!);
}

let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'quorumbridge-audit-'));
  file = join(folder, 'audit.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function lines(): Line[] {
  const text = readFileSync(file, 'utf8');
  expect(text === '' || text.endsWith('\n')).toBe(true);
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Line);
}

function sized(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return Buffer.concat([length, Buffer.from(text)]);
}

const LOGIN = method(
  0,
  10,
  11,
  Buffer.concat([
    encodeTable([
      entry('product', longstr('pika')),
      entry('version', longstr('1.3.2')),
      entry('platform', longstr('Python')),
      entry('connection_name', longstr('worker:1')),
    ]),
    shortstr('PLAIN'),
    sized('\0nova\0geheim-4711'),
    shortstr('en_US'),
  ]),
);

describe('of a proxy', () => {
  let broker: ScriptedBroker;
  let proxy: TestProxy;

  beforeEach(async () => {
    broker = await new ScriptedBroker().start();
    proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, auditLog: file });
  });
  afterEach(async () => {
    await proxy[Symbol.asyncDispose]();
    await broker[Symbol.asyncDispose]();
  });

  async function loggedIn(): Promise<{ client: Peer; upstream: Peer }> {
    const arriving = broker.next();
    const client = await connectPeer(proxy.port);
    client.write(HEADER);
    const upstream = await arriving;
    await upstream.take(8);
    upstream.write(method(0, 10, 10, Buffer.from('start')));
    await client.frame();
    client.write(LOGIN);
    await upstream.frame();
    return { client, upstream };
  }

  async function opened(): Promise<{ client: Peer; upstream: Peer }> {
    const peers = await loggedIn();
    const { client, upstream } = peers;
    upstream.write(method(0, 10, 30, tuneArguments(131_072)));
    await client.frame();
    client.write(method(0, 10, 31, tuneArguments(131_072)), method(0, 10, 40, OPEN_ARGUMENTS));
    await upstream.frame();
    await upstream.frame();
    upstream.write(method(0, 10, 41, Buffer.of(0)));
    await client.frame();
    return peers;
  }

  it('has a line when a client is let in and one when it goes, with the fields that are documented', async () => {
    const { client, upstream } = await opened();
    client.write(channelOpen(1));
    await upstream.frame();
    upstream.write(method(1, 20, 11, Buffer.alloc(4)));
    await client.frame();
    await expect.poll(lines, PATIENCE).toHaveLength(1);
    const ports = [client.socket.localPort, upstream.socket.remotePort];
    client.socket.end();
    await upstream.until('the end', ({ ended }) => ended);
    upstream.socket.end();
    await expect.poll(lines, PATIENCE).toHaveLength(2);
    const [first, second] = lines();
    const who = {
      name: 'audit',
      connection: 1,
      client: `127.0.0.1 ${ports[0]}`,
      tls: false,
      user: 'nova',
      brokerUser: null,
      vhost: '/',
    };
    expect(first).toEqual({
      ...who,
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string,
      event: 'opened',
      mechanism: 'PLAIN',
      product: 'pika',
      version: '1.3.2',
      platform: 'Python',
      connectionName: 'worker:1',
      upstream: `127.0.0.1 ${ports[1]}`,
    });
    expect(second).toMatchObject({
      ...who,
      event: 'closed',
      reason: 'CLIENT_LOST',
      octetsFromClient: 8 + LOGIN.length + 20 + 16 + 13,
      channels: 1,
      rewrites: {},
      changes: {},
    });
    expect(second!['seconds']).toBeGreaterThan(0);
    expect(Object.keys(first!)).toEqual(documented('opened'));
    expect(Object.keys(second!)).toEqual(documented('closed'));
    // Every line of the log about the connection has the same number.
    const logged = proxy.log().filter(({ client: address }) => address === who.client);
    expect(logged.length).toBeGreaterThan(1);
    expect(logged.filter(({ connection }) => connection !== 1)).toEqual([]);
    expect(await proxy.metric('quorumbridge_proxy_audit_lines_total')).toEqual([
      '{result="written"} 2',
      '{result="dropped"} 0',
    ]);
  });

  it('has what was rewritten', async () => {
    const { client, upstream } = await opened();
    const args = [Buffer.alloc(2), shortstr('topic'), shortstr('topic'), Buffer.of(0), Buffer.alloc(4)];
    client.write(method(1, 40, 10, Buffer.concat(args)));
    await upstream.frame();
    client.socket.destroy();
    await upstream.until('the end', ({ ended, closed }) => ended || closed);
    upstream.socket.end();
    await expect.poll(() => lines().at(-1), PATIENCE).toMatchObject({ rewrites: { 'exchange.declare': 1 } });
  });

  it('has a line for a login that was refused, and none for who never tried', async () => {
    const stray = await connectPeer(proxy.port);
    stray.write(Buffer.from('GET / HTTP/1.1\r\n\r\n'));
    await stray.until('the end', ({ ended }) => ended);
    stray.socket.end();
    const { client, upstream } = await loggedIn();
    upstream.socket.end();
    await client.until('the end', ({ ended }) => ended);
    client.socket.end();
    await expect.poll(lines, PATIENCE).toHaveLength(1);
    expect(lines()[0]).toMatchObject({ event: 'refused', user: 'nova', reason: 'unopened', vhost: '' });
    expect(Object.keys(lines()[0]!)).toEqual(documented('refused'));
  });

  it('holds no password', async () => {
    const { client, upstream } = await opened();
    client.socket.destroy();
    upstream.socket.end();
    await expect.poll(lines, PATIENCE).toHaveLength(2);
    expect(readFileSync(file, 'utf8')).not.toContain('geheim');
  });
});

describe('a file that can not be opened', () => {
  it('is an error at the start', async () => {
    const flags = { backend: '127.0.0.1:1', auditLog: join(folder, 'no', 'such') };
    await expect(startTestProxy(flags)).rejects.toThrow(
      /option --audit-log: .*such cannot be opened: ENOENT/,
    );
  });

  it('as a pipe that nobody reads is', async () => {
    execFileSync('mkfifo', [file]);
    await expect(startTestProxy({ backend: '127.0.0.1:1', auditLog: file })).rejects.toThrow(
      /cannot be opened: ENXIO/,
    );
  });
});

describe('a reader that is slow', () => {
  function start(): { audit: AuditLog; stats: TelemetryStats; logged: () => string } {
    const stats = new TelemetryStats();
    const destination = new PassThrough();
    let text = '';
    destination.on('data', (chunk: Buffer) => (text += chunk.toString()));
    const log = createLogger({ name: 'proxy', level: 'info', destination });
    return { audit: new AuditLog({ target: file, stats, log }), stats, logged: () => text };
  }

  it('costs lines, which are counted and reported, and neither time nor memory', async () => {
    execFileSync('mkfifo', [file]);
    const reader = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const { audit, stats, logged } = start();
    const began = performance.now();
    for (let line = 0; line < 20_000; line++)
      audit.write('closed', { connection: line, text: 'x'.repeat(200) });
    expect(performance.now() - began).toBeLessThan(5000);
    // 20,000 lines of 280 octets: 1 MiB waits, 64 KiB are in the pipe at most.
    expect(stats.auditDropped).toBeGreaterThan(15_000);
    expect(logged().match(/lines are dropped/g)).toHaveLength(1);
    const ending = performance.now();
    await audit.close();
    expect(performance.now() - ending).toBeLessThan(3000);
    closeSync(reader);
  });

  it('who goes and comes back misses what was written meanwhile, and gets what comes then', async () => {
    execFileSync('mkfifo', [file]);
    const first = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const { audit, stats, logged } = start();
    closeSync(first);
    audit.write('closed', { connection: 1 });
    await expect.poll(() => stats.auditDropped, PATIENCE).toBe(1);
    expect(logged()).toContain('the audit log cannot be written: EPIPE');
    const second = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    audit.write('closed', { connection: 2 });
    await expect.poll(() => stats.auditWritten, PATIENCE).toBe(1);
    const octets = Buffer.alloc(1000);
    expect(octets.toString('utf8', 0, readSync(second, octets))).toMatch(/^[^\n]*"connection":2[^\n]*\n$/);
    closeSync(second);
    await audit.close();
  });

  it('gets what was written at the end, all of it and in order', async () => {
    const { audit, stats } = start();
    for (let line = 0; line < 3000; line++) audit.write('closed', { connection: line });
    await audit.close();
    expect(lines().map(({ connection }) => connection)).toEqual(Array.from({ length: 3000 }, (_, id) => id));
    expect([stats.auditWritten, stats.auditDropped]).toEqual([3000, 0]);
  });

  it('gets no line of more than what a pipe takes at once', async () => {
    const { audit } = start();
    const long = '\u0001'.repeat(255);
    const names = ['user', 'vhost', 'mechanism', 'product', 'version', 'platform', 'connectionName'];
    audit.write('opened', Object.fromEntries(names.map((name) => [name, long])));
    await audit.close();
    expect(readFileSync(file).length).toBeLessThanOrEqual(4096);
    expect(lines()[0]).toMatchObject({ user: `${'\u0001'.repeat(48)}…` });
  });
});
