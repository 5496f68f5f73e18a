import type { Socket } from 'node:net';
import { REPLY } from '../amqp/constants.ts';
import { encodeClose } from '../amqp/method.ts';
import { type Admin, startAdmin } from '../common/admin.ts';
import { watchCertificate } from '../common/certificate-watch.ts';
import { UsageError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { formatHostPort, type HostPort } from '../common/options.ts';
import { readTlsFiles, type TlsFiles } from '../common/tls.ts';
import { createBackend } from './backend.ts';
import type { SessionContext } from './context.ts';
import { Ledger } from './ledger.ts';
import { connectDirectly } from './link.ts';
import { type Accepted, listen, type Listener, type ListenerEvents, type TlsListener } from './listener.ts';
import { createProxyMetrics } from './metrics.ts';
import { formatListen, type ListenAddress, type ProxyOptions } from './options.ts';
import { type LoadedRules, loadRules } from './policy/load.ts';
import { type PoolOptions, readPoolOptions } from './pool/options.ts';
import { type RunningPool, startPool } from './pool/start.ts';
import { createProbe, type Probe } from './probe.ts';
import { endpointsOf } from './proxy-protocol.ts';
import { Queues } from './queues.ts';
import { Session } from './session.ts';
import { Stats } from './stats.ts';

/** How often deadlines are looked at, in milliseconds: what a timeout may be late. */
const SWEEP_INTERVAL = 250;

/** Warnings that are remembered, so that each is logged once; beyond that, it begins anew. */
const TOLD_MAX = 1000;

/** How often the files of the certificate are read again, in milliseconds. */
const CERTIFICATE_INTERVAL = 10_000;

/** How long clients have to take their connection.close at the end of a drain, in milliseconds. */
const LAST_CALL = 3000;

export interface RunningProxy {
  /** Where clients connect, with the ports that the system chose where 0 was asked for. */
  readonly listeners: readonly Pick<Listener, 'scheme' | 'address'>[];
  readonly adminAddress: HostPort;
  /** Stops accepting, lets clients finish for `--drain-timeout`, closes the rest with 320, then ends everything. */
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
  readonly #sessions = new Set<Session>();
  /** Sockets of TLS clients, whose handshake may still be under way. */
  readonly #encrypted = new Set<Socket>();
  readonly #context: SessionContext;
  readonly #probe: Probe;
  readonly #pool: RunningPool | undefined;
  readonly #timers: NodeJS.Timeout[] = [];
  #unwatch: (() => void) | undefined;
  #admin: Admin | undefined;
  #draining = false;
  #lastId = 0;
  #limitLoggedAt = -Infinity;
  readonly #told = new Set<string>();
  #emptied: (() => void) | undefined;

  constructor(options: ProxyOptions, rules: LoadedRules, pool: PoolOptions | undefined, log: Logger) {
    this.#options = options;
    this.#rules = rules;
    this.#log = log;
    const backend = createBackend(options);
    const limits = {
      handshakeTimeout: options.handshakeTimeout * 1000,
      connectTimeout: options.connectTimeout * 1000,
      idleTimeout: options.idleTimeout * 1000,
    };
    this.#pool =
      pool === undefined ? undefined : startPool(pool, { backend, limits, stats: this.#stats, log });
    this.#ledger = new Ledger({ mode: options.mode, limit: options.clientRecords });
    this.#probe = createProbe(backend, options.connectTimeout * 1000);
    this.#context = {
      mode: options.mode,
      queues: new Queues(),
      policies: rules.policies,
      clients: this.#ledger,
      backend,
      connect: this.#pool?.connect ?? connectDirectly(backend),
      stats: this.#stats,
      log,
      limits,
      isNews: (text) => this.#isNews(text),
      opened: () => this.#probe.proven(),
      ended: (session) => this.#sessionEnded(session),
    };
  }

  async start(secure: Secure | undefined): Promise<void> {
    const options = this.#options;
    for (const address of options.listen) {
      const tls =
        (address.scheme ?? (secure === undefined ? 'amqp' : 'amqps')) === 'amqps' ? secure : undefined;
      this.listeners.push(await listen(address, tls, this.#events(tls !== undefined)));
    }
    if (secure !== undefined) this.#watch(secure);
    this.#admin = await startAdmin({
      listen: options.adminListen,
      log: this.#log,
      metrics: createProxyMetrics(this.#stats, this.#ledger),
      json: { '/clients': () => this.#ledger.document() },
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
      failed: (error) => this.#log.error({ err: error.message }, 'a connection could not be accepted'),
    };
  }

  #admit(socket: Socket, tls: boolean): boolean {
    const { maxConnections } = this.#options;
    this.#stats.connections++;
    if (maxConnections > 0 && this.#stats.active >= maxConnections) {
      this.#refuse(socket, tls, `the proxy has ${maxConnections} connections, its limit (--max-connections)`);
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

  #refuse(socket: Socket, tls: boolean, text: string): void {
    this.#stats.errors.CONNECTION_LIMIT++;
    const now = performance.now();
    // A flood of connections must not become a flood of lines.
    if (now - this.#limitLoggedAt > 1000) {
      this.#limitLoggedAt = now;
      this.#log.warn({ code: 'CONNECTION_LIMIT', refused: this.#stats.errors.CONNECTION_LIMIT }, text);
    }
    socket.on('error', () => socket.destroy());
    if (tls) socket.destroy();
    else socket.end(encodeClose(REPLY.connectionForced, text), () => socket.destroy());
  }

  #accepted({ socket, tls, read }: Accepted): void {
    const endpoints = endpointsOf(socket);
    if (endpoints === undefined) {
      socket.destroy(); // the client was gone before it was accepted
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
    if (!session.encrypted) this.#stats.active--;
    if (this.#sessions.size === 0) this.#emptied?.();
  }

  #sweep(): void {
    const now = performance.now();
    for (const session of this.#sessions) session.sweep(now);
    this.#pool?.sweep(now);
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
    await this.#sessionsEnd(drainTimeout * 1000);
    if (this.#sessions.size > 0) {
      const text = `the proxy is shutting down, and ${drainTimeout} s to finish are over`;
      for (const session of this.#sessions) session.fail('DRAIN', REPLY.connectionForced, text);
      await this.#sessionsEnd(LAST_CALL);
    }
    await this.close();
  }

  /** Waits until no session is left, for so many milliseconds at most. */
  #sessionsEnd(milliseconds: number): Promise<void> {
    if (this.#sessions.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#emptied = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async close(): Promise<void> {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    this.#unwatch?.();
    for (const listener of this.listeners) listener.close();
    for (const session of this.#sessions) session.destroy();
    for (const socket of this.#encrypted) socket.destroy();
    this.#pool?.close();
    if (this.#admin !== undefined && this.#options.statsInterval > 0) this.#logStats();
    await this.#admin?.close();
    this.#admin = undefined;
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
