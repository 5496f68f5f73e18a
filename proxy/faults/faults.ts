import type { Logger } from '../../common/log.ts';
import type { DelayDocument, FaultsDocument, SeveredDocument } from '../admin/documents.ts';
import type { Conversation } from '../conversation.ts';
import type { Connect } from '../link.ts';
import type { Session } from '../session.ts';
import { DelayableLink } from './delayable-link.ts';
import { type Direction, DIRECTIONS, type FaultStats, type Side } from './fault.ts';

/** Delays that run at a time. */
const DELAYS_MAX = 10;

/** Whose connections are meant; undefined: everybody's. */
interface Whose {
  readonly user: string | undefined;
  readonly vhost: string | undefined;
}

export interface SeverRequest extends Whose {
  readonly side: Side;
  /** The number of one client's connection. */
  readonly id: number | undefined;
  /** How many of those that are meant, picked at random: this part of them in percent, or, where it is given, so many. */
  readonly share: number;
  readonly count: number | undefined;
}

export interface DelayRequest extends Whose {
  readonly milliseconds: number;
  readonly seconds: number;
  readonly direction: Direction | 'both';
}

interface Delay extends DelayRequest {
  /** Milliseconds since 1970. */
  readonly until: number;
}

/** What can be broken off by a reset. */
export interface Severable {
  reset(): void;
}

export interface FaultsSettings {
  /** Without it nothing can be injected, and connections are made as ever. */
  readonly enabled: boolean;
  /** All that there are, at any time. */
  readonly sessions: Iterable<Session>;
  /** In mode pool: open connections to the broker by user and virtual host. */
  readonly upstreams:
    | ((user: string | undefined, virtualHost: string | undefined) => Severable[])
    | undefined;
  readonly stats: FaultStats;
  readonly log: Logger;
}

/** Faults that are made on purpose, to rehearse what clients do when a network, a node or a broker fails. */
export class Faults {
  readonly enabled: boolean;
  readonly isPool: boolean;
  readonly #settings: FaultsSettings;
  /** By the numbers of their sessions. */
  readonly #links = new Map<number, DelayableLink>();
  readonly #delays = new Set<Delay>();

  constructor(settings: FaultsSettings) {
    this.#settings = settings;
    this.enabled = settings.enabled;
    this.isPool = settings.upstreams !== undefined;
    if (this.enabled) {
      settings.log.warn(
        'FAULT INJECTION IS ON (--fault-injection): whoever may use the admin API can break connections off and slow them down',
      );
    }
  }

  /** Makes clients' ways to the broker such that they can be delayed, where that may be wanted. */
  over(connect: Connect): Connect {
    if (!this.enabled) return connect;
    return (client) => {
      const link = new DelayableLink(connect, client, () => this.#links.delete(client.id));
      this.#links.set(client.id, link);
      return link;
    };
  }

  /** Connections of clients that the broker has let in. */
  #sessionsOf(whose: Whose): Session[] {
    return [...this.#settings.sessions].filter(
      ({ state, conversation }) => state === 'open' && isMeant(whose, conversation!),
    );
  }

  /**
   * Resets connections. In mode pool those to the broker are shared: they are chosen from by themselves.
   * @returns undefined: there are none that are meant
   */
  sever(request: SeverRequest): SeveredDocument | undefined {
    const { side, user, vhost, id, count, share } = request;
    const { upstreams, stats, log } = this.#settings;
    const choose = <T>(all: readonly T[]): T[] => pick(all, count ?? Math.ceil((all.length * share) / 100));
    const meant = this.#sessionsOf(request).filter((session) => id === undefined || session.id === id);
    const sessions = upstreams !== undefined && side === 'broker' ? [] : choose(meant);
    const shared = upstreams === undefined || side === 'client' ? [] : choose(upstreams(user, vhost));
    const severed = {
      clients: side === 'broker' ? 0 : sessions.length,
      broker: side === 'client' ? 0 : (upstreams === undefined ? sessions : shared).length,
    };
    if (sessions.length + shared.length === 0) return undefined;
    stats.injected.sever++;
    log.warn({ ...request, severed }, 'fault injected by the admin API: connections are severed');
    for (const session of sessions) session.sever(side);
    for (const upstream of shared) upstream.reset();
    return severed;
  }

  /** Holds octets back, those of clients that come later included. @returns undefined: too many delays run already */
  delay(request: DelayRequest): DelayDocument | undefined {
    if (this.#delays.size >= DELAYS_MAX) return undefined;
    const { stats, log } = this.#settings;
    const delay: Delay = { ...request, until: Date.now() + request.seconds * 1000 };
    this.#delays.add(delay);
    this.#applyAll();
    stats.injected.delay++;
    const document = this.#document(delay);
    log.warn(document, 'fault injected by the admin API: octets are delayed');
    return document;
  }

  /** Ends all that runs. @returns how many delays ended */
  end(): number {
    return this.#end([...this.#delays], 'ended by the admin API');
  }

  /** The broker has let a client in. */
  opened(session: Session): void {
    if (this.#delays.size > 0) this.#apply(session);
  }

  /** Ends delays that are over; to be called a few times a second. */
  sweep(): void {
    if (this.#delays.size === 0) return;
    const now = Date.now();
    this.#end(
      [...this.#delays].filter(({ until }) => until <= now),
      'its time is over',
    );
  }

  #end(delays: readonly Delay[], why: string): number {
    if (delays.length === 0) return 0;
    for (const delay of delays) {
      this.#delays.delete(delay);
      this.#settings.log.info({ ...this.#document(delay), why }, 'an injected delay has ended');
    }
    this.#applyAll();
    return delays.length;
  }

  #applyAll(): void {
    for (const session of this.#sessionsOf({ user: undefined, vhost: undefined })) this.#apply(session);
  }

  /** Of several delays the longest holds. */
  #apply({ id, conversation }: Session): void {
    const link = this.#links.get(id);
    const own = [...this.#delays].filter((delay) => isMeant(delay, conversation!));
    for (const direction of DIRECTIONS) {
      const here = own.filter((delay) => delay.direction === 'both' || delay.direction === direction);
      link?.delay(direction, Math.max(0, ...here.map(({ milliseconds }) => milliseconds)));
    }
  }

  #document(delay: Delay): DelayDocument {
    const { milliseconds, direction, user, vhost, until } = delay;
    return {
      milliseconds,
      direction,
      user: user ?? null,
      vhost: vhost ?? null,
      until: new Date(until).toISOString(),
      connections: this.#sessionsOf(delay).length,
    };
  }

  document(): FaultsDocument {
    return {
      enabled: this.enabled,
      injected: { ...this.#settings.stats.injected },
      delays: [...this.#delays].map((delay) => this.#document(delay)),
    };
  }
}

function isMeant({ user, vhost }: Whose, { identity, virtualHost }: Conversation): boolean {
  return (user === undefined || identity.user === user) && (vhost === undefined || virtualHost === vhost);
}

/** So many of them at random, at most. */
function pick<T>(all: readonly T[], count: number): T[] {
  const left = [...all];
  const picked: T[] = [];
  while (picked.length < count && left.length > 0)
    picked.push(...left.splice(Math.floor(Math.random() * left.length), 1));
  return picked;
}
