import { type OptionTable, seconds } from '../../common/options.ts';

/** The options about the configuration itself. Times are in seconds. */
export const reloadOptions = {
  reloadInterval: {
    name: 'reload-interval',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_RELOAD_INTERVAL',
    description:
      'How often the configuration file and the files that it names are looked at, and reloaded when they have changed. 0 is never: SIGHUP and POST /reload do it.',
    default: 10,
    parse: seconds({ min: 0, max: 86_400 }),
  },
} as const satisfies OptionTable;
