// A soak from its start to its verdict: a broker, proxies in front of it, clients, and what happens to all of them.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type Options } from 'amqplib';
import { type Broker, startBroker } from '../../support/broker.ts';
import { bundle } from '../../support/bundle.ts';
import { type Check, judgeMemory, judgeRest, mebi, type MemoryFigures } from './checks.ts';
import * as clients from './clients.ts';
import { Crowd } from './crowd.ts';
import { keepDying } from './dying.ts';
import { Faults } from './faults.ts';
import { MessageLedger } from './ledger.ts';
import type { SoakSettings } from './options.ts';
import { SoakProxy } from './proxy.ts';
import { EVENTS, makeCertificates, Turmoil } from './turmoil.ts';

const PROGRESS_MS = 10_000;
/** How long what was confirmed may take to come when nothing is published any more. */
const LAST_ARRIVALS_MS = 60_000;
/** How long a proxy without clients may take to give everything back. */
const REST_MS = 60_000;
const IDLE_CLIENTS = 5;
const CYCLING_CLIENTS = 2;
const DYING_CLIENTS = 2;
const READERS = 2;

const LEGACY: Options.AssertQueue = { durable: false, exclusive: false, autoDelete: false };
const QUORUM: Options.AssertQueue = { durable: true, arguments: { 'x-queue-type': 'quorum' } };
const CLASSIC: Options.AssertQueue = { durable: true, arguments: { 'x-queue-type': 'classic' } };

/** The queues of each proxy, as clients declare them; how often and how much is published to them, in ms and octets. */
const QUEUES = {
  quorum: { declare: QUORUM, pause: 20 },
  legacy: { declare: LEGACY, pause: 20 },
  classic: { declare: CLASSIC, pause: 20 },
  polled: { declare: LEGACY, pause: 100 },
  slow: { declare: QUORUM, pause: 50, size: 20_000 },
  cycled: { declare: LEGACY, pause: undefined },
  victims: { declare: LEGACY, pause: undefined },
} as const;

type QueueName = keyof typeof QUEUES;

const NAMES = Object.keys(QUEUES) as QueueName[];

function queueOf(proxy: SoakProxy, name: QueueName): string {
  return `${proxy.mode} ${name}`;
}

export class Soak {
  readonly #settings: SoakSettings;
  readonly #tell: (line: string) => void;
  readonly #faults: Faults;
  readonly #publishing = new AbortController();
  readonly #running = new AbortController();
  readonly #crowd: Crowd;
  readonly #ledger: MessageLedger;
  readonly #proxies: SoakProxy[] = [];
  #broker: Broker | undefined;
  #folder = '';
  #began = 0;

  /** @param tell told what happens, in lines for a person */
  constructor(settings: SoakSettings, tell: (line: string) => void) {
    this.#settings = settings;
    this.#tell = tell;
    this.#faults = new Faults(tell);
    this.#crowd = new Crowd(settings.seed, this.#faults);
    this.#ledger = new MessageLedger(this.#faults);
  }

