import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Attempt,
  Breaker,
  type BreakerLimits,
  BreakerStats,
  SAMPLE,
} from '../../../../proxy/breaker/breaker.ts';

const LIMITS: BreakerLimits = { failures: 3, errorRate: 0.5, reset: 1000 };

/** For what depends on the case: vitest's expect is for what always has to hold. */
function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

class World {
  now = 0;
  readonly stats = new BreakerStats();
  readonly told: string[] = [];
  readonly breaker: Breaker;

  constructor(limits: Partial<BreakerLimits> = {}) {
    const events = { opened: (why: string) => this.told.push(why), closed: () => this.told.push('closed') };
    this.breaker = new Breaker({ ...LIMITS, ...limits }, this.stats, events, () => this.now);
  }

  fail(times = 1): void {
    for (let i = 0; i < times; i++) this.breaker.begin()!.failed('ECONNREFUSED');
  }

  succeed(): void {
    this.breaker.begin()!.succeeded();
  }
}

describe('the circuit breaker', () => {
  it('opens at failures in a row, and not at as many with a success between', () => {
    const world = new World();
    world.fail(2);
    world.succeed();
    world.fail(2);
    expect(world.breaker.state).toBe('closed');
    world.fail();
    expect(world.breaker.state).toBe('open');
    expect(world.told).toEqual([
      '3 connections to the backend have failed in a row, the last one: ECONNREFUSED',
    ]);
    expect(world.breaker.begin()).toBeUndefined();
    expect(world.breaker.refusal).toBe(
      'the circuit breaker is open: 3 connections to the backend have failed in a row, the last one: ECONNREFUSED; the next try in 1.0 s',
    );
  });

  it('lets one through when the time is over: its success closes the breaker, its failure opens it again', () => {
    const world = new World();
    world.fail(3);
    world.now = 999;
    expect(world.breaker.begin()).toBeUndefined();
    world.now = 1000;
    const trial = world.breaker.begin()!;
    expect(world.breaker.state).toBe('half-open');
    expect(world.breaker.begin()).toBeUndefined();
    expect(world.breaker.refusal).toContain('the next try is under way');
    trial.failed('ETIMEDOUT');
    expect(world.breaker.state).toBe('open');
    expect(world.breaker.refusal).toContain('ETIMEDOUT, again; the next try in 1.0 s');
    world.now = 2000;
    world.breaker.begin()!.succeeded();
    expect(world.breaker.state).toBe('closed');
    expect(world.breaker.refusal).toBeUndefined();
    expect([world.told.length, world.told[1], world.stats.opened]).toEqual([2, 'closed', 1]);
  });

  it('lets the next one through when the one let through was given up', () => {
    const world = new World();
    world.fail(3);
    world.now = 1000;
    world.breaker.begin()!.abandoned();
    expect(world.breaker.begin()).toBeDefined();
  });

  it('opens at the error rate of the last connections, whatever their order', () => {
    const world = new World({ failures: 0 });
    for (let i = 0; i < SAMPLE / 2 - 1; i++) {
      world.fail();
      world.succeed();
    }
    world.succeed();
    expect(world.breaker.state).toBe('closed');
    world.fail();
    expect(world.told).toEqual([
      `50 % of the last ${SAMPLE} connections to the backend have failed, the last one: ECONNREFUSED`,
    ]);
  });

  it('is closed by the success of a check that is made all the same, or of a connection begun before', () => {
    const world = new World();
    const early = world.breaker.begin()!;
    world.fail(3);
    world.breaker.begin(true)!.succeeded();
    expect(world.breaker.state).toBe('closed');
    world.fail(3);
    early.succeeded();
    expect(world.breaker.state).toBe('closed');
  });

  it('never opens without limits', () => {
    const world = new World({ failures: 0, errorRate: 0 });
    world.fail(100);
    expect(world.breaker.state).toBe('closed');
  });

  it('keeps its promises, whatever happens in whatever order', () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.constant('begin' as const) },
      { weight: 1, arbitrary: fc.constant('check' as const) },
      { weight: 2, arbitrary: fc.constant('succeed' as const) },
      { weight: 4, arbitrary: fc.constant('fail' as const) },
      { weight: 1, arbitrary: fc.constant('abandon' as const) },
      { weight: 2, arbitrary: fc.constant('wait' as const) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150 }), fc.integer({ min: 1, max: 5 }), (steps, failures) => {
        const world = new World({ failures, errorRate: 0 });
        const underWay: { attempt: Attempt; trial: boolean }[] = [];
        let openedAt = -Infinity;
        let row = 0;
        for (const kind of steps) {
          const before = world.breaker.state;
          if (kind === 'wait') {
            world.now += 300;
          } else if (kind === 'begin' || kind === 'check') {
            const attempt = world.breaker.begin(kind === 'check');
            const trialUnderWay = underWay.some(({ trial }) => trial);
            const may = before === 'closed' || (before === 'half-open' && !trialUnderWay);
            must((attempt !== undefined) === (may || kind === 'check'), 'let through');
            if (attempt !== undefined)
              underWay.push({ attempt, trial: before === 'half-open' && !trialUnderWay });
          } else {
            const one = underWay.shift();
            if (one === undefined) continue;
            if (kind === 'abandon') one.attempt.abandoned();
            else if (kind === 'succeed') {
              one.attempt.succeeded();
              row = 0;
              must(world.breaker.state === 'closed', 'closed by success');
            } else {
              one.attempt.failed('x');
              row++;
              const opens = one.trial || (before === 'closed' && row >= failures);
              if (opens) openedAt = world.now;
              must(world.breaker.state === (opens ? 'open' : before), 'opened by failures');
            }
            if (world.breaker.state !== before) for (const each of underWay) each.trial = false;
          }
          const { state } = world.breaker;
          const over = world.now - openedAt >= LIMITS.reset;
          must(state === 'closed' || (state === 'half-open') === over, 'half-open at its time');
          expect(world.breaker.refusal === undefined).toBe(
            state === 'closed' || (state === 'half-open' && !underWay.some(({ trial }) => trial)),
          );
        }
      }),
      { numRuns: 500 },
    );
  });
});
