/**
 * Every way in which the proxy ends or refuses a connection by itself. The code is in the log line and is the label of
 * quorumbridge_proxy_errors_total; docs/errors.md explains each (`npm run docs`).
 * `transient`: it may work when tried again. `permanent`: it won't, before somebody changes something.
 */
export const PROXY_ERRORS = {
  BACKEND_UNREACHABLE: 'transient',
  BACKEND_CONNECT_TIMEOUT: 'transient',
  BREAKER_OPEN: 'transient',
  BACKEND_LOST: 'transient',
  BACKEND_PROTOCOL: 'permanent',
  CLIENT_PROTOCOL_HEADER: 'permanent',
  CLIENT_FRAME: 'permanent',
  CLIENT_FRAME_MAX: 'permanent',
  CLIENT_PROXY_HEADER: 'permanent',
  CLIENT_TLS: 'permanent',
  CLIENT_CERTIFICATE: 'permanent',
  CLIENT_PROTOCOL: 'permanent',
  CLIENT_LOST: 'transient',
  HANDSHAKE_TIMEOUT: 'transient',
  IDLE_TIMEOUT: 'transient',
  CONNECTION_LIMIT: 'transient',
  CHANNEL_LIMIT: 'permanent',
  FRAME_LIMIT: 'permanent',
  BUFFER_LIMIT: 'transient',
  ACCESS_REFUSED: 'permanent',
  LOGIN_REFUSED: 'permanent',
  POOL_EXHAUSTED: 'transient',
  SHARED_LIMIT: 'transient',
  EXCLUSIVE_MOVE: 'transient',
  ADMIN_CLOSED: 'transient',
  FAULT_INJECTED: 'transient',
  DRAIN: 'transient',
  INTERNAL: 'permanent',
} as const satisfies Record<string, 'transient' | 'permanent'>;

export type ProxyErrorCode = keyof typeof PROXY_ERRORS;
