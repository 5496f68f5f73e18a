import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import tls from 'node:tls';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  type CertificateAndKey,
  makeCa,
  makeClientCertificate,
  makeServingCertificate,
} from '../../../certs/certificates.ts';
import { MountedSecret } from '../../support/mounted-secret.ts';
import { HEADER, method, Peer, ScriptedBroker, startTestProxy, type TestProxy } from '../../support/peers.ts';

let ca: CertificateAndKey;
let broker: ScriptedBroker;

beforeEach(async () => {
  ca = await makeCa({ commonName: 'clients', days: 1 });
  broker = await new ScriptedBroker().start();
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
});

afterEach(async () => {
  vi.useRealTimers();
  await broker[Symbol.asyncDispose]();
});

async function issue(days: number): Promise<Record<string, string>> {
  const { cert, key } = await makeServingCertificate({ ca, dnsNames: [], ips: ['127.0.0.1'], days });
  return { 'tls.crt': cert, 'tls.key': key, 'ca.crt': ca.cert };
}

function serialOf(files: Record<string, string>): string {
  return new X509Certificate(files['tls.crt']!).serialNumber;
}

interface Conversation {
  readonly client: Peer;
  readonly upstream: Peer;
  readonly socket: tls.TLSSocket;
  readonly serial: string;
}

/** A TLS client that said hello to the broker. */
async function converse(port: number, options: tls.ConnectionOptions = {}): Promise<Conversation> {
  const socket = tls.connect({ host: '127.0.0.1', port, ca: ca.cert, ...options });
  const arriving = broker.next();
  const client = new Peer(socket);
  await once(socket, 'secureConnect');
  client.write(HEADER);
  const upstream = await arriving;
  await upstream.take(8);
  upstream.write(method(0, 10, 10, Buffer.from('start')));
  await client.frame();
  return { client, upstream, socket, serial: socket.getPeerCertificate().serialNumber };
}

/** Whether the proxy hangs up on a TLS client, without a word to the broker. */
async function isRefused(port: number, options: tls.ConnectionOptions): Promise<boolean> {
  const connections = broker.peers.length;
  const socket = tls.connect({ host: '127.0.0.1', port, ca: ca.cert, ...options });
  const client = new Peer(socket);
  socket.write(HEADER);
  await client.until('an end', ({ ended, closed }) => ended || closed);
  socket.destroy();
  return client.received.length === 0 && broker.peers.length === connections;
}

/** Octets go both ways. */
async function prove({ client, upstream }: Conversation): Promise<void> {
  const octets = method(0, 10, 11, Buffer.from('start-ok'));
  client.write(octets);
  expect((await upstream.take(octets.length)).equals(octets)).toBe(true);
  upstream.write(method(0, 10, 20, Buffer.from('secure')));
  await client.frame();
}

function passTenSeconds(): void {
  vi.advanceTimersByTime(10_000);
}

function loggedLines(proxy: TestProxy, text: string): Record<string, unknown>[] {
  return proxy.log().filter(({ msg }) => msg === text);
}

const RELOADED = 'new serving certificate in use';
const KEPT = 'the serving certificate stays as it was';

async function startProxy(secret: MountedSecret, flags: Record<string, string> = {}): Promise<TestProxy> {
  return startTestProxy({
    backend: `127.0.0.1:${broker.port}`,
    listen: ['amqps://127.0.0.1:0', 'amqps://127.0.0.1:0', 'amqp://127.0.0.1:0'],
    tlsCert: secret.path('tls.crt'),
    tlsKey: secret.path('tls.key'),
    ...flags,
  });
}

