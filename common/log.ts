import pino from 'pino';
import type { LOG_LEVELS } from './contract.ts';

export type Logger = pino.Logger;

export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * Fields that never reach the output, at the top of a line or up to two objects below: passwords, HTTP
 * authorization, the SASL response of AMQP's connection.start-ok, and private keys.
 */
const secretFields = ['password', 'authorization', 'response', 'key'];

export interface LoggerSettings {
  /** Names the program in every line. */
  readonly name: string;
  readonly level: LogLevel;
  /** Standard output when absent. */
  readonly destination?: pino.DestinationStream;
}

/** Logs one JSON object a line: `level` as a word, `time` in ISO 8601, `name`, `msg` and the caller's fields. */
export function createLogger({ name, level, destination }: LoggerSettings): Logger {
  return pino(
    {
      level,
      base: { name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: secretFields.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]),
        censor: '[secret]',
      },
    },
    destination ?? pino.destination({ fd: 1, sync: true }),
  );
}
