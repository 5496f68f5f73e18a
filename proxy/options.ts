import { LOG_LEVELS, MODES, PRESETS } from '../common/contract.ts';
import {
  filePath,
  flag,
  formatHostPort,
  hostPort,
  type HostPort,
  integer,
  oneOf,
  type OptionTable,
  type OptionValues,
  seconds,
  text,
} from '../common/options.ts';
import { limitOptions } from './limits/options.ts';
import { parseRange } from './access/address.ts';
import { credentialOptions } from './access/options.ts';
import { breakerOptions } from './breaker/options.ts';
import { faultOptions } from './faults/options.ts';
import { poolOptions } from './pool/options.ts';
import { reloadOptions } from './reload/options.ts';
import { telemetryOptions } from './telemetry/options.ts';
import { workerOptions } from './workers/options.ts';

/** Where the proxy listens; without a scheme, TLS when there is a certificate. */
export interface ListenAddress extends HostPort {
  readonly scheme: 'amqp' | 'amqps' | undefined;
}

function listenAddress(value: string): ListenAddress {
  const match = /^(?:(amqps?):\/\/)?([^/]+)$/.exec(value);
  if (match === null) throw new Error('expected HOST:PORT, amqp://HOST:PORT or amqps://HOST:PORT');
  const scheme = match[1] as 'amqp' | 'amqps' | undefined;
  return { scheme, ...hostPort()(match[2]!) };
}

/** Writes a listen address the way `--listen` takes it. */
export function formatListen({ scheme, ...address }: ListenAddress): string {
  return scheme === undefined ? formatHostPort(address) : `${scheme}://${formatHostPort(address)}`;
}

