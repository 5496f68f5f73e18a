import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Outstanding } from '../../../../proxy/pool/outstanding.ts';

const actionArbitrary = fc.record({
  kind: fc.constantFrom('open', 'open', 'open', 'close', 'close', 'closeUpTo', 'closeAll'),
  chance: fc.nat(1000),
});

/** Beyond 32 bits, where bit operations on numbers wrap, and at the end of what numbers can tell. */
const baseArbitrary = fc.constantFrom(1, 30, 2 ** 31 - 5, 2 ** 32 - 40, 2 ** 53 - 4000);

describe('outstanding numbers', () => {
  it('are those of a plain set', () => {
    const check = fc.property(
      baseArbitrary,
      fc.constantFrom(1, 7),
      fc.array(actionArbitrary, { maxLength: 300, size: 'max' }),
      (base, step, actions) => {
        const outstanding = new Outstanding();
        let model = new Set<number>();
        let next = base;
        let wrong = false;
        for (const { kind, chance } of actions) {
          const some = base + (chance % Math.max(next - base + 1, 1));
          if (kind === 'open') {
            outstanding.open(next);
            model.add(next);
            next += 1 + (chance % step);
          } else if (kind === 'close') {
            const told = outstanding.close(some);
            wrong ||= told !== model.delete(some);
          } else if (kind === 'closeUpTo') {
            outstanding.closeUpTo(some);
            model = new Set([...model].filter((number) => number > some));
          } else if (chance % 20 === 0) {
            outstanding.closeAll();
            model.clear();
          }
          expect(wrong).toBe(false);
          expect(outstanding.size).toBe(model.size);
          expect(outstanding.has(some)).toBe(model.has(some));
        }
        const told = outstanding
          .runs()
          .flatMap(({ start, end }) => Array.from({ length: end - start + 1 }, (_, i) => start + i));
        expect(told).toEqual([...model]);
        const runs = [...model].filter((number) => !model.has(number - 1)).length;
        expect(outstanding.runs().length).toBe(runs);
      },
    );
    fc.assert(check, { numRuns: 300 });
  });

  it('has nothing of numbers that are none', () => {
    const outstanding = new Outstanding();
    outstanding.open(1);
    expect(outstanding.has(Infinity)).toBe(false);
    expect(outstanding.close(Infinity)).toBe(false);
    expect(outstanding.has(0)).toBe(false);
    expect(outstanding.size).toBe(1);
  });
});
