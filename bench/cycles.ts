import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { createSecureContext } from 'node:tls';
import type { BrokerVersion } from '../test/support/broker.ts';
import { Client, cycle, LOGIN, repeat, type Target } from './client.ts';
import { median, out, runToEnd, startChild, startForwarder } from './peers.ts';
import { cpuOf } from './servers.ts';
import {
  type Certificate,
  makeCertificate,
  startFakeBroker,
  startRabbit,
  type Upstream,
} from './upstreams.ts';

// What connect-publish-close cycles cost, as of PHP or cron jobs: header, login, channel.open, one message of 16 octets
// (in confirm mode or not), channel.close, connection.close. Direct, through the transparent proxy and through pool mode;
// plain and with TLS towards the client; with a broker that is near, and 20 ms away behind a relay (delay.ts: a network
// namespace with netem would want a kernel that has it). Fails when a message is missing at the broker or pool mode has
// opened more connections to it than it may.
// Run on Linux: node bench/cycles.ts [BROKER] [CYCLES], BROKER: fake (default), or a RabbitMQ that test/support/brokers.sh
// fetches and runs, such as 4.0. Loopback only, about 7 min.

const ROUNDS = 5;
const AT_ONCE = 50;
const OCTETS = 16;
/** Milliseconds to the broker and back. */
const DELAYS = [0, 20];
/** Pool mode's bounds: room for all clients at once and hardly more. No connection is closed while the others have their turn. */
const POOL = { maxUpstreamConnections: '4', maxChannelsPerConnection: '16', poolIdleTimeout: '3600' };
const WARM_UP = 200;
/** Milliseconds that are given to what the ends of the last connections set off, and count for the CPU. */
const SETTLE = 250;

const [kind = 'fake', given = '5000'] = process.argv.slice(2);
const cycles = Number(given);
if (!Number.isInteger(cycles) || cycles < ROUNDS || cycles > 50_000) {
  throw new Error(`CYCLES is ${given}: expected a whole number from ${ROUNDS} to 50000`);
}
const versions: readonly string[] = ['3.10', '4.0', '4.3'];
if (kind !== 'fake' && !versions.includes(kind)) {
  throw new Error(`BROKER is ${kind}: expected fake or one of ${versions.join(', ')}`);
}

/** What the clients reach, by plain and by TLS ports, and what of it is the proxy. */
interface Peer {
  readonly name: 'direct' | 'transparent' | 'pool';
  readonly port: number;
  readonly tlsPort: number;
  readonly pid: number | undefined;
}

/** CPU in microseconds a cycle. */
interface Cost {
  readonly perSecond: number;
  readonly proxy: number;
  readonly broker: number;
}

class Load {
  readonly #upstream: Upstream;
  readonly #secure: Target['secure'];
  #published = 0;
  /** Connections at the broker, by peer. */
  readonly opened = { direct: 0, transparent: 0, pool: 0 };
  #opened = 0;

  constructor(upstream: Upstream, ca: string) {
    this.#upstream = upstream;
    this.#secure = createSecureContext({ ca });
  }

