import { exampleOf } from './example.ts';
import { connectionGroup } from './identity.ts';
import type { LedgerClient, LedgerDocument, LedgerSummary, Mode, SeenUsage } from './ledger-document.ts';
import type { ClientRecord, ClientRecords, ClientWho } from './record.ts';
import type { MeaningChange, RewrittenMethod } from './rules/rule.ts';
import { type Usage, USAGES, usagesOf, usagesOfHandshake } from './usage.ts';
import { REFUSED } from './verdicts.ts';

export interface LedgerSettings {
  readonly mode: Mode;
  /** Clients that are remembered at most. */
  readonly limit: number;
  /** Milliseconds since 1970; default: the system's clock. */
  readonly now?: () => number;
}

interface Seen {
  count: number;
  readonly first: number;
  last: number;
  readonly example: string;
}

/** One client; its fields are the parts of its key. Times are milliseconds since 1970. */
class Entry {
  readonly who: readonly (string | undefined)[];
  readonly first: number;
  last: number;
  /** The last frame that was rewritten; in observe mode the last one that RabbitMQ 4 would refuse. */
  lastRewrite: number | undefined;
  open = 0;
  /** Open connections that the proxy was needed for. */
  needing = 0;
  total = 0;
  readonly rewrites = new Map<RewrittenMethod, number>();
  readonly changes = new Map<MeaningChange, number>();
  readonly usages = new Map<Usage, Seen>();

  constructor(who: readonly (string | undefined)[], now: number) {
    this.who = who;
    this.first = now;
    this.last = now;
  }

  used(usage: Usage, now: number, example: () => string): void {
    const seen = this.usages.get(usage);
    if (seen === undefined) this.usages.set(usage, { count: 1, first: now, last: now, example: example() });
    else {
      seen.count++;
      seen.last = now;
    }
  }
}

/** Where a connection's client is remembered. */
interface ConnectedHost {
  readonly uses: (record: Connected, usages: readonly Usage[], example: () => string) => void;
  readonly needs: (record: Connected) => void;
  readonly ended: (record: Connected) => void;
}

/** What one connection tells: it goes to its client's entry, also when that was forgotten meanwhile. */
class Connected implements ClientRecord {
  readonly key: string;
  readonly entry: Entry;
  /** The proxy was needed for it. */
  isNeeding = false;
  hasEnded = false;
  readonly #host: ConnectedHost;

  constructor(host: ConnectedHost, key: string, entry: Entry) {
    this.#host = host;
    this.key = key;
    this.entry = entry;
  }

  said(method: number, frame: Uint8Array): void {
    this.#host.uses(this, usagesOf(method, frame), () => exampleOf(method, frame));
  }

  rewritten(method: RewrittenMethod): void {
    increment(this.entry.rewrites, method);
    this.#host.needs(this);
  }

  changed(change: MeaningChange): void {
    increment(this.entry.changes, change);
  }

  ended(): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.#host.ended(this);
  }
}

/**
 * Who is connected through the proxy, what they do that RabbitMQ 4 refuses or takes otherwise, and what was rewritten for
 * them. Bounded: beyond the limit the client that has been gone for the longest is forgotten, and where all are
 * connected the one that came first.
 */
