import { FrameTally } from '../amqp/tally.ts';
import { CertificateStats } from '../common/certificate-watch.ts';
import { BreakerStats } from './breaker/breaker.ts';
import type { ProxyErrorCode } from './errors.ts';
import { PROXY_ERRORS } from './errors.ts';
import { FaultStats } from './faults/fault.ts';
import { LIMITS } from './limits/limit.ts';
import { PoolStats } from './pool/stats.ts';
import { ReloadStats } from './reload/stats.ts';
import { TelemetryStats } from './telemetry/stats.ts';
import { MEANING_CHANGES, REWRITTEN_METHODS } from './rules/rule.ts';

/** What the proxy counts: plain fields, written on the way of the octets and read at a scrape or for a log line. */
export class Stats {
  /** Client connections accepted since the start, those that were refused included. */
  connections = 0;
  /** Client connections that are open now, TLS handshakes included. */
  active = 0;
  /** Frames edited on their way to the broker, by method. */
  readonly rewrites = zeros(REWRITTEN_METHODS);
  /** Rewrites that could not keep all of what the client asked for, by what changed. */
  readonly meaningChanges = zeros(MEANING_CHANGES);
  /** Queues deleted behind the last consumer, as auto-delete queues are. */
  queuesDeleted = 0;
  /** Octets of AMQP (without TLS) taken from clients and from the backend. */
  octetsFromClients = 0;
  octetsFromBackend = 0;
  /** Frames that ended, by where they came from. */
  readonly clientFrames = new FrameTally();
  readonly brokerFrames = new FrameTally();
  /** Connections that the proxy ended or refused, by error code. */
  readonly errors = zeros(Object.keys(PROXY_ERRORS) as ProxyErrorCode[]);
  /** Of clients' connections and channels, by whom and for how long. */
  readonly telemetry = new TelemetryStats();
  /** Times that something went beyond a limit. */
  readonly limitHits = zeros(LIMITS);
  readonly breaker = new BreakerStats();
  readonly faults = new FaultStats();
  /** Of pool mode. */
  readonly pool = new PoolStats();
  /** Of the TLS listeners. */
  readonly certificate = new CertificateStats();
  readonly reload = new ReloadStats();

  /** Those that a line of the log has. */
  figures(): Readonly<Record<string, number>> {
    return {
      connections: this.connections,
      active: this.active,
      queueRewrites: this.rewrites['queue.declare'],
      exchangeRewrites: this.rewrites['exchange.declare'],
      bytesForwarded: this.octetsFromClients + this.octetsFromBackend,
    };
  }
}

function zeros<K extends string>(names: readonly K[]): Record<K, number> {
  return Object.fromEntries(names.map((name) => [name, 0])) as Record<K, number>;
}
