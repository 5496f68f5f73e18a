import { defineConfig } from 'vitest/config';
import { worldPool } from './test/support/pods/pool.ts';

const PODS = ['test/cluster/pods*.test.ts'];

// Broker and cluster tests wait for the servers they start most of the time, and share two cores with them: two files at a
// time. The demo's tests are of what a user sees, one at a time.
export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 20_000 } },
      {
        test: {
          name: 'broker',
          include: ['test/broker/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 180_000,
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: 'cluster',
          include: ['test/cluster/**/*.test.ts'],
          exclude: PODS,
          testTimeout: 60_000,
          hookTimeout: 180_000,
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: 'pods',
          include: PODS,
          pool: worldPool,
          globalSetup: 'test/support/pods/fetch.ts',
          testTimeout: 180_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
