import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Listed, Roster } from '../../../proxy/roster.ts';

interface One extends Listed {
  readonly name: number;
}

it('has what has come and not gone, in the order in which it came', () => {
  const comesOrGoes = fc.array(fc.option(fc.nat(), { nil: undefined }), { maxLength: 200 });
  fc.assert(
    fc.property(comesOrGoes, (changes) => {
      const roster = new Roster<One>();
      const there: One[] = [];
      for (const [name, goes] of changes.entries()) {
        if (goes === undefined || there.length === 0) {
          const one = { name, place: 0 };
          roster.add(one);
          there.push(one);
        } else roster.delete(there.splice(goes % there.length, 1)[0]!);
        expect([...roster]).toEqual(there);
        expect(roster.size).toBe(there.length);
      }
    }),
  );
});

it('goes through those that were there when that began, whoever goes meanwhile', () => {
  const roster = new Roster<One>();
  const all = Array.from({ length: 40 }, (_, name) => ({ name, place: 0 }));
  for (const one of all) roster.add(one);
  const seen: One[] = [];
  for (const one of roster) {
    seen.push(one);
    roster.delete(one);
    roster.add({ name: -1, place: 0 });
  }
  expect(seen).toEqual(all);
  expect(roster.size).toBe(40);
});
