import type { MODES } from '../common/contract.ts';
import type { MeaningChange, RewrittenMethod } from './rules/rule.ts';
import type { Usage } from './usage.ts';

/**
 * The shape of GET /clients, which `quorumbridge report` and others read: docs/report.md explains the fields. Fields are
 * added, never renamed or removed. Times are ISO 8601 in UTC.
 */

export type Mode = (typeof MODES)[number];

/** How often a client was seen to do something, when, and one example of it. */
export interface SeenUsage {
  readonly count: number;
  readonly firstSeen: string;
  readonly lastSeen: string;
  readonly example: string;
}

/** One client: all connections of the same user, virtual host, name, product, version, platform and address. */
export interface LedgerClient {
  readonly user: string | null;
  readonly vhost: string;
  readonly connectionName: string | null;
  readonly product: string | null;
  readonly version: string | null;
  readonly platform: string | null;
  readonly address: string;
  readonly needsProxy: boolean;
  readonly connections: { readonly now: number; readonly needing: number; readonly total: number };
  readonly firstSeen: string;
  readonly lastSeen: string;
  readonly lastRewrite: string | null;
  readonly rewrites: Readonly<Partial<Record<RewrittenMethod, number>>>;
  readonly changes: Readonly<Partial<Record<MeaningChange, number>>>;
  readonly usages: Readonly<Partial<Record<Usage, SeenUsage>>>;
}

/** Whether clients still need the proxy, in figures and in one line. */
export interface LedgerSummary {
  readonly text: string;
  /** Since when no client has needed the proxy; null: one does now. */
  readonly unneededSince: string | null;
  readonly lastRewrite: string | null;
  readonly clients: number;
  readonly needing: number;
}

/** The answer to GET /clients. */
export interface LedgerDocument {
  readonly mode: Mode;
  readonly startedAt: string;
  /** The version is null until the first client has been let in. */
  readonly broker: { readonly version: string | null };
  readonly evicted: number;
  readonly summary: LedgerSummary;
  readonly clients: readonly LedgerClient[];
}
