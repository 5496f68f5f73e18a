import closeWithGrace from 'close-with-grace';
import type { Logger } from './log.ts';

export interface ShutdownSettings {
  readonly log: Logger;
  /** How long `close` may take before the process ends anyway, with exit code 1. */
  readonly timeoutMs: number;
  /** Ends the work in good order; `reason` is the signal's name. */
  readonly close: (reason: string) => Promise<void>;
}

/** Signals that ask for an end. Those of a broken process (SIGSEGV, SIGBUS …) can't be handled in JavaScript. */
const signalsLeftAlone = ['SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV', 'SIGUSR2'] as const;

/**
 * Ends the process in good order on SIGTERM, SIGINT, SIGHUP or SIGQUIT: `close`, then exit code 0. A second
 * signal, a `close` that rejects or one that takes too long ends it at once with 1. An uncaught exception or
 * rejection is logged as fatal and ends it at once with 1: what state it left is not known.
 */
export function onShutdown({ log, timeoutMs, close }: ShutdownSettings): void {
  const fatal = (error: unknown): never => {
    log.fatal({ err: error }, 'unexpected error, exiting');
    process.exit(1);
  };
  closeWithGrace(
    {
      delay: timeoutMs,
      skip: [...signalsLeftAlone, 'beforeExit'],
      logger: false,
      onSecondSignal: (signal) => log.warn({ signal }, 'second signal, exiting at once'),
      onSecondError: fatal,
      onTimeout: () => log.error({ timeoutMs }, 'shutdown took too long, exiting'),
    },
    async ({ err, signal }) => {
      if (err !== undefined) fatal(err);
      const reason = signal ?? 'request';
      log.info({ reason }, 'shutting down');
      try {
        await close(reason);
      } catch (error) {
        log.error({ err: error }, 'shutdown failed, exiting');
        process.exit(1);
      }
      log.info({ reason }, 'shutdown complete');
    },
  );
}
