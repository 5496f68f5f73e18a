import { UsageError } from '../common/errors.ts';
import { readTlsFiles, type TlsFiles } from '../common/tls.ts';
import type { Credentials } from './access/credentials.ts';
import { readCredentials } from './access/options.ts';
import type { AccessRules } from './access/rules.ts';
import { type Backend, createBackend } from './backend.ts';
import type { BreakerLimits } from './breaker/breaker.ts';
import { readBreakerLimits } from './breaker/options.ts';
import type { SessionLimits } from './context.ts';
import { type LimitSettings, readAccess, readLimits } from './limits/options.ts';
import type { TlsListener } from './listener.ts';
import { formatListen, type ListenAddress, type ProxyOptions } from './options.ts';
import { type LoadedRules, loadRules } from './policy/load.ts';
import { type PoolOptions, readPoolOptions } from './pool/options.ts';

/** A TLS listener whose files can be read again. */
export interface Secure extends TlsListener {
  /** @throws UsageError */
  readonly read: () => TlsFiles;
}

/**
 * All that a proxy works with: its options, and what they name, read and checked. With --workers it is for one of them: limits
 * that hold for all together are its part.
 */
export interface Settings {
  readonly options: ProxyOptions;
  /** Undefined without TLS. */
  readonly secure: Secure | undefined;
  readonly backend: Backend;
  readonly rules: LoadedRules;
  /** Undefined but in mode pool. */
  readonly pool: PoolOptions | undefined;
  readonly limits: LimitSettings;
  readonly access: AccessRules;
  /** Undefined where the broker alone decides who logs in. */
  readonly credentials: Credentials | undefined;
  readonly breaker: BreakerLimits;
  readonly times: SessionLimits;
}

/**
 * Reads all that the options name, and checks that they go together.
 * @throws UsageError with a line for each thing that is wrong
 */
export function readSettings(options: ProxyOptions): Settings {
  const problems: string[] = [];
  const gather = <T>(read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      problems.push(error.message);
      return undefined;
    }
  };
  const secure = gather(() => tlsListener(options));
  const backend = gather(() => createBackend(options));
  const rules = gather(() => loadRules(options));
  const pool = gather(() => readPoolOptions(options.mode, options));
  const limits = gather(() => readLimits(options, pool));
  const credentials = gather(() => readCredentials(options));
  gather(() => refuseForWorkers(options));
  if (problems.length > 0 || backend === undefined || rules === undefined || limits === undefined)
    throw new UsageError(problems.join('\n'));
  /** What one process may have of what all have together; 0 is no limit. */
  const partOf = (whole: number): number => Math.ceil(whole / options.workers);
  return {
    options: { ...options, maxConnections: partOf(options.maxConnections) },
    secure,
    backend,
    rules,
    pool: pool && { ...pool, maxUpstreamConnections: partOf(pool.maxUpstreamConnections) },
    limits: { ...limits, handshakes: partOf(limits.handshakes), buffer: partOf(limits.buffer) },
    access: readAccess(options),
    credentials,
    breaker: readBreakerLimits(options),
    times: {
      handshakeTimeout: options.handshakeTimeout * 1000,
      connectTimeout: options.connectTimeout * 1000,
      idleTimeout: options.idleTimeout * 1000,
    },
  };
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

function refuseForWorkers({ workers, faultInjection }: ProxyOptions): void {
  if (workers === 1 || !faultInjection) return;
  throw new UsageError(
    `option --fault-injection: faults are injected into one process, and --workers is ${workers}: leave one of them out`,
  );
}

function refuseUnused(addresses: readonly ListenAddress[]): void {
  if (addresses.some(({ scheme }) => scheme !== 'amqp')) return;
  throw new UsageError(
    'option --tls-cert is given, but every --listen is amqp:// (plain): add one with amqps://, or leave the certificate out',
  );
}
