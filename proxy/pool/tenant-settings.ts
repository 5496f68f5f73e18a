import type { Pool } from './pool.ts';
import type { Quarantine } from './quarantine.ts';
import type { PoolStats } from './stats.ts';

/** What holds for all clients of a pool. */
export interface TenantSettings {
  readonly pool: Pool;
  readonly quarantine: Quarantine;
  readonly stats: PoolStats;
  readonly resume: boolean;
  /** Milliseconds that channels with state may take to be made anew. */
  readonly resumeTimeout: number;
  /** Octets of a message's body. */
  readonly maxMessageSize: number;
  /** Octets for a client that it hasn't taken yet, on connections that it shares. */
  readonly clientBacklog: number;
  /** Whether connections to the broker encrypt. */
  readonly encrypts: boolean;
}
