import type { LedgerClient, SeenUsage } from '../../proxy/ledger-document.ts';
import { type Usage, USAGES } from '../../proxy/usage.ts';
import {
  type Effect,
  fixOf,
  type Source as Known,
  type Target,
  titleOf,
  verdictOn,
} from '../../proxy/verdicts.ts';
import { libraryOf, type Library, LIBRARY_FIXES } from './fixes.ts';
import { limitsOf } from './limits.ts';
import type { Source } from './source.ts';

/** Something that a client does, and what becomes of it on the target. */
export interface Finding {
  /** A usage, or `declared-through-proxy`: what the proxy has made durable stands in the way of the client's own declare. */
  readonly usage: Usage | 'declared-through-proxy';
  /** What the client does, as the end of a sentence. */
  readonly title: string;
  readonly effect: Effect;
  readonly count: number;
  readonly lastSeen: string;
  readonly example: string;
  /** What happens on the target. */
  readonly what: string;
  readonly source: Known;
  readonly fix: string;
  /** The same in the words of the client's library, where they are known. */
  readonly libraryFix: string | null;
}

/** A client, wherever it connected from and through whichever of the proxies. */
export interface ReportClient extends Pick<
  LedgerClient,
  'user' | 'vhost' | 'connectionName' | 'product' | 'version' | 'platform' | 'firstSeen' | 'lastSeen'
> {
  readonly library: Library | null;
  readonly addresses: readonly string[];
  readonly connections: { readonly now: number; readonly total: number };
  /** The worst of its findings. */
  readonly effect: Effect;
  readonly findings: readonly Finding[];
}

export interface ReportSource {
  readonly name: string;
  readonly mode: string;
  readonly brokerVersion: string | null;
  readonly startedAt: string;
  readonly evicted: number;
}

/** What `quorumbridge report --json` prints; docs/report.md explains the fields. */
export interface Report {
  readonly target: Target;
  readonly sources: readonly ReportSource[];
  readonly summary: { readonly clients: number } & Readonly<Record<Effect, number>>;
  /** The worst first. */
  readonly clients: readonly ReportClient[];
  /** What the ledgers can't know, a sentence each. */
  readonly limits: readonly string[];
}

export const EFFECTS = ['breaks', 'changes', 'fine'] as const satisfies readonly Effect[];

export interface JudgeSettings {
  readonly target: Target;
  /** Milliseconds since 1970. */
  readonly now: number;
  /** Seconds: what was last seen longer ago is left out; undefined: nothing is. */
  readonly since?: number | undefined;
}

/** What becomes of the clients in these ledgers on brokers of the target, without the proxy. */
export function judge(sources: readonly Source[], settings: JudgeSettings): Report {
  const { target, now } = settings;
  const clients = [...grouped(sources).values()].map((group) => clientOf(group, settings));
  const sorted = EFFECTS.flatMap((effect) => clients.filter((client) => client.effect === effect));
  const counted = (effect: Effect): number => clients.filter((client) => client.effect === effect).length;
  return {
    target,
    sources: sources.map(({ name, ledger: { mode, broker, startedAt, evicted } }) => {
      return { name, mode, brokerVersion: broker.version, startedAt, evicted };
    }),
    summary: {
      clients: clients.length,
      breaks: counted('breaks'),
      changes: counted('changes'),
      fine: counted('fine'),
    },
    clients: sorted,
    limits: limitsOf(sources, target, now),
  };
}

/** One client's entries, with whether the proxy that has each rewrites. */
type Group = { readonly entry: LedgerClient; readonly rewrites: boolean }[];

/** The same client at several addresses, and seen by several proxies. */
function grouped(sources: readonly Source[]): Map<string, Group> {
  const groups = new Map<string, Group>();
  for (const { ledger } of sources) {
    for (const entry of ledger.clients) {
      const { user, vhost, connectionName, product, version, platform } = entry;
      const key = JSON.stringify([user, vhost, connectionName, product, version, platform]);
      const group = groups.get(key) ?? [];
      group.push({ entry, rewrites: ledger.mode !== 'observe' });
      groups.set(key, group);
    }
  }
  return groups;
}

