import { messageOf } from '../../common/errors.ts';
import type { YamlMap, YamlNode } from '../../common/yaml.ts';
import { type Environment, expand } from './expand.ts';
import { nearest } from './nearest.ts';

/** One pass over a file. Whoever finds something wrong notes it and goes on, so that one run tells everything. */
export interface Reading {
  readonly env: Environment;
  /** `at` is `line:column`, empty for what comes from the environment. */
  readonly problem: (at: string, message: string) => void;
  /** Keeps where an object and its keys stand, for what is checked when all is read. */
  readonly place: (values: object, places: Places) => void;
}

/** `line:column` of each key that was given, by property; under the empty property that of the whole. */
export type Places = ReadonlyMap<string, string>;

/** JSON Schema, draft 2020-12. */
export type Schema = Readonly<Record<string, unknown>>;

/** A sort of value. */
export interface Kind<T> {
  /** For documents, such as `duration`. */
  readonly label: string;
  readonly schema: Schema;
  /** Whether an empty text is a value; otherwise it counts as not given, as files with `ca_file: ""` mean it. */
  readonly takesEmpty?: boolean;
  /** Of a plain value: what it is once variables are expanded. @throws Error that says what is expected */
  readonly parse?: (text: string) => T;
  /** Of everything else. It notes what is wrong; what it then returns is not used. */
  readonly read?: (node: YamlNode, reading: Reading) => T;
  /** A value as it is written in the file, where that is not the value itself. */
  write?(value: T): string;
  /** The tables of what is below, for documents. */
  readonly below?: KeyTable;
}

/** One key of a file. */
interface KeySpec<T> {
  readonly name: string;
  /** Other names that files of other programs have for it. */
  readonly aliases?: readonly string[];
  /** Sentences without the default. */
  readonly description: string;
  /** The environment variable that overrides the file. */
  readonly env?: string;
  /** The value appears in no error. */
  readonly secret?: boolean;
  readonly required?: boolean;
  readonly default?: T;
  /** The default in words, where it is another key's or depends on something. */
  readonly defaultText?: string;
}

export interface Key<T> extends KeySpec<unknown> {
  readonly kind: Kind<unknown>;
  /** Never there: it carries the type of what a reader gets. */
  readonly value?: T;
}

/** Keys by the property that their value has in code. */
export type KeyTable = Readonly<Record<string, Key<unknown>>>;

/** The values of a table; what is not given and has no default is undefined. */
export type Values<T extends KeyTable> = { readonly [K in keyof T]: T[K] extends Key<infer V> ? V : never };

type Given<T, S> = S extends { readonly default: T } | { readonly required: true } ? T : T | undefined;

/** A key with a plain value, a list or a mapping of that kind. */
export function key<T, const S extends KeySpec<T>>(kind: Kind<T>, spec: S): Key<Given<T, S>> {
  return { ...spec, kind };
}

/** A key with a mapping of keys below it. Without it, all of them are as if not given. */
export function section<T extends KeyTable>(
  table: T,
  spec: Pick<KeySpec<Values<T>>, 'name' | 'description'>,
): Key<Values<T>> {
  const kind: Kind<Values<T>> = {
    label: 'mapping',
    schema: schemaOf(table),
    below: table,
    read: (node, reading) => readTable(table, node, reading),
  };
  return { ...spec, kind };
}

/** A list of mappings of these keys. */
export function listOf<T extends KeyTable>(table: T): Kind<readonly Values<T>[]> {
  return {
    label: 'list of mappings',
    schema: { type: 'array', items: schemaOf(table) },
    below: table,
    read(node, reading) {
      if (node.kind !== 'list') {
        reading.problem(node.at, 'expected a list');
        return [];
      }
      return node.items.map((item) => readTable(table, item, reading));
    },
  };
}

/** Of a mapping, or of nothing at all; the environment is looked at last and wins. */
export function readTable<T extends KeyTable>(table: T, node: YamlNode, reading: Reading): Values<T> {
  const values: Record<string, unknown> = {};
  const places = new Map([['', node.at]]);
  for (const [property, spec] of Object.entries(table)) values[property] = absent(spec, reading);
  if (node.kind === 'map') readEntries(table, node, reading, { values, places });
  else if (!isNull(node)) reading.problem(node.at, `expected a mapping with keys such as ${firstOf(table)}`);
  for (const [property, spec] of Object.entries(table)) {
    if (spec.required === true && !places.has(property) && (node.kind === 'map' || isNull(node)))
      reading.problem(node.at, `key "${spec.name}" is missing: ${spec.description}`);
    const override = spec.env === undefined ? undefined : reading.env[spec.env];
    if (override === undefined || override === '') continue;
    try {
      values[property] = spec.kind.parse!(override);
      places.set(property, '');
    } catch (error) {
      const shown = spec.secret === true ? 'its value' : JSON.stringify(override);
      reading.problem('', `environment variable ${spec.env}: ${shown} is not valid: ${messageOf(error)}`);
    }
  }
  reading.place(values, places);
  return values as Values<T>;
}

