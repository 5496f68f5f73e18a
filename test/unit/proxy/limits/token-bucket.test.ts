import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TokenBucket } from '../../../../proxy/limits/token-bucket.ts';

/** Sums of milliseconds and of parts of tokens are not exact. */
const ROUNDING = 1e-6;

const settings = { rate: fc.integer({ min: 1, max: 10_000 }), burst: fc.integer({ min: 1, max: 10_000 }) };

describe('a token bucket', () => {
  it('is full at first, and fills with its rate up to its burst', () => {
    const bucket = new TokenBucket(10, 3, 0);
    expect([1, 2, 3, 4].map(() => bucket.take(0))).toEqual([true, true, true, false]);
    expect(bucket.take(99)).toBe(false);
    expect(bucket.take(100)).toBe(true);
    expect(bucket.wait(1, 100)).toBeCloseTo(100);
    expect(bucket.wait(2, 150)).toBeCloseTo(150);
    expect(bucket.count(350)).toBe(2);
    expect(bucket.isFull(399)).toBe(false);
    expect(bucket.isFull(60_000)).toBe(true);
    expect(bucket.count(60_000)).toBe(3);
  });

  it('goes on by another rate, with what is in it', () => {
    const bucket = new TokenBucket(10, 10, 0);
    for (let i = 0; i < 8; i++) bucket.take(0);
    bucket.use(100, 100, 100);
    expect(bucket.count(100)).toBe(3);
    expect(bucket.count(200)).toBe(13);
    bucket.use(1, 1, 200);
    expect(bucket.count(200)).toBe(1);
    expect(bucket.wait(1, 200)).toBe(0);
  });

  it('takes no harm from a clock that stands still or goes back', () => {
    const bucket = new TokenBucket(10, 1, 1000);
    expect(bucket.take(500)).toBe(true);
    expect(bucket.take(0)).toBe(false);
    expect(bucket.take(1099)).toBe(false);
    expect(bucket.take(1100)).toBe(true);
  });

  it('gives no more than rate × time + burst, in any time whatever', () => {
    const steps = fc.array(fc.tuple(fc.double({ min: 0, max: 3000, noNaN: true }), fc.nat({ max: 200 })), {
      maxLength: 40,
    });
    let given = 0;
    fc.assert(
      fc.property(settings.rate, settings.burst, steps, (rate, burst, each) => {
        const bucket = new TokenBucket(rate, burst, 0);
        const taken: { at: number; count: number }[] = [];
        let now = 0;
        for (const [pause, tries] of each) {
          now += pause;
          let count = 0;
          for (let i = 0; i < tries; i++) if (bucket.take(now)) count++;
          taken.push({ at: now, count });
          given += count;
        }
        for (const [from, first] of taken.entries()) {
          let sum = 0;
          for (const { at, count } of taken.slice(from)) {
            sum += count;
            expect(sum).toBeLessThanOrEqual((rate * (at - first.at)) / 1000 + burst + ROUNDING);
          }
        }
      }),
    );
    expect(given).toBeGreaterThan(1000);
  });

  it('gives the next one after the wait that it tells, and none before', () => {
    fc.assert(
      fc.property(settings.rate, settings.burst, fc.nat({ max: 50 }), (rate, burst, count) => {
        const bucket = new TokenBucket(rate, burst, 0);
        while (bucket.take(0));
        let now = 0;
        for (let i = 0; i < count; i++) {
          const wait = bucket.wait(1, now);
          expect(wait).toBeLessThanOrEqual(1000 / rate + ROUNDING);
          expect(bucket.take(now + wait * 0.99 - ROUNDING)).toBe(false);
          now += wait + ROUNDING;
          expect(bucket.take(now)).toBe(true);
        }
      }),
    );
  });
});
