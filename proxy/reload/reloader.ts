import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { UsageError, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import { type Configuration, describeOption } from '../../common/resolve.ts';
import type { ChangeDocument, ConfigurationDocument, ReloadDocument } from '../admin/documents.ts';
import { filesOfCredentials } from '../access/credentials.ts';
import type { ProxyOptions, proxyOptions } from '../options.ts';
import { readSettings, type Settings } from '../settings.ts';
import { changesOf, type Digests, type Reading, withoutRestart } from './changes.ts';
import { FILES, needRestart } from './scope.ts';
import type { ReloadStats } from './stats.ts';

type Table = typeof proxyOptions;

/** How long files have to stay as they are before they are read, in milliseconds. */
const SETTLED = 500;

export interface ReloaderSettings {
  readonly configuration: Configuration<Table>;
  /** Takes settings into use, all or, when it throws a UsageError, none of them. */
  readonly use: (settings: Settings) => Promise<void>;
  readonly stats: ReloadStats;
  readonly log: Logger;
}

/** Reads the configuration again, and lets the proxy work with it where it is valid as a whole. */
export class Reloader {
  /** What the proxy starts with. */
  readonly initial: Settings;
  readonly #configuration: Configuration<Table>;
  readonly #use: ReloaderSettings['use'];
  readonly #stats: ReloadStats;
  readonly #log: Logger;
  #running: Reading;
  #pending: readonly ChangeDocument[] = [];
  #problems: readonly string[] = [];
  /** As it was read last, with what waits for a restart. */
  #options: ProxyOptions;
  /** What the files were when they were read last. */
  #seen: string;
  #last: Promise<unknown> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  /** What changed files were found to be, and when, in milliseconds of performance.now(). */
  #found = '';
  #foundAt = 0;
  #settling: NodeJS.Timeout | undefined;

  /** @throws UsageError when the configuration is not valid */
  constructor({ configuration, use, stats, log }: ReloaderSettings) {
    this.#configuration = configuration;
    this.#use = use;
    this.#stats = stats;
    this.#log = log;
    const file = this.#lookAtFile();
    this.#running = this.#read();
    this.#options = this.#running.resolved.values;
    this.#seen = look(file, this.#running.digests);
    this.initial = readSettings(this.#running.resolved.values);
  }

  #read(): Reading {
    const resolved = this.#configuration.read();
    return { resolved, digests: digestsOf(resolved.values) };
  }

  #lookAtFile(): string {
    const { file } = this.#configuration;
    return file === undefined ? '' : digestOf(file);
  }

  /** Reloads when files have changed, as often as the options say. */
  watch(): void {
    clearInterval(this.#timer);
    const { reloadInterval } = this.#running.resolved.values;
    if (reloadInterval === 0) return;
    this.#timer = setInterval(() => this.#notice(), reloadInterval * 1000).unref();
  }

  /** Half of a file may be valid, and mean something else: one that is being written is left alone. */
  #notice(): void {
    const found = this.#look();
    if (found === this.#seen) return;
    const now = performance.now();
    if (found !== this.#found) {
      this.#found = found;
      this.#foundAt = now;
      clearTimeout(this.#settling);
      this.#settling = setTimeout(() => this.#notice(), SETTLED).unref();
    } else if (now - this.#foundAt >= SETTLED) void this.reload('file change');
  }

  #look(): string {
    return look(this.#lookAtFile(), digestsOf(this.#options));
  }

  close(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#settling);
  }

  /** Reads the configuration again, one time after the other. @param cause for the log */
  reload(cause: string): Promise<ReloadDocument> {
    const next = this.#last.then(() => this.#reload(cause));
    this.#last = next;
    return next;
  }

  async #reload(cause: string): Promise<ReloadDocument> {
    // Files are looked at before they are read: what changes meanwhile is seen the next time.
    const file = this.#lookAtFile();
    this.#seen = look(file, digestsOf(this.#options));
    try {
      const read = this.#read();
      this.#options = read.resolved.values;
      this.#seen = look(file, read.digests);
      return await this.#apply(cause, read);
    } catch (error) {
      // A fault of the proxy's own keeps the configuration as it is, and the next reload is tried all the same.
      if (!(error instanceof UsageError)) this.#log.error({ err: error }, 'internal error in a reload');
      return this.#refused(cause, messageOf(error).split('\n'));
    }
  }

  async #apply(cause: string, read: Reading): Promise<ReloadDocument> {
    readSettings(read.resolved.values);
    const restart = needRestart(this.#running.resolved.values.mode);
    const changes = changesOf(this.#configuration.table, this.#running, read, restart);
    const next = withoutRestart(this.#running, read, restart);
    const pending = changes.filter(({ effect }) => effect === 'restart');
    const isApplied = changes.length > pending.length;
    if (isApplied) await this.#use(settingsOf(next, pending));
    this.#running = next;
    this.#problems = [];
    this.#stats.isValid = true;
    this.#stats.loadedAt = Date.now();
    this.#tellPending(cause, pending);
    if (isApplied) {
      const applied = changes.filter(({ effect }) => effect === 'applied');
      this.#log.info({ cause, changes: applied }, 'configuration reloaded');
    } else this.#log.info({ cause }, 'configuration read again: nothing to change');
    return this.#counted({ result: isApplied ? 'applied' : 'unchanged', changes, problems: [] });
  }

  #tellPending(cause: string, pending: readonly ChangeDocument[]): void {
    const isNews = JSON.stringify(pending) !== JSON.stringify(this.#pending);
    this.#pending = pending;
    this.#stats.pending = pending.length;
    if (!isNews || pending.length === 0) return;
    const names = pending.map(({ option }) => option).join(', ');
    this.#log.warn({ cause, changes: pending }, `restart the proxy for the new ${names}`);
  }

  #refused(cause: string, problems: readonly string[]): ReloadDocument {
    this.#problems = problems;
    this.#stats.isValid = false;
    this.#log.error({ cause, problems }, 'the configuration is not valid: the one before stays in effect');
    return this.#counted({ result: 'refused', changes: [], problems });
  }

  #counted(document: ReloadDocument): ReloadDocument {
    this.#stats.results[document.result]++;
    return document;
  }

  /** What is in effect, and where it came from: no secrets. */
  document(): ConfigurationDocument {
    const { table, file } = this.#configuration;
    const { given } = this.#running.resolved;
    return {
      file: file ?? null,
      loadedAt: new Date(this.#stats.loadedAt).toISOString(),
      problems: this.#problems,
      options: (Object.keys(table) as (keyof Table)[]).map((property) => {
        const effective = describeOption(table[property], given[property]);
        const pending = this.#pending.find(({ option }) => option === effective.option);
        return { ...effective, afterRestart: pending === undefined ? null : pending.after };
      }),
    };
  }
}

/** What files are, in a text that is another one when any of them is. */
function look(file: string, digests: Digests): string {
  return JSON.stringify([file, digests]);
}

/** @throws UsageError when what needs no restart goes together only with what does */
function settingsOf({ resolved }: Reading, pending: readonly ChangeDocument[]): Settings {
  try {
    return readSettings(resolved.values);
  } catch (error) {
    if (!(error instanceof UsageError) || pending.length === 0) throw error;
    const names = pending.map(({ option }) => `--${option}`).join(', ');
    throw new UsageError(`restart the proxy for the new ${names}; until then:\n${error.message}`, {
      cause: error,
    });
  }
}

function digestsOf(options: ProxyOptions): Digests {
  const digests: Partial<Record<(typeof FILES)[number], string>> = {};
  for (const option of FILES) {
    const path = options[option];
    if (path === undefined) continue;
    const files = option === 'credentials' ? filesOfCredentials(path) : [path];
    digests[option] = files.map(digestOf).join(' ');
  }
  return digests;
}

/** Tells contents apart; a file that can't be read is like no other. */
function digestOf(path: string): string {
  try {
    return createHash('sha256').update(readFileSync(path)).digest('base64');
  } catch {
    return '';
  }
}
