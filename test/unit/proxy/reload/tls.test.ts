import { once } from 'node:events';
import tls from 'node:tls';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  type CertificateAndKey,
  makeCa,
  makeClientCertificate,
  makeServingCertificate,
} from '../../../../certs/certificates.ts';
import { MountedSecret } from '../../../support/mounted-secret.ts';
import {
  HEADER,
  method,
  Peer,
  ScriptedBroker,
  startTestProxy,
  type TestProxy,
} from '../../../support/peers.ts';
import { freePort } from '../../../support/ports.ts';

let ca: CertificateAndKey;
let clientCertificate: CertificateAndKey;
let pems: Record<string, string>;
let broker: ScriptedBroker;
let files: MountedSecret;
const running: AsyncDisposable[] = [];

beforeAll(async () => {
  ca = await makeCa({ commonName: 'all', days: 1 });
  clientCertificate = await makeClientCertificate({ ca, commonName: 'nova', days: 1 });
  const served = async (days: number) =>
    makeServingCertificate({ ca, dnsNames: [], ips: ['127.0.0.1'], days });
  const [one, other] = [await served(1), await served(1)];
  pems = {
    'ca.crt': ca.cert,
    'one.crt': one.cert,
    'one.key': one.key,
    'other.crt': other.cert,
    'other.key': other.key,
    'broken.crt': 'no certificate',
  };
});

beforeEach(async () => {
  broker = await new ScriptedBroker().start();
  files = await MountedSecret.mount({ ...pems, 'proxy.yaml': '' });
  running.push(broker, files);
});

afterEach(async () => {
  for (const one of running.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});

async function write(options: Record<string, string | string[]>): Promise<void> {
  const all = {
    backend: `127.0.0.1:${broker.port}`,
    listen: ['amqps://127.0.0.1:0'],
    'admin-listen': '127.0.0.1:0',
    'tls-cert': files.path('one.crt'),
    'tls-key': files.path('one.key'),
    ...options,
  };
  await files.update({ ...pems, 'proxy.yaml': JSON.stringify(all) });
}

async function start(options: Record<string, string | string[]> = {}): Promise<TestProxy> {
  await write(options);
  const proxy = await startTestProxy({ config: files.path('proxy.yaml') });
  running.push(proxy);
  return proxy;
}

interface Conversation {
  readonly client: Peer;
  readonly upstream: Peer;
  readonly socket: tls.TLSSocket;
}

async function converse(port: number, options: tls.ConnectionOptions = {}): Promise<Conversation> {
  const socket = tls.connect({ host: '127.0.0.1', port, ca: ca.cert, ...options });
  const arriving = broker.next();
  const client = new Peer(socket);
  await once(socket, 'secureConnect');
  client.write(HEADER);
  const upstream = await arriving;
  await upstream.take(8);
  return { client, upstream, socket };
}

async function prove({ client, upstream }: Conversation): Promise<void> {
  upstream.write(method(0, 10, 10, Buffer.from('start')));
  expect((await client.frame()).length).toBeGreaterThan(0);
}

async function isRefused(port: number, options: tls.ConnectionOptions = {}): Promise<boolean> {
  const socket = tls.connect({ host: '127.0.0.1', port, ca: ca.cert, ...options });
  const client = new Peer(socket);
  socket.write(HEADER);
  await client.until('an end', ({ ended, closed }) => ended || closed);
  socket.destroy();
  return client.received.length === 0;
}

describe('a reload of a TLS listener', () => {
  it('serves with the certificate of another file', async () => {
    const proxy = await start();
    const old = await converse(proxy.port);
    await write({ 'tls-cert': files.path('other.crt'), 'tls-key': files.path('other.key') });
    const { result } = await proxy.proxy.reload('test');
    expect(result).toBe('applied');
    const fresh = await converse(proxy.port);
    expect(fresh.socket.getPeerCertificate().serialNumber).not.toBe(
      old.socket.getPeerCertificate().serialNumber,
    );
    await prove(fresh);
    await prove(old);
    for (const { socket } of [old, fresh]) socket.destroy();
  });

  it('asks for certificates of clients from now on, and no longer', async () => {
    const proxy = await start();
    const old = await converse(proxy.port);
    await write({ 'tls-ca': files.path('ca.crt') });
    await proxy.proxy.reload('test');
    expect(await isRefused(proxy.port)).toBe(true);
    const shown = await converse(proxy.port, clientCertificate);
    await prove(shown);
    await write({ 'tls-ca': files.path('ca.crt'), 'tls-client-auth': 'request' });
    await proxy.proxy.reload('test');
    const anonymous = await converse(proxy.port);
    await prove(anonymous);
    await prove(old);
    for (const { socket } of [old, shown, anonymous]) socket.destroy();
  });

  it('keeps what it has where the new certificate is none', async () => {
    const proxy = await start();
    await write({ 'tls-cert': files.path('broken.crt') });
    const { result, problems } = await proxy.proxy.reload('test');
    expect(result).toBe('refused');
    expect(problems.join()).toContain('broken.crt holds no certificate in PEM form');
    const fresh = await converse(proxy.port);
    await prove(fresh);
    fresh.socket.destroy();
  });

  it('opens a TLS listener beside a plain one, and leaves a change of both to a restart', async () => {
    const proxy = await start({ listen: ['amqp://127.0.0.1:0', 'amqps://127.0.0.1:0'] });
    const [plain] = proxy.proxy.listeners;
    await write({ listen: ['amqp://127.0.0.1:0', 'amqps://127.0.0.1:0', 'amqps://[::1]:0'] });
    expect((await proxy.proxy.reload('test')).result).toBe('applied');
    expect(proxy.proxy.listeners.map(({ scheme }) => scheme)).toEqual(['amqp', 'amqps', 'amqps']);
    expect(proxy.proxy.listeners[0]).toBe(plain);
  });

  it('refuses to make a plain listener an encrypted one on the same port', async () => {
    const at = `127.0.0.1:${await freePort()}`;
    const proxy = await start({ listen: ['amqps://127.0.0.1:0', `amqp://${at}`] });
    await write({ listen: ['amqps://127.0.0.1:0', `amqps://${at}`] });
    const { result, problems } = await proxy.proxy.reload('test');
    expect(result).toBe('refused');
    expect(problems).toEqual([
      `option --listen: amqps://${at} can't take the place of amqp://${at} while the proxy runs: that needs a restart`,
    ]);
    expect(proxy.proxy.listeners.map(({ scheme }) => scheme)).toEqual(['amqps', 'amqp']);
  });
});
