import { REPLY } from '../../amqp/constants.ts';
import type { Logger } from '../../common/log.ts';
import { formatHostPort, type HostPort } from '../../common/options.ts';
import type { Faults } from '../faults/faults.ts';
import { faultOperations } from '../faults/operations.ts';
import type { LedgerDocument, Mode } from '../ledger-document.ts';
import type { Pauses } from '../pauses.ts';
import { configurationOperations } from '../reload/operations.ts';
import type { Reloader } from '../reload/reloader.ts';
import type { Session } from '../session.ts';
import type { Stats } from '../stats.ts';
import { COMMON_PATHS } from './common-paths.ts';
import { CONNECTION_PARAMETERS, pageOf } from './connections.ts';
import { describeConnection } from './describe.ts';
import * as documents from './documents.ts';
import type {
  BreakerDocument,
  ConnectionDocument,
  LimitsDocument,
  PoolDocument,
  StateDocument,
  StatsDocument,
} from './documents.ts';
import { Feed } from './feed.ts';
import { describeApi, operation, type Operation, refusal } from './operation.ts';
import { PAGE, PAGE_POLICY } from './page.ts';
import { BadRequest, type Parameter } from './parameters.ts';
import { describeHeap, type ProfileKind, Profiler } from './profile.ts';

/** Clients that need the proxy in an event, at most. */
const NEEDING_MAX = 50;

/** How long what is made of the whole ledger holds, in milliseconds: with many clients it is work. */
const LEDGER_HOLDS = 5000;

const JSON_TYPE = 'application/json';
const HTML_TYPE = 'text/html; charset=utf-8';

const BUSY = 'a profile is being taken already';

const SECONDS = {
  name: 'seconds',
  type: 'integer',
  minimum: 1,
  maximum: 60,
  description: 'for how long',
} as const satisfies Parameter;

/** The parts of a proxy that its admin API shows and changes. */
export interface ApiParts {
  readonly mode: Mode;
  readonly backend: HostPort;
  readonly stats: Stats;
  readonly ledger: { document(): LedgerDocument; summary(): LedgerDocument['summary'] };
  /** Connections by their numbers in the log, those that are being closed included. */
  readonly sessions: Iterable<Session>;
  readonly pauses: Pauses;
  readonly faults: Faults;
  readonly limits: { document(): LimitsDocument };
  readonly breaker: { document(): BreakerDocument };
  /** Undefined but in mode pool. */
  readonly pool: { document(): PoolDocument } | undefined;
  readonly reloader: Reloader;
  isDraining(): boolean;
  readonly log: Logger;
}

const SCHEMAS = {
  Stats: documents.STATS,
  Connections: documents.CONNECTIONS,
  Pool: documents.POOL,
  State: documents.STATE,
  Closing: documents.CLOSING,
  Pause: documents.PAUSE,
  Resumed: documents.RESUMED,
  Delay: documents.DELAY,
  Severed: documents.SEVERED,
  Faults: documents.FAULTS,
  FaultsEnded: documents.FAULTS_ENDED,
  Heap: documents.HEAP,
  Clients: documents.LEDGER,
  Configuration: documents.CONFIGURATION,
  Reload: documents.RELOAD,
} as const;

/** Clients that need the proxy, as an event has them. */
export function needingOf({ clients }: LedgerDocument): StateDocument['needing'] {
  const needing = clients.filter((client) => client.needsProxy);
  return needing.slice(0, NEEDING_MAX).map((client) => ({
    user: client.user,
    vhost: client.vhost,
    name: client.connectionName ?? client.product,
    address: client.address,
    open: client.connections.now,
    rewrites: client.rewrites,
    lastRewrite: client.lastRewrite,
  }));
}

/** The admin API of a proxy, and the page that shows it. */
export class Api {
  readonly operations: readonly Operation[];
  readonly #parts: ApiParts;
  readonly #startedAt = Date.now();
  readonly #feed: Feed;
  readonly #profiler = new Profiler();
  /** Of the turn of the feed. */
  #connections: readonly ConnectionDocument[] | undefined;
  #needing: StateDocument['needing'] = [];
  #needingAt = -Infinity;

