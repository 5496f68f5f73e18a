import { readFileSync } from 'node:fs';
import { LineCounter, type Node, isMap, isScalar, isSeq, parseDocument } from 'yaml';
import { UsageError, messageOf } from './errors.ts';

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

/** The text as written, so that `0755` or a long number reaches the option's own parser unchanged. */
function scalarText(node: Node | null): string | undefined {
  if (!isScalar(node) || node.value === null) return undefined;
  return typeof node.value === 'string' ? node.value : node.source;
}

function texts(node: Node | null): readonly string[] | undefined {
  const items = isSeq<Node | null>(node) ? node.items : [node];
  const found = items.map(scalarText).filter((text) => text !== undefined);
  return found.length === items.length ? found : undefined;
}

/**
 * Parses a configuration of YAML (or JSON, which is YAML). Keys whose value is null count as not given.
 * @throws UsageError naming the path, line and column of what is not YAML, not a mapping, or given twice.
 */
export function parseConfig(path: string, source: string): ConfigFile {
  const lines = new LineCounter();
  const position = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${line}:${col}`;
  };
  const document = parseDocument(source, { lineCounter: lines, prettyErrors: false });
  const [error] = document.errors;
  if (error !== undefined) throw new UsageError(`${path}:${position(error.pos[0])}: ${error.message}`);
  const entries = new Map<string, ConfigEntry>();
  const root = document.contents;
  if (root === null || (isScalar(root) && root.value === null)) return { path, entries };
  if (!isMap<Node, Node | null>(root)) {
    throw new UsageError(
      `${path}:${position(root.range?.[0] ?? 0)}: expected a mapping from option names to values`,
    );
  }
  for (const { key, value } of root.items) {
    if (value === null || (isScalar(value) && value.value === null)) continue;
    const at = position(key.range?.[0] ?? 0);
    const name = scalarText(key);
    if (name === undefined) throw new UsageError(`${path}:${at}: expected the name of an option as key`);
    entries.set(name, { value: texts(value), list: isSeq(value), position: at });
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
