// The RabbitMQ 4 of the demo: one that it starts itself, or the user's own (QUORUMBRIDGE_BROKER_URL).
import { randomBytes } from 'node:crypto';
import { startBroker } from '../support/broker.ts';
import type { Broker, BrokerVersion } from '../support/broker.ts';
import { ManagementClient } from '../support/management.ts';
import { freePort } from '../support/ports.ts';

export interface TlsFiles {
  ca: string;
  cert: string;
  key: string;
}

/** Where the sidecar's addresses lie on this machine. */
export interface Addresses {
  /** Stands for 0.0.0.0:5672. */
  amqp: string;
  /** Stands for 0.0.0.0:5671. */
  amqps: string;
  /** Stands for 127.0.0.1:5673. */
  backend: string;
}

export interface Target {
  /** `RabbitMQ 4.3.6`, as the broker says. */
  title: string;
  /** The client's URL without a proxy, and the CA that it needs. */
  direct: { url: string; ca?: string };
  /** The client's URL through the proxy. The same as `direct` for a broker of the demo's own. */
  proxied: { url: string; ca: string };
  /** Names of the legacy client: its control exchange and topic. */
  exchange: string;
  topic: string;
  addresses: Addresses;
  management: ManagementClient;
  /** Absent when the broker is the user's, whose configuration the demo leaves alone. */
  broker?: Broker;
  /** Args of the proxy that replace injected ones, because the broker does not run with the injected configuration. */
  proxyArgs: string[];
}

/**
 * rabbitmq.conf of a node with TLS as the cluster operator configures it: plain and TLS listeners on the client
 * ports. The injected advanced.config has to beat them.
 */
export const NODE_CONF = `listeners.tcp.1 = 127.0.0.1:@AMQP@
listeners.ssl.1 = 127.0.0.1:@AMQPS@
ssl_options.cacertfile = @FILES@/ca.crt
ssl_options.certfile = @FILES@/tls.crt
ssl_options.keyfile = @FILES@/tls.key
ssl_options.verify = verify_none`;

/** What a node of the demo sees of the TLS Secret. */
export function nodeFiles(tls: TlsFiles): Record<string, string> {
  return { 'ca.crt': tls.ca, 'tls.crt': tls.cert, 'tls.key': tls.key };
}

/** A broker of the demo's own with TLS; the client reaches it at `clientUrl`. */
export function startTlsBroker(
  version: BrokerVersion,
  tls: TlsFiles,
  folder: string,
  onProgress: (line: string) => void,
): Promise<Broker> {
  return startBroker(version, { conf: NODE_CONF, files: nodeFiles(tls), folder, onProgress });
}

/** The URL of a legacy client of such a broker, and of the proxy that takes its place. */
export function clientUrl(broker: Broker): string {
  return `amqps://guest:guest@localhost:${broker.amqpsPort}/`;
}

export async function ownTarget(broker: Broker, tls: TlsFiles): Promise<Target> {
  const url = clientUrl(broker);
  return {
    title: `RabbitMQ ${await broker.management.version()}`,
    direct: { url, ca: tls.ca },
    proxied: { url, ca: tls.ca },
    exchange: 'openstack',
    topic: 'conductor',
    addresses: {
      amqp: `127.0.0.1:${broker.port}`,
      amqps: `127.0.0.1:${broker.amqpsPort}`,
      backend: `127.0.0.1:${broker.backendPort}`,
    },
    management: broker.management,
    broker,
    proxyArgs: [],
  };
}

/** `address` is an AMQP URI; the names are unique, so that nothing of the user's is touched. */
export async function userTarget(
  address: string,
  managementAddress: string | undefined,
  tls: TlsFiles,
): Promise<Target> {
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    throw new Error('QUORUMBRIDGE_BROKER_URL is not a URL such as amqp://USER:PASSWORD@HOST:PORT/VHOST');
  }
  const secure = url.protocol === 'amqps:';
  if (!secure && url.protocol !== 'amqp:') {
    throw new Error(`QUORUMBRIDGE_BROKER_URL begins with ${url.protocol}//, want amqp:// or amqps://`);
  }
  const user = decodeURIComponent(url.username) || 'guest';
  const password = decodeURIComponent(url.password) || 'guest';
  const vhost = decodeURIComponent(url.pathname.slice(1)) || '/';
  const backend = `${url.hostname}:${url.port || (secure ? 5671 : 5672)}`;
  const amqps = `127.0.0.1:${await freePort()}`;
  const proxied = new URL(url);
  proxied.protocol = 'amqps:';
  proxied.host = amqps.replace('127.0.0.1', 'localhost');
  const managementUrl = (managementAddress ?? `http://${url.hostname}:15672`).replace(/\/$/, '');
  const management = new ManagementClient({ url: managementUrl, user, password, vhost });
  const unique = `quorumbridge_demo_${randomBytes(4).toString('hex')}`;
  return {
    title: await management.version().then(
      (version) => `your RabbitMQ ${version} at ${backend}`,
      () => `your RabbitMQ at ${backend}`,
    ),
    direct: { url: url.href },
    proxied: { url: proxied.href, ca: tls.ca },
    exchange: unique,
    topic: `${unique}_topic`,
    addresses: { amqp: `127.0.0.1:${await freePort()}`, amqps, backend },
    management,
    proxyArgs: ['--backend-proxy-protocol=off', ...(secure ? ['--backend-tls'] : [])],
  };
}
