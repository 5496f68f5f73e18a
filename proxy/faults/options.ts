import { flag, type OptionTable } from '../../common/options.ts';

/** Options about faults that are made on purpose. */
export const faultOptions = {
  faultInjection: {
    name: 'fault-injection',
    env: 'QUORUMBRIDGE_FAULT_INJECTION',
    description:
      'Let the admin API break connections off and hold octets back, to rehearse failovers. Not for everyday use.',
    parse: flag(),
  },
} as const satisfies OptionTable;
