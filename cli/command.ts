import type { Readable, Writable } from 'node:stream';
import { type OptionTable, type OptionValues, filePath } from '../common/options.ts';
import type { Configuration, Origin } from '../common/resolve.ts';

/** What a command may touch of the process it runs in. */
export interface CommandIo<T extends OptionTable = OptionTable> {
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** Where each option's value came from, by camelCase property. */
  readonly origins: Readonly<Record<string, Origin>>;
  readonly configuration: Configuration<T>;
}

export interface Example {
  /** What it is for, in a few words. */
  readonly purpose: string;
  /** The whole command line; further lines are continued with a backslash. */
  readonly command: string;
}

/** One subcommand. Its file imports no room but the room's options: `run` imports the rest when it is called. */
export interface CommandSpec<T extends OptionTable = OptionTable> {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  readonly options: T;
  /** Options that arguments without a dash give as well, in this order, by their camelCase property. */
  readonly positionals?: readonly string[];
  readonly examples: readonly Example[];
  /**
   * Does the work, or starts a server that goes on after `run` has returned.
   * @returns the exit code, as exitCodes has them.
   * @throws UsageError for what only shows when the work begins: printed, exit code 2.
   */
  run(values: OptionValues<T>, io: CommandIo<T>): Promise<number>;
}

/** What every command's exit code means. */
export const exitCodes = [
  { code: 0, meaning: 'done; a server was told to stop and stopped in good order' },
  {
    code: 1,
    meaning:
      'failed at run time: an address in use, a file that could not be written, a bug; report: something will break; explain: the next write would change something; topology: a conflict, or for diff any difference; dlq: something stayed that was to be redriven',
  },
  { code: 2, meaning: 'invalid usage, configuration or input; the message says what, where and what to do' },
] as const;

/** The option that every command has besides its own. */
export const configOption = {
  config: {
    name: 'config',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_CONFIG',
    description: 'Configuration file, YAML or JSON: a mapping from option names without dashes to values.',
    parse: filePath(),
  },
} as const satisfies OptionTable;
