import { type Admin, startAdmin } from '../../common/admin.ts';
import type { AdminAnswer } from '../../common/admin-route.ts';
import { createGuard } from '../../common/admin-guard.ts';
import { messageOf, UsageError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import { createMetrics, mergeMetrics, type Metrics } from '../../common/metrics.ts';
import { formatHostPort } from '../../common/options.ts';
import type { Configuration } from '../../common/resolve.ts';
import type { ReloadDocument } from '../admin/documents.ts';
import { refusal } from '../admin/operation.ts';
import { METRICS_PREFIX } from '../metrics.ts';
import type { ProxyOptions, proxyOptions } from '../options.ts';
import { needRestart } from '../reload/scope.ts';
import { readSettings } from '../settings.ts';
import { giveBackStartMemory } from '../start-memory.ts';
import { WorkersAdmin } from './admin.ts';
import { addWorkerMetrics } from './metrics.ts';
import { Supervisor } from './supervisor.ts';
import type { Pinned } from './worker.ts';

type Table = typeof proxyOptions;

/** What a drain takes besides --drain-timeout, in milliseconds. */
const DRAIN_END = 10_000;

/** A reload may read large files, in milliseconds. */
const RELOAD = 30_000;

/** Limits that each worker counts by itself. */
const OWN_LIMITS = [
  'maxConnectionsPerUser',
  'maxConnectionsPerVhost',
  'maxConnectionsPerAddress',
  'publishRate',
] as const satisfies (keyof ProxyOptions)[];

/** A proxy of several processes, as the command line runs it. */
export interface RunningWorkers {
  /** Milliseconds that {@link drain} takes, and what sockets take to close besides. */
  readonly drainMs: number;
  reload(cause: string): Promise<AdminAnswer>;
  drain(): Promise<void>;
}

/**
 * Starts --workers processes that serve clients, and the admin port for all of them.
 * @throws UsageError as `startProxy` does
 */
export async function startWorkers(
  configuration: Configuration<Table>,
  log: Logger,
): Promise<RunningWorkers> {
  const proxy = new Primary(configuration, log);
  try {
    await proxy.start();
  } catch (error) {
    await proxy.close();
    throw error;
  }
  return proxy;
}

class Primary implements RunningWorkers {
  readonly #configuration: Configuration<Table>;
  readonly #log: Logger;
  readonly #options: ProxyOptions;
  readonly #supervisor: Supervisor;
  readonly #metrics: Metrics;
  readonly #api: WorkersAdmin;
  #drainTimeout: number;
  #admin: Admin | undefined;
  #isDraining = false;
  #memory: NodeJS.Timeout | undefined;

  constructor(configuration: Configuration<Table>, log: Logger) {
    const resolved = configuration.read();
    const options = resolved.values;
    // One answer to what is wrong, and not one of each worker.
    readSettings(options);
    this.#configuration = configuration;
    this.#log = log;
    this.#options = options;
    this.#drainTimeout = options.drainTimeout;
    const kept = needRestart(options.mode);
    const pick = (from: object): object =>
      Object.fromEntries(Object.entries(from).filter(([property]) => kept.some((one) => one === property)));
    const pinned = Object.fromEntries(Object.entries(resolved).map(([key, part]) => [key, pick(part)]));
    const count = options.workers;
    this.#supervisor = new Supervisor({ count, pinned: pinned as unknown as Pinned, log });
    this.#metrics = createMetrics({ prefix: METRICS_PREFIX });
    addWorkerMetrics(this.#metrics, {
      serving: () => 0, // each worker counts itself
      restarts: () => this.#supervisor.restarts,
    });
    this.#api = new WorkersAdmin({
      serving: () => this.#supervisor.serving,
      count,
      reload: (cause) => this.reload(cause),
      log,
    });
  }

  get drainMs(): number {
    return this.#drainTimeout * 1000;
  }

  async start(): Promise<void> {
    const { adminListen, adminTokenFile, workers, mode, backend } = this.#options;
    const guard = createGuard(adminTokenFile, this.#log);
    const listen = await this.#supervisor.start();
    this.#admin = await startAdmin({
      listen: adminListen,
      log: this.#log,
      metrics: { ...this.#metrics, text: () => this.#scrape() },
      json: { '/clients': () => this.#api.ledger() },
      routes: this.#api.routes,
      guard,
      livez: () => ({ ok: true, reasons: [] }),
      readyz: async () => {
        const reasons = this.#isDraining ? ['draining: no new connections'] : await this.#api.unready();
        return { ok: reasons === undefined, reasons: reasons ?? [] };
      },
    });
    this.#memory = giveBackStartMemory(() => false);
    for (const property of OWN_LIMITS) {
      if (this.#options[property] === 0) continue;
      const { name } = this.#configuration.table[property];
      this.#log.warn(
        { workers },
        `--${name} is counted by each worker by itself: all together may have more`,
      );
    }
    const admin = formatHostPort(this.#admin.address);
    this.#log.info(
      { listen, mode, backend: formatHostPort(backend), admin, workers },
      'proxy is listening, with workers',
    );
  }

  async #scrape(): Promise<string> {
    const asked = this.#supervisor.serving.map(({ caller }) => caller.call('samples', []));
    const answered = (await Promise.allSettled(asked)).filter((one) => one.status === 'fulfilled');
    return mergeMetrics(
      await this.#metrics.samples(),
      answered.map(({ value }) => value),
    );
  }

  /** Lets all workers read the configuration again. */
  async reload(cause: string): Promise<AdminAnswer> {
    if (this.#isDraining) return refusal(422, 'the proxy is draining: it takes no other configuration');
    const asked = this.#supervisor.serving.map(({ caller }) => caller.call('reload', [cause], RELOAD));
    const documents: ReloadDocument[] = [];
    const problems: string[] = [];
    for (const one of await Promise.allSettled(asked)) {
      if (one.status === 'rejected') problems.push(messageOf(one.reason));
      else if (one.value.result === 'refused') problems.push(...one.value.problems);
      else documents.push(one.value);
    }
    const document = documents[0];
    if (problems.length > 0 || document === undefined)
      return refusal(422, [...new Set(problems)].join('\n') || 'no worker serves clients');
    this.#drainTimeout = this.#readDrainTimeout();
    return { status: 200, body: `${JSON.stringify(document)}\n`, type: 'application/json' };
  }

  #readDrainTimeout(): number {
    try {
      return this.#configuration.read().values.drainTimeout;
    } catch (error) {
      // It has changed again since the workers read it: they say so next.
      if (error instanceof UsageError) return this.#drainTimeout;
      throw error;
    }
  }

  async drain(): Promise<void> {
    this.#isDraining = true;
    await this.#supervisor.drain(this.drainMs + DRAIN_END);
    await this.close();
  }

  async close(): Promise<void> {
    clearTimeout(this.#memory);
    this.#supervisor.close();
    this.#api.close();
    await this.#admin?.close();
    this.#admin = undefined;
  }
}
