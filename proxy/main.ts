import type { Socket } from 'node:net';
import { encodeClose } from '../amqp/method.ts';
import type { Admin } from '../common/admin.ts';
import { createGuard, type Guard } from '../common/admin-guard.ts';
import { UsageError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { formatHostPort, type HostPort } from '../common/options.ts';
import type { Configuration } from '../common/resolve.ts';
import { Api } from './admin/api.ts';
import type { ReloadDocument } from './admin/documents.ts';
import { inRange, parseAddress } from './access/address.ts';
import { Logins } from './access/login.ts';
import type { Backend } from './backend.ts';
import { type RunningBreaker, startBreaker } from './breaker/start.ts';
import type { SessionContext, SessionLimits } from './context.ts';
import { Drain } from './drain/drain.ts';
import { Entrances } from './entrances.ts';
import { Faults } from './faults/faults.ts';
import { Ledger } from './ledger.ts';
import { Admission } from './limits/admission.ts';
import { type Refusal, tooMany } from './limits/limit.ts';
import { connectDirectly } from './link.ts';
import type { Accepted, Listener, ListenerEvents } from './listener.ts';
import { createProxyMetrics } from './metrics.ts';
import { formatListen, type ProxyOptions, type proxyOptions } from './options.ts';
import { Pauses } from './pauses.ts';
import { type RunningPool, startPool } from './pool/start.ts';
import { createProbe, type Probe } from './probe.ts';
import { endpointsOf } from './proxy-protocol.ts';
import { Queues } from './queues.ts';
import { Reloader } from './reload/reloader.ts';
import { Roster } from './roster.ts';
import { Session } from './session.ts';
import type { Settings } from './settings.ts';
import { giveBackStartMemory } from './start-memory.ts';
import { Stats } from './stats.ts';
import { StrangerLines } from './stranger-lines.ts';
import { AuditLog } from './telemetry/audit.ts';
import { Doorway } from './turn-away.ts';
import { type Part, WHOLE } from './workers/part.ts';

/** How often deadlines are looked at, in milliseconds: what a timeout may be late. */
const SWEEP_INTERVAL = 250;

/** Warnings that are remembered, so that each is logged once; beyond that, it begins anew. */
const TOLD_MAX = 1000;

export interface RunningProxy {
  /** Where clients connect, with the ports that the system chose where 0 was asked for. */
  readonly listeners: readonly Pick<Listener, 'scheme' | 'address'>[];
  readonly adminAddress: HostPort;
  /** Milliseconds that {@link drain} takes, and what sockets take to close besides. */
  readonly drainMs: number;
  /** Reads the configuration again, and works with it where it is valid. @param cause for the log */
  reload(cause: string): Promise<ReloadDocument>;
  /** Stops accepting, closes clients with 320, spread over `--drain-timeout` and when they have finished, then ends everything. */
  drain(): Promise<void>;
  /** Ends everything at once. */
  close(): Promise<void>;
}

export type StartProxy = typeof startProxy;

/**
 * Starts the proxy: with one connection to the backend for each client, or with connections that clients share.
 * @throws UsageError when options contradict each other, a file can't be read or used, or an address can't be listened on
 */
export async function startProxy(
  configuration: Configuration<typeof proxyOptions>,
  log: Logger,
  part = WHOLE,
): Promise<RunningProxy> {
  const stats = new Stats();
  const reloader = new Reloader({
    configuration,
    use: (settings) => server.use(settings),
    stats: stats.reload,
    log,
  });
  const server: ProxyServer = new ProxyServer(reloader, stats, log, part);
  try {
    await server.start();
  } catch (error) {
    await server.close();
    throw error;
  }
  return server;
}

class ProxyServer implements RunningProxy {
  #settings: Settings;
  readonly #reloader: Reloader;
  readonly #log: Logger;
  readonly #stats: Stats;
  readonly #ledger: Ledger;
  readonly #admission: Admission;
  readonly #logins: Logins;
  readonly #sessions = new Roster<Session>();
  readonly #pauses = new Pauses(this.#sessions);
  readonly #faults: Faults;
  readonly #entrances: Entrances;
  /** Sockets of TLS clients, whose handshake may still be under way. */
  readonly #encrypted = new Set<Socket>();
  /** Shared by all that ask for them, and changed by a reload. */
  readonly #times: { -readonly [K in keyof SessionLimits]: SessionLimits[K] };
  readonly #context: { -readonly [K in keyof SessionContext]: SessionContext[K] };
  #probe: Probe;
  readonly #breaker: RunningBreaker;
  readonly #pool: RunningPool | undefined;
  readonly #timers: NodeJS.Timeout[] = [];
  #statsTimer: NodeJS.Timeout | undefined;
  #admin: Admin | undefined;
  #api: Api | undefined;
  readonly #guard: Guard;
  readonly #audit: AuditLog | undefined;
  readonly #part: Part;
  #draining = false;
  /** Of several processes each has numbers of its own: every so manieth. */
  #lastId: number;
  #limitLoggedAt = -Infinity;
  readonly #told = new Set<string>();
  readonly #doorway = new Doorway();
  readonly #strangers = new StrangerLines();

  constructor(reloader: Reloader, stats: Stats, log: Logger, part: Part) {
    const settings = reloader.initial;
    const { options, limits, access, pool } = settings;
    this.#settings = settings;
    this.#part = part;
    this.#lastId = part.seat.index - part.seat.count;
    this.#reloader = reloader;
    this.#stats = stats;
    this.#log = log;
    this.#guard = createGuard(options.adminTokenFile, log);
    this.#times = { ...settings.times };
    const times = this.#times;
    this.#entrances = new Entrances({
      events: (tls) => this.#events(tls),
      times,
      certificate: stats.certificate,
      log,
    });
    this.#breaker = startBreaker(settings, { times, stats, log });
    const { guarded: backend, checked } = this.#breaker.guard(settings.backend);
    this.#pool = pool === undefined ? undefined : startPool(pool, { backend, times, stats, log });
    this.#faults = new Faults({
      enabled: options.faultInjection,
      sessions: this.#sessions,
      upstreams: this.#pool?.upstreams,
      stats: stats.faults,
      log,
    });
    this.#ledger = new Ledger({ mode: options.mode, limit: options.clientRecords });
    this.#admission = new Admission({ limits, access, hits: stats.limitHits, log });
    this.#logins = new Logins(settings.credentials);
    this.#probe = createProbe(checked, times.connectTimeout);
    const { auditLog } = options;
    this.#audit =
      auditLog === undefined ? undefined : new AuditLog({ target: auditLog, stats: stats.telemetry, log });
    this.#context = {
      mode: options.mode,
      audit: this.#audit,
      queues: new Queues(),
      policies: settings.rules.policies,
      clients: this.#ledger,
      admission: this.#admission,
      logins: this.#logins,
      backend,
      connect: this.#faults.over(this.#pool?.connect ?? connectDirectly(backend)),
      stats,
      log,
      limits: times,
      isNews: (text) => this.#isNews(text),
      strangers: this.#strangers,
      barrier: this.#breaker.barrier,
      isPaused: (virtualHost) => this.#pauses.has(virtualHost),
      opened: (session) => {
        this.#probe.proven();
        this.#faults.opened(session);
      },
      ended: (session) => this.#sessionEnded(session),
    };
  }

  get #options(): ProxyOptions {
    return this.#settings.options;
  }

  get listeners(): readonly Listener[] {
    return this.#entrances.listeners;
  }

  get drainMs(): number {
    return this.#options.drainTimeout * 1000;
  }

  reload(cause: string): Promise<ReloadDocument> {
    return this.#reloader.reload(cause);
  }

  /** Works with other settings: connections that are open go on, with what was decided for them. */
  async use(settings: Settings): Promise<void> {
    if (this.#draining) throw new UsageError('the proxy is draining: it takes no other configuration');
    // The one step that can fail comes first.
    await this.#entrances.use(settings);
    const { options, limits, access, rules, pool } = settings;
    this.#settings = settings;
    Object.assign(this.#times, settings.times);
    this.#admission.use({ limits, access });
    this.#logins.use(settings.credentials);
    this.#context.policies = rules.policies;
    this.#breaker.use(settings);
    if (this.#pool === undefined) this.#connectTo(settings.backend);
    else if (pool !== undefined) this.#pool.use(pool);
    this.#log.level = options.logLevel;
    this.#logStatsRegularly();
    this.#reloader.watch();
  }

  #connectTo(next: Backend): void {
    const { host, port } = this.#context.backend;
    if (next.host !== host || next.port !== port) this.#breaker.breaker.renew();
    const { guarded, checked } = this.#breaker.guard(next);
    this.#context.backend = guarded;
    this.#context.connect = this.#faults.over(connectDirectly(guarded));
    this.#probe = createProbe(checked, this.#times.connectTimeout);
  }

  #logStatsRegularly(): void {
    clearInterval(this.#statsTimer);
    const { statsInterval } = this.#options;
    if (statsInterval > 0) this.#statsTimer = setInterval(() => this.#logStats(), statsInterval * 1000);
  }

  async start(): Promise<void> {
    const options = this.#options;
    await this.#entrances.use(this.#settings);
    this.#api = new Api({
      mode: options.mode,
      backend: options.backend,
      stats: this.#stats,
      ledger: this.#ledger,
      sessions: this.#sessions,
      pauses: this.#pauses,
      faults: this.#faults,
      limits: this.#admission,
      breaker: this.#breaker.breaker,
      pool: this.#pool,
      reloader: this.#reloader,
      isDraining: () => this.#draining,
      log: this.#log,
    });
    this.#admin = await this.#part.serveAdmin({
      listen: options.adminListen,
      log: this.#log,
      metrics: createProxyMetrics(this.#stats, this.#ledger),
      json: { '/clients': () => this.#ledger.document() },
      routes: this.#api.operations,
      guard: this.#guard,
      livez: () => ({ ok: true, reasons: [] }),
      readyz: async () => {
        const problem = this.#draining ? 'draining: no new connections' : await this.#probe.check();
        return { ok: problem === undefined, reasons: problem === undefined ? [] : [problem] };
      },
    });
    this.#every(SWEEP_INTERVAL, () => this.#sweep());
    this.#timers.push(giveBackStartMemory(() => this.#sessions.size > 0));
    this.#logStatsRegularly();
    this.#reloader.watch();
    this.#log.info(
      {
        listen: this.listeners.map(({ scheme, address }) => formatListen({ scheme, ...address })),
        mode: options.mode,
        backend: formatHostPort(options.backend),
        backendTls: options.backendTls,
        backendProxyProtocol: options.backendProxyProtocol,
        preset: this.#settings.rules.preset,
        rulesFile: options.rules,
        rules: this.#settings.rules.count,
        admin: formatHostPort(this.#admin.address),
      },
      'proxy is listening',
    );
  }

  get adminAddress(): HostPort {
    return this.#admin!.address;
  }

  #every(milliseconds: number, work: () => void): void {
    this.#timers.push(setInterval(work, milliseconds));
  }

  #events(tls: boolean): ListenerEvents {
    return {
      admit: (socket) => this.#admit(socket, tls),
      accepted: (connection) => this.#accepted(connection),
      refused: (socket, code, text) => {
        this.#stats.errors[code]++;
        const leftOut = this.#strangers.take(code, performance.now());
        if (leftOut === undefined) return;
        const client = `${socket.remoteAddress} ${socket.remotePort}`;
        this.#log.warn({ client, code, ...(leftOut === 0 ? {} : { leftOut }) }, text);
      },
      dropped: () => {
        this.#stats.active--;
      },
      isTrusted: ({ remoteAddress }) => this.#isTrusted(remoteAddress),
      failed: (error) => this.#log.error({ err: error.message }, 'a connection could not be accepted'),
    };
  }

  /** Whether it is a load balancer's address, whose connections are others'. */
  #isTrusted(address: string | undefined): boolean {
    const { trustProxyProtocol } = this.#options;
    if (trustProxyProtocol.length === 0 || address === undefined) return false;
    const octets = parseAddress(address);
    return trustProxyProtocol.some((range) => inRange(octets, range));
  }

  #admit(socket: Socket, tls: boolean): boolean {
    const { remoteAddress } = socket;
    if (remoteAddress === undefined) {
      socket.destroy(); // the client is gone
      return false;
    }
    this.#stats.connections++;
    const isOthers = this.#isTrusted(remoteAddress);
    const refusal = this.#isFull() ?? (isOthers ? undefined : this.#admission.admit(remoteAddress));
    if (refusal !== undefined) {
      this.#refuse(socket, tls, refusal);
      return false;
    }
    this.#stats.active++;
    if (tls) {
      this.#encrypted.add(socket);
      socket.once('close', () => {
        this.#encrypted.delete(socket);
        this.#stats.active--;
      });
    }
    return true;
  }

  #isFull(): Refusal | undefined {
    const { maxConnections } = this.#options;
    if (maxConnections === 0 || this.#stats.active < maxConnections) return undefined;
    this.#stats.limitHits['max-connections']++;
    const whose = this.#options.workers === 1 ? 'its limit' : 'its part for one of --workers';
    return tooMany(`the proxy has ${maxConnections} connections, ${whose} (--max-connections)`);
  }

  /** @param mute the client can't be told: its TLS handshake is still to come */
  #refuse(socket: Socket, mute: boolean, { code, replyCode, text, silent }: Refusal): void {
    this.#stats.errors[code]++;
    const now = performance.now();
    // A flood of connections must not become a flood of lines.
    if (now - this.#limitLoggedAt > 1000) {
      this.#limitLoggedAt = now;
      this.#log.warn({ code, refused: this.#stats.errors[code] }, text);
    }
    this.#doorway.turnAway(socket, mute || silent ? undefined : encodeClose(replyCode, text));
  }

  #accepted({ socket, tls, announced, read }: Accepted): void {
    const endpoints = announced ?? endpointsOf(socket);
    if (endpoints === undefined) {
      socket.destroy(); // the client was gone before it was accepted
      if (!tls) this.#stats.active--;
      return;
    }
    const { sourceAddress } = endpoints;
    const unwanted = announced === undefined ? undefined : this.#admission.admit(sourceAddress);
    const refusal = unwanted ?? this.#admission.arrive(sourceAddress);
    if (refusal !== undefined) {
      this.#refuse(socket, false, refusal);
      if (!tls) this.#stats.active--;
      return;
    }
    const session = new Session((this.#lastId += this.#part.seat.count), endpoints, this.#context);
    this.#sessions.add(session);
    session.attach(read(session.receive), tls);
  }

  #isNews(text: string): boolean {
    if (this.#told.has(text)) return false;
    if (this.#told.size >= TOLD_MAX) this.#told.clear();
    this.#told.add(text);
    return true;
  }

  #sessionEnded(session: Session): void {
    this.#sessions.delete(session);
    if (!session.account.encrypted) this.#stats.active--;
    this.#admission.leave(session.endpoints.sourceAddress);
  }

  #sweep(): void {
    const now = performance.now();
    for (const session of this.#sessions) session.sweep(now);
    const { buffers } = this.#admission;
    const { forClients, forBroker } = buffers.look(this.#sessions, this.#pool?.writableLength ?? 0, now);
    this.#stats.telemetry.bufferedForClients = forClients;
    this.#stats.telemetry.bufferedForBroker = forBroker;
    this.#pool?.sweep(now);
    for (const vhost of this.#pauses.sweep())
      this.#log.info({ vhost }, 'the pause of a virtual host is over: its clients go on');
    this.#faults.sweep();
    this.#admission.sweep(now);
  }

  #logStats(): void {
    const { text: clients } = this.#ledger.summary();
    this.#log.info({ ...this.#stats.figures(), clients }, 'statistics since the start');
  }

  async drain(): Promise<void> {
    const { drainTimeout } = this.#options;
    this.#draining = true;
    this.#reloader.close();
    this.#entrances.close();
    this.#log.info({ connections: this.#sessions.size, drainTimeout }, 'draining: no new connections');
    await new Drain({ sessions: this.#sessions, timeout: drainTimeout * 1000, log: this.#log }).run();
    await this.close();
  }

  async close(): Promise<void> {
    this.#reloader.close();
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    clearInterval(this.#statsTimer);
    this.#entrances.close();
    for (const session of this.#sessions) session.destroy();
    for (const socket of this.#encrypted) socket.destroy();
    this.#pool?.close();
    if (this.#admin !== undefined && this.#options.statsInterval > 0) this.#logStats();
    this.#api?.close();
    await this.#admin?.close();
    this.#admin = undefined;
    await this.#audit?.close(this.#sessions);
  }
}
