import type { PauseDocument, PoolDocument, StatsDocument } from '../admin/documents.ts';
import { summaryOf } from '../ledger.ts';
import type { LedgerClient, LedgerDocument, SeenUsage } from '../ledger-document.ts';

// What several workers say, as one proxy would say it. There is one document at least.

/** Limits that are each worker's own; of the others each has its part. */
const OWN_LIMITS = /^max-(?:connections-per|channels|frame|buffer-per)|^publish-rate$/;

const BREAKER_STATES = ['open', 'half-open', 'closed'] as const;

type Counts = Readonly<Record<string, number>>;

function total<T>(all: readonly T[], of: (one: T) => number): number {
  return all.reduce((sum, one) => sum + of(one), 0);
}

function addCounts<T extends Counts>(all: readonly T[]): T {
  const sums: Record<string, number> = {};
  for (const counts of all)
    for (const [name, count] of Object.entries(counts)) sums[name] = (sums[name] ?? 0) + count;
  return sums as T;
}

/** Of times in ISO 8601, or nothing. */
function latest(times: readonly (string | null)[]): string | null {
  return times.reduce((one, other) => (one === null || (other !== null && other > one) ? other : one), null);
}

function earliest(times: readonly string[]): string {
  return times.reduce((one, other) => (other < one ? other : one));
}

export function mergePauses(all: readonly PauseDocument[]): PauseDocument[] {
  const byHost = new Map<string, PauseDocument>();
  for (const pause of all) {
    const known = byHost.get(pause.vhost);
    const connections = pause.connections + (known?.connections ?? 0);
    byHost.set(pause.vhost, { ...pause, connections });
  }
  return [...byHost.values()];
}

export function mergeStats(all: readonly StatsDocument[]): StatsDocument {
  const first = all[0]!;
  const sum = (of: (one: StatsDocument) => number): number => total(all, of);
  const { limits } = first.limits;
  const breaker = BREAKER_STATES.map((state) => all.find((one) => one.breaker.state === state)).find(
    (one) => one !== undefined,
  )!.breaker;
  const summaries = all.map(({ ledger }) => ledger);
  const areNeeded = summaries.some(({ unneededSince }) => unneededSince === null);
  return {
    ...first,
    startedAt: earliest(all.map(({ startedAt }) => startedAt)),
    uptimeSeconds: Math.max(...all.map(({ uptimeSeconds }) => uptimeSeconds)),
    draining: all.some(({ draining }) => draining),
    connections: {
      active: sum(({ connections }) => connections.active),
      total: sum(({ connections }) => connections.total),
    },
    octets: {
      fromClients: sum(({ octets }) => octets.fromClients),
      fromBackend: sum(({ octets }) => octets.fromBackend),
    },
    frames: {
      fromClients: sum(({ frames }) => frames.fromClients),
      fromBackend: sum(({ frames }) => frames.fromBackend),
    },
    rewrites: addCounts(all.map(({ rewrites }) => rewrites)),
    meaningChanges: addCounts(all.map(({ meaningChanges }) => meaningChanges)),
    queuesDeleted: sum(({ queuesDeleted }) => queuesDeleted),
    errors: addCounts(all.map(({ errors }) => errors)),
    ledger: summaryOf(first.mode, 0, {
      unneededSince: areNeeded ? null : latest(summaries.map(({ unneededSince }) => unneededSince)),
      lastRewrite: latest(summaries.map(({ lastRewrite }) => lastRewrite)),
      clients: total(summaries, ({ clients }) => clients),
      needing: total(summaries, ({ needing }) => needing),
    }),
    limits: {
      ...first.limits,
      limits: Object.fromEntries(
        Object.entries(limits).map(([name, value]) => [
          name,
          OWN_LIMITS.test(name) ? value : sum((one) => one.limits.limits[name]!),
        ]),
      ),
      hits: addCounts(all.map((one) => one.limits.hits)),
    },
    breaker: {
      ...breaker,
      opened: sum((one) => one.breaker.opened),
      refused: sum((one) => one.breaker.refused),
    },
    paused: mergePauses(all.flatMap(({ paused }) => paused)),
    process: addCounts(all.map((one) => one.process)),
  };
}

export function mergePools(all: readonly PoolDocument[]): PoolDocument {
  return {
    connections: total(all, ({ connections }) => connections),
    maxUpstreamConnections: total(all, ({ maxUpstreamConnections }) => maxUpstreamConnections),
    logins: total(all, ({ logins }) => logins),
    groups: all.flatMap(({ groups }) => groups),
  };
}

/** A client whose connections are at several workers is one. */
export function mergeLedgers(all: readonly LedgerDocument[]): LedgerDocument {
  const byWho = new Map<string, LedgerClient>();
  for (const client of all.flatMap(({ clients }) => clients)) {
    const { user, vhost, connectionName, product, version, platform, address } = client;
    const who = JSON.stringify([user, vhost, connectionName, product, version, platform, address]);
    const known = byWho.get(who);
    byWho.set(who, known === undefined ? client : mergeClients(known, client));
  }
  const clients = [...byWho.values()];
  const evicted = total(all, (one) => one.evicted);
  const summaries = all.map(({ summary }) => summary);
  const areNeeded = summaries.some(({ unneededSince }) => unneededSince === null);
  return {
    mode: all[0]!.mode,
    startedAt: earliest(all.map(({ startedAt }) => startedAt)),
    broker: all.map(({ broker }) => broker).find(({ version }) => version !== null) ?? { version: null },
    evicted,
    summary: summaryOf(all[0]!.mode, evicted, {
      unneededSince: areNeeded ? null : latest(summaries.map(({ unneededSince }) => unneededSince)),
      lastRewrite: latest(summaries.map(({ lastRewrite }) => lastRewrite)),
      clients: clients.length,
      needing: clients.filter(({ needsProxy }) => needsProxy).length,
    }),
    clients,
  };
}

function mergeClients(one: LedgerClient, other: LedgerClient): LedgerClient {
  const usages: Record<string, SeenUsage> = { ...one.usages };
  for (const [usage, seen] of Object.entries(other.usages)) {
    const known = usages[usage];
    usages[usage] =
      known === undefined
        ? seen
        : {
            count: known.count + seen.count,
            firstSeen: earliest([known.firstSeen, seen.firstSeen]),
            lastSeen: latest([known.lastSeen, seen.lastSeen])!,
            example: known.example,
          };
  }
  return {
    ...one,
    needsProxy: one.needsProxy || other.needsProxy,
    connections: addCounts([one.connections, other.connections]),
    firstSeen: earliest([one.firstSeen, other.firstSeen]),
    lastSeen: latest([one.lastSeen, other.lastSeen])!,
    lastRewrite: latest([one.lastRewrite, other.lastRewrite]),
    rewrites: addCounts<Counts>([one.rewrites, other.rewrites]),
    changes: addCounts<Counts>([one.changes, other.changes]),
    usages,
  };
}
