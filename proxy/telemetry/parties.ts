import type { EndReason } from './account.ts';

/** Pairs of virtual host and user that are told apart. */
export const PARTIES_MAX = 100;

/** Characters of a name that are shown. */
const NAME_MAX = 64;

/** What stands for those beyond {@link PARTIES_MAX}. */
const OTHER = 'other';

/** Connections of one user to one virtual host. */
export class Party {
  readonly labels: { readonly vhost: string; readonly user: string };
  /** Since the start, and now. */
  opened = 0;
  open = 0;
  readonly closed = new Map<EndReason, number>();

  constructor(vhost: string, user: string) {
    this.labels = { vhost, user };
  }
}

/**
 * Connections by virtual host and user, for labels of metrics: the first {@link PARTIES_MAX} pairs have counts of their own,
 * all others share one. Only names that the broker has let in come here.
 */
export class Parties {
  /** Connections that the broker hasn't let in. */
  readonly nobody = new Party('', '');
  readonly #named = new Map<string, Party>();
  #others: Party | undefined;

  of(virtualHost: string, user: string | undefined): Party {
    const vhost = virtualHost.slice(0, NAME_MAX);
    const name = (user ?? '').slice(0, NAME_MAX);
    const key = `${vhost.length}:${vhost}${name}`;
    const known = this.#named.get(key);
    if (known !== undefined) return known;
    if (this.#named.size >= PARTIES_MAX) return (this.#others ??= new Party(OTHER, OTHER));
    const party = new Party(vhost, name);
    this.#named.set(key, party);
    return party;
  }

  /** Those with connections of their own, and the others together. */
  *letIn(): Iterable<Party> {
    yield* this.#named.values();
    if (this.#others !== undefined) yield this.#others;
  }
}