/** Nothing is given: sections are read all the same, for the defaults and the environment below them. */
function absent(spec: Key<unknown>, reading: Reading): unknown {
  if (spec.kind.below === undefined || spec.kind.label !== 'mapping') return spec.default;
  // What the environment has wrong is told when the section is read for good.
  const quiet = { ...reading, problem: () => {} };
  return spec.kind.read!({ kind: 'scalar', at: '', value: null, text: '' }, quiet);
}

function readEntries(
  table: KeyTable,
  node: YamlMap,
  reading: Reading,
  { values, places }: { values: Record<string, unknown>; places: Map<string, string> },
): void {
  const given = new Map<string, string>();
  for (const { key: name, at, value } of node.entries) {
    const [property, spec] =
      Object.entries(table).find(
        ([, { name: own, aliases = [] }]) => own === name || aliases.includes(name),
      ) ?? [];
    if (property === undefined || spec === undefined) {
      reading.problem(at, unknownKey(name, table));
      continue;
    }
    const other = given.get(property);
    given.set(property, name);
    if (other !== undefined) {
      const also = other === name ? 'is given twice' : `says the same as "${other}"`;
      reading.problem(at, `key "${name}" ${also}: give it once`);
    }
    if (isNull(value)) continue;
    const read = readValue({ ...spec, name }, value, reading);
    if (read === undefined) continue;
    values[property] = read.value;
    places.set(property, at);
  }
}

/** undefined where it counts as not given, and where a problem was noted. */
function readValue(spec: Key<unknown>, node: YamlNode, reading: Reading): { value: unknown } | undefined {
  const { kind, name } = spec;
  if (kind.parse === undefined || (node.kind !== 'scalar' && kind.read !== undefined))
    return { value: kind.read!(node, reading) };
  if (node.kind !== 'scalar') {
    reading.problem(node.at, `key "${name}": expected one plain value (${kind.label})`);
    return undefined;
  }
  let shown = spec.secret === true ? 'its value' : JSON.stringify(node.text);
  try {
    const { text, isFromEnvironment } = expand(node, reading.env);
    if (text === '' && kind.takesEmpty !== true) {
      if (spec.required === true) throw new Error(`expected ${kind.label}`);
      return undefined;
    }
    // A variable may hold a secret that has been put in the wrong place: then the reference alone is shown.
    if (!isFromEnvironment && spec.secret !== true) shown = JSON.stringify(text);
    return { value: kind.parse(text) };
  } catch (error) {
    reading.problem(node.at, `key "${name}": ${shown} is not valid: ${messageOf(error)}`);
    return undefined;
  }
}

function unknownKey(name: string, table: KeyTable): string {
  const known = Object.values(table).flatMap((spec) => [spec.name, ...(spec.aliases ?? [])]);
  const suggestion = nearest(name, known);
  const advice =
    suggestion === undefined ? `known keys are ${known.join(', ')}` : `did you mean "${suggestion}"?`;
  return `unknown key ${JSON.stringify(name)}: ${advice}`;
}

function firstOf(table: KeyTable): string {
  return Object.values(table)
    .slice(0, 3)
    .map(({ name }) => name)
    .join(', ');
}

function isNull(node: YamlNode): boolean {
  return node.kind === 'scalar' && node.value === null;
}

/** JSON Schema of a mapping with these keys, for editors. */
export function schemaOf(table: KeyTable): Schema {
  const properties: Record<string, Schema> = {};
  for (const spec of Object.values(table)) {
    const { kind, description, default: value } = spec;
    const plain = kind.parse === undefined ? kind.schema : { anyOf: [kind.schema, REFERENCE] };
    for (const name of [spec.name, ...(spec.aliases ?? [])]) {
      const isOwn = name === spec.name;
      properties[name] = {
        description: isOwn ? description : `The same as ${spec.name}.`,
        ...(isOwn && value !== undefined && kind.parse !== undefined
          ? { default: kind.write?.(value) ?? value }
          : {}),
        ...plain,
      };
    }
  }
  const required = Object.values(table)
    .filter((spec) => spec.required === true)
    .map(({ name }) => name);
  return {
    type: ['object', 'null'],
    properties,
    additionalProperties: false,
    ...(required.length === 0 ? {} : { type: 'object', required }),
  };
}

/** A text with a reference to an environment variable may stand for every plain value. */
const REFERENCE: Schema = { type: 'string', pattern: '\\$\\{' };
