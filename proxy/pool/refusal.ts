import { REPLY, REPLY_NAME } from '../../amqp/constants.ts';
import type { ProxyErrorCode } from '../errors.ts';
import type { UpstreamEnd } from './upstream-channel.ts';

/** Why a client doesn't get what it asked the pool for. */
export interface PoolRefusal {
  /**
   * `refused` the broker doesn't take the login · `closed` the broker answered connection.open with connection.close ·
   * `exhausted` nothing became free in time · `unreachable` there is no connection to the broker · `ended` the pool is closed.
   */
  readonly kind: 'refused' | 'closed' | 'exhausted' | 'unreachable' | 'ended';
  readonly replyCode: number;
  /** Without the reply code's name in front. */
  readonly text: string;
  /** The broker says so to clients with the capability `authentication_failure_close`, and ends the socket of others. */
  readonly silent: boolean;
  /** The broker hangs up without a word on everybody, whatever capabilities they have. */
  readonly wordless?: true;
}

/** Reply codes of a broker that isn't ready or goes down: it may take the next connection. */
const PASSING: ReadonlySet<number> = new Set([REPLY.connectionForced, REPLY.internalError]);

/** Whether it is no use to try again: the broker has answered, and would again. */
export function isFinal(end: UpstreamEnd): boolean {
  if (end.kind === 'refused') return true;
  return end.kind === 'closed' && end.replyCode !== undefined && !PASSING.has(end.replyCode);
}

/** What clients are told of an upstream that never came to be open, where that is final: the broker's own words. */
export function finalRefusal(end: UpstreamEnd): PoolRefusal {
  const refused = end.kind === 'refused';
  const replyCode = end.replyCode ?? REPLY.accessRefused;
  const name = `${REPLY_NAME[replyCode] ?? ''} - `;
  const text = end.text.startsWith(name) ? end.text.slice(name.length) : end.text;
  const kind = refused ? 'refused' : 'closed';
  const refusal = { kind, replyCode, text, silent: refused } as const;
  return refused && end.replyCode === undefined ? { ...refusal, wordless: true } : refusal;
}

/** @param wait milliseconds  @param end of the last attempt */
export function unreachable(wait: number, end: UpstreamEnd | undefined): PoolRefusal {
  const why = end === undefined ? 'the broker has not answered yet' : end.text;
  const text = `no connection to the broker within ${wait / 1000} s: ${why}`;
  return { kind: 'unreachable', replyCode: REPLY.connectionForced, text, silent: false };
}

/** @param wait milliseconds */
export function exhausted(wait: number, why: string): PoolRefusal {
  const text = `no upstream channel within ${wait / 1000} s: ${why}`;
  return { kind: 'exhausted', replyCode: REPLY.resourceError, text, silent: false };
}

/** The proxy ends. */
export const ENDED: PoolRefusal = {
  kind: 'ended',
  replyCode: REPLY.connectionForced,
  text: 'the proxy is shutting down',
  silent: false,
};

/** Where a client's connection is ended for a refusal: what the log and the statistics call it. */
export const REFUSAL_CODE: Readonly<Record<PoolRefusal['kind'], ProxyErrorCode>> = {
  refused: 'LOGIN_REFUSED',
  closed: 'LOGIN_REFUSED',
  exhausted: 'POOL_EXHAUSTED',
  unreachable: 'BACKEND_UNREACHABLE',
  ended: 'DRAIN',
};
