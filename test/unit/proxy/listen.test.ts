import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { makeCa, makeClientCertificate, makeServingCertificate } from '../../../certs/certificates.ts';
import { connectionClose } from '../../support/amqp-methods.ts';
import {
  connectPeer,
  HEADER,
  method,
  openThrough,
  Peer,
  ScriptedBroker,
  startTestProxy,
  type TestProxy,
} from '../../support/peers.ts';

type Pair = { readonly cert: string; readonly key: string };

let folder: string;
let ca: Pair;
let stranger: Pair;
let client: Pair;
let strangersClient: Pair;
let broker: ScriptedBroker;
const running: AsyncDisposable[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'quorumbridge-listen-'));
  ca = await makeCa({ commonName: 'test', days: 1 });
  stranger = await makeCa({ commonName: 'somebody else', days: 1 });
  const server = await makeServingCertificate({ ca, dnsNames: ['localhost'], ips: ['127.0.0.1'], days: 1 });
  client = await makeClientCertificate({ ca, commonName: 'client', days: 1 });
  strangersClient = await makeClientCertificate({ ca: stranger, commonName: 'client', days: 1 });
  for (const [name, text] of Object.entries({
    'ca.crt': ca.cert,
    'tls.crt': server.cert,
    'tls.key': server.key,
    'other.key': client.key,
  })) {
    writeFileSync(join(folder, name), text);
  }
});

afterAll(() => rmSync(folder, { recursive: true }));

beforeEach(async () => {
  broker = await new ScriptedBroker().start();
  running.push(broker);
});

afterEach(async () => {
  for (const one of running.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});

const file = (name: string): string => join(folder, name);

async function tlsProxy(flags: Record<string, string | string[] | boolean> = {}): Promise<TestProxy> {
  const files = { tlsCert: file('tls.crt'), tlsKey: file('tls.key') };
  const proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, ...files, ...flags });
  running.push(proxy);
  return proxy;
}

/** Connects by TLS; the answer is the first octets that come back, or the error. */
async function greet(port: number, options: tls.ConnectionOptions = {}): Promise<string> {
  const arriving = broker.next();
  const socket = tls.connect({ host: '127.0.0.1', port, ca: ca.cert, ...options });
  const peer = new Peer(socket);
  let failure: string | undefined;
  socket.on('error', (error: NodeJS.ErrnoException) => (failure = error.code ?? error.message));
  socket.write(HEADER);
  void arriving.then((upstream) => upstream.write(method(0, 10, 10, Buffer.from('start'))));
  await peer.until(
    'an answer or an end',
    ({ received, closed, ended }) => received.length > 0 || closed || ended,
  );
  const protocol = socket.getProtocol();
  socket.destroy();
  return failure ?? (peer.received.length > 0 ? `connection.start by ${protocol}` : 'ended');
}

/** Lets the broker answer a health check's handshake. */
function readyzHeld(status: Promise<number>, probe: Peer): Promise<number> {
  probe.write(method(0, 10, 10, Buffer.from('start')));
  return status;
}

