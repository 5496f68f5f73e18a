import { REPLY } from '../../amqp/constants.ts';
import type { ProxyErrorCode } from '../errors.ts';

/** What can be limited, by its option: labels of quorumbridge_proxy_limit_hits_total. */
export const LIMITS = [
  'max-connections',
  'max-connections-per-address',
  'max-connections-per-user',
  'max-connections-per-vhost',
  'max-channels-per-client',
  'max-frame-size',
  'handshake-rate',
  'publish-rate',
  'max-buffer-per-client',
  'max-buffer',
] as const;

export type Limit = (typeof LIMITS)[number];

/** Why a client isn't let in, and what it is told. */
export interface Refusal {
  readonly code: ProxyErrorCode;
  readonly replyCode: number;
  /** Without the reply code's name in front. */
  readonly text: string;
  /** The method at fault, class * 65536 + method; 0 for none. */
  readonly method: number;
  /** Its socket is ended without a word. */
  readonly silent: boolean;
  /** What the log says in place of the text: clients aren't to know it. */
  readonly why?: string;
}

/** A connection too many, before it has said who it is. */
export function tooMany(text: string): Refusal {
  return { code: 'CONNECTION_LIMIT', replyCode: REPLY.connectionForced, text, method: 0, silent: false };
}
