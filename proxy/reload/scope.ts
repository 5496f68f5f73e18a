import type { Mode } from '../ledger-document.ts';
import type { ProxyOptions } from '../options.ts';

type Property = keyof ProxyOptions;

/** What the proxy is built around. */
const AT_START = [
  'mode',
  'adminListen',
  'adminTokenFile',
  'auditLog',
  'faultInjection',
  'clientRecords',
  'workers',
] as const satisfies Property[];

/** Connections that clients share would go on to the old one as long as anybody uses them. */
const AT_START_OF_POOL = [
  'backend',
  'backendTls',
  'backendTlsCa',
  'backendTlsServerName',
  'backendProxyProtocol',
] as const satisfies Property[];

/** The options, by their camelCase property, that a running proxy can't change. */
export function needRestart(mode: Mode): readonly Property[] {
  return mode === 'pool' ? [...AT_START, ...AT_START_OF_POOL] : AT_START;
}

/** Options that name files whose contents are read at a reload; a certificate's are watched by themselves. */
export const FILES = ['rules', 'backendTlsCa', 'credentials'] as const satisfies Property[];
