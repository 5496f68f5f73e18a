import cluster from 'node:cluster';
import { type Admin, type AdminSettings, routesOf } from '../../common/admin.ts';
import { type AdminAnswer, findRoute, isStream } from '../../common/admin-route.ts';
import type { Logger } from '../../common/log.ts';
import type { MetricSamples } from '../../common/metrics.ts';
import type { Configuration, ResolvedOptions } from '../../common/resolve.ts';
import type { ReloadDocument } from '../admin/documents.ts';
import type { RunningProxy, StartProxy } from '../main.ts';
import { formatListen, type proxyOptions } from '../options.ts';
import { withoutRestart } from '../reload/changes.ts';
import { needRestart } from '../reload/scope.ts';
import { serveCalls } from './calls.ts';
import type { Seat } from './part.ts';

type Table = typeof proxyOptions;

/** What a worker can't choose anew as long as its primary runs: parts of the options as that has read them. */
export type Pinned = ResolvedOptions<Table>;

/** What a primary asks of its workers. */
export interface WorkerFunctions extends Readonly<Record<string, (...args: never[]) => unknown>> {
  /** Begins to serve clients. @throws UsageError */
  readonly start: (seat: Seat, pinned: Pinned) => Promise<readonly string[]>;
  readonly samples: () => Promise<MetricSamples>;
  /** Answers as the admin port of a proxy of one process would; 501 for what goes on without an end. */
  readonly request: (method: string, url: string) => Promise<AdminAnswer>;
  readonly reload: (cause: string) => Promise<ReloadDocument>;
  /** Drains and ends the process. */
  readonly drain: () => Promise<void>;
}

export function isWorker(): boolean {
  return cluster.isWorker;
}

/** Does what the primary asks for. The process ends when the primary is gone. */
export function runWorker(configuration: Configuration<Table>, log: Logger, startProxy: StartProxy): void {
  let running: RunningProxy | undefined;
  let settings: AdminSettings | undefined;
  const serveAdmin = async (given: AdminSettings): Promise<Admin> => {
    settings = given;
    return { address: given.listen, close: async () => {} };
  };
  // The primary is told by these, and tells the workers; a terminal tells all of them.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP'] as const) process.on(signal, () => {});
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'unexpected error, exiting');
    process.exit(1);
  });
  const functions: WorkerFunctions = {
    start: async (seat, pinned) => {
      running = await startProxy(startingWith(configuration, pinned), log.child({ worker: seat.index }), {
        seat,
        serveAdmin,
      });
      return running.listeners.map(({ scheme, address }) => formatListen({ scheme, ...address }));
    },
    samples: async () => settings!.metrics.samples(),
    request: async (method, url) => answer(settings!, method, url),
    reload: async (cause) => running!.reload(cause),
    drain: async () => {
      await running?.drain();
      setImmediate(() => process.disconnect?.());
    },
  };
  serveCalls(process as Parameters<typeof serveCalls>[0], functions);
}

/** A configuration whose first reading has what the primary pinned: a worker that is started later fits to the others. */
function startingWith(configuration: Configuration<Table>, pinned: Pinned): Configuration<Table> {
  let isFirst = true;
  const read = (): ResolvedOptions<Table> => {
    const resolved = configuration.read();
    if (!isFirst) return resolved;
    isFirst = false;
    const before = { resolved: pinned, digests: {} };
    const restart = needRestart(pinned.values.mode);
    return withoutRestart(before, { resolved, digests: {} }, restart).resolved;
  };
  return { ...configuration, read };
}

async function answer(settings: AdminSettings, method: string, url: string): Promise<AdminAnswer> {
  const found = findRoute(routesOf(settings), method, url);
  if (!('route' in found)) return found;
  const { route, params, query } = found;
  const answered = await route.handle({ params, query, signal: AbortSignal.timeout(60_000) });
  return isStream(answered) ? { status: 501, body: 'a worker answers once, and no stream\n' } : answered;
}
