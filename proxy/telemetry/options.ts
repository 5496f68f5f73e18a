import { filePath, type OptionTable } from '../../common/options.ts';

/** Options about what the proxy tells of its clients. */
export const telemetryOptions = {
  auditLog: {
    name: 'audit-log',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_AUDIT_LOG',
    description:
      'Append a line of JSON here for each client that logs in, is refused or goes: who, from where, for how long, what was rewritten. stdout is a line among those of the log.',
    parse: filePath(),
  },
} as const satisfies OptionTable;
