import type { Socket } from 'node:net';
import { encodeClose } from '../amqp/method.ts';
import { type Admin, startAdmin } from '../common/admin.ts';
import { createGuard, type Guard } from '../common/admin-guard.ts';
import { watchCertificate } from '../common/certificate-watch.ts';
import { UsageError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { formatHostPort, type HostPort } from '../common/options.ts';
import { readTlsFiles, type TlsFiles } from '../common/tls.ts';
import { Api } from './admin/api.ts';
import { inRange, parseAddress } from './access/address.ts';
import { createBackend } from './backend.ts';
import { type RunningBreaker, startBreaker } from './breaker/start.ts';
import type { SessionContext } from './context.ts';
import { Drain } from './drain/drain.ts';
import { Ledger } from './ledger.ts';
import { Admission } from './limits/admission.ts';
import { type Refusal, tooMany } from './limits/limit.ts';
import { readAccess, readLimits } from './limits/options.ts';
import { connectDirectly } from './link.ts';
import { type Accepted, listen, type Listener, type ListenerEvents, type TlsListener } from './listener.ts';
import { createProxyMetrics } from './metrics.ts';
import { formatListen, type ListenAddress, type ProxyOptions } from './options.ts';
import { type LoadedRules, loadRules } from './policy/load.ts';
import { Pauses } from './pauses.ts';
import { type PoolOptions, readPoolOptions } from './pool/options.ts';
import { type RunningPool, startPool } from './pool/start.ts';
import { createProbe, type Probe } from './probe.ts';
import { endpointsOf } from './proxy-protocol.ts';
import { Queues } from './queues.ts';
import { Session } from './session.ts';
import { Stats } from './stats.ts';
import { AuditLog } from './telemetry/audit.ts';

/** How often deadlines are looked at, in milliseconds: what a timeout may be late. */
const SWEEP_INTERVAL = 250;

/** Warnings that are remembered, so that each is logged once; beyond that, it begins anew. */
const TOLD_MAX = 1000;

/** How often the files of the certificate are read again, in milliseconds. */
const CERTIFICATE_INTERVAL = 10_000;

export interface RunningProxy {
  /** Where clients connect, with the ports that the system chose where 0 was asked for. */
  readonly listeners: readonly Pick<Listener, 'scheme' | 'address'>[];
  readonly adminAddress: HostPort;
  /** Stops accepting, closes clients with 320, spread over `--drain-timeout` and when they have finished, then ends everything. */
  drain(): Promise<void>;
  /** Ends everything at once. */
  close(): Promise<void>;
}

/**
 * Starts the proxy: with one connection to the backend for each client, or with connections that clients share.
 * @throws UsageError when options contradict each other, a file can't be read or used, or an address can't be listened on
 */
export async function startProxy(options: ProxyOptions, log: Logger): Promise<RunningProxy> {
  const secure = tlsListener(options);
  const pool = readPoolOptions(options.mode, options);
  const server = new ProxyServer(options, loadRules(options), pool, log);
  try {
    await server.start(secure);
  } catch (error) {
    await server.close();
    throw error;
  }
  return server;
}

class ProxyServer implements RunningProxy {
  readonly listeners: Listener[] = [];
  readonly #options: ProxyOptions;
  readonly #rules: LoadedRules;
  readonly #log: Logger;
  readonly #stats = new Stats();
  readonly #ledger: Ledger;
  readonly #admission: Admission;
  readonly #sessions = new Set<Session>();
  readonly #pauses = new Pauses(this.#sessions);
  /** Sockets of TLS clients, whose handshake may still be under way. */
  readonly #encrypted = new Set<Socket>();
  readonly #context: SessionContext;
  readonly #probe: Probe;
  readonly #breaker: RunningBreaker;
  readonly #pool: RunningPool | undefined;
  readonly #timers: NodeJS.Timeout[] = [];
  #unwatch: (() => void) | undefined;
  #admin: Admin | undefined;
  #api: Api | undefined;
  readonly #guard: Guard;
  readonly #audit: AuditLog | undefined;
  #draining = false;
  #lastId = 0;
  #limitLoggedAt = -Infinity;
  readonly #told = new Set<string>();

  constructor(options: ProxyOptions, rules: LoadedRules, pool: PoolOptions | undefined, log: Logger) {
    this.#options = options;
    this.#rules = rules;
    this.#log = log;
    this.#guard = createGuard(options.adminTokenFile, log);
    const limits = {
      handshakeTimeout: options.handshakeTimeout * 1000,
      connectTimeout: options.connectTimeout * 1000,
      idleTimeout: options.idleTimeout * 1000,
    };
    const parts = { backend: createBackend(options), options, limits, stats: this.#stats, log };
    this.#breaker = startBreaker(parts);
    const { guarded: backend, checked, barrier } = this.#breaker;
    this.#pool =
      pool === undefined ? undefined : startPool(pool, { backend, limits, stats: this.#stats, log });
    this.#ledger = new Ledger({ mode: options.mode, limit: options.clientRecords });
    this.#admission = new Admission({
      limits: readLimits(options),
      access: readAccess(options),
      hits: this.#stats.limitHits,
      log,
    });
    this.#probe = createProbe(checked, options.connectTimeout * 1000);
    const { auditLog } = options;
    this.#audit =
      auditLog === undefined
        ? undefined
        : new AuditLog({ target: auditLog, stats: this.#stats.telemetry, log });
    this.#context = {
      mode: options.mode,
      audit: this.#audit,
      queues: new Queues(),
      policies: rules.policies,
      clients: this.#ledger,
      admission: this.#admission,
      backend,
      connect: this.#pool?.connect ?? connectDirectly(backend),
      stats: this.#stats,
      log,
      limits,
      isNews: (text) => this.#isNews(text),
      barrier,
      isPaused: (virtualHost) => this.#pauses.has(virtualHost),
      opened: () => this.#probe.proven(),
      ended: (session) => this.#sessionEnded(session),
    };
  }

  async start(secure: Secure | undefined): Promise<void> {
    const options = this.#options;
    for (const address of options.listen) {
      const tls =
        (address.scheme ?? (secure === undefined ? 'amqp' : 'amqps')) === 'amqps' ? secure : undefined;
      this.listeners.push(
        await listen(address, tls, this.#events(tls !== undefined), options.handshakeTimeout * 1000),
      );
    }
    if (secure !== undefined) this.#watch(secure);
    this.#api = new Api({
      mode: options.mode,
      backend: options.backend,
      stats: this.#stats,
      ledger: this.#ledger,
      sessions: this.#sessions,
      pauses: this.#pauses,
      limits: this.#admission,
      breaker: this.#breaker.breaker,
      pool: this.#pool,
      isDraining: () => this.#draining,
      log: this.#log,
    });
    this.#admin = await startAdmin({
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
    if (options.statsInterval > 0) this.#every(options.statsInterval * 1000, () => this.#logStats());
    this.#log.info(
      {
        listen: this.listeners.map(({ scheme, address }) => formatListen({ scheme, ...address })),
        mode: options.mode,
        backend: formatHostPort(options.backend),
        backendTls: options.backendTls,
        backendProxyProtocol: options.backendProxyProtocol,
        preset: this.#rules.preset,
        rulesFile: options.rules,
        rules: this.#rules.count,
        admin: formatHostPort(this.#admin.address),
      },
      'proxy is listening',
    );
  }

  get adminAddress(): HostPort {
    return this.#admin!.address;
  }

  #watch({ read, files }: Secure): void {
    this.#unwatch = watchCertificate({
      source: async () => read(),
      initial: files,
      intervalMs: CERTIFICATE_INTERVAL,
      log: this.#log,
      stats: this.#stats.certificate,
      use: (next) => {
        for (const listener of this.listeners) listener.setCertificate(next);
      },
    });
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
        this.#log.warn({ client: `${socket.remoteAddress} ${socket.remotePort}`, code }, text);
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
    if (remoteAddress === undefined) return false; // the client is gone
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
    return tooMany(`the proxy has ${maxConnections} connections, its limit (--max-connections)`);
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
    socket.on('error', () => socket.destroy());
    if (mute || silent) socket.destroy();
    else socket.end(encodeClose(replyCode, text), () => socket.destroy());
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
    const session = new Session(++this.#lastId, endpoints, this.#context);
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
    let forClients = 0;
    let forBroker = this.#pool?.writableLength ?? 0;
    for (const session of this.#sessions) {
      session.sweep(now);
      forClients += session.bufferedForClient;
      forBroker += session.bufferedForBroker;
    }
    this.#stats.telemetry.bufferedForClients = forClients;
    this.#stats.telemetry.bufferedForBroker = forBroker;
    this.#pool?.sweep(now);
    for (const vhost of this.#pauses.sweep())
      this.#log.info({ vhost }, 'the pause of a virtual host is over: its clients go on');
    this.#admission.sweep(now);
  }

  #logStats(): void {
    const { connections, active, rewrites, octetsFromClients, octetsFromBackend } = this.#stats;
    this.#log.info(
      {
        connections,
        active,
        queueRewrites: rewrites['queue.declare'],
        exchangeRewrites: rewrites['exchange.declare'],
        bytesForwarded: octetsFromClients + octetsFromBackend,
        clients: this.#ledger.summary().text,
      },
      'statistics since the start',
    );
  }

  async drain(): Promise<void> {
    const { drainTimeout } = this.#options;
    this.#draining = true;
    for (const listener of this.listeners) listener.close();
    this.#log.info({ connections: this.#sessions.size, drainTimeout }, 'draining: no new connections');
    await new Drain({ sessions: this.#sessions, timeout: drainTimeout * 1000, log: this.#log }).run();
    await this.close();
  }

  async close(): Promise<void> {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    this.#unwatch?.();
    for (const listener of this.listeners) listener.close();
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

interface Secure extends TlsListener {
  /** Reads the files again; throws UsageError. */
  readonly read: () => TlsFiles;
}

/** Reads the certificate for the TLS listeners, and checks that the options go together. */
function tlsListener(options: ProxyOptions): Secure | undefined {
  const { listen: addresses, tlsCert, tlsKey, tlsCa, tlsClientAuth, handshakeTimeout } = options;
  if (tlsCert === undefined || tlsKey === undefined) {
    if (tlsCert !== undefined)
      throw new UsageError('option --tls-cert needs --tls-key, the private key of the certificate');
    if (tlsKey !== undefined)
      throw new UsageError('option --tls-key needs --tls-cert, the certificate of the key');
    if (tlsCa !== undefined)
      throw new UsageError(
        'option --tls-ca needs --tls-cert and --tls-key: clients show certificates to TLS listeners only',
      );
    const encrypted = addresses.find(({ scheme }) => scheme === 'amqps');
    if (encrypted !== undefined) {
      throw new UsageError(
        `option --listen: ${formatListen(encrypted)} needs a certificate: give --tls-cert and --tls-key`,
      );
    }
    return undefined;
  }
  refuseUnused(addresses);
  const read = (): TlsFiles =>
    readTlsFiles({
      certFile: tlsCert,
      keyFile: tlsKey,
      caFile: tlsCa,
      optionNames: { cert: 'tls-cert', key: 'tls-key', ca: 'tls-ca' },
    });
  return { read, files: read(), clientAuth: tlsClientAuth, handshakeTimeout: handshakeTimeout * 1000 };
}

function refuseUnused(addresses: readonly ListenAddress[]): void {
  if (addresses.some(({ scheme }) => scheme !== 'amqp')) return;
  throw new UsageError(
    'option --tls-cert is given, but every --listen is amqp:// (plain): add one with amqps://, or leave the certificate out',
  );
}