/** The options of `quorumbridge proxy`. Times are in seconds. */
export const proxyOptions = {
  backend: {
    name: 'backend',
    argument: 'HOST:PORT',
    env: 'QUORUMBRIDGE_BACKEND',
    description: 'The RabbitMQ listener that clients are connected to.',
    required: true,
    parse: hostPort(),
  },
  listen: {
    name: 'listen',
    argument: 'ADDRESS',
    env: 'QUORUMBRIDGE_LISTEN',
    description:
      'Where clients connect: HOST:PORT, amqp://HOST:PORT (plain) or amqps://HOST:PORT (TLS). Without a scheme it is TLS when --tls-cert is given.',
    repeatable: true,
    default: [{ scheme: undefined, host: '127.0.0.1', port: 5672 }],
    hiddenDefault: '127.0.0.1:5672',
    parse: listenAddress,
  },
  tlsCert: {
    name: 'tls-cert',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_TLS_CERT',
    description: 'Certificate (PEM, with its chain) of the TLS listeners.',
    parse: filePath(),
  },
  tlsKey: {
    name: 'tls-key',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_TLS_KEY',
    description: 'Private key (PEM) of --tls-cert.',
    parse: filePath(),
  },
  tlsCa: {
    name: 'tls-ca',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_TLS_CA',
    description:
      "Authorities (PEM) that clients' certificates are verified against. Without it clients are not asked for one.",
    parse: filePath(),
  },
  tlsClientAuth: {
    name: 'tls-client-auth',
    argument: 'MODE',
    env: 'QUORUMBRIDGE_TLS_CLIENT_AUTH',
    description:
      'With --tls-ca: require refuses clients without a certificate, request lets them in; one that is shown must be valid either way.',
    default: 'require',
    parse: oneOf('require', 'request'),
  },
  backendTls: {
    name: 'backend-tls',
    env: 'QUORUMBRIDGE_BACKEND_TLS',
    description: "Connect to the backend with TLS and verify the backend's certificate.",
    parse: flag(),
  },
  backendTlsCa: {
    name: 'backend-tls-ca',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_BACKEND_TLS_CA',
    description: "Authorities (PEM) that the backend's certificate is verified against.",
    hiddenDefault: "Node's own list",
    parse: filePath(),
  },
  backendTlsServerName: {
    name: 'backend-tls-server-name',
    argument: 'NAME',
    env: 'QUORUMBRIDGE_BACKEND_TLS_SERVER_NAME',
    description: "The name that the backend's certificate must have.",
    hiddenDefault: 'the host of --backend',
    parse: text(),
  },
  backendProxyProtocol: {
    name: 'backend-proxy-protocol',
    argument: 'VERSION',
    env: 'QUORUMBRIDGE_BACKEND_PROXY_PROTOCOL',
    description:
      "Tell the backend each client's address by the PROXY protocol: off or v2. RabbitMQ must expect it ({rabbit, [{proxy_protocol, true}]}).",
    default: 'off',
    parse: oneOf('off', 'v2'),
  },
  trustProxyProtocol: {
    name: 'trust-proxy-protocol',
    argument: 'CIDR',
    env: 'QUORUMBRIDGE_TRUST_PROXY_PROTOCOL',
    description:
      'Addresses of load balancers, as 10.0.0.0/8 or a single one, whose connections begin with a PROXY header (version 2) that says whose they are. From there it has to come, and from elsewhere it is refused.',
    repeatable: true,
    parse: parseRange,
  },
  ...breakerOptions,
  adminListen: {
    name: 'admin-listen',
    argument: 'HOST:PORT',
    env: 'QUORUMBRIDGE_ADMIN_LISTEN',
    description:
      'Where /livez, /readyz, /metrics, /clients, the admin API and its page are served, over plain HTTP.',
    default: { host: '127.0.0.1', port: 15695 },
    hiddenDefault: '127.0.0.1:15695',
    parse: hostPort(),
  },
  adminTokenFile: {
    name: 'admin-token-file',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_ADMIN_TOKEN_FILE',
    description:
      'File with the bearer token of the admin API, of 16 characters at least. Without it the API is open on a loopback address and closed on any other.',
    parse: filePath(),
  },
  mode: {
    name: 'mode',
    argument: 'MODE',
    env: 'QUORUMBRIDGE_MODE',
    description:
      'What is done about what RabbitMQ 4 refuses: transparent rewrites it; observe changes nothing and records what clients would need; pool rewrites it too, and shares connections to the backend between clients.',
    default: 'transparent',
    parse: oneOf(...MODES),
  },
  ...poolOptions,
  ...workerOptions,
  preset: {
    name: 'preset',
    argument: 'NAME',
    env: 'QUORUMBRIDGE_PRESET',
    description:
      'Rules that the proxy brings along: generic, openstack or celery. They come behind those of --rules.',
    hiddenDefault: 'generic, or what --rules names',
    parse: oneOf(...PRESETS),
  },
  rules: {
    name: 'rules',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_RULES',
    description: 'Rules for queues and exchanges, YAML or JSON; read at the start and at a reload.',
    parse: filePath(),
  },
  maxConnections: {
    name: 'max-connections',
    argument: 'COUNT',
    env: 'QUORUMBRIDGE_MAX_CONNECTIONS',
    description: 'Client connections at a time; more are refused. 0 is no limit.',
    default: 3000,
    parse: integer({ min: 0, max: 1_000_000 }),
  },
  ...limitOptions,
  ...credentialOptions,
  clientRecords: {
    name: 'client-records',
    argument: 'COUNT',
    env: 'QUORUMBRIDGE_CLIENT_RECORDS',
    description:
      'Clients that are remembered for /clients and quorumbridge report; those gone for the longest are forgotten first.',
    default: 1000,
    parse: integer({ min: 1, max: 10_000 }),
  },
  handshakeTimeout: {
    name: 'handshake-timeout',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_HANDSHAKE_TIMEOUT',
    description:
      'How long a client may take for its TLS handshake, for its protocol header, and from there to connection.open-ok.',
    default: 10,
    parse: seconds({ min: 0.1, max: 3600 }),
  },
  connectTimeout: {
    name: 'connect-timeout',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_CONNECT_TIMEOUT',
    description: 'How long a connection to the backend may take, its TLS included.',
    default: 5,
    parse: seconds({ min: 0.1, max: 3600 }),
  },
  idleTimeout: {
    name: 'idle-timeout',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_IDLE_TIMEOUT',
    description:
      'Close connections without an octet in either direction for so long, heartbeats counted. 0 is never.',
    default: 0,
    parse: seconds({ min: 0, max: 604_800 }),
  },
  drainTimeout: {
    name: 'drain-timeout',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_DRAIN_TIMEOUT',
    description:
      'On SIGTERM: the time over which clients are closed with 320 CONNECTION_FORCED, each when it has finished publishing.',
    default: 25,
    parse: seconds({ min: 0, max: 604_800 }),
  },
  statsInterval: {
    name: 'stats-interval',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_STATS_INTERVAL',
    description: 'How often connections, rewrites and bytes are logged. 0 is never.',
    default: 300,
    parse: seconds({ min: 0, max: 86_400 }),
  },
  ...faultOptions,
  ...telemetryOptions,
  ...reloadOptions,
  logLevel: {
    name: 'log-level',
    argument: 'LEVEL',
    env: 'QUORUMBRIDGE_LOG_LEVEL',
    description: `How much is logged: ${LOG_LEVELS.join(', ')}.`,
    default: 'info',
    parse: oneOf(...LOG_LEVELS),
  },
} as const satisfies OptionTable;

export type ProxyOptions = OptionValues<typeof proxyOptions>;
