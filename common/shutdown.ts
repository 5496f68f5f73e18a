import closeWithGrace from 'close-with-grace';
import type { Logger } from './log.ts';

export interface ShutdownSettings {
  readonly log: Logger;
  /** How long `close` may take, in milliseconds, before the process ends anyway with exit code 1; asked for when it begins. */
  readonly timeoutMs: () => number;
  /** Ends the work in good order; `reason` is the signal's name. */
  readonly close: (reason: string) => Promise<void>;
  /** What SIGHUP asks for in place of an end. */
  readonly reload?: (() => void) | undefined;
}

/** Signals that ask for an end. Those of a broken process (SIGSEGV, SIGBUS …) can't be handled in JavaScript. */
const signalsLeftAlone = ['SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV', 'SIGUSR2'] as const;

/**
 * Ends the process in good order on SIGTERM, SIGINT, SIGQUIT or, without `reload`, SIGHUP: `close`, then exit code 0. A second
 * signal, a `close` that rejects or one that takes too long ends it at once with 1. An uncaught exception or
 * rejection is logged as fatal and ends it at once with 1: what state it left is not known.
 */
export function onShutdown({ log, timeoutMs, close, reload }: ShutdownSettings): void {
  const fatal = (error: unknown): never => {
    log.fatal({ err: error }, 'unexpected error, exiting');
    process.exit(1);
  };
  if (reload !== undefined) process.on('SIGHUP', reload);
  closeWithGrace(
    {
      delay: false,
      skip: [...signalsLeftAlone, 'beforeExit', ...(reload === undefined ? [] : ['SIGHUP' as const])],
      logger: false,
      onSecondSignal: (signal) => log.warn({ signal }, 'second signal, exiting at once'),
      onSecondError: fatal,
    },
    async ({ err, signal }) => {
      if (err !== undefined) fatal(err);
      const reason = signal ?? 'request';
      log.info({ reason }, 'shutting down');
      const milliseconds = timeoutMs();
      setTimeout(() => {
        log.error({ timeoutMs: milliseconds }, 'shutdown took too long, exiting');
        process.exit(1);
      }, milliseconds);
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
