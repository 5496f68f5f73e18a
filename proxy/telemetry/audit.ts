import { closeSync, constants, openSync, write } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, UsageError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { Roll } from '../roster.ts';
import type { TelemetryStats } from './stats.ts';

/** What a line is about: a client that the broker let in, its end, and the end of one that tried to log in and wasn't. */
export type AuditEvent = 'opened' | 'closed' | 'refused';

/** Octets of lines that wait to be written: more are dropped, so that a full disk or a slow reader costs no memory. */
const PENDING_MAX = 1 << 20;

/** How long to wait for a pipe whose reader is behind, in milliseconds. */
const RETRY = 100;

/** How long the end of the proxy waits for lines to be written, in milliseconds. */
const CLOSE_TIMEOUT = 1000;

/** How often a failure is logged at most, in milliseconds. */
const COMPLAINT_INTERVAL = 60_000;

const STDOUT = 1;

/** Octets that a pipe takes whole or not at all (POSIX, PIPE_BUF on Linux): others may write to it at the same time. */
const ATOMIC = 4096;

/** Characters of a text in a line that would be longer than that: peers choose them. */
const TEXT_MAX = 48;

export interface AuditSettings {
  /** A file that lines are appended to, or `stdout`. */
  readonly target: string;
  readonly stats: TelemetryStats;
  readonly log: Logger;
}

/**
 * Who connected, when, from where, for how long and what was rewritten, one JSON object a line, on a stream of its own.
 * Writing never blocks: lines wait in bounded memory, and what doesn't fit is dropped and counted.
 */
export class AuditLog {
  readonly #settings: AuditSettings;
  readonly #fd: number;
  #pending: Buffer[] = [];
  #size = 0;
  #isWriting = false;
  #isClosed = false;
  #complainedAt = -Infinity;
  #emptied: (() => void) | undefined;

  /** @throws UsageError when the file can't be opened for writing */
  constructor(settings: AuditSettings) {
    this.#settings = settings;
    this.#fd = settings.target === 'stdout' ? STDOUT : openToAppend(settings.target);
  }

  /** Writes a line. @param fields must hold no secret; what is undefined in it is null in the line */
  write(event: AuditEvent, fields: object): void {
    if (this.#isClosed) return;
    const time = new Date().toISOString();
    const line = { time, name: 'audit', event, ...fields };
    const whole = encode(line, Infinity);
    const octets = whole.length <= ATOMIC ? whole : encode(line, TEXT_MAX);
    if (this.#size + octets.length > PENDING_MAX) {
      this.#settings.stats.auditDropped++;
      this.#complain('the audit log cannot be written as fast as it grows: lines are dropped');
      return;
    }
    this.#pending.push(octets);
    this.#size += octets.length;
    if (!this.#isWriting) this.#next();
  }

  #next(): void {
    // On stdout each line is a write of its own: the log's lines go there, too, and must not end up within one.
    const isStdout = this.#fd === STDOUT;
    const lines = isStdout ? this.#pending.splice(0, 1) : this.#pending.splice(0);
    if (lines.length === 0) {
      this.#isWriting = false;
      this.#emptied?.();
      return;
    }
    this.#isWriting = true;
    const octets = isStdout ? lines[0]! : Buffer.concat(lines);
    this.#write(octets, 0, lines.length);
  }

  #write(octets: Buffer, from: number, lines: number): void {
    write(this.#fd, octets, from, octets.length - from, null, (error, written) => {
      if (this.#isClosed) {
        this.#closeFile();
        return;
      }
      if (error?.code === 'EAGAIN') {
        setTimeout(() => this.#write(octets, from, lines), RETRY).unref();
        return;
      }
      const rest = from + (error === null ? written : 0);
      if (error === null && rest < octets.length) {
        this.#write(octets, rest, lines);
        return;
      }
      this.#size -= octets.length;
      if (error === null) this.#settings.stats.auditWritten += lines;
      else {
        this.#settings.stats.auditDropped += lines;
        this.#complain(`the audit log cannot be written: ${messageOf(error)}`);
      }
      this.#next();
    });
  }

  #complain(text: string): void {
    const now = performance.now();
    if (now - this.#complainedAt < COMPLAINT_INTERVAL) return;
    this.#complainedAt = now;
    this.#settings.log.error({ auditLog: this.#settings.target }, text);
  }

  /**
   * Waits a moment for what is not written yet, and closes the file.
   * @param open connections whose ends are about to come
   */
  async close(open?: Roll<unknown>): Promise<void> {
    const deadline = performance.now() + CLOSE_TIMEOUT;
    const areEnding = (): boolean => open !== undefined && open.size > 0;
    while (areEnding() && performance.now() < deadline) await sleep(1);
    if (this.#isWriting) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, CLOSE_TIMEOUT);
        this.#emptied = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#isClosed = true;
    if (!this.#isWriting) this.#closeFile();
  }

  #closeFile(): void {
    if (this.#fd !== STDOUT) closeSync(this.#fd);
  }
}

/** Opens without waiting: a pipe that nobody reads is an error, and one that is full says so instead of blocking. */
function openToAppend(file: string): number {
  const { O_APPEND, O_CREAT, O_NONBLOCK, O_WRONLY } = constants;
  try {
    return openSync(file, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0o640);
  } catch (error) {
    throw new UsageError(`option --audit-log: ${file} cannot be opened: ${messageOf(error)}`);
  }
}

function encode(line: object, textMax: number): Buffer {
  const text = JSON.stringify(line, (_key, value: unknown) => {
    if (value === undefined) return null;
    return typeof value === 'string' && value.length > textMax ? `${value.slice(0, textMax)}…` : value;
  });
  return Buffer.from(`${text}\n`);
}
