import type { ClientIdentity } from '../../amqp/handshake.ts';
import { connectionGroup } from '../identity.ts';
import type { PoolStats } from './stats.ts';

/** Identities that are kept at a time. The oldest goes first: it gets a shared connection again, as everybody does. */
const MOST = 10_000;

/** Milliseconds that an identity is kept after its last offence. */
const KEPT = 600_000;

/** Those who did on a shared connection what could have cost others theirs: their next connections are their own. */
export class Quarantine {
  readonly #stats: PoolStats;
  readonly #now: () => number;
  readonly #added: (identity: string, why: string) => void;
  /** By when it was added last, oldest first. */
  readonly #entries = new Map<string, { readonly why: string; readonly until: number }>();

  /**
   * @param added told of each that was not there yet
   * @param now milliseconds of a clock that never goes back
   */
  constructor(
    stats: PoolStats,
    added: (identity: string, why: string) => void,
    now: () => number = () => performance.now(),
  ) {
    this.#stats = stats;
    this.#added = added;
    this.#now = now;
  }

  get size(): number {
    return this.#entries.size;
  }

  add(identity: string, why: string): void {
    this.#expire();
    if (!this.#entries.delete(identity)) this.#added(identity, why);
    this.#entries.set(identity, { why, until: this.#now() + KEPT });
    if (this.#entries.size > MOST) this.#entries.delete(this.#entries.keys().next().value!);
    this.#stats.quarantined = this.#entries.size;
  }

  has(identity: string): boolean {
    return this.why(identity) !== undefined;
  }

  /** What it did, if it is in quarantine. */
  why(identity: string): string | undefined {
    this.#expire();
    return this.#entries.get(identity)?.why;
  }

  /** Forgets those whose time is over; to be called now and then, so that {@link size} is true. */
  sweep(): void {
    this.#expire();
  }

  #expire(): void {
    const now = this.#now();
    for (const [identity, { until }] of this.#entries) {
      if (until > now) break;
      this.#entries.delete(identity);
    }
    this.#stats.quarantined = this.#entries.size;
  }
}

/** What stays the same when a client connects again. */
export function nameOf(client: ClientIdentity, virtualHost: string, address: string): string {
  const { user, product, connectionName = '' } = client;
  return JSON.stringify([user, virtualHost, address, product, connectionGroup(connectionName)]);
}
