import { isIP } from 'node:net';
import { FRAME_MIN_SIZE } from '../../amqp/constants.ts';
import { isLoopback, parseAddress, parseRange } from '../access/address.ts';
import { type AccessRules, compileUserVhosts, parseUserVhosts } from '../access/rules.ts';
import type { MODES } from '../../common/contract.ts';
import { UsageError } from '../../common/errors.ts';
import {
  flag,
  type HostPort,
  integer,
  octets,
  oneOf,
  type OptionTable,
  type OptionValues,
} from '../../common/options.ts';
import type { BufferLimits } from './buffers.ts';

const MEBIBYTE = 1024 * 1024;

const count = integer({ min: 0, max: 1_000_000 });

/** No frame_max is less than frame-min-size (section 1.4.2.6), or has more than 32 bits. */
function frameSize(text: string): number {
  const value = octets({ max: 0xffff_ffff })(text);
  if (value > 0 && value < FRAME_MIN_SIZE)
    throw new Error(`expected 0, or a size from ${FRAME_MIN_SIZE} octets on, such as 65536 or 64KiB`);
  return value;
}

/** Less than `least` MiB would be reached by connections that only work. */
function bufferSize(least: number): (text: string) => number {
  return (text) => {
    const value = octets()(text);
    if (value > 0 && value < least * MEBIBYTE)
      throw new Error(`expected 0, or a size from ${least}MiB on, such as 64MiB or 1GiB`);
    return value;
  };
}

/** The options of `quorumbridge proxy` that say how much clients may have, and who may come. */
export const limitOptions = {
  maxConnectionsPerUser: {
    name: 'max-connections-per-user',
    argument: 'COUNT',
    env: 'QUORUMBRIDGE_MAX_CONNECTIONS_PER_USER',
    description: 'Client connections of one user at a time. 0 is no limit.',
    default: 0,
    parse: count,
  },
  maxConnectionsPerVhost: {
    name: 'max-connections-per-vhost',
    argument: 'COUNT',
    env: 'QUORUMBRIDGE_MAX_CONNECTIONS_PER_VHOST',
    description: 'Client connections to one virtual host at a time. 0 is no limit.',
    default: 0,
    parse: count,
  },
  maxConnectionsPerAddress: {
    name: 'max-connections-per-address',
    argument: 'COUNT',
    env: 'QUORUMBRIDGE_MAX_CONNECTIONS_PER_ADDRESS',
    description: 'Client connections from one IP address at a time. 0 is no limit.',
    default: 0,
    parse: count,
  },
  maxChannelsPerClient: {
    name: 'max-channels-per-client',
    argument: 'COUNT',
    env: 'QUORUMBRIDGE_MAX_CHANNELS_PER_CLIENT',
    description:
      'Channels of one client connection: the channel_max that it is offered. 0 leaves that to the backend.',
    default: 0,
    parse: integer({ min: 0, max: 65_534 }),
  },
  maxFrameSize: {
    name: 'max-frame-size',
    argument: 'SIZE',
    env: 'QUORUMBRIDGE_MAX_FRAME_SIZE',
    description:
      'Octets of a frame of a client: the frame_max that it is offered, 4096 at least. 0 leaves that to the backend.',
    default: 0,
    parse: frameSize,
  },
  handshakeRate: {
    name: 'handshake-rate',
    argument: 'COUNT',
    env: 'QUORUMBRIDGE_HANDSHAKE_RATE',
    description:
      'New client connections a second, and as many at once after a pause; more are refused. 0 is no limit.',
    default: 0,
    parse: count,
  },
  publishRate: {
    name: 'publish-rate',
    argument: 'COUNT',
    env: 'QUORUMBRIDGE_PUBLISH_RATE',
    description:
      'Messages a second that all connections of one user publish, and as many at once after a pause; beyond that they are held back. 0 is no limit.',
    default: 0,
    parse: count,
  },
  maxBufferPerClient: {
    name: 'max-buffer-per-client',
    argument: 'SIZE',
    env: 'QUORUMBRIDGE_MAX_BUFFER_PER_CLIENT',
    description:
      'Octets held of one client: what it has not read yet, and messages that it has not sent whole. 0 is no limit.',
    hiddenDefault: '0; with --mode=pool --client-backlog and four messages of --max-message-size',
    parse: bufferSize(4),
  },
  maxBuffer: {
    name: 'max-buffer',
    argument: 'SIZE',
    env: 'QUORUMBRIDGE_MAX_BUFFER',
    description:
      'Octets held of all clients; beyond that their publishes are held back, and new ones refused. 0 is no limit.',
    default: 0,
    parse: bufferSize(1),
  },
  limits: {
    name: 'limits',
    argument: 'ACTION',
    env: 'QUORUMBRIDGE_LIMITS',
    description:
      'What is done about the limits above: enforce refuses and holds back, alarm lets everything pass, counts and logs it.',
    default: 'enforce',
    parse: oneOf('enforce', 'alarm'),
  },
  allow: {
    name: 'allow',
    argument: 'CIDR',
    env: 'QUORUMBRIDGE_ALLOW',
    description:
      'Addresses that clients may come from, as 10.0.0.0/8, fd00::/8 or a single one; without any, all may.',
    repeatable: true,
    parse: parseRange,
  },
  deny: {
    name: 'deny',
    argument: 'CIDR',
    env: 'QUORUMBRIDGE_DENY',
    description: 'Addresses that clients may not come from, whatever --allow says.',
    repeatable: true,
    parse: parseRange,
  },
  userVhosts: {
    name: 'user-vhosts',
    argument: 'USER=VHOST',
    env: 'QUORUMBRIDGE_USER_VHOSTS',
    description:
      'Virtual hosts that users may open, both with * and ? as wildcards, as nova=openstack; with at least one, all else is refused.',
    repeatable: true,
    parse: parseUserVhosts,
  },
  guestLoopbackOnly: {
    name: 'guest-loopback-only',
    argument: 'BOOLEAN',
    env: 'QUORUMBRIDGE_GUEST_LOOPBACK_ONLY',
    description:
      'Refuse the user guest from other addresses than loopback, as RabbitMQ does by itself where it sees them.',
    hiddenDefault:
      "true where the backend is on loopback and is not told clients' addresses, or has connections that clients share",
    parse: flag(),
  },
} as const satisfies OptionTable;

