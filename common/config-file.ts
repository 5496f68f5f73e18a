import { readFileSync } from 'node:fs';
import { UsageError, messageOf } from './errors.ts';
import { type YamlNode, parseYaml } from './yaml.ts';

/** One key of a configuration file. */
export interface ConfigEntry {
  /** The plain values as texts; undefined when there is something else than a plain value or a list of them. */
  readonly value: readonly string[] | undefined;
  readonly list: boolean;
  /** `line:column` of the key, both from 1. */
  readonly position: string;
}

/** A configuration file: a mapping from option names to plain values or lists of them. */
export interface ConfigFile {
  readonly path: string;
  readonly entries: ReadonlyMap<string, ConfigEntry>;
}

function isNull(node: YamlNode): boolean {
  return node.kind === 'scalar' && node.value === null;
}

/** The texts as written, so that `0755` or a long number reaches the option's own parser unchanged. */
function texts(node: YamlNode): readonly string[] | undefined {
  const items = node.kind === 'list' ? node.items : [node];
  const found = items.flatMap((item) => (item.kind === 'scalar' && !isNull(item) ? [item.text] : []));
  return found.length === items.length ? found : undefined;
}

/**
 * Parses a configuration of YAML (or JSON, which is YAML). Keys whose value is null count as not given.
 * @throws UsageError naming the path, line and column of what is not YAML, not a mapping, or given twice.
 */
export function parseConfig(path: string, source: string): ConfigFile {
  const entries = new Map<string, ConfigEntry>();
  const root = parseYaml(path, source);
  if (isNull(root)) return { path, entries };
  if (root.kind !== 'map')
    throw new UsageError(`${path}:${root.at}: expected a mapping from option names to values`);
  for (const { key, at, value } of root.entries) {
    if (!isNull(value)) entries.set(key, { value: texts(value), list: value.kind === 'list', position: at });
  }
  return { path, entries };
}

/**
 * Reads a configuration file.
 * @throws UsageError when the file can't be read, and as `parseConfig` does.
 */
export function readConfig(path: string): ConfigFile {
  let source: string;
  try {
    source = readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`configuration file ${path} cannot be read: ${messageOf(error)}`);
  }
  return parseConfig(path, source);
}
