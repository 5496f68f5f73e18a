// A proxy of its own process that is abused beside a client that behaves well, and what shows that it took no harm.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Broker } from './broker.ts';
import { type ProxyProcess, startProxyProcess } from './service.ts';
import { Bystander } from './shared-upstream.ts';

/** How long what was abused may take to come back to where it was: pools and brokers close in their own time. */
const SETTLES_MS = 30_000;

/**
 * Milliseconds that a message of the well-behaved client may take while others are abusive. A machine that is busy with
 * other things takes some seconds at worst; a proxy that waits for an abuser, or a lost connection, takes as long as its
 * timeouts, or for ever.
 */
const LONGEST_ROUND_TRIP = 10_000;

const MEBIBYTE = 2 ** 20;
const CLOSES = { headers: { connection: 'close' } };

/** What a process holds on to. */
interface Figures {
  readonly descriptors: number;
  readonly connections: number;
  readonly upstreams: number;
}

export class AbusedProxy implements AsyncDisposable {
  readonly proxy: ProxyProcess;
  readonly bystander: Bystander;
  #baseline: Figures;
  private constructor(proxy: ProxyProcess, bystander: Bystander, baseline: Figures) {
    this.proxy = proxy;
    this.bystander = bystander;
    this.#baseline = baseline;
  }

  /** @param queue of the well-behaved client, a name that nobody else uses */
  static async start(broker: Broker, queue: string, args: string[]): Promise<AbusedProxy> {
    const proxy = await startProxyProcess(broker.port, [...args, '--client-records=10']);
    const bystander = await Bystander.start(proxy.port, queue, { name: queue });
    await bystander.goesOn();
    const abused = new AbusedProxy(proxy, bystander, { descriptors: 0, connections: 0, upstreams: 0 });
    abused.#baseline = await abused.#figures();
    return abused;
  }

  /** All metrics, as lines. Its connection is closed behind each request: it is the only one that is counted. */
  async #scrape(): Promise<string[]> {
    const response = await fetch(`${this.proxy.adminUrl}/metrics`, CLOSES);
    return (await response.text()).split('\n');
  }

  /** What a metric, or one sample of it, is at: the sum of its samples. */
  async value(name: string): Promise<number> {
    return sum(await this.#scrape(), name);
  }

  /** Resident memory in MiB. */
  async memory(): Promise<number> {
    return (await this.value('process_resident_memory_bytes')) / MEBIBYTE;
  }

  /**
   * Memory in MiB that is used behind full collections of garbage, with which profiles of the heap end: buffers are given
   * back by the second one. Resident memory is what was used at most, and goes down when the system likes.
   */
  async memoryInUse(): Promise<number> {
    for (let times = 0; times < 2; times++)
      await (await fetch(`${this.proxy.adminUrl}/debug/heap-profile?seconds=1`, CLOSES)).text();
    const lines = await this.#scrape();
    return (
      (sum(lines, 'nodejs_heap_size_used_bytes') + sum(lines, 'nodejs_external_memory_bytes')) / MEBIBYTE
    );
  }

  /** How often the proxy has ended or refused a connection, by the code. */
  async errors(): Promise<Record<string, number>> {
    const lines = await this.#scrape();
    const counts = lines.flatMap((line) => {
      const [, code, count] = /^quorumbridge_proxy_errors_total\{code="(\w+)".* (\d+)$/.exec(line) ?? [];
      return code === undefined || count === '0' ? [] : [[code, Number(count)] as const];
    });
    return Object.fromEntries(counts);
  }

  async #figures(): Promise<Figures> {
    const lines = await this.#scrape();
    return {
      descriptors: sum(lines, 'process_open_fds'),
      connections: sum(lines, 'quorumbridge_proxy_connections_active'),
      upstreams: sum(lines, 'quorumbridge_proxy_pool_connections'),
    };
  }

  /** Waits until there are no more connections and descriptors than before anything was abused. */
  async settled(): Promise<void> {
    const deadline = Date.now() + SETTLES_MS;
    const wanted = JSON.stringify(this.#baseline);
    for (;;) {
      const figures = JSON.stringify(await this.#figures());
      if (figures === wanted) return;
      if (Date.now() > deadline) throw new Error(`left behind: ${figures}; before it was ${wanted}`);
      await sleep(100);
    }
  }

  /**
   * Does what is abusive while the well-behaved client goes on, and what holds of every abuse: the client loses nothing and
   * waits for nobody, all that was opened is closed again, and the proxy has found no fault with itself. Rejects otherwise.
   */
  async abused(what: string, abuse: () => Promise<void>): Promise<void> {
    const { roundTrips } = this.bystander;
    await this.bystander.goesOn();
    const before = median(roundTrips.slice(-20));
    const from = roundTrips.length;
    await abuse();
    await this.bystander.goesOn();
    const during = roundTrips.slice(from);
    const longest = Math.max(...during);
    const took = [before, median(during), longest].map(Math.round).join(', ');
    process.stdout.write(`${what}: messages of others took ms: median before and during, longest: ${took}\n`);
    if (longest > LONGEST_ROUND_TRIP) throw new Error(`${what}: a message took ${Math.round(longest)} ms`);
    await this.settled();
    const complaints = this.#complaints();
    if (complaints.length > 0) throw new Error(complaints.join('\n'));
  }

  /** Lines of the log about faults of the proxy's own, and what else it has printed. */
  #complaints(): string[] {
    const lines = this.proxy.log().split('\n').filter(Boolean);
    return lines.filter(
      (line) => !/^\{"level":"(?:trace|debug|info|warn)"/.test(line) || line.includes('INTERNAL"'),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bystander[Symbol.asyncDispose]();
    await this.proxy.stop();
  }
}

/** The sum of a metric's samples, or the one sample whose labels are given. */
function sum(lines: readonly string[], name: string): number {
  return lines
    .filter((line) => line.startsWith(name) && '{ '.includes(line[name.length] ?? ''))
    .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' '))), 0);
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
