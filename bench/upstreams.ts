import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeCa, makeServingCertificate } from '../certs/certificates.ts';
import { queueDeclare } from '../test/support/amqp-frames.ts';
import { queuePurge } from '../test/support/amqp-methods.ts';
import { type BrokerVersion, startBroker } from '../test/support/broker.ts';
import { RawClient } from '../test/support/raw-client.ts';
import { QUEUE } from './client.ts';
import type { Counts } from './fake-broker.ts';
import { startChild } from './peers.ts';

/** A certificate for localhost, its key and its CA: files, and their texts. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
  readonly texts: Readonly<Record<'ca.crt' | 'server.crt' | 'server.key', string>>;
}

/** Makes a certificate that lasts a day, in a folder that `cleanup` deletes. */
export async function makeCertificate(cleanup: AsyncDisposableStack): Promise<Certificate> {
  const ca = await makeCa({ commonName: 'bench CA', days: 1 });
  const made = await makeServingCertificate({ ca, dnsNames: ['localhost'], ips: ['127.0.0.1'], days: 1 });
  const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-bench-'));
  cleanup.defer(async () => rmSync(folder, { recursive: true, force: true }));
  const texts = { 'ca.crt': ca.cert, 'server.crt': made.cert, 'server.key': made.key };
  for (const [name, text] of Object.entries(texts)) writeFileSync(join(folder, name), text);
  return { cert: join(folder, 'server.crt'), key: join(folder, 'server.key'), texts };
}

/** A broker in a process of its own. */
export interface Upstream {
  readonly name: string;
  readonly pid: number;
  readonly port: number;
  readonly tlsPort: number;
  /**
   * Waits until `published` messages have arrived since its start; rejects after some seconds.
   * @returns connections that were opened since its start
   */
  arrived(published: number): Promise<number>;
}

const PATIENCE_MS = 10_000;

async function awaitPublished(published: number, count: () => Promise<number>): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  for (let got = await count(); got !== published; got = await count()) {
    if (got > published || Date.now() > deadline) throw new Error(`${got} messages arrived of ${published}`);
    await sleep(50);
  }
}

/** Starts a fake broker. */
export async function startFakeBroker(
  { cert, key }: Certificate,
  cleanup: AsyncDisposableStack,
): Promise<Upstream & { counts(): Promise<Counts> }> {
  const files = [cert, key];
  const { child, ...ports } = await startChild<Pick<Upstream, 'port' | 'tlsPort'>>(
    'fake-broker-process.ts',
    files,
  );
  cleanup.defer(async () => child.disconnect());
  const counts = async (): Promise<Counts> => {
    child.send('counts');
    return ((await once(child, 'message')) as [Counts])[0];
  };
  return {
    name: 'fake broker',
    pid: child.pid!,
    ...ports,
    counts,
    async arrived(published) {
      await awaitPublished(published, async () => (await counts()).published);
      return (await counts()).opened;
    },
  };
}

/** Starts a RabbitMQ of its own (see test/support/brokers.sh), with a classic queue that takes what is published. */
export async function startRabbit(
  version: BrokerVersion,
  { texts }: Certificate,
  cleanup: AsyncDisposableStack,
): Promise<Upstream> {
  const conf = `
listeners.ssl.1 = 127.0.0.1:@AMQPS@
ssl_options.cacertfile = @FILES@/ca.crt
ssl_options.certfile = @FILES@/server.crt
ssl_options.keyfile = @FILES@/server.key
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = @BACKEND@
collect_statistics_interval = 60000`;
  const plugins = ['rabbitmq_prometheus'];
  const broker = cleanup.use(await startBroker(version, { conf, plugins, files: texts }));
  const watcher = cleanup.use(await RawClient.connect(broker.port));
  await watcher.channels(1);
  const declare = queueDeclare({ name: QUEUE, flags: 2 });
  await watcher.ask(declare);
  let purged = 0;
  return {
    name: `RabbitMQ ${await broker.management.version()}`,
    pid: beamOf(broker.port),
    port: broker.port,
    tlsPort: broker.amqpsPort,
    async arrived(published) {
      await awaitPublished(
        published,
        async () => purged + Number((await watcher.ask(declare)).split(' ')[2]),
      );
      await watcher.ask(queuePurge(1, QUEUE));
      purged = published;
      return (await openedAt(broker.backendPort)) - 1; // this process's watcher
    },
  };
}

/** The broker's own count of connections that were opened, as its metrics have it at this moment. */
async function openedAt(metricsPort: number): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${metricsPort}/metrics`);
  const opened = /^rabbitmq_connections_opened_total (\d+)$/m.exec(await response.text());
  if (opened === null) throw new Error(`the broker's metrics lack rabbitmq_connections_opened_total`);
  return Number(opened[1]);
}

/** The Erlang machine of the node that listens on this port: it carries the node's name in its environment. */
function beamOf(port: number): number {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
      if (!environment.includes(`RABBITMQ_NODENAME=rabbit-${port}@localhost`)) continue;
      if (readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'beam.smp') return Number(pid);
    } catch {
      // a process that has ended, or isn't ours to look at
    }
  }
  throw new Error(`found no process of the node on port ${port}`);
}
