import { UsageError } from '../common/errors.ts';
import { type LogLevel, type Logger, createLogger } from '../common/log.ts';
import type { OptionTable } from '../common/options.ts';
import { onShutdown } from '../common/shutdown.ts';
import type { CommandIo } from './command.ts';
import { version } from './run.ts';

export interface ServeSettings {
  /** The command's name, in every log line. */
  readonly name: string;
  readonly options: OptionTable;
  readonly values: Readonly<Record<string, unknown>> & { readonly logLevel: LogLevel };
  readonly io: Pick<CommandIo, 'origins'>;
  start(log: Logger): Promise<Served>;
}

/** A server that runs. */
export interface Served {
  /** Ends it in good order. */
  readonly close: () => Promise<void>;
  /** How long that may take, in milliseconds. */
  readonly closeMs: () => number;
  /** What SIGHUP asks for; without it that is an end, too. */
  readonly reload?: () => void;
}

/** What was given by other than default, for the first line of the log: where it came from and its value. */
function given({ options, values, io }: ServeSettings): Record<string, { value: unknown; origin: string }> {
  return Object.fromEntries(
    Object.entries(options)
      .filter(([property]) => io.origins[property] !== 'default')
      .map(([property, { name, secret }]) => [
        name,
        { value: secret === true ? '[secret]' : values[property], origin: io.origins[property] ?? 'default' },
      ]),
  );
}

/**
 * Starts a server that then runs until a signal ends it.
 * @returns exit code 0 once it runs, 1 when it could not be started (the log says why).
 * @throws UsageError when it could not be started because of its options.
 */
export async function serve(settings: ServeSettings): Promise<number> {
  const log = createLogger({ name: settings.name, level: settings.values.logLevel });
  log.info({ version, node: process.version, options: given(settings) }, 'starting');
  try {
    const { close, closeMs, reload } = await settings.start(log);
    onShutdown({ log, timeoutMs: closeMs, close, reload });
    return 0;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    log.fatal({ err: error }, 'could not start');
    return 1;
  }
}
