import { REPLY, REPLY_NAME } from '../amqp/constants.ts';
import type { SessionContext } from './context.ts';
import type { ProxyErrorCode } from './errors.ts';
import type { Link } from './link.ts';
import type { Endpoints } from './proxy-protocol.ts';
import type { Account } from './telemetry/account.ts';

/** Ends that are in the order of things. */
const USUAL: ReadonlySet<ProxyErrorCode> = new Set(['CLIENT_LOST', 'DRAIN', 'IDLE_TIMEOUT']);

export interface SessionLogSettings {
  readonly id: number;
  readonly endpoints: Endpoints;
  readonly account: Account;
  readonly context: Pick<SessionContext, 'stats' | 'log' | 'isNews' | 'strangers'>;
}

/** What is said of one connection: in the log, and in the figures. */
export class SessionLog {
  readonly #settings: SessionLogSettings;
  /** A fault was injected: whatever ends the connection, ends it because of that. */
  isSevered = false;

  constructor(settings: SessionLogSettings) {
    this.#settings = settings;
  }

  get #who(): { connection: number; client: string } {
    const { id, endpoints } = this.#settings;
    return { connection: id, client: `${endpoints.sourceAddress} ${endpoints.sourcePort}` };
  }

  debug(text: string, more?: object): void {
    const { log } = this.#settings.context;
    // Each connection comes here several times.
    if (log.isLevelEnabled('debug')) log.debug({ ...this.#who, ...more }, text);
  }

  /** The broker has let the client in. */
  opened(link: Pick<Link, 'localEnd'>): void {
    if (this.#settings.context.log.isLevelEnabled('debug'))
      this.debug('connection open', { upstream: link.localEnd });
  }

  /** Something exists that was declared without the proxy: many clients meet the same one. */
  existing(method: string, refusal: string): void {
    const { isNews, log } = this.#settings.context;
    const text = `${method}: it exists as it was declared without the proxy, and is used so: ${refusal}`;
    log[isNews(text) ? 'warn' : 'debug'](this.#who, text);
  }

  /** The broker says connection.close. */
  brokerCloses(replyCode: number, replyText: string): void {
    const { account, context } = this.#settings;
    account.brokerCloses();
    const level = replyCode === 200 || replyCode === REPLY.connectionForced ? 'info' : 'warn';
    context.log[level]({ ...this.#who, replyCode, replyText }, 'the broker closed the connection');
  }

  /** The proxy ends the connection, or has lost a side of it. @param replyCode what the client is told, if it is */
  ends(code: ProxyErrorCode, text: string, replyCode?: number): void {
    const reply =
      replyCode === undefined ? {} : { replyCode: `${replyCode} ${REPLY_NAME[replyCode] ?? ''}`.trim() };
    this.#ends(code, text, reply, replyCode);
  }

  /** A fault of the proxy's own ends it. */
  fault(error: unknown): void {
    this.#ends('INTERNAL', 'internal error', { err: error instanceof Error ? error.stack : String(error) });
  }

  #ends(cause: ProxyErrorCode, text: string, more: object, replyCode?: number): void {
    const { account, context } = this.#settings;
    const code = this.isSevered ? 'FAULT_INJECTED' : cause;
    context.stats.errors[code]++;
    account.ends(code, replyCode);
    const line = { ...this.#who, code, ...more };
    if (USUAL.has(code)) context.log.info(line, text);
    else if (account.isLetIn) context.log.warn(line, text);
    else {
      const leftOut = context.strangers.take(code, performance.now());
      if (leftOut !== undefined) context.log.warn(leftOut === 0 ? line : { ...line, leftOut }, text);
    }
  }
}