  constructor(parts: ApiParts) {
    this.#parts = parts;
    this.#feed = new Feed(() => {
      this.#connections = undefined;
    }, parts.log);
    this.operations = [
      ...this.#toSee(),
      ...this.#toDo(),
      ...faultOperations(parts.faults),
      ...this.#toDebug(),
      ...configurationOperations(parts.reloader),
      operation({
        method: 'GET',
        path: '/openapi.json',
        open: true,
        summary: 'This description.',
        parameters: [],
        content: { type: JSON_TYPE, description: 'OpenAPI 3.1' },
        answer: () => this.document(),
      }),
      operation({
        method: 'GET',
        path: '/',
        open: true,
        summary: 'The page: it shows /events, and asks for the token where one is needed.',
        parameters: [],
        content: { type: HTML_TYPE, description: 'all of it' },
        answer: () => ({
          status: 200,
          body: PAGE,
          type: HTML_TYPE,
          headers: { 'content-security-policy': PAGE_POLICY, 'referrer-policy': 'no-referrer' },
        }),
      }),
    ];
  }

  #toSee(): Operation[] {
    return [
      operation({
        method: 'GET',
        path: '/stats',
        summary: 'What the proxy is, and what it has counted since its start.',
        parameters: [],
        content: { type: JSON_TYPE, schema: 'Stats', description: 'figures' },
        answer: () => this.#stats(),
      }),
      operation({
        method: 'GET',
        path: '/connections',
        summary: "Clients' connections.",
        parameters: CONNECTION_PARAMETERS,
        content: { type: JSON_TYPE, schema: 'Connections', description: 'those that are asked for' },
        answer: ({ values }) => pageOf(this.#describeAll(), values),
      }),
      operation({
        method: 'GET',
        path: '/pool',
        summary: 'In mode pool: connections to the broker, and who shares them.',
        parameters: [],
        content: { type: JSON_TYPE, schema: 'Pool', description: 'the pool' },
        refusals: { 404: 'the mode is another' },
        answer: () =>
          this.#parts.pool?.document() ??
          refusal(404, `there is no pool: the mode is ${this.#parts.mode} (--mode=pool)`),
      }),
      operation({
        method: 'GET',
        path: '/events',
        summary:
          'Server-sent events: each second one of type state, whose data is a State. The parameters choose its connections.',
        parameters: CONNECTION_PARAMETERS,
        content: { type: 'text/event-stream', schema: 'State', description: 'a stream without an end' },
        refusals: { 503: 'too many listen already' },
        answer: ({ values }) => {
          if (this.#feed.isFull) return refusal(503, `${this.#feed.size} listen already, the limit`);
          const document = (): StateDocument => this.#state(pageOf(this.#turned(), values));
          return {
            type: 'text/event-stream',
            stream: (response) => {
              this.#feed.add(response, document);
            },
          };
        },
      }),
    ];
  }

  #toDo(): Operation[] {
    const { pauses, log } = this.#parts;
    return [
      operation({
        method: 'DELETE',
        path: '/connections/{id}',
        summary: 'Closes a connection: the client is told 320 CONNECTION_FORCED.',
        inPath: { id: 'the number of the connection' },
        parameters: [],
        status: 202,
        content: { type: JSON_TYPE, schema: 'Closing', description: 'it is being closed' },
        refusals: { 404: 'there is no such connection' },
        answer: ({ params }) => this.#close(params['id']!),
      }),
      operation({
        method: 'POST',
        path: '/vhosts/{vhost}/pause',
        summary:
          'Stops reading from the clients of a virtual host, those that come later included: TCP slows them down. It ends by itself.',
        inPath: { vhost: 'the name, percent-encoded: / is %2F' },
        parameters: [{ ...SECONDS, maximum: 3600, default: 60 }],
        content: { type: JSON_TYPE, schema: 'Pause', description: 'it is paused' },
        refusals: { 409: 'too many virtual hosts are paused already' },
        answer: ({ params, values }) => {
          const vhost = params['vhost']!;
          const paused = pauses.pause(vhost, values.seconds * 1000);
          if (paused === undefined)
            return refusal(409, 'too many virtual hosts are paused: resume another one first');
          log.warn(paused, 'virtual host paused by the admin API');
          return paused;
        },
      }),
      operation({
        method: 'POST',
        path: '/vhosts/{vhost}/resume',
        summary: 'Reads from the clients of a virtual host again.',
        inPath: { vhost: 'the name, percent-encoded: / is %2F' },
        parameters: [],
        content: { type: JSON_TYPE, schema: 'Resumed', description: 'it goes on' },
        refusals: { 404: 'it is not paused' },
        answer: ({ params }) => {
          const vhost = params['vhost']!;
          const connections = pauses.resume(vhost);
          if (connections === undefined) return refusal(404, `virtual host ${vhost} is not paused`);
          log.info({ vhost, connections }, 'virtual host resumed by the admin API');
          return { vhost, connections };
        },
      }),
    ];
  }

  #toDebug(): Operation[] {
    return [
      operation({
        method: 'GET',
        path: '/debug/profile',
        summary: 'A profile of the processor: what the proxy does with its time.',
        parameters: [{ ...SECONDS, default: 10 }],
        content: { type: JSON_TYPE, description: 'a .cpuprofile' },
        refusals: { 409: BUSY },
        answer: ({ values, signal }) => this.#profile('cpu', values.seconds, signal),
      }),
      operation({
        method: 'GET',
        path: '/debug/heap',
        summary: "The heap's sizes.",
        parameters: [],
        content: { type: JSON_TYPE, schema: 'Heap', description: 'sizes in octets' },
        answer: describeHeap,
      }),
      operation({
        method: 'GET',
        path: '/debug/heap-profile',
        summary: 'What takes memory meanwhile, by function.',
        parameters: [{ ...SECONDS, default: 10 }],
        content: { type: JSON_TYPE, description: 'a .heapprofile' },
        refusals: { 409: BUSY },
        answer: ({ values, signal }) => this.#profile('heap', values.seconds, signal),
      }),
    ];
  }

  #profile(
    kind: ProfileKind,
    seconds: number,
    signal: AbortSignal,
  ): Promise<string> | ReturnType<typeof refusal> {
    return this.#profiler.isBusy ? refusal(409, BUSY) : this.#profiler.take(kind, seconds, signal);
  }

  #close(id: string): object {
    if (!/^\d{1,15}$/.test(id)) {
      const way = 'expected the number of a connection, as GET /connections and the log have it';
      throw new BadRequest(`parameter id=${id}: ${way}`);
    }
    for (const session of this.#parts.sessions) {
      if (session.id !== Number(id)) continue;
      session.fail('ADMIN_CLOSED', REPLY.connectionForced, 'an operator closed the connection');
      return { id: session.id, closing: true };
    }
    return refusal(404, `there is no connection ${id}`);
  }

  #describeAll(): ConnectionDocument[] {
    return [...this.#parts.sessions].map(describeConnection);
  }

  /** All connections, made once for all listeners of a turn. */
  #turned(): readonly ConnectionDocument[] {
    return (this.#connections ??= this.#describeAll());
  }

  #state(connections: StateDocument['connections']): StateDocument {
    const { pool } = this.#parts;
    const now = performance.now();
    if (now - this.#needingAt > LEDGER_HOLDS) {
      this.#needingAt = now;
      this.#needing = needingOf(this.#parts.ledger.document());
    }
    return { stats: this.#stats(), pool: pool?.document() ?? null, connections, needing: this.#needing };
  }

  #stats(): StatsDocument {
    const { mode, backend, stats, ledger, limits, breaker, pauses, faults } = this.#parts;
    const { user, system } = process.cpuUsage();
    const { rss, heapUsed } = process.memoryUsage();
    return {
      mode,
      startedAt: new Date(this.#startedAt).toISOString(),
      uptimeSeconds: (Date.now() - this.#startedAt) / 1000,
      draining: this.#parts.isDraining(),
      backend: formatHostPort(backend),
      connections: { active: stats.active, total: stats.connections },
      octets: { fromClients: stats.octetsFromClients, fromBackend: stats.octetsFromBackend },
      frames: { fromClients: stats.clientFrames.all, fromBackend: stats.brokerFrames.all },
      rewrites: { ...stats.rewrites },
      meaningChanges: { ...stats.meaningChanges },
      queuesDeleted: stats.queuesDeleted,
      errors: { ...stats.errors },
      ledger: ledger.summary(),
      limits: limits.document(),
      breaker: breaker.document(),
      paused: pauses.documents(),
      faults: faults.document(),
      process: { residentOctets: rss, heapOctets: heapUsed, cpuSeconds: (user + system) / 1_000_000 },
    };
  }

  /** The OpenAPI document: of the operations, and of what the admin port has besides. */
  document(): object {
    return describeApi([...COMMON_PATHS, ...this.operations], SCHEMAS);
  }

  /** Ends what goes on without an end. */
  close(): void {
    this.#feed.close();
  }
}
