import type { MODES } from '../../common/contract.ts';
import { UsageError } from '../../common/errors.ts';
import { flag, integer, octets, type OptionTable, type OptionValues, seconds } from '../../common/options.ts';

const MEBIBYTE = 1024 * 1024;

/** What the options are without being given. They are no defaults of the table: it must be seen what was given. */
const DEFAULTS = {
  maxUpstreamConnections: 100,
  maxChannelsPerConnection: 200,
  poolIdleTimeout: 60,
  poolWaitTimeout: 10,
  upstreamHeartbeat: 30,
  resumeTimeout: 60,
  maxMessageSize: 16 * MEBIBYTE,
  clientBacklog: 16 * MEBIBYTE,
} as const;

/** Heartbeats are told in whole seconds, in a short integer (AMQP 0-9-1, connection.tune). */
function heartbeat(text: string): number {
  const value = seconds({ min: 0, max: 3600 })(text);
  if (!Number.isInteger(value)) throw new Error('expected whole seconds');
  return value;
}

/** The options of `quorumbridge proxy` that only pool mode has. Times are in seconds, sizes in octets. */
export const poolOptions = {
  maxUpstreamConnections: {
    name: 'max-upstream-connections',
    argument: 'COUNT',
    env: 'QUORUMBRIDGE_MAX_UPSTREAM_CONNECTIONS',
    description:
      'With --mode=pool: connections to the backend at a time, those of one client alone included.',
    hiddenDefault: String(DEFAULTS.maxUpstreamConnections),
    parse: integer({ min: 1, max: 100_000 }),
  },
  maxChannelsPerConnection: {
    name: 'max-channels-per-connection',
    argument: 'COUNT',
    env: 'QUORUMBRIDGE_MAX_CHANNELS_PER_CONNECTION',
    description:
      "With --mode=pool: channels of clients on one connection to the backend; the backend's channel_max holds too.",
    hiddenDefault: String(DEFAULTS.maxChannelsPerConnection),
    parse: integer({ min: 1, max: 65_535 }),
  },
  poolIdleTimeout: {
    name: 'pool-idle-timeout',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_POOL_IDLE_TIMEOUT',
    description: 'With --mode=pool: close connections to the backend that no client has used for so long.',
    hiddenDefault: String(DEFAULTS.poolIdleTimeout),
    parse: seconds({ min: 0.1, max: 86_400 }),
  },
  poolWaitTimeout: {
    name: 'pool-wait-timeout',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_POOL_WAIT_TIMEOUT',
    description: 'With --mode=pool: how long a client may wait for a channel or a connection to the backend.',
    hiddenDefault: String(DEFAULTS.poolWaitTimeout),
    parse: seconds({ min: 0.1, max: 3600 }),
  },
  upstreamHeartbeat: {
    name: 'upstream-heartbeat',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_UPSTREAM_HEARTBEAT',
    description:
      'With --mode=pool: heartbeats on connections to the backend, or as the backend proposes where that is less. 0 is none.',
    hiddenDefault: String(DEFAULTS.upstreamHeartbeat),
    parse: heartbeat,
  },
  resume: {
    name: 'resume',
    env: 'QUORUMBRIDGE_RESUME',
    description:
      'With --mode=pool: make consumers and their prefetch anew when the backend is lost, in place of closing their clients.',
    parse: flag(),
  },
  resumeTimeout: {
    name: 'resume-timeout',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_RESUME_TIMEOUT',
    description:
      'With --resume: how long the backend may be away before such clients are closed all the same.',
    hiddenDefault: String(DEFAULTS.resumeTimeout),
    parse: seconds({ min: 0.1, max: 86_400 }),
  },
  maxMessageSize: {
    name: 'max-message-size',
    argument: 'SIZE',
    env: 'QUORUMBRIDGE_MAX_MESSAGE_SIZE',
    description:
      'With --mode=pool: the largest body that a client may publish; messages are held until they are whole.',
    hiddenDefault: '16MiB',
    parse: octets({ min: 1024, max: 512 * MEBIBYTE }),
  },
  clientBacklog: {
    name: 'client-backlog',
    argument: 'SIZE',
    env: 'QUORUMBRIDGE_CLIENT_BACKLOG',
    description:
      'With --mode=pool: what is held for a client that reads slower than the backend sends on a shared connection.',
    hiddenDefault: '16MiB',
    parse: octets({ min: 65_536, max: 1024 * MEBIBYTE }),
  },
} as const satisfies OptionTable;

type Given = OptionValues<typeof poolOptions>;

/** The options of pool mode, complete: milliseconds, octets; the heartbeat is in seconds, as AMQP has it. */
export interface PoolOptions {
  readonly maxUpstreamConnections: number;
  readonly maxChannelsPerConnection: number;
  readonly idleTimeout: number;
  readonly waitTimeout: number;
  readonly heartbeat: number;
  readonly resume: boolean;
  readonly resumeTimeout: number;
  readonly maxMessageSize: number;
  readonly clientBacklog: number;
}

/**
 * What pool mode works with; undefined in the other modes.
 * @throws UsageError when an option of pool mode is given in another mode, or --resume-timeout without --resume
 */
export function readPoolOptions(mode: (typeof MODES)[number], given: Given): PoolOptions | undefined {
  const { maxUpstreamConnections, maxChannelsPerConnection, maxMessageSize, clientBacklog } = DEFAULTS;
  if (mode !== 'pool') return refuseAll(given);
  if (given.resumeTimeout !== undefined && !given.resume)
    throw new UsageError('option --resume-timeout needs --resume: without it nothing is resumed');
  return {
    maxUpstreamConnections: given.maxUpstreamConnections ?? maxUpstreamConnections,
    maxChannelsPerConnection: given.maxChannelsPerConnection ?? maxChannelsPerConnection,
    idleTimeout: (given.poolIdleTimeout ?? DEFAULTS.poolIdleTimeout) * 1000,
    waitTimeout: (given.poolWaitTimeout ?? DEFAULTS.poolWaitTimeout) * 1000,
    heartbeat: given.upstreamHeartbeat ?? DEFAULTS.upstreamHeartbeat,
    resume: given.resume,
    resumeTimeout: (given.resumeTimeout ?? DEFAULTS.resumeTimeout) * 1000,
    maxMessageSize: given.maxMessageSize ?? maxMessageSize,
    clientBacklog: given.clientBacklog ?? clientBacklog,
  };
}

/** One that is silently without effect would be looked for in the wrong place. */
function refuseAll(given: Given): undefined {
  const properties = Object.keys(poolOptions) as (keyof typeof poolOptions)[];
  const property = properties.find((each) => given[each] !== undefined && given[each] !== false);
  if (property === undefined) return undefined;
  throw new UsageError(
    `option --${poolOptions[property].name} needs --mode=pool: the other modes have one connection to the backend for each client`,
  );
}
