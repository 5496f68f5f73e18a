import { hostname } from 'node:os';
import type { Logger } from '../../common/log.ts';
import type { PoolDocument } from '../admin/documents.ts';
import type { Backend } from '../backend.ts';
import type { SessionLimits } from '../context.ts';
import type { Connect } from '../link.ts';
import type { Stats } from '../stats.ts';
import type { PoolOptions } from './options.ts';
import { Pool, type PoolLimits } from './pool.ts';
import { Quarantine } from './quarantine.ts';
import type { TenantSettings } from './tenant-settings.ts';
import { Tenant } from './tenant.ts';
import { Upstream } from './upstream.ts';

/** Pool mode as the proxy runs it. */
export interface RunningPool {
  /** Makes a client's way to the broker. */
  readonly connect: Connect;
  /** Octets that wait for the connections to the broker to take them. */
  readonly writableLength: number;
  /** Open connections to the broker, for whoever breaks them off; undefined is every user, and every virtual host. */
  readonly upstreams: (user: string | undefined, virtualHost: string | undefined) => Upstream[];
  /** Looks at deadlines and heartbeats; to be called a few times a second. @param now milliseconds of performance.now() */
  sweep(now: number): void;
  /** Works with other options from now on, those of the clients that are there included. */
  use(options: PoolOptions): void;
  /** What there is, for people. */
  document(): PoolDocument;
  /** Closes the connections to the broker. */
  close(): void;
}

export interface PoolParts {
  readonly backend: Backend;
  /** May change. */
  readonly times: SessionLimits;
  readonly stats: Stats;
  readonly log: Logger;
}

/** Makes the pool of a proxy. Nothing is connected before a client comes. */
export function startPool(options: PoolOptions, { backend, times, stats, log }: PoolParts): RunningPool {
  let { heartbeat } = options;
  const pool = new Pool({
    name: `quorumbridge ${hostname()}`,
    limits: limitsOf(options),
    stats: stats.pool,
    log,
    connect: (request) => {
      const { connectTimeout, handshakeTimeout } = times;
      const limits = { connectTimeout, handshakeTimeout, heartbeat, channelMax: 65_535 };
      return new Upstream({ ...request, backend, limits, stats, log });
    },
  });
  const quarantine = new Quarantine(stats.pool, (identity, why) =>
    log.info({ identity, why }, 'the next connections of such clients are their own'),
  );
  const tenancy: TenantSettings = {
    pool,
    quarantine,
    stats: stats.pool,
    encrypts: backend.tls,
    ...tenantLimitsOf(options),
  };
  return {
    connect: (client) => new Tenant(client, tenancy),
    get writableLength() {
      return pool.writableLength;
    },
    sweep: (now) => {
      pool.sweep(now);
      quarantine.sweep();
    },
    use: (next) => {
      ({ heartbeat } = next);
      pool.use(limitsOf(next));
      Object.assign(tenancy, tenantLimitsOf(next));
    },
    upstreams: (user, virtualHost) => pool.upstreams(user, virtualHost),
    document: () => pool.document(),
    close: () => pool.close(),
  };
}

function limitsOf(options: PoolOptions): PoolLimits {
  const { maxUpstreamConnections, maxChannelsPerConnection, idleTimeout, waitTimeout } = options;
  return { maxUpstreamConnections, maxChannelsPerConnection, idleTimeout, waitTimeout };
}

function tenantLimitsOf(options: PoolOptions) {
  const { resume, resumeTimeout, maxMessageSize, clientBacklog } = options;
  return { resume, resumeTimeout, maxMessageSize, clientBacklog };
}
