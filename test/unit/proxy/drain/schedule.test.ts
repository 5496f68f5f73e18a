import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DrainSchedule } from '../../../../proxy/drain/schedule.ts';

describe('when clients are told to go in a drain', () => {
  it('is spread evenly over the period', () => {
    const schedule = new DrainSchedule(1000, 10_000);
    const told = [];
    let left = 4;
    for (let now = 1000; now <= 11_000; now += 250) {
      const due = schedule.due(now, left);
      left -= due;
      if (due > 0) told.push([now, due]);
    }
    expect(told).toEqual([
      [2250, 1],
      [4750, 1],
      [7250, 1],
      [9750, 1],
    ]);
  });

  it('is at once when there is no period', () => {
    expect(new DrainSchedule(5, 0).due(5, 7)).toBe(7);
  });

  it('is never far from even, and never later than the period, however the clock and the clients come and go', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3000 }),
        fc.integer({ min: 1, max: 100_000 }),
        fc.array(fc.record({ step: fc.integer({ min: 0, max: 5000 }), leave: fc.nat(3) }), {
          maxLength: 200,
        }),
        (clients, period, steps) => {
          const schedule = new DrainSchedule(0, period);
          let now = 0;
          let left = clients;
          let told = 0;
          let gone = 0;
          for (const { step, leave } of steps) {
            now += step;
            const due = schedule.due(now, left);
            expect(due).toBeGreaterThanOrEqual(0);
            expect(due).toBeLessThanOrEqual(left);
            told += due;
            left -= due;
            // Those who go by themselves make it less, and never more, that have to be told by now.
            expect(told).toBeLessThanOrEqual(Math.max(0.5, (clients * Math.min(now, period)) / period + 1.5));
            expect(told).toBeGreaterThan(gone > 0 ? -1 : (clients * Math.min(now, period)) / period - 1.5);
            const leaving = Math.min(leave, left);
            left -= leaving;
            gone += leaving;
          }
          expect(schedule.due(Math.max(now, period), left)).toBe(left);
        },
      ),
    );
  });
});
