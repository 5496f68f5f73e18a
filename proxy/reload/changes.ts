import { describeOption, type ResolvedOptions } from '../../common/resolve.ts';
import type { ChangeDocument } from '../admin/documents.ts';
import type { proxyOptions } from '../options.ts';
import { FILES } from './scope.ts';

export type Resolved = ResolvedOptions<typeof proxyOptions>;

type Table = typeof proxyOptions;

type Property = keyof Table;

/** Digests of the files that are read at a reload, by the option that names them. */
export type Digests = Readonly<Partial<Record<(typeof FILES)[number], string>>>;

/** A configuration as it was read. */
export interface Reading {
  readonly resolved: Resolved;
  readonly digests: Digests;
}

/** What differs between what runs and what was read. @param restart the options that a running proxy can't change */
export function changesOf(
  table: Table,
  running: Reading,
  read: Reading,
  restart: readonly Property[],
): ChangeDocument[] {
  const changes: ChangeDocument[] = [];
  for (const property of Object.keys(table) as Property[]) {
    const { value: before } = describeOption(table[property], running.resolved.given[property]);
    const { value: after } = describeOption(table[property], read.resolved.given[property]);
    const named = FILES.find((file) => file === property);
    const rewritten = named !== undefined && running.digests[named] !== read.digests[named];
    if (JSON.stringify(before) === JSON.stringify(after) && !rewritten) continue;
    const effect = restart.includes(property) ? 'restart' : 'applied';
    changes.push({ option: table[property].name, before, after, effect });
  }
  return changes;
}

/** What was read, but for the options that a running proxy can't change: they stay what they are. */
export function withoutRestart(running: Reading, read: Reading, restart: readonly Property[]): Reading {
  const kept = (from: object, to: object): object => {
    const merged: Record<string, unknown> = { ...to };
    for (const property of restart) merged[property] = (from as Record<string, unknown>)[property];
    return merged;
  };
  const { values, origins, given } = read.resolved;
  const before = running.resolved;
  return {
    resolved: {
      values: kept(before.values, values) as Resolved['values'],
      origins: kept(before.origins, origins) as Resolved['origins'],
      given: kept(before.given, given),
    },
    digests: kept(running.digests, read.digests),
  };
}
