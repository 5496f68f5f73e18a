import type { Logger } from '../../common/log.ts';
import type { Backend } from '../backend.ts';
import type { SessionContext, SessionLimits } from '../context.ts';
import type { ProxyOptions } from '../options.ts';
import type { Stats } from '../stats.ts';
import { Breaker } from './breaker.ts';
import { guardBackend, type GuardedBackend } from './guarded.ts';
import { readBreakerLimits, waitsForBreaker } from './options.ts';

export interface BreakerParts {
  readonly backend: Backend;
  readonly options: ProxyOptions;
  readonly limits: SessionLimits;
  readonly stats: Stats;
  readonly log: Logger;
}

/** The breaker as the proxy runs it. */
export interface RunningBreaker extends GuardedBackend {
  readonly breaker: Breaker;
  readonly barrier: SessionContext['barrier'];
}

/** Makes the circuit breaker before the backend, with what its clients and its operator are told. */
export function startBreaker({ backend, options, limits, stats, log }: BreakerParts): RunningBreaker {
  const breaker = new Breaker(readBreakerLimits(options), stats.breaker, {
    opened: (why) => log.warn({ code: 'BREAKER_OPEN' }, `the circuit breaker opens: ${why}`),
    closed: () => log.info('the circuit breaker closes: the backend has answered'),
  });
  const waits = waitsForBreaker(options.mode, options);
  const isPool = options.mode === 'pool';
  return {
    breaker,
    ...guardBackend(backend, breaker, stats.breaker, limits),
    barrier: () => {
      // The pool lets its clients wait by itself, and gives them connections that there are.
      if (isPool && (waits || stats.pool.sharedConnections + stats.pool.privateConnections > 0)) {
        return undefined;
      }
      const { refusal } = breaker;
      if (refusal === undefined) return undefined;
      if (!waits) stats.breaker.refused++;
      return { text: refusal, waits };
    },
  };
}
