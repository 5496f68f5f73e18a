// Runs a test file in a world of enter.sh: vitest's pool of child processes, with enter.sh in place of Node.
import { join } from 'node:path';
import { ForksPoolWorker } from 'vitest/node';
import type { PoolOptions, PoolRunnerInitializer } from 'vitest/node';
import { HOME } from '../processes.ts';
import { WORLD_NEEDS } from './needs.ts';

class WorldWorker extends ForksPoolWorker {
  override readonly name = 'world';

  constructor(options: PoolOptions) {
    super(options);
    const names = {
      QUORUMBRIDGE_WORLD_NEEDS: WORLD_NEEDS.join(' '),
      QUORUMBRIDGE_WORLD_PROGRAM: process.execPath,
    };
    this.env = { ...this.env, ...names };
  }

  /** The fork is made before `start` of the base class returns, of whatever this process names as its own program. */
  override start(): Promise<void> {
    const node = process.execPath;
    process.execPath = join(HOME, 'test/support/pods/enter.sh');
    try {
      return super.start();
    } finally {
      process.execPath = node;
    }
  }
}

/** For `pool` of a project. */
export const worldPool: PoolRunnerInitializer = {
  name: 'world',
  createPoolWorker: (options) => new WorldWorker(options),
};
