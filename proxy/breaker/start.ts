import type { Logger } from '../../common/log.ts';
import type { Backend } from '../backend.ts';
import type { SessionContext, SessionLimits } from '../context.ts';
import type { Settings } from '../settings.ts';
import type { Stats } from '../stats.ts';
import { Breaker } from './breaker.ts';
import { guardBackend, type GuardedBackend } from './guarded.ts';
import { waitsForBreaker } from './options.ts';

type BreakerSettings = Pick<Settings, 'options' | 'breaker'>;

export interface BreakerParts {
  readonly times: SessionLimits;
  readonly stats: Stats;
  readonly log: Logger;
}

/** The breaker as the proxy runs it. */
export interface RunningBreaker {
  readonly breaker: Breaker;
  readonly barrier: SessionContext['barrier'];
  /** Puts the breaker before a backend. */
  guard(backend: Backend): GuardedBackend;
  /** Other limits from now on, and whether clients wait. */
  use(settings: BreakerSettings): void;
}

/** Makes the circuit breaker of a proxy, with what its clients and its operator are told. */
export function startBreaker(
  { options, breaker: limits }: BreakerSettings,
  { times, stats, log }: BreakerParts,
): RunningBreaker {
  const breaker = new Breaker(limits, stats.breaker, {
    opened: (why) => log.warn({ code: 'BREAKER_OPEN' }, `the circuit breaker opens: ${why}`),
    closed: () => log.info('the circuit breaker closes: the backend has answered'),
  });
  const isPool = options.mode === 'pool';
  let waits = waitsForBreaker(options.mode, options);
  return {
    breaker,
    guard: (backend) => guardBackend(backend, breaker, stats.breaker, times),
    use: (next) => {
      breaker.use(next.breaker);
      waits = waitsForBreaker(next.options.mode, next.options);
    },
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
