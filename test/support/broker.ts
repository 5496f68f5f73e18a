// Real RabbitMQ servers for tests and the demo, by brokers.sh.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ManagementClient } from './management.ts';
import { Child, HOME } from './processes.ts';

export type BrokerVersion = '3.10' | '4.0' | '4.3';

const SCRIPT = join(HOME, 'test/support/brokers.sh');
/** Downloads may be slow; a start alone takes some seconds. */
const FETCH_TIMEOUT_MS = 10 * 60_000;
const START_TIMEOUT_MS = 150_000;

export interface BrokerSettings {
  /** Lines of rabbitmq.conf; @AMQP@, @AMQPS@, @BACKEND@, @MANAGEMENT@ and @FILES@ are filled in by brokers.sh. */
  conf?: string;
  /** The whole advanced.config. */
  advanced?: string;
  /** Enabled besides rabbitmq_management; restarts don't change them. */
  plugins?: string[];
  /** A node whose cluster this one joins. It has to outlive this one, and no Docker engine may run them. */
  join?: Broker;
  /** Files that the server sees in @FILES@, by name. */
  files?: Record<string, string | Buffer>;
  /** An empty folder for the settings; its owner deletes it. Default: a temporary one. */
  folder?: string;
  /** Told each line of progress. */
  onProgress?: (line: string) => void;
}

/** What `brokers.sh` prints when a node answers. */
interface NodeLine {
  version: string;
  port: number;
  seconds: number;
  driver: string;
}

/** What `brokers.sh` has said since the start; the child keeps its last lines only. */
interface Said {
  nodes: number;
  kills: number;
}

/** A running RabbitMQ node on loopback, with its own data; user and password guest. */
export class Broker {
  readonly version: BrokerVersion;
  readonly #child: Child;
  readonly #folder: string;
  readonly #node: NodeLine;
  readonly #said: Said;
  readonly #clean: () => Promise<void>;

  constructor(
    version: BrokerVersion,
    child: Child,
    folder: string,
    node: NodeLine,
    said: Said,
    clean: () => Promise<void>,
  ) {
    this.version = version;
    this.#said = said;
    this.#child = child;
    this.#folder = folder;
    this.#node = node;
    this.#clean = clean;
  }

  /** Plain AMQP, unless the configuration moved it. */
  get port(): number {
    return this.#node.port;
  }

  /** Free for a TLS listener of the configuration, or for a proxy in front. */
  get amqpsPort(): number {
    return this.#node.port + 1;
  }

  /** Free for a listener behind a proxy. */
  get backendPort(): number {
    return this.#node.port + 2;
  }

  get managementPort(): number {
    return this.#node.port + 3;
  }

  /** Whether it can be joined by others: not where a Docker engine runs it. */
  get clusters(): boolean {
    return this.#node.driver === 'packages';
  }

  /** Seconds that the first start took. */
  get startSeconds(): number {
    return this.#node.seconds;
  }

  get url(): string {
    return `amqp://guest:guest@127.0.0.1:${this.port}/`;
  }

  get managementUrl(): string {
    return `http://127.0.0.1:${this.managementPort}`;
  }

  get management(): ManagementClient {
    return this.managementOf('/');
  }

  managementOf(vhost: string): ManagementClient {
    return new ManagementClient({ url: this.managementUrl, user: 'guest', password: 'guest', vhost });
  }

  /** Stops the node gracefully and starts it again on the same ports and data, with other settings. */
  restart(settings: BrokerSettings): Promise<void> {
    return this.#again('restart', settings);
  }

  /** Starts a node with empty storage in this one's place, on the same ports. */
  replace(settings: BrokerSettings): Promise<void> {
    return this.#again('replace', settings);
  }

  /** Ends the node at once, without a word to anybody; its data stay, and `restart` starts it again. */
  async kill(): Promise<void> {
    const before = this.#said.kills;
    this.#child.write('kill\n');
    await this.#child.waitFor('end', START_TIMEOUT_MS, () => this.#said.kills > before || undefined);
  }

  /** All that it has logged, on the disk of a node that no Docker engine runs. */
  async log(): Promise<string> {
    return runScript(['log', String(this.port), '+1'], 10_000);
  }

  /** Runs rabbitmqctl against the node and returns what it prints. */
  async ctl(...args: string[]): Promise<string> {
    return runScript(['ctl', String(this.port), ...args], 60_000);
  }

  /** Leaves the node running when this process ends; `stopCommand` ends it. */
  async detach(): Promise<void> {
    this.#child.write('detach\n');
    await this.#child.exited;
  }

  get stopCommand(): string {
    return `test/support/brokers.sh stop ${this.port}`;
  }

