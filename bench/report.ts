import { styleText } from 'node:util';
import type { Case } from './cases.ts';
import { median } from './peers.ts';
import { digits, judge, limitText, type Results, times, type Verdict, withUnit } from './results.ts';

// The table on the terminal: a line for each case, a column for each target.

const FIRST = 38;
const WIDTHS: Readonly<Record<string, number>> = { direct: 14, haproxy: 26 };
const COLUMN = 42;

/** What is known of a target in a case: figure, ratio, aim, and whether it is reached. */
function cell(one: Case, verdict: Verdict): string {
  const { value, ratio, limit, met, share, sharedMemory } = verdict;
  const parts = [withUnit(one, value)];
  if (sharedMemory !== undefined) parts.push(`(PSS ${digits(sharedMemory)})`);
  if (ratio !== undefined && ratio !== 1) parts.push(times(ratio));
  if (limit !== undefined) parts.push(`(${limitText(one, limit)})`);
  if (met !== undefined) parts.push(met ? 'met' : 'MISSED');
  if (share !== undefined) parts.push(`${digits(share * 100)} % CPU`);
  return parts.join(' ');
}

/** What direct has where the others are compared by their CPU, of which it has none. */
function directCell(found: Results['cases'][string]): string {
  const rates = found['direct']?.map(({ perSecond, roundTrip }) => perSecond ?? roundTrip);
  if (rates === undefined || rates.length === 0 || rates[0] === undefined) return '-';
  const value = digits(median(rates as number[]));
  return found['direct']![0]!.perSecond === undefined ? `${value} µs` : `${value}/s`;
}

/** The heads of the columns. */
export function headLine(targets: readonly string[]): string {
  const titles = targets.map((name) => name.padEnd(WIDTHS[name] ?? COLUMN));
  return styleText('bold', `${''.padEnd(FIRST)}${titles.join('')}`.trimEnd());
}

/** The line of a case. */
export function caseLine(one: Case, targets: readonly string[], found: Results['cases'][string]): string {
  const cells = targets.map((name) => {
    const verdict = judge(one, name, found);
    const text = verdict === undefined ? '-' : cell(one, verdict);
    return (name === 'direct' ? directCell(found) : text).padEnd(WIDTHS[name] ?? COLUMN);
  });
  return `${one.title.padEnd(FIRST)}${cells.join('')}`.trimEnd();
}

/** What is to know of the table. */
export function footLines(results: Results): string[] {
  const lines = [
    'µs: CPU of the target for each message or cycle (direct: what the load reaches without one), or added to the',
  ];
  lines.push('round trip; ×: as a ratio to HAProxy, /s to direct. Medians of the rounds.');
  for (const [name, why] of Object.entries(results.missing)) lines.push(`missing: ${name}: ${why}`);
  return lines;
}
