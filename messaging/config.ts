import { readFileSync } from 'node:fs';
import { UsageError, messageOf } from '../common/errors.ts';
import { type YamlEntry, type YamlMap, type YamlNode, parseYaml } from '../common/yaml.ts';
import { connectionOf } from './config/connection.ts';
import type { Environment } from './config/expand.ts';
import { type Places, readTable } from './config/keys.ts';
import { exchangesOf } from './config/exchanges.ts';
import { FLAT_KEYS, type RootValues, rootTable } from './config/table.ts';
import type { ConnectionConfig, ExchangeConfig } from './config/types.ts';

export interface MessagingConfig {
  /** False: programs are not to consume or publish. */
  readonly enabled: boolean;
  readonly connection: ConnectionConfig;
  readonly publisher: RootValues['publisher'];
  readonly consumer: RootValues['consumer'];
  readonly exchanges: readonly ExchangeConfig[];
  /** What works but is probably not meant or not safe, with its place; the caller tells it. */
  readonly warnings: readonly string[];
}

/**
 * Reads the file of a messaging configuration; docs/messaging.md has its keys.
 * @throws UsageError when the file can't be read, and as `parseMessaging` does
 */
export function loadConfig(path: string, env: Environment): MessagingConfig {
  let source: string;
  try {
    source = readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`file ${path} cannot be read: ${messageOf(error)}`);
  }
  return parseMessaging(path, source, env);
}

/**
 * Reads a messaging configuration from its text, with the variables of the environment that it refers to and that override it.
 * @param path names the text in errors
 * @throws UsageError with a line for each thing that is wrong, with `path:line:column` where it is in the text: first for keys and
 *   values, and only where those are right for what doesn't fit together
 */
export function parseMessaging(path: string, source: string, env: Environment): MessagingConfig {
  return parse(path, source, env, (own) => own);
}

/** What a configuration wants of one virtual host: nothing about who connects to it, and how. */
export interface TopologyConfig extends Pick<MessagingConfig, 'exchanges' | 'warnings'> {
  readonly vhost: string;
}

/**
 * Reads the topology of a messaging configuration, for who has a connection of their own. Of its other keys only the names are
 * looked at, and no environment variable counts: a reference to one has to have a default.
 * @param path names the text in errors
 * @throws UsageError as `parseMessaging` does
 */
export function parseTopology(path: string, source: string): TopologyConfig {
  const { connection, exchanges, warnings } = parse(path, source, {}, withoutConnection);
  return { vhost: connection.vhost, exchanges, warnings };
}

function parse(
  path: string,
  source: string,
  env: Environment,
  pick: (own: YamlMap) => YamlMap,
): MessagingConfig {
  const problems: Note[] = [];
  const warnings: Note[] = [];
  const places = new WeakMap<object, Places>();
  const reading = {
    env,
    problem: (at: string, message: string) => void problems.push({ at, message }),
    place: (values: object, of: Places) => void places.set(values, of),
  };
  const own = ownPart(parsed(path, source), reading.problem);
  const root = readTable(rootTable, own.kind === 'map' ? withFlatKeysMoved(pick(own)) : own, reading);
  const check = {
    problem: reading.problem,
    warning: (at: string, message: string) => void warnings.push({ at, message }),
    placeOf: (values: object, property: string) =>
      places.get(values)?.get(property) ?? places.get(values)?.get('') ?? '',
    isGiven: (values: object, property: string) => places.get(values)?.has(property) ?? false,
  };
  const stopOnProblems = (): void => {
    if (problems.length > 0) throw new UsageError(lines(path, problems).join('\n'));
  };
  // What isn't understood by itself can't be held against the rest.
  stopOnProblems();
  const connection = connectionOf(root, check);
  const exchanges = exchangesOf(root, check);
  stopOnProblems();
  const { enabled, publisher, consumer } = root;
  return { enabled, connection, publisher, consumer, exchanges, warnings: lines(path, warnings) };
}

/** What is no YAML may be a password: what the parser quotes of it is left out. */
function parsed(path: string, source: string): YamlNode {
  try {
    return parseYaml(path, source);
  } catch (error) {
    throw new UsageError(messageOf(error).replaceAll(/(:\d+:\d+: [^:\n]*):.*$/gm, '$1'));
  }
}

interface Note {
  /** `line:column`; empty for what the environment gave. */
  readonly at: string;
  readonly message: string;
}

/** In the order of the file. */
function lines(path: string, notes: readonly Note[]): string[] {
  const place = ({ at }: Note): number[] => at.split(':').map(Number);
  return notes
    .toSorted((a, b) => {
      const [[line = 0, column = 0], [otherLine = 0, otherColumn = 0]] = [place(a), place(b)];
      return line - otherLine || column - otherColumn;
    })
    .map(({ at, message }) => (at === '' ? message : `${path}:${at}: ${message}`));
}

/** The mapping below `rabbitmq:`, where a file has one: its other parts are other programs'. */
function ownPart(root: YamlNode, problem: (at: string, message: string) => void): YamlNode {
  if (root.kind !== 'map') return root;
  const own = root.entries.find(({ key }) => key === 'rabbitmq');
  if (own === undefined) return root;
  for (const { key, at } of root.entries) {
    // Programs have a `url` or a `host` of their own; a topology beside `rabbitmq:` is nobody else's.
    if (key === 'exchanges') problem(at, `key "${key}" belongs below rabbitmq: indent it`);
  }
  return own.value;
}

/** The url may say the virtual host. */
const TOPOLOGY_KEYS: ReadonlySet<string> = new Set(['url', 'vhost', 'exchanges']);

/** The same mapping without those keys that have nothing to do with what is declared; unknown ones stay, to be told. */
function withoutConnection(map: YamlMap): YamlMap {
  const known = new Set([...Object.values(rootTable).map(({ name }) => name), ...Object.keys(FLAT_KEYS)]);
  return { ...map, entries: map.entries.filter(({ key }) => TOPOLOGY_KEYS.has(key) || !known.has(key)) };
}

/** The same mapping with the keys that other programs have at its top where they belong. */
function withFlatKeysMoved(map: YamlMap): YamlMap {
  let entries = [...map.entries];
  for (const entry of map.entries) {
    const target = Object.hasOwn(FLAT_KEYS, entry.key) ? FLAT_KEYS[entry.key]! : undefined;
    if (target === undefined) continue;
    const moved: YamlEntry = { ...entry, key: target.key };
    entries = entries.filter((other) => other !== entry);
    const section = entries.find(({ key }) => key === target.section);
    if (section === undefined) {
      const value: YamlMap = { kind: 'map', at: entry.at, entries: [moved] };
      entries.push({ key: target.section, at: entry.at, value });
    } else if (section.value.kind === 'map') {
      const value: YamlMap = { ...section.value, entries: [...section.value.entries, moved] };
      entries[entries.indexOf(section)] = { ...section, value };
    }
  }
  return { ...map, entries };
}
