import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Op, Over, World } from '../../../support/channel-world.ts';

const kinds: [number, string][] = [
  [8, 'publish'],
  [1, 'declare'],
  [1, 'purge'],
  [1, 'qos'],
  [1, 'confirm'],
  [1, 'tx'],
  [4, 'get'],
  [3, 'consume'],
  [2, 'cancel'],
  [1, 'recover'],
  [6, 'ack'],
  [14, 'broker'],
  [20, 'hear'],
  [6, 'deliver'],
  [1, 'cancelled'],
  [5, 'confirmed'],
  [2, 'late'],
  [4, 'settle'],
  [3, 'lose'],
];

function opsOf(chosen: readonly string[]): fc.Arbitrary<Op[]> {
  const kind = fc.oneof(
    ...kinds
      .filter(([, kind]) => chosen.includes(kind))
      .map(([weight, kind]) => ({ weight, arbitrary: fc.constant(kind) })),
  );
  const op = fc.record({ kind, chance: fc.nat(1000), flag: fc.boolean() });
  return fc.array(op, { maxLength: 120, size: 'max' });
}

const TRAFFIC = ['broker', 'hear', 'settle', 'late'];
const ALL = kinds.map(([, kind]) => kind);

/** What is seen in runs of one sort of client; each sort has to get to where it is to be looked at. */
const sorts: [string, string[], (keyof World['seen'])[]][] = [
  ['publishers and getters', ['publish', 'get', 'lose'], ['reusable', 'restored']],
  [
    'publishers with confirms',
    ['publish', 'confirm', 'confirmed', 'lose'],
    ['nacked', 'restored', 'confirmed'],
  ],
  [
    'consumers',
    ['consume', 'cancel', 'deliver', 'ack', 'qos', 'declare', 'cancelled', 'lose'],
    ['restored', 'resumed', 'swallowed', 'marked'],
  ],
  ['all', ALL, ['reusable', 'restored', 'resumed', 'swallowed', 'nacked', 'confirmed']],
];

describe.each(sorts)('the state of a channel of %s', (_, chosen, expected) => {
  it('is what a broker has, over losses', () => {
    const seen = new Map<string, number>();
    fc.assert(
      fc.property(
        opsOf([...chosen, ...TRAFFIC]),
        fc.boolean(),
        fc.constantFrom(0, 0, 41),
        (ops, resume, lastDelivery) => {
          const world = new World(resume, lastDelivery);
          try {
            for (const op of ops) world.run(op);
          } catch (error) {
            if (!(error instanceof Over)) throw error;
          } finally {
            for (const [what, times] of Object.entries(world.seen))
              seen.set(what, (seen.get(what) ?? 0) + times);
          }
        },
      ),
      { numRuns: 2000 },
    );
    for (const what of expected) expect([what, seen.get(what)! > 3]).toEqual([what, true]);
  });
});