describe('a rotated certificate', () => {
  it('is served to new connections of every TLS listener, and those there are go on', async () => {
    const first = await issue(0.25);
    await using secret = await MountedSecret.mount(first);
    await using proxy = await startProxy(secret);
    const ports = proxy.proxy.listeners.slice(0, 2).map(({ address }) => address.port);
    const old = [await converse(ports[0]!), await converse(ports[1]!)];
    expect(old.map(({ serial }) => serial)).toEqual([serialOf(first), serialOf(first)]);
    const second = await issue(0.5);
    await secret.update(second);
    passTenSeconds();
    await expect.poll(() => loggedLines(proxy, RELOADED)).toHaveLength(1);
    for (const port of ports) {
      const fresh = await converse(port);
      expect(fresh.serial).toBe(serialOf(second));
      await prove(fresh);
      fresh.socket.destroy();
    }
    for (const one of old) {
      await prove(one);
      one.socket.destroy();
    }
    const end = new X509Certificate(second['tls.crt']!).validToDate.getTime() / 1000;
    expect(await proxy.metric('quorumbridge_proxy_certificate_expiry_timestamp_seconds')).toEqual([
      ` ${end}`,
    ]);
    expect(await proxy.metric('quorumbridge_proxy_certificate_reloads_total')).toEqual([' 1']);
  });

  it('is not taken while it is broken: the old one is served on, and the log says why, once', async () => {
    const first = await issue(0.25);
    await using secret = await MountedSecret.mount(first);
    await using proxy = await startProxy(secret);
    const second = await issue(0.5);
    await secret.update({ ...second, 'tls.key': first['tls.key']! });
    for (let round = 1; round <= 3; round++) {
      passTenSeconds();
      await expect
        .poll(() => proxy.metric('quorumbridge_proxy_certificate_reload_failures_total'))
        .toEqual([` ${round}`]);
    }
    const fresh = await converse(proxy.port);
    expect(fresh.serial).toBe(serialOf(first));
    fresh.socket.destroy();
    expect(loggedLines(proxy, KEPT).map(({ why }) => why)).toEqual([
      expect.stringContaining('does not belong to the first certificate'),
    ]);
    expect(JSON.stringify(proxy.log())).not.toContain('PRIVATE');
    await secret.update(second);
    passTenSeconds();
    await expect.poll(() => loggedLines(proxy, RELOADED)).toHaveLength(1);
    const last = await converse(proxy.port);
    expect(last.serial).toBe(serialOf(second));
    last.socket.destroy();
  });

  it('comes with other authorities: clients of the new ones are let in, those of the old ones no longer', async () => {
    const other = await makeCa({ commonName: 'other clients', days: 1 });
    const [old, young] = [
      await makeClientCertificate({ ca, commonName: 'old', days: 1 }),
      await makeClientCertificate({ ca: other, commonName: 'young', days: 1 }),
    ];
    const files = await issue(0.25);
    await using secret = await MountedSecret.mount(files);
    await using proxy = await startProxy(secret, { tlsCa: secret.path('ca.crt') });
    // By TLS 1.3 a client has its ticket only a moment later.
    const version = { maxVersion: 'TLSv1.2' } as const;
    const before = await converse(proxy.port, { ...version, ...old });
    const resumed = await converse(proxy.port, { ...version, ...old, session: before.socket.getSession()! });
    expect(resumed.socket.isSessionReused()).toBe(true);
    resumed.socket.destroy();
    await secret.update({ ...files, 'ca.crt': other.cert });
    passTenSeconds();
    await expect.poll(() => loggedLines(proxy, RELOADED)).toHaveLength(1);
    const after = await converse(proxy.port, young);
    await prove(after);
    expect(await isRefused(proxy.port, old)).toBe(true);
    // A session from before opens nothing either.
    expect(await isRefused(proxy.port, { ...version, ...old, session: before.socket.getSession()! })).toBe(
      true,
    );
    await prove(before);
    for (const { socket } of [before, after]) socket.destroy();
  });

  it('is 0 in the metrics of a proxy that has none', async () => {
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
    expect(await proxy.metric('quorumbridge_proxy_certificate_expiry_timestamp_seconds')).toEqual([' 0']);
  });
});
