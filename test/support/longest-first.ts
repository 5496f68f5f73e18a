// The order of test files: nothing remembers in a fresh clone how long each of them took.
import { relative } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { HOME } from './processes.ts';

/**
 * What takes longer than a minute, in the order to begin: a long file that begins last keeps all the others waiting for
 * its end. Those that wait for clocks most of the time come first, and so beside each other: that disturbs them least.
 * The two with pods are not next to each other. A long file that is missing here costs time, nothing else.
 */
const LONGEST = [
  'test/broker/pool-restart.test.ts',
  'test/broker/messaging-endurance.test.ts',
  'test/cluster/upgrade-outage.test.ts',
  'test/cluster/upgrade-crash.test.ts',
  'test/broker/pool-blackhole.test.ts',
  'test/broker/limits.test.ts',
  'test/cluster/lease.test.ts',
  'test/cluster/pods.test.ts',
  'test/broker/injected-config.test.ts',
  'test/broker/rows/lifetimes.test.ts',
  'test/broker/pool.test.ts',
  'test/e2e/soak.test.ts',
  'test/cluster/certificates.test.ts',
  'test/cluster/upgrade.test.ts',
  'test/cluster/pods-drill.test.ts',
  'test/broker/upgrade-config.test.ts',
  'test/broker/consumers.test.ts',
  'test/broker/consumers-apart.test.ts',
];

/** Vitest's own order, behind the longest. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const ranks = new Map(LONGEST.map((file, rank) => [file, rank]));
    const rank = ({ moduleId }: TestSpecification): number =>
      ranks.get(relative(HOME, moduleId)) ?? LONGEST.length;
    const sorted = await super.sort(files);
    return sorted.toSorted((a, b) => rank(a) - rank(b));
  }
}