  /** Kills the node and deletes its data. */
  async stop(): Promise<void> {
    await this.#clean();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #again(request: 'restart' | 'replace', settings: BrokerSettings): Promise<void> {
    const before = this.#said.nodes;
    await writeSettings(this.#folder, settings);
    this.#child.write(`${request}\n`);
    const isUp = () => this.#said.nodes > before || undefined;
    await this.#child.waitFor(`answer after its ${request}`, START_TIMEOUT_MS, isUp);
  }
}

/**
 * Starts a node, fetching the server first when the cache has none. It dies with this process, however this ends:
 * brokers.sh notices the end of its stdin.
 */
export async function startBroker(version: BrokerVersion, settings: BrokerSettings = {}): Promise<Broker> {
  const folder = settings.folder ?? (await mkdtemp(join(tmpdir(), 'quorumbridge-broker-')));
  const paths = await writeSettings(folder, settings);
  const options = ['--conf', paths.conf, '--advanced', paths.advanced];
  if (settings.plugins !== undefined) options.push('--plugins', settings.plugins.join(','));
  if (settings.join !== undefined) options.push('--join', String(settings.join.port));
  const said: Said = { nodes: 0, kills: 0 };
  const child = new Child(`RabbitMQ ${version}`, SCRIPT, ['run', version, ...options], {
    ownSession: true,
    onLine: (line, stream) => {
      if (stream === 'stderr') settings.onProgress?.(line);
      if (line.startsWith('broker ')) said.nodes += 1;
      if (line === 'killed') said.kills += 1;
    },
  });
  const clean = async () => {
    child.end();
    await child.exited;
    if (settings.folder === undefined) await rm(folder, { recursive: true, force: true });
  };
  try {
    const node = await child.waitFor('answer', FETCH_TIMEOUT_MS + START_TIMEOUT_MS, (lines) =>
      lines.map(parseNodeLine).find((parsed) => parsed !== undefined),
    );
    return new Broker(version, child, folder, node, said, clean);
  } catch (error) {
    await clean();
    throw error;
  }
}

/** A client that is not JavaScript, from Debian's packages: the C tools, kombu with Celery, oslo.messaging, pika. */
export type ClientName = 'amqp-tools' | 'kombu' | 'oslo' | 'pika';

/** Fetches what is missing of the named servers and clients; rejects with the reason when that cannot be done here. */
export async function fetchBrokers(names: string[], onProgress?: (line: string) => void): Promise<void> {
  await runScript(['install', ...names], FETCH_TIMEOUT_MS * names.length, onProgress);
}

/**
 * Runs a Python program (a path that ends in .py; it sees the files beside it) or a command of that client without
 * input, and returns what it prints; rejects with the end of its stderr when it fails.
 */
export async function runClient(name: ClientName, program: string, args: string[]): Promise<string> {
  return runScript(['client', name, program, ...args], 120_000);
}

/** Starts such a program and leaves it running; its stdin stays open until `end()` or the end of this process. */
export function startClient(
  name: ClientName,
  program: string,
  args: string[],
  onLine: (line: string) => void,
): Child {
  return new Child(`${name}: ${program}`, SCRIPT, ['client', name, program, ...args], {
    ownSession: true,
    onLine,
  });
}

async function writeSettings(
  folder: string,
  settings: BrokerSettings,
): Promise<{ conf: string; advanced: string }> {
  const files = join(folder, 'files');
  await mkdir(files, { recursive: true });
  const paths = { conf: join(files, 'rabbitmq.conf'), advanced: join(files, 'advanced.config') };
  await writeFile(paths.conf, `${settings.conf ?? ''}\n`);
  await writeFile(paths.advanced, settings.advanced ?? '');
  for (const [name, content] of Object.entries(settings.files ?? {}))
    await writeFile(join(files, name), content);
  return paths;
}

async function runScript(
  args: string[],
  timeoutMs: number,
  onProgress?: (line: string) => void,
): Promise<string> {
  const printed: string[] = [];
  const told: string[] = [];
  const child = new Child(`brokers.sh ${args[0]}`, SCRIPT, args, {
    ownSession: true,
    onLine: (line, stream) => {
      (stream === 'stdout' ? printed : told).push(line);
      if (stream === 'stderr') onProgress?.(line);
    },
  });
  child.end();
  const timer = setTimeout(() => child.kill('SIGTERM'), timeoutMs);
  const { code } = await child.exited;
  clearTimeout(timer);
  if (code !== 0)
    throw new Error(told.slice(-8).join('\n') || `brokers.sh ${args.join(' ')} failed (exit code ${code})`);
  return printed.join('\n');
}

function parseNodeLine(line: string): NodeLine | undefined {
  if (!line.startsWith('broker ')) return undefined;
  const fields = new Map(
    line
      .split(' ')
      .slice(1)
      .map((field) => field.split('=', 2) as [string, string]),
  );
  return {
    version: fields.get('version') ?? '',
    port: Number(fields.get('port')),
    seconds: Number(fields.get('seconds')),
    driver: fields.get('driver') ?? '',
  };
}
