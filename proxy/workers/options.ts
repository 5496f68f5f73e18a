import { integer, type OptionTable } from '../../common/options.ts';

export const workerOptions = {
  workers: {
    name: 'workers',
    argument: 'COUNT',
    env: 'QUORUMBRIDGE_WORKERS',
    description:
      'Processes that share the listeners, for nodes with many cores; each has its own pool and its part of the limits. 1 is a proxy of one process.',
    default: 1,
    parse: integer({ min: 1, max: 64 }),
  },
} as const satisfies OptionTable;
