import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/support/longest-first.ts';
import { worldPool } from './test/support/pods/pool.ts';

const PODS = ['test/cluster/pods*.test.ts'];

const cores = availableParallelism();
/**
 * Files with servers at the same time, of whatever project; vitest wants one number for that. They wait two thirds of their
 * time, for the servers and for clocks: two to a core. Each has servers of up to 1 GB: no more than four.
 */
const maxWorkers = Math.min(2 * cores, 4);

/** What is waited for comes sooner or later on a machine that has much else to do; vitest's own second is too short. */
const patient = { poll: { timeout: 15_000 } };

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: {
          name: 'unit',
          expect: patient,
          include: ['test/unit/**/*.test.ts'],
          testTimeout: 20_000,
          // Unit tests compute: behind the others, and no more at a time than there are cores.
          sequence: { groupOrder: 1 },
          maxWorkers: cores,
        },
      },
      {
        test: {
          name: 'broker',
          expect: patient,
          include: ['test/broker/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 180_000,
          maxWorkers,
        },
      },
      {
        test: {
          name: 'cluster',
          expect: patient,
          include: ['test/cluster/**/*.test.ts'],
          exclude: PODS,
          testTimeout: 60_000,
          hookTimeout: 180_000,
          maxWorkers,
        },
      },
      {
        test: {
          name: 'pods',
          expect: patient,
          include: PODS,
          pool: worldPool,
          globalSetup: 'test/support/pods/fetch.ts',
          testTimeout: 180_000,
          hookTimeout: 180_000,
          maxWorkers,
        },
      },
      {
        test: {
          name: 'e2e',
          expect: patient,
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 300_000,
          maxWorkers,
        },
      },
    ],
  },
});