function clientOf(group: Group, settings: JudgeSettings): ReportClient {
  const entries = group.map(({ entry }) => entry);
  const { user, vhost, connectionName, product, version, platform } = entries[0]!;
  const usages = usagesOf(entries, settings);
  const examples = [...usages.values()].map(({ example }) => example);
  const library = libraryOf({ product, platform, connectionName }, examples);
  const found = [
    ...declaredThroughProxy(group, settings),
    ...[...usages].map(([usage, seen]) => findingOf(usage, seen, settings.target, library)),
  ];
  const findings = EFFECTS.flatMap((effect) => found.filter((finding) => finding.effect === effect));
  return {
    user,
    vhost,
    connectionName,
    product,
    version,
    platform,
    library: library ?? null,
    addresses: [...new Set(entries.map(({ address }) => address))].sort(),
    connections: {
      now: sum(entries.map(({ connections }) => connections.now)),
      total: sum(entries.map(({ connections }) => connections.total)),
    },
    firstSeen: earliest(entries.map(({ firstSeen }) => firstSeen)),
    lastSeen: latest(entries.map(({ lastSeen }) => lastSeen)),
    effect: findings[0]?.effect ?? 'fine',
    findings,
  };
}

/** Whether something counts: it was seen lately, or a connection that it was seen on may still be open. */
function isRecent(entry: LedgerClient, lastSeen: string, { since, now }: JudgeSettings): boolean {
  return since === undefined || entry.connections.needing > 0 || Date.parse(lastSeen) >= now - since * 1000;
}

/** All entries' usages, in the order of their list. */
function usagesOf(entries: readonly LedgerClient[], settings: JudgeSettings): Map<Usage, SeenUsage> {
  const merged = new Map<Usage, SeenUsage>();
  for (const usage of USAGES) {
    const seen = entries.flatMap((entry) => {
      const one = entry.usages[usage];
      return one !== undefined && isRecent(entry, one.lastSeen, settings) ? [one] : [];
    });
    if (seen.length === 0) continue;
    merged.set(usage, {
      count: sum(seen.map(({ count }) => count)),
      firstSeen: earliest(seen.map(({ firstSeen }) => firstSeen)),
      lastSeen: latest(seen.map(({ lastSeen }) => lastSeen)),
      example: seen[0]!.example,
    });
  }
  return merged;
}

function findingOf(usage: Usage, seen: SeenUsage, target: Target, library: Library | undefined): Finding {
  const { effect, what, source } = verdictOn(usage, target);
  const libraryFix = library === undefined ? undefined : LIBRARY_FIXES[library][usage];
  const { count, lastSeen, example } = seen;
  const fix = { fix: fixOf(usage), libraryFix: libraryFix ?? null };
  return { usage, title: titleOf(usage), effect, count, lastSeen, example, what, source, ...fix };
}

/**
 * Behind a proxy that rewrites, what exists is as the proxy declared it: the client's own declare is compared with that
 * as soon as the proxy is gone, on every version.
 */
function declaredThroughProxy(group: Group, settings: JudgeSettings): Finding[] {
  const entries = group.filter(({ rewrites }) => rewrites).map(({ entry }) => entry);
  const recent = entries.filter(
    (entry) => entry.lastRewrite !== null && isRecent(entry, entry.lastRewrite, settings),
  );
  const count = sum(
    recent.map(({ rewrites }) => (rewrites['queue.declare'] ?? 0) + (rewrites['exchange.declare'] ?? 0)),
  );
  if (count === 0) return [];
  return [
    {
      usage: 'declared-through-proxy',
      title: 'declares through the proxy what it would declare otherwise without it',
      effect: 'breaks',
      count,
      lastSeen: latest(recent.map(({ lastRewrite }) => lastRewrite!)),
      example: '',
      what: 'the queues and exchanges that the proxy made durable are compared with what the client itself declares: the channel is closed, 406 PRECONDITION_FAILED - inequivalent arg',
      source: 'measured',
      fix: 'declare them as the proxy does (queues durable with x-queue-type=quorum, exchanges durable), or delete them before the client leaves the proxy',
      libraryFix: null,
    },
  ];
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** ISO 8601 in UTC sorts as text. */
function earliest(times: readonly string[]): string {
  return times.reduce((first, time) => (time < first ? time : first));
}

function latest(times: readonly string[]): string {
  return times.reduce((last, time) => (time > last ? time : last));
}
