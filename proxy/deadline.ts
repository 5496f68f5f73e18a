import type { SessionContext } from './context.ts';
import type { ProxyErrorCode } from './errors.ts';

/** How long peers may be silent while their connection ends, in milliseconds. */
const CLOSE_TIMEOUT = 5000;

/**
 * What a session waits for:
 * `header` the client's protocol header · `connecting` the backend · `handshake` connection.open-ok · `open` nothing ·
 * `raw` nothing, and its octets aren't AMQP 0-9-1 · `closing` both sockets' end · `closed` nothing any more.
 */
export type State = 'header' | 'connecting' | 'handshake' | 'open' | 'raw' | 'closing' | 'closed';

/** What is over: with `code` undefined, the time that peers had to end their connection. */
export interface Missed {
  readonly code: ProxyErrorCode | undefined;
  readonly text: string;
}

const NOT_ENDED: Missed = { code: undefined, text: '' };

/** By when a session's state has to be over, or an octet has to come. All times are milliseconds of performance.now(). */
export class Deadline {
  readonly #context: Pick<SessionContext, 'limits' | 'backend'>;
  #by: number;
  /** Octets passed on when the last look saw them change, and when that was. */
  #octetsSeen = 0;
  #activeAt = performance.now();

  constructor(context: Pick<SessionContext, 'limits' | 'backend'>) {
    this.#context = context;
    this.#by = this.#activeAt + context.limits.handshakeTimeout;
  }

  /** The session is in this state from now on. */
  entered(state: State): void {
    const { connectTimeout, handshakeTimeout } = this.#context.limits;
    const now = performance.now();
    if (state === 'connecting') this.#by = now + connectTimeout;
    else if (state === 'handshake') this.#by = now + handshakeTimeout;
    else if (state === 'closing') this.#by = now + CLOSE_TIMEOUT;
    else this.#activeAt = now;
  }

  /**
   * What is too late.
   * @param octets passed on so far
   * @param isExcused what the peer is waited for isn't up to it at present
   */
  missed(now: number, state: State, octets: number, isExcused: boolean): Missed | undefined {
    const { handshakeTimeout, idleTimeout } = this.#context.limits;
    switch (state) {
      case 'header':
      case 'handshake': {
        if (isExcused) this.#by = now + handshakeTimeout;
        const text = `the handshake took more than ${handshakeTimeout / 1000} s`;
        return now > this.#by ? { code: 'HANDSHAKE_TIMEOUT', text } : undefined;
      }
      case 'connecting': {
        if (now <= this.#by) return undefined;
        const { host, port } = this.#context.backend;
        return { code: 'BACKEND_CONNECT_TIMEOUT', text: `backend ${host}:${port} did not answer in time` };
      }
      case 'closing':
        if (this.#changed(octets)) this.#by = now + CLOSE_TIMEOUT;
        return now > this.#by ? NOT_ENDED : undefined;
      case 'open':
      case 'raw':
        if (this.#changed(octets) || isExcused) this.#activeAt = now;
        return idleTimeout > 0 && now - this.#activeAt > idleTimeout
          ? { code: 'IDLE_TIMEOUT', text: `no traffic for ${idleTimeout / 1000} s` }
          : undefined;
      default:
        return undefined;
    }
  }

  #changed(octets: number): boolean {
    const isChanged = octets !== this.#octetsSeen;
    this.#octetsSeen = octets;
    return isChanged;
  }
}
