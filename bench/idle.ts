import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, LOGIN, type Target } from './client.ts';
import { type Flags, type Forwarder, out, runToEnd, startForwarder } from './peers.ts';
import { cpuOf, rssOf } from './servers.ts';
import { makeCertificate, startFakeBroker } from './upstreams.ts';

// Memory that the proxy needs for idle clients, each with its handshake done and one channel open: transparent and in pool
// mode, next to Node's own pipe between two sockets, which knows nothing of its clients; plain, and with TLS towards them.
// Each figure is of a process of its own, once its memory has settled. A proxy that needs two sockets for each client
// has as many clients as the limit of open files (`ulimit -n`) lets it: the benchmark takes fewer then, and says so.
// Run on Linux: node bench/idle.ts [COUNT...], default 1000 10000. Loopback only, about 3 min.

const AT_ONCE = 50;
/** How long the memory is given to settle, in milliseconds. */
const SETTLE = 3000;
/** Files that a process has open besides its clients'. */
const SPARE = 100;

const given = process.argv.slice(2);
const counts = given.length === 0 ? [1000, 10_000] : given.map(Number);
for (const count of counts) {
  if (!Number.isInteger(count) || count < 1 || count > 25_000)
    throw new Error(`COUNT is ${count}: expected a whole number from 1 to 25000`); // as many ports as there are
}

const soft = /^Max open files\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))![1]!;
const files = soft === 'unlimited' ? Infinity : Number(soft);

interface Subject {
  readonly name: string;
  readonly kind: 'proxy' | 'pipe';
  readonly flags: Flags;
  readonly tls: boolean;
  /** Sockets for each client. */
  readonly sockets: 1 | 2;
}

async function openAll(target: Target, count: number): Promise<Client[]> {
  const clients: Client[] = [];
  let left = count;
  const work = async (): Promise<void> => {
    while (left-- > 0) {
      const client = new Client(target);
      clients.push(client);
      await client.play(LOGIN);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return clients;
}

async function run(cleanup: AsyncDisposableStack): Promise<void> {
  const certificate = await makeCertificate(cleanup);
  const broker = await startFakeBroker(certificate, cleanup);
  const secure = createSecureContext({ ca: certificate.texts['ca.crt'] });
  const tls = {
    listen: ['amqps://127.0.0.1:0'],
    tlsCert: certificate.cert,
    tlsKey: certificate.key,
    maxConnections: '0',
  };
  const plain = { maxConnections: '0' };
  const subjects: Subject[] = [
    { name: 'pipe', kind: 'pipe', flags: {}, tls: false, sockets: 2 },
    { name: 'transparent', kind: 'proxy', flags: plain, tls: false, sockets: 2 },
    { name: 'pool', kind: 'proxy', flags: { ...plain, mode: 'pool' }, tls: false, sockets: 1 },
    { name: 'transparent TLS', kind: 'proxy', flags: tls, tls: true, sockets: 2 },
    { name: 'pool TLS', kind: 'proxy', flags: { ...tls, mode: 'pool' }, tls: true, sockets: 1 },
  ];
  const row = (name: string, cells: readonly string[]): void =>
    out(name.padEnd(18) + cells.map((cell) => cell.padStart(18)).join(''));
  out(`Node ${process.versions.node}, ${files} open files at most`);
  row('', ['clients', 'RSS at start MiB', 'RSS MiB', 'KiB a client', 'CPU us a client', 'connections']);
  for (const count of counts) {
    let pipe: number | undefined;
    for (const { name, kind, flags, tls, sockets } of subjects) {
      const possible = Math.min(count, Math.floor((files - SPARE) / sockets));
      const forwarder: Forwarder = await startForwarder(kind, broker.port, flags);
      const pid = forwarder.child.pid!;
      const [start, used] = [rssOf(pid), cpuOf(pid)];
      const clients = await openAll({ port: forwarder.port, secure: tls ? secure : undefined }, possible);
      const cpu = cpuOf(pid) - used;
      await sleep(SETTLE);
      const rss = rssOf(pid);
      const { open } = await broker.counts();
      const each = (rss - start) / possible / 1024;
      pipe ??= each;
      const cells = [start / 2 ** 20, rss / 2 ** 20].map((cell) => cell.toFixed(1));
      const costs = [
        `${each.toFixed(1)} (${(each / pipe).toFixed(2)})`,
        ((cpu * 1000) / possible).toFixed(0),
      ];
      row(name, [`${possible}${possible < count ? ' (files)' : ''}`, ...cells, ...costs, String(open)]);
      for (const { socket } of clients) socket.destroy();
      forwarder.child.disconnect();
      for (let left = open; left > 0; left = (await broker.counts()).open) await sleep(100);
    }
  }
}

await runToEnd(run);
