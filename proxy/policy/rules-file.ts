import { encodeField } from '../../amqp/values.ts';
import { PRESETS } from '../../common/contract.ts';
import { oneOf, seconds } from '../../common/options.ts';
import { type YamlEntry, type YamlNode, parseYaml } from '../../common/yaml.ts';
import { type ArgumentEdits, type EditingAction, readEdits } from './edits.ts';
import { type Glob, compileGlob } from './glob.ts';
import type { PolicyRule, RuleMatch } from './policies.ts';
import type { QueueTreatment } from './policy.ts';
import type { PresetName } from './presets.ts';
import { parseRange } from './range.ts';
import { Reader } from './reader.ts';

/** A rules file: the file's own rules, in their order, and the preset that comes behind them. */
export interface RulesFile {
  readonly preset: PresetName | undefined;
  readonly rules: readonly PolicyRule[];
}

/** How long `expires` may be, in seconds: RabbitMQ's clock for it is coarse, and 30 days are as good as for ever. */
const EXPIRES = { min: 1, max: 30 * 86_400 };

const FOR_QUEUES = ['quorum', 'classic-durable', 'leave'] as const;
const FOR_EXCHANGES = ['durable', 'leave'] as const;
export const ACTIONS = [...FOR_QUEUES, 'durable'] as const;

/** The keys of a rules file, of a rule in it and of what a rule matches. */
export const FILE_KEYS = ['preset', 'rules'];
export const RULE_KEYS = ['name', 'match', 'action', 'expires', 'arguments'];
export const MATCH_KEYS = ['queue', 'exchange', 'vhost', 'user', 'broker'];

type Action = (typeof ACTIONS)[number];
type Keys = ReadonlyMap<string, YamlEntry>;

/**
 * Reads a rules file of YAML or JSON; docs/rules.md says what it holds.
 * @param path names the text in errors
 * @param whereOf how rules are told where they are, from their `line:column`
 * @throws UsageError with a line `path:line:column: what is wrong` for each thing that is
 */
export function parseRules(
  path: string,
  source: string,
  whereOf = (at: string): string => `${path}:${at}`,
): RulesFile {
  const reader = new Reader(path);
  const keys = reader.keys(parseYaml(path, source), 'a rules file', FILE_KEYS);
  const preset = keys?.get('preset')?.value;
  const list = keys?.get('rules')?.value;
  if (list !== undefined && list.kind !== 'list') reader.problem(list.at, 'expected a list of rules');
  const rules = (list?.kind === 'list' ? list.items : []).flatMap((node, index) => {
    const rule = readRule(reader, node, index + 1, whereOf(node.at));
    return rule === undefined ? [] : [rule];
  });
  const file = {
    preset: preset === undefined ? undefined : reader.parsed(preset, 'a preset', oneOf(...PRESETS)),
    rules,
  };
  reader.finish();
  return file;
}

function readRule(reader: Reader, node: YamlNode, number: number, where: string): PolicyRule | undefined {
  const keys = reader.keys(node, 'a rule', RULE_KEYS);
  if (keys === undefined) return undefined;
  const name = keys.get('name')?.value;
  const rule = name === undefined ? undefined : reader.parsed(name, 'a name', parseName);
  const { match, kind } = readMatch(reader, keys.get('match')?.value);
  const action = readAction(reader, node, keys, kind);
  if (action === undefined) return undefined;
  const treatment = { rule: rule ?? `rule ${number}`, where };
  if (action === 'quorum' || action === 'classic-durable') {
    const expires = readExpires(reader, keys.get('expires'));
    const edits = withReplacedExpiry(readArguments(reader, keys.get('arguments'), action), expires);
    return {
      match,
      queue: { ...treatment, action, ...(expires === undefined ? {} : { expires }), ...edits },
    };
  }
  refuseQueueKeys(reader, keys, action);
  const queue: QueueTreatment = { ...treatment, action: 'leave', set: [], remove: [] };
  return {
    match,
    ...(action === 'leave' && kind !== 'exchange' ? { queue } : {}),
    ...(kind !== 'queue' ? { exchange: { ...treatment, action } } : {}),
  };
}

