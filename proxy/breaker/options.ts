import { integer, oneOf, type OptionTable, type OptionValues, seconds } from '../../common/options.ts';
import type { Mode } from '../ledger-document.ts';
import type { BreakerLimits } from './breaker.ts';

/** The options of the circuit breaker. Times are in seconds. */
export const breakerOptions = {
  breakerFailures: {
    name: 'breaker-failures',
    argument: 'COUNT',
    env: 'QUORUMBRIDGE_BREAKER_FAILURES',
    description: 'Failed connections to the backend in a row that open the circuit breaker. 0 is never.',
    default: 5,
    parse: integer({ min: 0, max: 10_000 }),
  },
  breakerErrorRate: {
    name: 'breaker-error-rate',
    argument: 'PERCENT',
    env: 'QUORUMBRIDGE_BREAKER_ERROR_RATE',
    description:
      'Failed ones among the last 20 connections to the backend that open the circuit breaker. 0 is never.',
    default: 50,
    parse: integer({ min: 0, max: 100 }),
  },
  breakerReset: {
    name: 'breaker-reset',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_BREAKER_RESET',
    description: 'How long an open circuit breaker lets no connection through before it tries one.',
    default: 2,
    parse: seconds({ min: 0.1, max: 3600 }),
  },
  breakerWait: {
    name: 'breaker-wait',
    argument: 'ACTION',
    env: 'QUORUMBRIDGE_BREAKER_WAIT',
    description:
      'New clients while the circuit breaker is open: refuse closes them at once with 320, wait lets them wait for --connect-timeout (--mode=pool: for --pool-wait-timeout).',
    hiddenDefault: 'refuse; with --mode=pool wait',
    parse: oneOf('refuse', 'wait'),
  },
} as const satisfies OptionTable;

type Given = OptionValues<typeof breakerOptions>;

/** What the breaker works with: milliseconds, and the error rate from 0 to 1. */
export function readBreakerLimits(given: Given): BreakerLimits {
  return {
    failures: given.breakerFailures,
    errorRate: given.breakerErrorRate / 100,
    reset: given.breakerReset * 1000,
  };
}

/** Whether new clients wait for an open breaker: in pool mode they wait for the backend anyway. */
export function waitsForBreaker(mode: Mode, given: Given): boolean {
  return (given.breakerWait ?? (mode === 'pool' ? 'wait' : 'refuse')) === 'wait';
}
