// What `npm run bench` has found, in tables: the last whole run is kept in bench/results.json.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Case, CASES } from '../../../bench/cases.ts';
import { median } from '../../../bench/peers.ts';
import {
  COMPARED,
  digits,
  judge,
  limitText,
  type Results,
  times,
  type Verdict,
  withUnit,
} from '../../../bench/results.ts';
import { HOME } from '../processes.ts';
import { table } from './table.ts';

const MODES = ['transparent', 'pool'] as const;

/** Targets that are called otherwise than their command. */
const HEADS: Readonly<Record<string, string>> = { haproxy: 'HAProxy' };

/** The figures that are kept. */
export function keptResults(): Results {
  return JSON.parse(readFileSync(join(HOME, 'bench/results.json'), 'utf8')) as Results;
}

/** The case of the name, with what was found. */
function found(results: Results, name: string): { one: Case; figures: Results['cases'][string] } {
  const one = CASES.find((other) => other.name === name);
  const figures = results.cases[name];
  if (one === undefined || figures === undefined)
    throw new Error(
      `bench/results.json has no case ${name}: make it by npm run bench -- --json bench/results.json`,
    );
  return { one, figures };
}

/** A verdict against its aim: as a ratio where that is judged. */
function judged(one: Case, { value, ratio, met }: Verdict): string {
  const other = COMPARED[one.measure];
  if (other !== undefined && ratio === undefined)
    throw new Error(`bench/results.json has no ${other} in the case ${one.name}`);
  const text = ratio === undefined ? withUnit(one, value) : `${times(ratio)} ${HEADS[other!] ?? other}`;
  return met === false ? `**${text}**` : text;
}

/** All cases with an aim: what is reached and what is aimed at. */
function aims(results: Results): string {
  const rows = CASES.filter(({ limits }) => limits !== undefined).map((one) => {
    const { figures } = found(results, one.name);
    const cells = MODES.flatMap((mode) => {
      const verdict = judge(one, mode, figures);
      return verdict === undefined ? ['', ''] : [judged(one, verdict), limitText(one, one.limits![mode])];
    });
    return [one.title, ...cells];
  });
  const { made, machine, versions } = results;
  const what = `${made}: Node ${machine.node}, HAProxy ${versions['haproxy'] ?? 'missing'}, ${machine.cpus} CPUs`;
  return table([what, 'transparent', 'aim', 'pool', 'aim'], rows);
}

/** A cell of a target in a case. */
type Cell = (one: Case, target: string, figures: Results['cases'][string]) => string;

/** The figure of a case itself, with its unit. */
const figure: Cell = (one, target, figures) => {
  const verdict = judge(one, target, figures);
  return verdict === undefined ? '' : withUnit(one, verdict.value);
};

/** The median of one kind of figure, in microseconds. */
const microseconds =
  (key: 'cpu' | 'brokerCpu'): Cell =>
  (_, target, figures) => {
    const values = (figures[target] ?? []).map((round) => round[key]).filter((value) => value !== undefined);
    return values.length === 0 ? '' : `${digits(median(values))} µs`;
  };

/** Part of the target in its CPU and the broker's. */
const share: Cell = (one, target, figures) => {
  const part = judge(one, target, figures)?.share;
  return part === undefined ? '' : `${digits(part * 100)} %`;
};

function tableOf(
  results: Results,
  targets: readonly string[],
  rows: readonly (readonly [name: string, cell: Cell, title?: string])[],
): string {
  const lines = rows.map(([name, cell, title]) => {
    const { one, figures } = found(results, name);
    return [title ?? one.title, ...targets.map((target) => cell(one, target, figures))];
  });
  return table(['', ...targets.map((target) => HEADS[target] ?? target)], lines);
}

/** The tables by the name in their marker. */
export function performanceTables(results: Results = keptResults()): Map<string, string> {
  const proxies = ['haproxy', ...MODES];
  const all = ['direct', ...proxies];
  const figures = (pattern: RegExp) =>
    CASES.filter(({ name }) => pattern.test(name)).map(({ name }) => [name, figure] as const);
  return new Map([
    ['performance', aims(results)],
    [
      'performance of messages',
      tableOf(results, proxies, figures(/^(?:publish|deliver|paced|many|latency)/)),
    ],
    ['performance in memory', tableOf(results, proxies, figures(/^memory/))],
    [
      'performance of connections',
      tableOf(results, all, [
        ...figures(/^cycle/),
        ['quorum-cycle', figure],
        ['quorum-cycle', microseconds('brokerCpu'), 'CPU of RabbitMQ for each'],
      ]),
    ],
    [
      'performance with RabbitMQ',
      tableOf(results, all, [
        ['quorum', figure],
        ['quorum', microseconds('brokerCpu'), 'CPU of RabbitMQ for each'],
        ['quorum', microseconds('cpu'), 'CPU of the proxy for each'],
        ['quorum', share, "the proxy's part"],
      ]),
    ],
  ]);
}
