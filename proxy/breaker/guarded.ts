import { Socket } from 'node:net';
import type { Backend } from '../backend.ts';
import type { Receive } from '../socket.ts';
import type { Attempt, Breaker, BreakerStats } from './breaker.ts';

export interface GuardTimes {
  /** Milliseconds for the connection, its TLS included. */
  readonly connectTimeout: number;
  /** Milliseconds from there to the backend's first octets. */
  readonly handshakeTimeout: number;
}

/** The backend as those see it who connect through a breaker. */
export interface GuardedBackend {
  /** Connects only if the breaker lets it through; else the socket fails at once with the breaker's reason. */
  readonly guarded: Backend;
  /** Connects whatever the breaker says, which is told how it went. */
  readonly checked: Backend;
}

/**
 * Puts a breaker before a backend. A connection has succeeded when the backend has sent something: one that takes
 * connections and says nothing, or hangs up, is no better than one that isn't there.
 */
export function guardBackend(
  backend: Backend,
  breaker: Breaker,
  stats: BreakerStats,
  times: GuardTimes,
): GuardedBackend {
  const connect = (receive: Receive, always: boolean): Socket => {
    const attempt = breaker.begin(always);
    if (attempt !== undefined) return observe(backend, attempt, times, receive);
    stats.refused++;
    return failing(breaker.refusal!);
  };
  return {
    guarded: { ...backend, connect: (receive) => connect(receive, false) },
    checked: { ...backend, connect: (receive) => connect(receive, true) },
  };
}

/** A socket that was never connected, and says why. */
function failing(why: string): Socket {
  const socket = new Socket();
  process.nextTick(() => socket.destroy(new Error(why)));
  return socket;
}

/** Connects, and tells the breaker how it goes. */
function observe(backend: Backend, attempt: Attempt, times: GuardTimes, receive: Receive): Socket {
  let isOver = false;
  const over = (tell: () => void): void => {
    if (isOver) return;
    isOver = true;
    clearTimeout(timer);
    timer = undefined;
    // Whoever has the socket has listeners of its own by now.
    socket.off('error', failed).off('end', ended).off('close', closed);
    tell();
  };
  const late = (milliseconds: number, what: string): NodeJS.Timeout =>
    setTimeout(
      () => over(() => attempt.failed(`${what} within ${milliseconds / 1000} s`)),
      milliseconds,
    ).unref();
  let timer: NodeJS.Timeout | undefined = late(times.connectTimeout, 'no connection');
  let take: Receive = (chunk, length, lent) => {
    take = receive;
    over(() => attempt.succeeded());
    receive(chunk, length, lent);
  };
  const failed = ({ code, message }: NodeJS.ErrnoException): void =>
    over(() => attempt.failed(code ?? message));
  // Whoever hangs up first has given it up.
  const ended = (): void =>
    over(() => (socket.writableEnded ? attempt.abandoned() : attempt.failed('it ended the connection')));
  const closed = (): void => over(() => attempt.abandoned());
  const socket = backend.connect((chunk, length, lent) => take(chunk, length, lent));
  socket.once(backend.tls ? 'secureConnect' : 'connect', () => {
    clearTimeout(timer);
    if (!isOver) timer = late(times.handshakeTimeout, 'no answer');
  });
  socket.on('error', failed).on('end', ended).on('close', closed);
  return socket;
}
