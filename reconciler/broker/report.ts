import { canonical } from '../../common/kube/json.ts';
import type { Json } from '../../common/kube/types.ts';
import type { Difference } from './compare.ts';
import type { Refusal } from './import.ts';
import { type Definition, type DefinitionKind, idOf } from './kinds.ts';
import type { Outcome } from './translate.ts';

/** How many objects there are of each result. */
export type ResultCounts = Readonly<Record<Outcome['result'], number>>;

/** Objects of a kind of which the same is to be said. */
export interface OutcomeGroup {
  readonly kind: DefinitionKind;
  readonly result: Outcome['result'];
  readonly why: string;
  readonly changes: Outcome['changes'];
  /** Of all objects, also those that are not named. */
  readonly count: number;
  /** By virtual host; `vhost` is missing for what is in none. */
  readonly objects: readonly { readonly vhost?: string; readonly names: readonly string[] }[];
}

/** What became of a broker's definitions; no secrets are in it. */
export interface DefinitionsReport {
  readonly counts: ResultCounts;
  /** Kinds of which there is something, in order. */
  readonly kinds: readonly (ResultCounts & { readonly kind: DefinitionKind })[];
  /** All that was not kept, as far as there is room. */
  readonly groups: readonly OutcomeGroup[];
  /** Groups for which there was no room. */
  readonly groupsLeftOut: number;
}

const RESULTS = ['kept', 'changed', 'dropped', 'refused', 'different', 'missing'] as const;

/** A ConfigMap has at most 1 MiB; other things are in it as well. */
const SIZE_MAX = 600 * 1024;
/** How many groups are listed, and names in each: the first of these that fits. */
const LIMITS = [
  { groups: 10_000, names: 10_000 },
  { groups: 1000, names: 100 },
  { groups: 200, names: 10 },
] as const;
/** Fits always: no name has more than 255 octets, and RabbitMQ's words and values are cut. */
const SMALLEST = { groups: 20, names: 2 };

/** The outcomes of a translation, with what the broker made of it. */
export function settledOutcomes(
  outcomes: readonly Outcome[],
  refusals: readonly Refusal[],
  differences: readonly Difference[],
): Outcome[] {
  const later = new Map<string, Pick<Outcome, 'result' | 'why'>>();
  for (const { definition, fields } of differences) {
    later.set(
      idOf(definition),
      fields === undefined
        ? { result: 'missing', why: 'the broker took it and does not have it' }
        : { result: 'different', why: `the broker has it with another ${fields.join(', ')}` },
    );
  }
  for (const { definition, said } of refusals) {
    const why = mayQuote(definition) ? 'the broker refuses it' : said;
    later.set(idOf(definition), { result: 'refused', why });
  }
  return outcomes.map((outcome) => ({ ...outcome, ...later.get(outcome.id) }));
}

/** Whether what a broker says of an object may hold its secrets: hashes, and passwords in URIs. */
function mayQuote({ kind, object }: Definition): boolean {
  if (kind === 'parameters') return object['component'] !== 'operator_policy';
  return kind === 'users' || kind === 'global_parameters';
}

/** The report about these objects, small enough for a ConfigMap. */
export function reportOf(outcomes: readonly Outcome[]): DefinitionsReport {
  const kinds = new Map<DefinitionKind, Outcome[]>();
  const groups = new Map<string, Outcome[]>();
  for (const outcome of outcomes) {
    push(kinds, outcome.kind, outcome);
    if (outcome.result === 'kept') continue;
    const { kind, result, why, changes } = outcome;
    push(groups, canonical([kind, result, why, changes as unknown as Json]), outcome);
  }
  const whole = {
    counts: countsOf(outcomes),
    kinds: [...kinds].map(([kind, members]) => ({ kind, ...countsOf(members) })),
  };
  const within = (limit: { groups: number; names: number }): DefinitionsReport => ({
    ...whole,
    groups: [...groups.values()].slice(0, limit.groups).map((members) => groupOf(members, limit.names)),
    groupsLeftOut: Math.max(0, groups.size - limit.groups),
  });
  const fitting = LIMITS.map(within).find((report) => Buffer.byteLength(JSON.stringify(report)) <= SIZE_MAX);
  return fitting ?? within(SMALLEST);
}

function push<K>(groups: Map<K, Outcome[]>, key: K, outcome: Outcome): void {
  const members = groups.get(key);
  if (members === undefined) groups.set(key, [outcome]);
  else members.push(outcome);
}

function countsOf(outcomes: readonly Outcome[]): ResultCounts {
  const count = (result: Outcome['result']): number => outcomes.filter((one) => one.result === result).length;
  return Object.fromEntries(RESULTS.map((result) => [result, count(result)])) as ResultCounts;
}

function groupOf(members: readonly Outcome[], namesMax: number): OutcomeGroup {
  const { kind, result, why, changes } = members[0]!;
  const byVhost = new Map<string | undefined, string[]>();
  for (const { vhost, name } of members.slice(0, namesMax)) {
    const names = byVhost.get(vhost);
    if (names === undefined) byVhost.set(vhost, [name]);
    else names.push(name);
  }
  const objects = [...byVhost].map(([vhost, names]) => ({
    ...(vhost === undefined ? {} : { vhost }),
    names,
  }));
  return { kind, result, why, changes, count: members.length, objects };
}

/** Of the lines in a status: it stays small, and the report has the rest. */
const LINES_MAX = 20;
const LINE_MAX = 256;

/** What was not kept and why, a line for each group, those with the most objects first; bounded, for a status. */
export function differencesOf({ groups }: DefinitionsReport): string[] {
  return groups
    .toSorted((a, b) => b.count - a.count)
    .slice(0, LINES_MAX)
    .map(lineOf);
}

function lineOf({ kind, result, why, changes, count, objects }: OutcomeGroup): string {
  const shown = (value: Json | undefined): string => (value === undefined ? 'none' : JSON.stringify(value));
  const how = changes.map(({ field, from, to }) => `${field} ${shown(from)} to ${shown(to)}`).join(', ');
  const reasons = [why, ...changes.map((change) => change.why)].filter((text) => text !== '');
  const names = objects.flatMap((each) => each.names).slice(0, 3);
  const more = count > names.length ? ', …' : '';
  const line = `${count} ${kind.replaceAll('_', ' ')} ${result} (${names.join(', ')}${more}): ${how === '' ? '' : `${how}: `}${[...new Set(reasons)].join('; ')}`;
  return line.length <= LINE_MAX ? line : `${line.slice(0, LINE_MAX - 1)}…`;
}