export class Ledger implements ClientRecords {
  /** Clients that were forgotten to make room. */
  evicted = 0;
  /** When the last frame was rewritten for any client, in milliseconds since 1970; as {@link Entry.lastRewrite}. */
  lastRewrite: number | undefined;
  /** Usages seen, of all clients since the start. */
  readonly usages: Readonly<Record<Usage, number>>;
  readonly #usages: Record<Usage, number>;
  readonly #mode: Mode;
  readonly #limit: number;
  readonly #now: () => number;
  readonly #startedAt: number;
  /** Clients with open connections, and those without: each by key, the one that has been there for the longest first. */
  readonly #present = new Map<string, Entry>();
  readonly #gone = new Map<string, Entry>();
  /** Open connections that the proxy was needed for, those of forgotten clients included, and when the last of them ended. */
  #needing = 0;
  #unneededSince: number;
  #brokerVersion: string | undefined;
  readonly #host: ConnectedHost = {
    uses: (record, usages, example) => this.#uses(record, usages, example),
    needs: (record) => this.#needs(record, this.#now()),
    ended: (record) => this.#ended(record),
  };

  constructor({ mode, limit, now = Date.now }: LedgerSettings) {
    this.#mode = mode;
    this.#limit = limit;
    this.#now = now;
    this.#startedAt = now();
    this.#unneededSince = this.#startedAt;
    this.#usages = Object.fromEntries(USAGES.map((usage) => [usage, 0])) as Record<Usage, number>;
    this.usages = this.#usages;
  }

  connected(who: ClientWho, broker: string | undefined): ClientRecord {
    const now = this.#now();
    const { user, virtualHost, product, version, platform, address } = who;
    const group = who.connectionName === undefined ? undefined : connectionGroup(who.connectionName);
    const parts = [user, virtualHost, group, product, version, platform, address];
    const key = JSON.stringify(parts);
    this.#brokerVersion = broker ?? this.#brokerVersion;
    const entry = this.#present.get(key) ?? this.#arrived(key, parts, now);
    entry.open++;
    entry.total++;
    entry.last = now;
    const record = new Connected(this.#host, key, entry);
    this.#uses(record, usagesOfHandshake(who.frameMax), () => `frame_max ${who.frameMax}`);
    return record;
  }

  #arrived(key: string, parts: readonly (string | undefined)[], now: number): Entry {
    let entry = this.#gone.get(key);
    if (entry === undefined) {
      entry = new Entry(parts, now);
      if (this.#present.size + this.#gone.size >= this.#limit) this.#evict();
    } else this.#gone.delete(key);
    this.#present.set(key, entry);
    return entry;
  }

  #evict(): void {
    const from = this.#gone.size > 0 ? this.#gone : this.#present;
    for (const oldest of from.keys()) {
      from.delete(oldest);
      this.evicted++;
      return;
    }
  }

  #uses(record: Connected, usages: readonly Usage[], example: () => string): void {
    if (usages.length === 0) return;
    const now = this.#now();
    for (const usage of usages) {
      record.entry.used(usage, now, example);
      this.#usages[usage]++;
      if (this.#mode === 'observe' && REFUSED.has(usage)) this.#needs(record, now);
    }
    record.entry.last = now;
  }

  #needs(record: Connected, now: number): void {
    const { entry } = record;
    entry.lastRewrite = now;
    this.lastRewrite = now;
    if (record.isNeeding || record.hasEnded) return;
    record.isNeeding = true;
    entry.needing++;
    this.#needing++;
  }

  #ended({ key, entry, isNeeding }: Connected): void {
    const now = this.#now();
    entry.open--;
    entry.last = now;
    if (isNeeding) {
      entry.needing--;
      this.#needing--;
      this.#unneededSince = now;
    }
    if (entry.open === 0 && this.#present.get(key) === entry) {
      this.#present.delete(key);
      this.#gone.set(key, entry);
    }
  }

  /** Clients that are remembered, by whether they have needed the proxy. */
  counts(): { readonly needing: number; readonly others: number } {
    let needing = 0;
    for (const entry of this.#entries()) if (entry.lastRewrite !== undefined) needing++;
    return { needing, others: this.#present.size + this.#gone.size - needing };
  }

  summary(): LedgerSummary {
    const { needing, others } = this.counts();
    return summaryOf(this.#mode, this.evicted, {
      unneededSince: this.#needing > 0 ? null : time(this.#unneededSince),
      lastRewrite: this.lastRewrite === undefined ? null : time(this.lastRewrite),
      clients: needing + others,
      needing,
    });
  }

  /** All that is remembered: clients that are connected first, and those that were seen last before others. */
  document(): LedgerDocument {
    const now = this.#now();
    return {
      mode: this.#mode,
      startedAt: time(this.#startedAt),
      broker: { version: this.#brokerVersion ?? null },
      evicted: this.evicted,
      summary: this.summary(),
      clients: [...this.#entries()].reverse().map((entry) => clientOf(entry, now)),
    };
  }

  *#entries(): Iterable<Entry> {
    yield* this.#gone.values();
    yield* this.#present.values();
  }
}

/** Says in one line what the figures mean. */
export function summaryOf(mode: Mode, evicted: number, figures: Omit<LedgerSummary, 'text'>): LedgerSummary {
  const { unneededSince, lastRewrite, clients, needing } = figures;
  const observing = mode === 'observe';
  const none = observing ? 'no client has used what RabbitMQ 4 refuses' : 'no client has needed a rewrite';
  const say = (): string => {
    if (lastRewrite === null) return `${none} since ${unneededSince} (the start of the proxy)`;
    const forgotten = evicted === 0 ? '' : ` (besides ${evicted} forgotten)`;
    const some = `${needing} of ${clients} clients${forgotten}`;
    if (unneededSince !== null) return `${none} since ${unneededSince}; ${some} did before`;
    return observing
      ? `${some} would need the proxy on RabbitMQ 4; the last operation that it refuses was at ${lastRewrite}`
      : `${some} ${needing === 1 ? 'needs' : 'need'} the proxy; the last rewrite was at ${lastRewrite}`;
  };
  return { text: say(), ...figures };
}

function clientOf(entry: Entry, now: number): LedgerClient {
  const [user, vhost, connectionName, product, version, platform, address] = entry.who;
  return {
    user: user ?? null,
    vhost: vhost!,
    connectionName: connectionName ?? null,
    product: product ?? null,
    version: version ?? null,
    platform: platform ?? null,
    address: address!,
    needsProxy: entry.lastRewrite !== undefined,
    connections: { now: entry.open, needing: entry.needing, total: entry.total },
    firstSeen: time(entry.first),
    lastSeen: time(entry.open > 0 ? now : entry.last),
    lastRewrite: entry.lastRewrite === undefined ? null : time(entry.lastRewrite),
    rewrites: Object.fromEntries(entry.rewrites),
    changes: Object.fromEntries(entry.changes),
    usages: Object.fromEntries([...entry.usages].map(([usage, seen]) => [usage, seenOf(seen)])),
  };
}

function seenOf({ count, first, last, example }: Seen): SeenUsage {
  return { count, firstSeen: time(first), lastSeen: time(last), example };
}

function increment<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

/** ISO 8601 in UTC, to the second. */
function time(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, 19)}Z`;
}