describe('a TLS listener', () => {
  it.each(['TLSv1.2', 'TLSv1.3'] as const)('takes %s', async (version) => {
    const proxy = await tlsProxy();
    expect(await greet(proxy.port, { minVersion: version, maxVersion: version })).toBe(
      `connection.start by ${version}`,
    );
  });

  it('refuses TLS 1.1, and says so in the log', async () => {
    const proxy = await tlsProxy();
    const old = { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    expect(await greet(proxy.port, old)).toMatch(/EPROTO|ERR_SSL|ECONNRESET/);
    await expect.poll(() => proxy.log().some(({ code }) => code === 'CLIENT_TLS')).toBe(true);
  });

  it('says in the log that a client does not speak TLS, and goes on', async () => {
    const proxy = await tlsProxy();
    const plain = await connectPeer(proxy.port);
    plain.write(HEADER);
    await plain.until('the end', (peer) => peer.ended || peer.closed);
    await expect
      .poll(() => proxy.log().find(({ code }) => code === 'CLIENT_TLS')?.msg)
      .toMatch(/TLS handshake failed/);
    expect(await greet(proxy.port)).toMatch(/connection.start/);
    await expect
      .poll(() => proxy.metric('quorumbridge_proxy_errors_total{code="CLIENT_TLS",class="permanent"}'))
      .toEqual([' 1']);
  });

  it.each([
    ['before a word', Buffer.alloc(0)],
    ['within its handshake', Buffer.from('1603010200010001fc0303', 'hex')],
  ])('lets a client go at once that ends its side %s', async (_when, octets) => {
    const proxy = await tlsProxy({ handshakeTimeout: '1h' });
    const probe = await connectPeer(proxy.port);
    probe.socket.end(octets);
    await probe.until('the end', ({ ended, closed }) => ended || closed, 15_000);
    await expect.poll(() => proxy.metric('quorumbridge_proxy_connections_active')).toEqual([' 0']);
  });

  it('still answers a client that ends its side behind connection.close', async () => {
    const proxy = await tlsProxy();
    const connect = async (port: number) => new Peer(tls.connect({ host: '127.0.0.1', port, ca: ca.cert }));
    const { client, upstream } = await openThrough(broker, proxy.port, 131_072, 2047, connect);
    client.socket.end(connectionClose());
    await upstream.frame();
    upstream.write(method(0, 10, 51));
    expect(await client.frame()).toEqual(method(0, 10, 51));
    client.socket.destroy();
  });

  it('with --tls-ca refuses clients without a certificate and those with a wrong one', async () => {
    const proxy = await tlsProxy({ tlsCa: file('ca.crt') });
    expect(await greet(proxy.port)).not.toMatch(/connection.start/);
    expect(await greet(proxy.port, strangersClient)).not.toMatch(/connection.start/);
    expect(await greet(proxy.port, client)).toMatch(/connection.start/);
  });

  it('with --tls-client-auth=request takes clients without a certificate, and refuses a wrong one', async () => {
    const proxy = await tlsProxy({ tlsCa: file('ca.crt'), tlsClientAuth: 'request' });
    expect(await greet(proxy.port)).toMatch(/connection.start/);
    expect(await greet(proxy.port, client)).toMatch(/connection.start/);
    expect(await greet(proxy.port, strangersClient)).not.toMatch(/connection.start/);
    expect(proxy.log().find(({ code }) => code === 'CLIENT_CERTIFICATE')?.msg).toMatch(
      /certificate was refused/,
    );
  });

  it('stands beside a plain one', async () => {
    const proxy = await tlsProxy({ listen: ['amqp://127.0.0.1:0', 'amqps://127.0.0.1:0'] });
    const [plain, encrypted] = proxy.proxy.listeners;
    expect([plain?.scheme, encrypted?.scheme]).toEqual(['amqp', 'amqps']);
    expect(await greet(encrypted!.address.port)).toMatch(/connection.start/);
    const arriving = broker.next();
    const peer = await connectPeer(plain!.address.port);
    peer.write(HEADER);
    expect(await (await arriving).take(8)).toEqual(HEADER);
  });

  it('moves a megabyte both ways between slow peers', async () => {
    const proxy = await tlsProxy();
    const arriving = broker.next();
    const socket = tls.connect({ host: '127.0.0.1', port: proxy.port, ca: ca.cert });
    const peer = new Peer(socket);
    const octets = Buffer.alloc(1 << 20, 'AMQP 1.0 octets go through as they are. ');
    peer.write(Buffer.from('AMQP\0\x01\0\0', 'latin1'), octets);
    const upstream = await arriving;
    upstream.socket.pause();
    await new Promise((resolve) => setTimeout(resolve, 100));
    upstream.socket.resume();
    await upstream.take(8);
    expect((await upstream.take(octets.length)).equals(octets)).toBe(true);
    socket.pause();
    upstream.write(octets);
    await new Promise((resolve) => setTimeout(resolve, 100));
    socket.resume();
    expect((await peer.take(octets.length)).equals(octets)).toBe(true);
    socket.destroy();
  });
});

describe('the backend', () => {
  it("is told each client's address by PROXY v2, and a health check's by its own", async () => {
    const proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, backendProxyProtocol: 'v2' });
    running.push(proxy);
    const arriving = broker.next();
    const peer = await connectPeer(proxy.port);
    peer.write(HEADER);
    const header = await (await arriving).take(28 + 8);
    const { localPort } = peer.socket;
    expect(header.subarray(0, 16).toString('hex')).toBe('0d0a0d0a000d0a515549540a2111000c');
    expect([...header.subarray(16, 24)]).toEqual([127, 0, 0, 1, 127, 0, 0, 1]);
    expect([header.readUInt16BE(24), header.readUInt16BE(26)]).toEqual([localPort, proxy.port]);
    expect(header.subarray(28)).toEqual(HEADER);

    const probing = broker.next();
    const answer = fetch(`http://127.0.0.1:${proxy.proxy.adminAddress.port}/readyz`);
    const probe = await probing;
    const own = await probe.take(28 + 8);
    expect(own.subarray(0, 24)).toEqual(header.subarray(0, 24));
    expect([own.readUInt16BE(24), own.readUInt16BE(26)]).toEqual([probe.socket.remotePort, broker.port]);
    probe.write(method(0, 10, 10, Buffer.from('start')));
    expect((await answer).status).toBe(200);
  });

  it('is asked for a handshake once, then only connected to, and again after a failure', async () => {
    const proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
    running.push(proxy);
    const readyz = async (): Promise<number> =>
      (await fetch(`http://127.0.0.1:${proxy.proxy.adminAddress.port}/readyz`)).status;
    const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1100));
    const probed = broker.next();
    const first = readyz();
    const handshake = await probed;
    expect(await handshake.take(8)).toEqual(HEADER);
    expect(await readyzHeld(first, handshake)).toBe(200);
    await pause();
    const connected = broker.next();
    expect(await readyz()).toBe(200);
    const silent = await connected;
    await silent.until('the end', (peer) => peer.ended || peer.closed);
    expect(silent.received.length).toBe(0);
    const { port } = broker;
    broker.server.close();
    await pause();
    expect(await readyz()).toBe(503);
    broker.server.listen(port, '127.0.0.1');
    await pause();
    const again = broker.next();
    const last = readyz();
    expect(await (await again).take(8)).toEqual(HEADER);
    expect(await readyzHeld(last, await again)).toBe(200);
  });

  it('is reached by TLS and its certificate verified', async () => {
    const served = await makeServingCertificate({ ca, dnsNames: ['broker.example'], ips: [], days: 1 });
    const server = tls.createServer({ cert: served.cert, key: served.key }, (socket) => {
      socket.on('error', () => socket.destroy());
      socket.once('data', () => socket.write(method(0, 10, 10, Buffer.from('start'))));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const backend = `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
    const trusting = { backend, backendTls: true, backendTlsCa: file('ca.crt') };
    const ready = async (flags: Record<string, string | boolean>): Promise<string> => {
      await using proxy = await startTestProxy({ ...trusting, ...flags });
      const response = await fetch(`http://127.0.0.1:${proxy.proxy.adminAddress.port}/readyz`);
      return `${response.status} ${await response.text()}`;
    };
    expect(await ready({ backendTlsServerName: 'broker.example' })).toMatch(/^200/);
    expect(await ready({})).toMatch(/^503 [^]*ERR_TLS_CERT_ALTNAME_INVALID/);
    server.close();
  });

  it.each([
    ['nothing that listens', undefined, /ECONNREFUSED/],
    ['something that is not AMQP', 'HTTP/1.1 400 Bad Request\r\n\r\n', /connection.start/],
    ['something that says nothing', '', /did not answer within 0.2 s/],
  ])('not ready: %s', async (_name, answer, text) => {
    const server = net.createServer((socket) => {
      socket.on('error', () => socket.destroy());
      if (answer !== undefined && answer !== '') socket.end(answer);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as net.AddressInfo;
    if (answer === undefined) await once(server.close(), 'close');
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${port}`, connectTimeout: '0.2' });
    const response = await fetch(`http://127.0.0.1:${proxy.proxy.adminAddress.port}/readyz`);
    expect(response.status).toBe(503);
    expect(await response.text()).toMatch(text);
    server.close();
  });
});

describe('options that do not go together', () => {
  it.each<[string, Record<string, string | string[] | boolean>, RegExp]>([
    ['a certificate without its key', { tlsCert: '/x' }, /--tls-cert needs --tls-key/],
    ['a key without its certificate', { tlsKey: '/x' }, /--tls-key needs --tls-cert/],
    ['authorities without a certificate', { tlsCa: '/x' }, /--tls-ca needs --tls-cert/],
    ['an option of pool mode in another one', { resume: true }, /--resume needs --mode=pool/],
    ['a time for what is not done', { mode: 'pool', resumeTimeout: '9' }, /--resume-timeout needs --resume/],
    [
      'amqps without a certificate',
      { listen: ['amqps://127.0.0.1:0'] },
      /--listen: amqps:\/\/127.0.0.1:0 needs a certificate/,
    ],
    [
      'a listener with another scheme',
      { listen: ['http://127.0.0.1:0'] },
      /--listen.*http:\/\/127.0.0.1:0.*amqps/,
    ],
    ['a backend without a port', { backend: 'rabbit' }, /--backend.*rabbit.*HOST:PORT/],
  ])('%s', async (_name, flags, text) => {
    await expect(startTestProxy({ backend: '127.0.0.1:1', ...flags })).rejects.toThrow(text);
  });

  it('a certificate that no listener uses', async () => {
    await expect(tlsProxy({ listen: ['amqp://127.0.0.1:0'] })).rejects.toThrow(/every --listen is amqp:/);
  });

  it("a key that is not the certificate's", async () => {
    await expect(tlsProxy({ tlsKey: file('other.key') })).rejects.toThrow(/--tls-key/);
  });

  it('an address in use', async () => {
    await expect(
      startTestProxy({ backend: '127.0.0.1:1', listen: [`127.0.0.1:${broker.port}`] }),
    ).rejects.toThrow(/--listen: cannot listen on 127.0.0.1:\d+.*EADDRINUSE/);
  });
});
