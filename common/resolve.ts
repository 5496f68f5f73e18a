import type { ConfigFile } from './config-file.ts';
import { UsageError, messageOf } from './errors.ts';
import { defaultText, type OptionSpec, type OptionTable, type OptionValues } from './options.ts';

/** Where a value came from. */
export type Origin = (typeof ORIGINS)[number];

export const ORIGINS = ['flag', 'environment', 'file', 'default'] as const;

export interface OptionSources {
  /** By camelCase property, as the command line gave them: a text, several texts, or true for a bare boolean flag. */
  readonly flags: Readonly<Record<string, string | readonly string[] | boolean | undefined>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly file?: ConfigFile | undefined;
}

export interface ResolvedOptions<T extends OptionTable> {
  readonly values: OptionValues<T>;
  readonly origins: { readonly [K in keyof T]: Origin };
  /** What was given, where anything was. */
  readonly given: { readonly [K in keyof T]?: Given };
}

/** The texts of one option as one source gave them, and that source as people know it. */
export interface Given {
  readonly origin: Origin;
  readonly where: string;
  readonly texts: readonly string[];
}

/** The configuration of a command that runs, which may be another one the next time that it is read. */
export interface Configuration<T extends OptionTable> {
  readonly table: T;
  /** The path of the configuration file. */
  readonly file: string | undefined;
  /** Reads it all again. @throws UsageError as {@link resolveOptions} and `readConfig` do */
  readonly read: () => ResolvedOptions<T>;
}

/** An option as it is in effect. */
export interface EffectiveOption {
  /** Without dashes. */
  readonly option: string;
  /** As it is written: several texts where it is repeatable, `[secret]` for a secret, none where it has no value. */
  readonly value: readonly string[];
  readonly origin: Origin;
  /** The flag, the variable or the key with its place in the file; null for a default. */
  readonly where: string | null;
}

/** An option as people see it. */
export function describeOption(spec: OptionSpec<unknown>, given: Given | undefined): EffectiveOption {
  const { name: option } = spec;
  if (given === undefined) {
    const text = defaultText(spec);
    return { option, value: text === undefined ? [] : [text], origin: 'default', where: null };
  }
  const { origin, where, texts } = given;
  const value = spec.repeatable === true ? texts : texts.slice(-1);
  return { option, value: spec.secret === true ? value.map(() => '[secret]') : value, origin, where };
}

function fromFlag(spec: OptionSpec<unknown>, value: OptionSources['flags'][string]): Given | undefined {
  if (value === undefined) return undefined;
  const texts = Array.isArray(value) ? (value as readonly string[]) : [String(value)];
  return { origin: 'flag', where: `option --${spec.name}`, texts };
}

function fromEnvironment(spec: OptionSpec<unknown>, text: string | undefined): Given | undefined {
  if (text === undefined || text === '') return undefined;
  const texts = spec.repeatable ? text.split(',').map((item) => item.trim()) : [text];
  return { origin: 'environment', where: `environment variable ${spec.env}`, texts };
}

function fromFile(spec: OptionSpec<unknown>, file: ConfigFile | undefined): Given | undefined {
  const entry = file?.entries.get(spec.name);
  if (file === undefined || entry === undefined) return undefined;
  const where = `key ${JSON.stringify(spec.name)} of ${file.path}:${entry.position}`;
  if (entry.value === undefined) {
    throw new UsageError(
      `${where}: expected ${spec.repeatable ? 'a list of plain values' : 'a plain value'}`,
    );
  }
  if (entry.list && !spec.repeatable) throw new UsageError(`${where}: expected one value, not a list`);
  return { origin: 'file', where, texts: entry.value };
}

function parseGiven(spec: OptionSpec<unknown>, given: Given): unknown {
  const values = given.texts.map((text) => {
    try {
      return spec.parse(text);
    } catch (error) {
      const shown = spec.secret === true ? 'the value' : JSON.stringify(text);
      throw new UsageError(`${given.where}: ${shown} is not valid: ${messageOf(error)}`);
    }
  });
  return spec.repeatable === true ? values : values.at(-1);
}

function unset(spec: OptionSpec<unknown>): unknown {
  if (spec.default !== undefined) return spec.default;
  if (spec.required === true) {
    throw new UsageError(
      `option --${spec.name} is required: give --${spec.name}=${spec.argument ?? ''}, the environment variable ${spec.env} or the key ${JSON.stringify(spec.name)} in the configuration file`,
    );
  }
  if (spec.repeatable === true) return [];
  return spec.argument === undefined ? false : undefined;
}

/**
 * Takes every option from the first source that has it: flag, environment, file, default.
 * @throws UsageError with one line for each thing that is wrong, naming the option, where its value came from,
 *   the value (never a secret's) and what is expected; also for keys of the file that the table does not know.
 */
export function resolveOptions<T extends OptionTable>(table: T, sources: OptionSources): ResolvedOptions<T> {
  const values: Record<string, unknown> = {};
  const origins: Record<string, Origin> = {};
  const found: Record<string, Given> = {};
  const problems = unknownKeys(table, sources.file);
  for (const [property, spec] of Object.entries(table)) {
    try {
      const given =
        fromFlag(spec, sources.flags[property]) ??
        fromEnvironment(spec, sources.env[spec.env]) ??
        fromFile(spec, sources.file);
      values[property] = given === undefined ? unset(spec) : parseGiven(spec, given);
      origins[property] = given === undefined ? 'default' : given.origin;
      if (given !== undefined) found[property] = given;
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      problems.push(error.message);
    }
  }
  if (problems.length > 0) throw new UsageError(problems.join('\n'));
  return {
    values: values as OptionValues<T>,
    origins: origins as ResolvedOptions<T>['origins'],
    given: found,
  };
}

function unknownKeys(table: OptionTable, file: ConfigFile | undefined): string[] {
  if (file === undefined) return [];
  const known = new Set(Object.values(table).map((spec) => spec.name));
  return [...file.entries]
    .filter(([name]) => !known.has(name))
    .map(
      ([name, entry]) =>
        `key ${JSON.stringify(name)} of ${file.path}:${entry.position}: no such option; known keys are ${[...known].sort().join(', ')}`,
    );
}