  targetOf({ port, tlsPort }: Peer, tls: boolean): Target {
    return tls ? { port: tlsPort, secure: this.#secure } : { port, secure: undefined };
  }

  /** Runs `count` cycles, counts what they cost, and checks what has come of them. */
  async run(peer: Peer, tls: boolean, confirm: boolean, count: number): Promise<Cost> {
    const pids = [peer.pid, this.#upstream.pid];
    const cpus = (): number[] => pids.map((pid) => (pid === undefined ? 0 : cpuOf(pid)));
    const before = cpus();
    const start = performance.now();
    await repeat(this.targetOf(peer, tls), cycle(OCTETS, confirm), count, AT_ONCE);
    const seconds = (performance.now() - start) / 1000;
    await sleep(SETTLE);
    const [proxy, broker] = cpus().map((ms, at) => ((ms - before[at]!) * 1000) / count) as [number, number];
    this.#published += count;
    const opened = await this.#upstream.arrived(this.#published);
    this.opened[peer.name] += opened - this.#opened;
    this.#opened = opened;
    return { perSecond: count / seconds, proxy, broker };
  }
}

/** Milliseconds from a client's connection.start-ok to the broker's connection.tune. */
async function roundTrip(port: number): Promise<number> {
  const client = new Client({ port, secure: undefined });
  await once(client.socket, 'connect');
  await client.play(LOGIN.slice(0, 1));
  const start = performance.now();
  await client.play(LOGIN.slice(1, 2));
  const took = performance.now() - start;
  client.socket.destroy();
  return took;
}

/** The three ways to a broker that is so far away. */
async function startPeers(
  upstream: Upstream,
  delay: number,
  files: Certificate,
  cleanup: AsyncDisposableStack,
): Promise<Peer[]> {
  const far = async (port: number): Promise<number> => {
    if (delay === 0) return port;
    const args = [port, delay / 2].map(String);
    const relay = await startChild<{ port: number }>('delay.ts', args);
    cleanup.defer(async () => relay.child.disconnect());
    return relay.port;
  };
  const [port, tlsPort] = [await far(upstream.port), await far(upstream.tlsPort)];
  if (delay > 0) {
    const trips: number[] = [];
    for (let i = 0; i < 9; i++) trips.push(await roundTrip(port));
    out(`the relay's round trip: ${median(trips).toFixed(1)} ms`);
  }
  const common = {
    listen: ['amqp://127.0.0.1:0', 'amqps://127.0.0.1:0'],
    tlsCert: files.cert,
    tlsKey: files.key,
  };
  const start = async (flags: Record<string, string>): Promise<Omit<Peer, 'name'>> => {
    const proxy = await startForwarder('proxy', port, { ...common, ...flags });
    cleanup.defer(async () => proxy.child.disconnect());
    return { port: proxy.port, tlsPort: proxy.tlsPort, pid: proxy.child.pid };
  };
  return [
    { name: 'direct', port, tlsPort, pid: undefined },
    { name: 'transparent', ...(await start({ mode: 'transparent' })) },
    { name: 'pool', ...(await start({ mode: 'pool', ...POOL })) },
  ];
}

function row(name: string, cells: readonly string[]): void {
  out(name.padEnd(38) + cells.map((cell) => cell.padStart(14)).join(''));
}

/** One case: all peers by turns, round for round. */
async function compare(
  load: Load,
  peers: readonly Peer[],
  name: string,
  tls: boolean,
  confirm: boolean,
): Promise<void> {
  const costs = peers.map((): Cost[] => []);
  const before = { ...load.opened };
  for (let round = 0; round < ROUNDS; round++) {
    for (const [at, peer] of peers.entries())
      costs[at]!.push(await load.run(peer, tls, confirm, Math.ceil(cycles / ROUNDS)));
  }
  const middle = (at: number, key: keyof Cost): number => median(costs[at]!.map((cost) => cost[key]));
  for (const [at, peer] of peers.entries()) {
    row(`${name}  ${peer.name}`, [
      middle(at, 'perSecond').toFixed(0),
      peer.pid === undefined ? '-' : middle(at, 'proxy').toFixed(0),
      middle(at, 'broker').toFixed(0),
      String(load.opened[peer.name] - before[peer.name]),
    ]);
  }
  const ratio = (to: number, key: keyof Cost): string =>
    to === 0 && key === 'proxy' ? '-' : (middle(2, key) / middle(to, key)).toFixed(2);
  for (const to of [0, 1]) {
    row(
      `${name}  pool/${peers[to]!.name}`,
      (['perSecond', 'proxy', 'broker'] as const).map((key) => ratio(to, key)),
    );
  }
}

async function run(cleanup: AsyncDisposableStack): Promise<void> {
  const certificate = await makeCertificate(cleanup);
  const upstream = await (kind === 'fake'
    ? startFakeBroker(certificate, cleanup)
    : startRabbit(kind as BrokerVersion, certificate, cleanup));
  out(`${upstream.name}, Node ${process.versions.node}: medians of ${ROUNDS} interleaved rounds,`);
  out(`${cycles} cycles in all of each kind, ${AT_ONCE} at a time`);
  row('', ['cycles/s', 'proxy CPU us', 'broker CPU us', 'connections']);
  const load = new Load(upstream, certificate.texts['ca.crt']);
  for (const delay of DELAYS) {
    const peers = await startPeers(upstream, delay, certificate, cleanup);
    const before = load.opened.pool;
    for (const peer of peers) await load.run(peer, false, false, WARM_UP);
    for (const tls of [false, true]) {
      for (const confirm of [false, true]) {
        const name = `${delay} ms ${tls ? 'TLS' : 'plain'}${confirm ? ' confirm' : ''}`;
        await compare(load, peers, name, tls, confirm);
      }
    }
    const opened = load.opened.pool - before;
    out(
      `${delay} ms: pool mode opened ${opened} connections, with ${POOL.maxUpstreamConnections} as its bound`,
    );
    if (opened > Number(POOL.maxUpstreamConnections)) throw new Error('pool mode went beyond its bound');
  }
}

await runToEnd(run);
