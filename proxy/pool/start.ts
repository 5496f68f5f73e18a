import { hostname } from 'node:os';
import type { Logger } from '../../common/log.ts';
import type { PoolDocument } from '../admin/documents.ts';
import type { Backend } from '../backend.ts';
import type { SessionLimits } from '../context.ts';
import type { Connect } from '../link.ts';
import type { Stats } from '../stats.ts';
import type { PoolOptions } from './options.ts';
import { Pool } from './pool.ts';
import { Quarantine } from './quarantine.ts';
import { Tenant } from './tenant.ts';
import { Upstream } from './upstream.ts';

/** Pool mode as the proxy runs it. */
export interface RunningPool {
  /** Makes a client's way to the broker. */
  readonly connect: Connect;
  /** Octets that wait for the connections to the broker to take them. */
  readonly writableLength: number;
  /** Looks at deadlines and heartbeats; to be called a few times a second. @param now milliseconds of performance.now() */
  sweep(now: number): void;
  /** What there is, for people. */
  document(): PoolDocument;
  /** Closes the connections to the broker. */
  close(): void;
}

export interface PoolParts {
  readonly backend: Backend;
  readonly limits: SessionLimits;
  readonly stats: Stats;
  readonly log: Logger;
}

/** Makes the pool of a proxy. Nothing is connected before a client comes. */
export function startPool(settings: PoolOptions, { backend, limits, stats, log }: PoolParts): RunningPool {
  const { maxUpstreamConnections, maxChannelsPerConnection, idleTimeout, waitTimeout, heartbeat } = settings;
  const { connectTimeout, handshakeTimeout } = limits;
  const pool = new Pool({
    name: `quorumbridge ${hostname()}`,
    limits: { maxUpstreamConnections, maxChannelsPerConnection, idleTimeout, waitTimeout },
    stats: stats.pool,
    log,
    connect: (request) =>
      new Upstream({
        ...request,
        backend,
        limits: { connectTimeout, handshakeTimeout, heartbeat, channelMax: 65_535 },
        stats,
        log,
      }),
  });
  const quarantine = new Quarantine(stats.pool, (identity, why) =>
    log.info({ identity, why }, 'the next connections of such clients are their own'),
  );
  const { resume, resumeTimeout, maxMessageSize, clientBacklog } = settings;
  const tenancy = {
    pool,
    quarantine,
    stats: stats.pool,
    resume,
    resumeTimeout,
    maxMessageSize,
    clientBacklog,
    encrypts: backend.tls,
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
    document: () => pool.document(),
    close: () => pool.close(),
  };
}
