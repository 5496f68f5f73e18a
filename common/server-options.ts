// Options that the servers of the control plane have in common.
import { LOG_LEVELS } from './contract.ts';
import { type OptionTable, hostPort, oneOf, seconds } from './options.ts';

export const serverOptions = {
  adminListen: {
    name: 'admin-listen',
    argument: 'HOST:PORT',
    env: 'QUORUMBRIDGE_ADMIN_LISTEN',
    description: 'Address of /livez, /readyz and /metrics, over plain HTTP.',
    default: { host: '0.0.0.0', port: 9080 },
    hiddenDefault: '0.0.0.0:9080',
    parse: hostPort({ defaultHost: '0.0.0.0' }),
  },
  shutdownDelay: {
    name: 'shutdown-delay',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_SHUTDOWN_DELAY',
    description: 'After SIGTERM, how long to keep serving while /readyz already fails and clients move away.',
    default: 5,
    parse: seconds({ min: 0, max: 300 }),
  },
  logLevel: {
    name: 'log-level',
    argument: 'LEVEL',
    env: 'QUORUMBRIDGE_LOG_LEVEL',
    description: `Least severe log lines to write: ${LOG_LEVELS.join(', ')}.`,
    default: 'info',
    parse: oneOf(...LOG_LEVELS),
  },
} as const satisfies OptionTable;
