import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import { afterAll, beforeAll } from 'vitest';
import { type Broker, type BrokerVersion, startBroker } from './broker.ts';
import { generateCerts } from './generated-certs.ts';
import { startTestProxy, type TestProxy } from './peers.ts';
import { RawClient, type RawOptions } from './raw-client.ts';
import { QUICK_MANAGEMENT, SharedUpstream } from './shared-upstream.ts';

/** A proxy in pool mode and a virtual host that its clients alone use. */
export class PooledClients implements AsyncDisposable {
  readonly proxy: TestProxy;
  readonly upstream: SharedUpstream;
  readonly #tls: ConnectionOptions | undefined;

  constructor(proxy: TestProxy, upstream: SharedUpstream, tls: ConnectionOptions | undefined) {
    this.proxy = proxy;
    this.upstream = upstream;
    this.#tls = tls;
  }

  /** Where the proxy is, and how it is reached, for RawClient. */
  get options(): RawOptions {
    const { virtualHost } = this.upstream;
    return this.#tls === undefined ? { virtualHost } : { virtualHost, tls: this.#tls };
  }

  /** The proxy's address, for amqplib. */
  get url(): string {
    const scheme = this.#tls === undefined ? 'amqp' : 'amqps';
    return `${scheme}://guest:guest@127.0.0.1:${this.proxy.port}/${encodeURIComponent(this.upstream.virtualHost)}`;
  }

  /** A client with these channels open. */
  async client(channels: number[] = [1], options: RawOptions = {}): Promise<RawClient> {
    const client = await RawClient.connect(this.proxy.port, { ...this.options, ...options });
    await client.channels(...channels);
    return client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy[Symbol.asyncDispose]();
  }
}

/** Whom a client expects at the other end of TLS. */
interface Trust {
  readonly servername: string;
  readonly ca: string;
}

/** A broker, and what clients and proxies need for TLS with it, there while the tests of a suite run. */
export interface PooledBroker {
  readonly broker: Broker;
  /** A client's certificate, which the proxies take and don't want. */
  readonly certificate: { readonly cert: string; readonly key: string };
  /** How a client connects by TLS; without a certificate of its own. */
  readonly trust: Trust;
  /** A proxy in pool mode, for a virtual host of its own. @param flags as startTestProxy has them */
  pool(virtualHost: string, flags?: Record<string, string | boolean>): Promise<PooledClients>;
}

/**
 * To be called in a suite: starts a broker before its tests and stops it behind.
 * @param tls whether both sides of the proxies encrypt, with certificates that `quorumbridge certs` makes
 */
export function usePooledBroker(version: BrokerVersion, tls: boolean): PooledBroker {
  let folder: string;
  let broker: Broker | undefined;
  let trust: Trust;
  let certificate: PooledBroker['certificate'];
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quorumbridge-pool-'));
    const files = await generateCerts(folder);
    trust = { servername: 'localhost', ca: files['ca.crt']! };
    certificate = { cert: files['client.crt']!, key: files['client.key']! };
    broker = await startBroker(version, {
      files,
      advanced: QUICK_MANAGEMENT,
      conf: `
listeners.ssl.1 = 127.0.0.1:@AMQPS@
ssl_options.cacertfile = @FILES@/ca.crt
ssl_options.certfile = @FILES@/server.crt
ssl_options.keyfile = @FILES@/server.key`,
    });
  });
  afterAll(async () => {
    await broker?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const encrypted = (): Record<string, string | string[] | boolean> => ({
    listen: ['amqps://127.0.0.1:0'],
    tlsCert: join(folder, 'server.crt'),
    tlsKey: join(folder, 'server.key'),
    tlsCa: join(folder, 'ca.crt'),
    tlsClientAuth: 'request',
    backend: `127.0.0.1:${broker!.amqpsPort}`,
    backendTls: true,
    backendTlsCa: join(folder, 'ca.crt'),
    backendTlsServerName: 'localhost',
  });
  return {
    get broker() {
      return broker!;
    },
    get certificate() {
      return certificate;
    },
    get trust() {
      return trust;
    },
    async pool(virtualHost, flags = {}) {
      const upstream = await SharedUpstream.make(broker!, virtualHost);
      const link = tls ? encrypted() : { backend: `127.0.0.1:${broker!.port}` };
      const proxy = await startTestProxy({ mode: 'pool', ...link, ...flags });
      return new PooledClients(proxy, upstream, tls ? trust : undefined);
    },
  };
}
