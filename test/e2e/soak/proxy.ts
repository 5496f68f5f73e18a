// One proxy of the soak: the program of the image, in a process of its own, its log read line by line.
import { createWriteStream, type WriteStream } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freePort } from '../../support/ports.ts';
import { Child } from '../../support/processes.ts';
import type { Faults } from './faults.ts';
import { Gauge } from './gauge.ts';

const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 60_000;
const SCRAPE_TIMEOUT_MS = 20_000;

/** What the pool keeps unused is given back soon, and what is held for slow readers isn't all of the memory. */
const POOL_OPTIONS = { 'pool-idle-timeout': 2, 'client-backlog': '1MiB' };

const NO_RULES = { rules: [] };

/**
 * The heap that Node gives itself in a container of 256 MiB, which is the sidecar's limit (webhook/sidecar.ts): half of
 * that, and young generations of the least size. On a large machine it would let garbage lie for minutes.
 */
const HEAP = ['--max-old-space-size=128', '--max-semi-space-size=1'];

const REFUSED_CONFIGURATION = 'the configuration is not valid: the one before stays in effect';

export type Mode = 'transparent' | 'pool';

export interface ProxySettings {
  mode: Mode;
  /** Of the backend, on loopback. */
  backendPort: number;
  /** The bundle: what the image runs. */
  program: string;
  /** For its files: configuration, rules and log. */
  folder: string;
  /** With server.crt and server.key. */
  certificates: string;
  faults: Faults;
}

/** What /metrics says: each sample by its name with labels, and by the name alone the sum of them. */
export class Figures {
  readonly #values = new Map<string, number>();

  constructor(text: string) {
    for (const line of text.split('\n')) {
      const [, metric] = /^# TYPE (\w+) /.exec(line) ?? [];
      if (metric !== undefined) this.#values.set(metric, 0);
      const [, name = '', labels, value] = /^(\w+)(\{.*\})? (\S+)$/.exec(line) ?? [];
      if (labels !== undefined) this.#values.set(name + labels, Number(value));
      if (name !== '') this.#values.set(name, (this.#values.get(name) ?? 0) + Number(value));
    }
  }

  /** A metric without samples is 0. @param name such as `rewrites_total{method="queue.declare"}`, without what all begin with */
  of(name: string): number {
    const value = this.#values.get(`quorumbridge_proxy_${name}`);
    if (value === undefined) throw new Error(`there is no metric ${name}`);
    return value;
  }
}

/** In one step: nobody reads half of it. */
async function replaceFile(file: string, text: string): Promise<void> {
  await writeFile(`${file}.new`, text);
  await rename(`${file}.new`, file);
}

export class SoakProxy {
  readonly mode: Mode;
  /** Plain AMQP on 127.0.0.1. */
  readonly port: number;
  /** AMQP with TLS on 127.0.0.1. */
  readonly securePort: number;
  /** Such as `http://127.0.0.1:12345`. */
  readonly adminUrl: string;
  readonly #settings: ProxySettings;
  readonly #log: WriteStream;
  #running: Child | undefined;
  #gauge: Gauge | undefined;
  #isStopping = false;

  private constructor(settings: ProxySettings, ports: readonly [number, number, number]) {
    this.#settings = settings;
    this.mode = settings.mode;
    [this.port, this.securePort] = ports;
    this.adminUrl = `http://127.0.0.1:${ports[2]}`;
    this.#log = createWriteStream(join(settings.folder, settings.mode, 'log'));
  }

  /** One that is not started yet. */
  static async create(settings: ProxySettings): Promise<SoakProxy> {
    await mkdir(join(settings.folder, settings.mode), { recursive: true });
    return new SoakProxy(settings, [await freePort(), await freePort(), await freePort()]);
  }

  get #configFile(): string {
    return join(this.#settings.folder, this.mode, 'config.json');
  }

  get #child(): Child {
    if (this.#running === undefined) throw new Error('the proxy was not started');
    return this.#running;
  }

  /** Of what it holds of the system. */
  get gauge(): Gauge {
    return this.#gauge!;
  }

  /** Starts it and waits until it listens. */
  async start(): Promise<void> {
    await this.configure({}, NO_RULES);
    const args = [...HEAP, this.#settings.program, 'proxy', `--config=${this.#configFile}`];
    this.#running = new Child(`proxy ${this.mode}`, process.execPath, args, {
      ownSession: true,
      onLine: (line) => this.#heard(line),
    });
    void this.#watch(this.#running);
    this.#gauge = new Gauge(this.#child.pid!);
    await this.#child.waitFor('its first line', READY_TIMEOUT_MS, (lines) =>
      lines.some((line) => line.includes('proxy is listening')) ? true : undefined,
    );
  }

  async #watch(child: Child): Promise<void> {
    const { code, signal } = await child.exited;
    if (!this.#isStopping)
      this.#settings.faults.note('log', `${this.mode}: the proxy has ended with ${code ?? signal}`);
  }

  async figures(): Promise<Figures> {
    const signal = AbortSignal.timeout(SCRAPE_TIMEOUT_MS);
    const response = await fetch(`${this.adminUrl}/metrics`, { signal });
    return new Figures(await response.text());
  }

  /** Gives it another configuration and another file of rules. It doesn't read them before it is told, or looks. */
  async configure(changes: Readonly<Record<string, unknown>>, rules: object): Promise<void> {
    const { folder, certificates, backendPort } = this.#settings;
    const rulesFile = join(folder, this.mode, 'rules.json');
    const config = {
      mode: this.mode,
      backend: `127.0.0.1:${backendPort}`,
      listen: [`amqp://127.0.0.1:${this.port}`, `amqps://127.0.0.1:${this.securePort}`],
      'admin-listen': new URL(this.adminUrl).host,
      'tls-cert': join(certificates, 'server.crt'),
      'tls-key': join(certificates, 'server.key'),
      rules: rulesFile,
      ...(this.mode === 'pool' ? POOL_OPTIONS : {}),
      ...changes,
    };
    await replaceFile(rulesFile, JSON.stringify(rules));
    await replaceFile(this.#configFile, JSON.stringify(config));
  }

  /** SIGHUP: read the files again. */
  hangUp(): void {
    this.#child.kill('SIGHUP');
  }

  /** SIGTERM; the exit code, or null when it had to be killed. */
  async stop(): Promise<number | null> {
    this.#isStopping = true;
    this.#gauge?.stop();
    const { code = null } = (await this.#running?.stop(STOP_TIMEOUT_MS)) ?? {};
    await new Promise<void>((resolve) => {
      this.#log.end(resolve);
    });
    return code;
  }

  /** Notes what no proxy may ever say: errors, faults of its own, and what Node itself writes. */
  #heard(line: string): void {
    this.#log.write(`${line}\n`);
    let entry: { level?: string; code?: string; msg?: string } = {};
    try {
      entry = JSON.parse(line) as typeof entry;
    } catch {
      // Node's own warnings and stacks
    }
    const { level = 'fatal', code, msg } = entry;
    if (msg === REFUSED_CONFIGURATION) return; // turmoil.ts wants it, and counts
    if (level === 'error' || level === 'fatal' || code === 'INTERNAL')
      this.#settings.faults.note('log', `${this.mode}: ${line.slice(0, 500)}`);
  }
}