type Given = OptionValues<typeof limitOptions>;

/** What RabbitMQ sees of clients' addresses. */
interface Route {
  readonly mode: (typeof MODES)[number];
  readonly backend: HostPort;
  readonly backendProxyProtocol: 'off' | 'v2';
}

/** What pool mode holds of a client at most that does nothing wrong, in octets. */
export interface Backlog {
  readonly clientBacklog: number;
  readonly maxMessageSize: number;
}

/** How much clients may have; 0 is no limit. */
export interface LimitSettings extends BufferLimits {
  /** Or else what is beyond is counted and logged only. */
  readonly enforce: boolean;
  readonly perUser: number;
  readonly perVirtualHost: number;
  readonly perAddress: number;
  readonly channels: number;
  /** Octets of a frame. */
  readonly frameSize: number;
  readonly handshakes: number;
  readonly publishes: number;
}

/**
 * @param pool undefined in modes other than pool
 * @throws UsageError when --max-buffer-per-client is less than what pool mode holds of a client that does nothing wrong
 */
export function readLimits(given: Given, pool: Backlog | undefined): LimitSettings {
  return {
    enforce: given.limits === 'enforce',
    perUser: given.maxConnectionsPerUser,
    perVirtualHost: given.maxConnectionsPerVhost,
    perAddress: given.maxConnectionsPerAddress,
    channels: given.maxChannelsPerClient,
    frameSize: given.maxFrameSize,
    handshakes: given.handshakeRate,
    publishes: given.publishRate,
    bufferPerClient: bufferPerClient(given, pool),
    buffer: given.maxBuffer,
  };
}

function bufferPerClient({ maxBufferPerClient: given }: Given, pool: Backlog | undefined): number {
  if (pool === undefined) return given ?? 0;
  const { clientBacklog, maxMessageSize } = pool;
  if (given === undefined) return clientBacklog + 4 * maxMessageSize;
  if (given === 0 || given >= clientBacklog + maxMessageSize) return given;
  throw new UsageError(
    `option --max-buffer-per-client: ${given} octets are less than --client-backlog and --max-message-size together, which are ${clientBacklog + maxMessageSize}: make these smaller, or it larger`,
  );
}

export function readAccess(given: Given & Route): AccessRules {
  const { allow, deny, userVhosts, guestLoopbackOnly = !seesClients(given) } = given;
  return { allow, deny, userVhosts: userVhosts.map(compileUserVhosts), guestLoopbackOnly };
}

/** Whether RabbitMQ's own rule for guest does what it is for: by each client's address, or by the proxy's, which isn't loopback. */
function seesClients({ mode, backend, backendProxyProtocol }: Route): boolean {
  if (backendProxyProtocol === 'v2') return mode !== 'pool';
  return (
    backend.host !== 'localhost' && (isIP(backend.host) === 0 || !isLoopback(parseAddress(backend.host)))
  );
}