  /** Runs it; what was found. Rejects when it can't be begun. Call {@link end} in any case. */
  async run(): Promise<Check[]> {
    const { minutes, seed } = this.#settings;
    const { broker, certificates, ca } = await this.#prepare();
    const before = this.#proxies.map(({ gauge }) => gauge.descriptors);
    const world = {
      seed,
      ca,
      crowd: this.#crowd,
      ledger: this.#ledger,
      publishing: this.#publishing.signal,
      running: this.#running.signal,
    };
    await this.#declare();
    for (const proxy of this.#proxies) populate(world, proxy);
    this.#began = performance.now();
    const stuck = await this.#crowd.stuck(LAST_ARRIVALS_MS);
    for (const client of stuck) this.#faults.note('client', `${client} didn't get on at the start`);
    this.#tell(`traffic flows for ${minutes} minute${minutes === 1 ? '' : 's'}, seed ${seed}`);

    const turmoil = new Turmoil({
      seed,
      minutes,
      broker,
      certificates,
      proxies: this.#proxies,
      crowd: this.#crowd,
      faults: this.#faults,
      tell: this.#tell,
    });
    const progress = setInterval(() => void this.#progress(), PROGRESS_MS);
    await turmoil.run(this.#began + minutes * 60_000, this.#running.signal);
    clearInterval(progress);
    const memory = this.#proxies.map((proxy) => judgeMemory(this.#memory(proxy), minutes));
    const lost = await this.#finish(broker);
    const rests = await Promise.all(
      this.#proxies.map(async (proxy, at) => {
        const rest = await this.#rest(proxy, before[at]!);
        return judgeRest(proxy.mode, rest);
      }),
    );
    const codes = await Promise.all(this.#proxies.map((proxy) => proxy.stop()));
    return [...this.#checks(turmoil, lost), ...memory, ...rests.flat(), ...exits(this.#proxies, codes)];
  }

  /** Stops everything; `run` rejects by that. What the proxies logged is kept where something went wrong. */
  async end(isFine: boolean): Promise<void> {
    this.#publishing.abort();
    this.#running.abort();
    await Promise.all(this.#proxies.map((proxy) => proxy.stop()));
    await this.#broker?.stop();
    if (this.#folder === '') return;
    if (isFine) await rm(this.#folder, { recursive: true, force: true });
    else this.#tell(`the logs of the proxies are kept in ${this.#folder}`);
  }

  async #prepare(): Promise<{ broker: Broker; certificates: string; ca: string }> {
    const { modes, broker: version } = this.#settings;
    this.#folder = await mkdtemp(join(tmpdir(), 'quorumbridge-soak-'));
    this.#tell('the proxy is bundled, as for its image');
    const { file } = await bundle('proxy', join(this.#folder, 'bundle'));
    this.#tell(`RabbitMQ ${version} starts`);
    this.#broker = await startBroker(version, { onProgress: this.#tell });
    const certificates = join(this.#folder, 'tls');
    const { 'ca.crt': ca = '' } = await makeCertificates(certificates, true);
    for (const mode of modes) {
      const settings = { mode, certificates, folder: this.#folder, program: file, faults: this.#faults };
      const proxy = await SoakProxy.create({ ...settings, backendPort: this.#broker.port });
      this.#proxies.push(proxy);
      await proxy.start();
    }
    return { broker: this.#broker, certificates, ca };
  }

  /** Those who expect a queue don't have to wait for the one who declares it. */
  async #declare(): Promise<void> {
    for (const proxy of this.#proxies) {
      const model = await connect(`amqp://guest:guest@127.0.0.1:${proxy.port}`);
      const channel = await model.createChannel();
      for (const name of NAMES) await channel.assertQueue(queueOf(proxy, name), QUEUES[name].declare);
      await model.close();
    }
  }

  /** Lets what was confirmed arrive, stops all, and reads the queues empty; how many messages were lost. */
  async #finish(broker: Broker): Promise<number> {
    this.#tell('nothing more is published');
    this.#publishing.abort();
    const deadline = performance.now() + LAST_ARRIVALS_MS;
    while (this.#ledger.outstanding > 0 && performance.now() < deadline) await sleep(100);
    this.#running.abort();
    await this.#crowd.ended();
    const model = await connect(broker.url);
    const channel = await model.createChannel();
    for (const proxy of this.#proxies)
      for (const name of NAMES) await clients.readOut(channel, this.#ledger, queueOf(proxy, name));
    await model.close();
    return this.#ledger.conclude();
  }

  /** What a proxy holds when all clients have gone: at once, or when it has had time. */
  async #rest(proxy: SoakProxy, before: number): Promise<Parameters<typeof judgeRest>[1]> {
    const deadline = performance.now() + REST_MS;
    for (;;) {
      const figures = await proxy.figures();
      const rest = { before, after: proxy.gauge.descriptors, figures };
      if (judgeRest(proxy.mode, rest).every(({ holds }) => holds) || performance.now() > deadline)
        return rest;
      await sleep(500);
    }
  }

  #memory({ mode, gauge }: SoakProxy): MemoryFigures {
    const seconds = this.#settings.minutes * 60;
    return {
      mode,
      between: (from, to) => gauge.between(this.#began + from * 1000, this.#began + to * 1000),
      seconds,
    };
  }

  async #progress(): Promise<void> {
    const { confirmed, received } = this.#ledger.tally;
    const proxies = await Promise.all(
      this.#proxies.map(async (proxy) => {
        const { mode, gauge } = proxy;
        const figures = await proxy.figures();
        const connections = figures.of('connections_active');
        return `${mode}: ${connections} connections, ${mebi(gauge.resident)}, ${gauge.descriptors} descriptors`;
      }),
    ).catch((error: Error) => [error.message]);
    this.#tell(`${confirmed} confirmed, ${received} received · ${proxies.join(' · ')}`);
  }

  #checks(turmoil: Turmoil, lost: number): Check[] {
    const { published, republished, confirmed, received, redelivered } = this.#ledger.tally;
    const events = Object.entries(EVENTS).map(
      ([name, what]) => `${turmoil.counts[name as keyof typeof EVENTS]} ${what}`,
    );
    const faults = this.#faults;
    const told = (count: number) => (count === 0 ? 'none' : String(count));
    return [
      { what: 'events', seen: events.join(', '), holds: faults.count('event') === 0 },
      {
        what: 'messages',
        seen: `${published} published (${republished} once more), ${confirmed} confirmed, ${received} received, ${redelivered} redelivered`,
        holds: confirmed > 0,
      },
      { what: 'lost after confirm', seen: told(lost), holds: lost === 0 },
      {
        what: 'damaged, doubled, crossed, unknown',
        seen: told(faults.count('message') - lost),
        holds: faults.count('message') === lost,
      },
      {
        what: 'clients lost or stuck without a cause',
        seen: `${told(faults.count('client'))}; ${this.#crowd.lost} lost with the broker, all back ${(turmoil.longestStorm / 1000).toFixed(1)} s after its end at the latest`,
        holds: faults.count('client') === 0,
      },
      {
        what: "errors in the proxies' logs",
        seen: told(faults.count('log')),
        holds: faults.count('log') === 0,
      },
    ];
  }
}

function populate(world: clients.World, proxy: SoakProxy): void {
  let parts = 0;
  // Every other client comes with TLS.
  const part = (what: string): clients.Part => {
    parts += 1;
    return { world, proxy, name: `${proxy.mode} ${what} ${parts}`, secure: parts % 2 === 0 };
  };
  for (const name of NAMES) {
    const { declare, pause, ...more } = QUEUES[name];
    const queue = queueOf(proxy, name);
    if (pause !== undefined)
      clients.keepPublishing(part(`${name} publisher`), { queue, declare, pause, ...more });
    if (name === 'polled') clients.keepGetting(part('poller'), queue, declare);
    else if (name === 'slow') clients.keepDawdling(part('dawdler'), queue);
    else
      for (let count = READERS; count > 0; count -= 1)
        clients.keepConsuming(part(`${name} consumer`), queue, declare, declare === LEGACY);
  }
  for (let count = CYCLING_CLIENTS; count > 0; count -= 1)
    clients.keepComing(part('cycle'), queueOf(proxy, 'cycled'));
  for (let count = DYING_CLIENTS; count > 0; count -= 1) keepDying(part('victim'), queueOf(proxy, 'victims'));
  for (let count = IDLE_CLIENTS; count > 0; count -= 1) clients.keepIdle(part('idle client'));
  clients.keepCalling(part('caller'));
  clients.keepDeclaring(part('fanout'));
  clients.keepLooking(part('operator'));
}

function exits(proxies: readonly SoakProxy[], codes: readonly (number | null)[]): Check[] {
  return proxies.map(({ mode }, at) => ({
    what: `${mode}: exit code after SIGTERM`,
    seen: String(codes[at]),
    holds: codes[at] === 0,
  }));
}