function parseName(text: string): string {
  if (!/^[^\p{Cc}]{1,100}$/u.test(text)) throw new Error('expected 1 to 100 characters in one line');
  return text;
}

/** What a rule's names are names of; undefined: it has none. */
type Kind = 'queue' | 'exchange' | undefined;

function readMatch(reader: Reader, node: YamlNode | undefined): { match: RuleMatch; kind: Kind } {
  if (node === undefined || (node.kind === 'scalar' && node.value === null))
    return { match: {}, kind: undefined };
  const keys = reader.keys(node, 'match', MATCH_KEYS) ?? new Map<string, YamlEntry>();
  const globs = (key: string): Glob[] | undefined => {
    const entry = keys.get(key);
    return entry === undefined ? undefined : reader.oneOrMore(entry.value, 'a pattern', parseGlob);
  };
  const exchange = keys.get('exchange');
  if (exchange !== undefined && keys.has('queue'))
    reader.problem(exchange.at, 'a rule is for queues or for exchanges: write two rules');
  const broker = keys.get('broker')?.value;
  const name = globs('queue') ?? globs('exchange');
  const virtualHost = globs('vhost');
  const user = globs('user');
  const range =
    broker === undefined ? undefined : reader.parsed(broker, 'versions such as ">=4.0 <4.3"', parseRange);
  return {
    match: {
      ...(name === undefined ? {} : { name }),
      ...(virtualHost === undefined ? {} : { virtualHost }),
      ...(user === undefined ? {} : { user }),
      ...(range === undefined ? {} : { broker: range }),
    },
    kind: keys.has('queue') ? 'queue' : exchange === undefined ? undefined : 'exchange',
  };
}

function parseGlob(text: string): Glob {
  if (Buffer.byteLength(text) > 255)
    throw new Error('no name has more than 255 octets, so nothing matches it');
  return compileGlob(text);
}

function readAction(reader: Reader, node: YamlNode, keys: Keys, kind: Kind): Action | undefined {
  const entry = keys.get('action');
  const choices = kind === 'queue' ? FOR_QUEUES : kind === 'exchange' ? FOR_EXCHANGES : ACTIONS;
  if (entry === undefined)
    return reader.problem(node.at, `a rule needs an action: one of ${choices.join(', ')}`);
  return reader.parsed(entry.value, `one of ${choices.join(', ')}`, oneOf<Action>(...choices));
}

function refuseQueueKeys(reader: Reader, keys: Keys, action: 'durable' | 'leave'): void {
  for (const key of ['expires', 'arguments']) {
    const entry = keys.get(key);
    if (entry === undefined) continue;
    const why = action === 'leave' ? 'what is left alone has none' : 'it is for queues';
    reader.problem(entry.at, `"${key}" doesn't go with "action: ${action}": ${why}`);
  }
}

function readExpires(reader: Reader, entry: YamlEntry | undefined): QueueTreatment['expires'] {
  if (entry === undefined) return undefined;
  return reader.parsed(entry.value, 'a duration such as 30m, or none', parseExpires);
}

/** An expiry that is removed and given is set: so that a declare which has it already is not edited. */
function withReplacedExpiry(edits: ArgumentEdits, expires: QueueTreatment['expires']): ArgumentEdits {
  if (typeof expires !== 'number' || !edits.remove.includes('x-expires')) return edits;
  return {
    set: [...edits.set, ['x-expires', encodeField(BigInt(expires))]],
    remove: edits.remove.filter((key) => key !== 'x-expires'),
  };
}

/** Milliseconds. */
function parseExpires(text: string): number | 'none' {
  return text === 'none' ? text : Math.round(seconds(EXPIRES)(text) * 1000);
}

function readArguments(reader: Reader, entry: YamlEntry | undefined, action: EditingAction): ArgumentEdits {
  return entry === undefined ? { set: [], remove: [] } : readEdits(reader, entry.value, action);
}
