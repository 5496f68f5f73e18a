import { METHOD, REPLY } from '../../amqp/constants.ts';
import type { Logger } from '../../common/log.ts';
import { parseAddress } from '../access/address.ts';
import { type AccessRules, refusesAddress, refusesLogin, refusesVirtualHost } from '../access/rules.ts';
import type { LimitsDocument } from '../admin/documents.ts';
import { type Limit, type Refusal, tooMany } from './limit.ts';
import type { LimitSettings } from './options.ts';
import { PublishRate, type PublishTurn } from './publish-rate.ts';
import { Tally } from './tally.ts';
import { TokenBucket } from './token-bucket.ts';

/** Lines of the log about one limit are so many milliseconds apart. */
const LOG_INTERVAL = 60_000;

/** A connection whose virtual host is open. */
export interface Guest {
  /** Where publishes are limited. */
  readonly turn: PublishTurn | undefined;
  /** The connection has ended. */
  leave(): void;
}

interface Settings {
  readonly limits: LimitSettings;
  readonly access: AccessRules;
  /** Where what goes beyond a limit is counted. */
  readonly hits: Record<Limit, number>;
  readonly log: Logger;
}

/** Who is let in, and how much each has. */
export class Admission {
  readonly #limits: LimitSettings;
  readonly #access: AccessRules;
  readonly #hits: Record<Limit, number>;
  readonly #log: Logger;
  readonly #addresses = new Tally();
  readonly #users = new Tally();
  readonly #virtualHosts = new Tally();
  readonly #handshakes: TokenBucket | undefined;
  readonly #rates = new Map<string, PublishRate>();
  readonly #loggedAt = new Map<Limit, number>();

  constructor({ limits, access, hits, log }: Settings) {
    this.#limits = limits;
    this.#access = access;
    this.#hits = hits;
    this.#log = log;
    const { handshakes } = limits;
    this.#handshakes =
      handshakes > 0 ? new TokenBucket(handshakes, handshakes, performance.now()) : undefined;
  }

  /** Whether connections from this address are taken now. @param address as node:net gives it */
  admit(address: string): Refusal | undefined {
    const { handshakes } = this.#limits;
    const unwanted = refusesAddress(this.#access, parseAddress(address));
    if (unwanted !== undefined) {
      const text = `a client from ${address} is refused: ${unwanted}`;
      return { code: 'ACCESS_REFUSED', replyCode: REPLY.accessRefused, text, method: 0, silent: true };
    }
    if (this.#handshakes?.take(performance.now()) !== false) return undefined;
    const text = `more than ${handshakes} new connections in a second (--handshake-rate): try again later`;
    return this.#exceeds('handshake-rate', text) ? tooMany(text) : undefined;
  }

  /**
   * A client has connected.
   * @param address as node:net gives it
   * @returns undefined where it may stay: {@link leave} has to be called when it is gone
   */
  arrive(address: string): Refusal | undefined {
    const { perAddress } = this.#limits;
    const name = nameOf(address);
    if (perAddress > 0 && this.#addresses.of(name) >= perAddress) {
      const text = `${address} has ${perAddress} connections, its limit (--max-connections-per-address)`;
      if (this.#exceeds('max-connections-per-address', text)) return tooMany(text);
    }
    this.#addresses.add(name);
    return undefined;
  }

  /** A client that has arrived is gone. */
  leave(address: string): void {
    this.#addresses.remove(nameOf(address));
  }

  /**
   * A client logs in.
   * @param user undefined where the mechanism doesn't tell it
   * @param isToldWhy whether it wants to be told why it isn't let in (capability authentication_failure_close)
   */
  logIn(
    user: string | undefined,
    mechanism: string | undefined,
    address: string,
    isToldWhy: () => boolean,
  ): Refusal | undefined {
    const text = refusesLogin(this.#access, user, mechanism, parseAddress(address));
    if (text === undefined) return undefined;
    return { code: 'ACCESS_REFUSED', replyCode: REPLY.accessRefused, text, method: 0, silent: !isToldWhy() };
  }

  /** A client opens a virtual host. */
  open(user: string | undefined, virtualHost: string): Refusal | undefined {
    const text = refusesVirtualHost(this.#access, user, virtualHost);
    return text === undefined ? undefined : notAllowed('ACCESS_REFUSED', text);
  }

  /** The broker has let a client in: the user is who it says, and the virtual host is there. */
  enter(user: string | undefined, virtualHost: string): Refusal | Guest {
    const { perUser, perVirtualHost, publishes } = this.#limits;
    const name = user ?? '';
    // The texts are RabbitMQ's (rabbit_reader of 3.10 to 4.3), for its own limits of this kind.
    if (perVirtualHost > 0 && this.#virtualHosts.of(virtualHost) >= perVirtualHost) {
      const text = `access to vhost '${virtualHost}' refused for user '${name}': connection limit (${perVirtualHost}) is reached`;
      if (this.#exceeds('max-connections-per-vhost', text)) return notAllowed('CONNECTION_LIMIT', text);
    }
    if (perUser > 0 && this.#users.of(name) >= perUser) {
      const text = `connection refused for user '${name}': user connection limit (${perUser}) is reached`;
      if (this.#exceeds('max-connections-per-user', text)) return notAllowed('CONNECTION_LIMIT', text);
    }
    this.#users.add(name);
    this.#virtualHosts.add(virtualHost);
    const turn = publishes > 0 ? this.#rateOf(name).join() : undefined;
    const leave = (): void => {
      this.#users.remove(name);
      this.#virtualHosts.remove(virtualHost);
      turn?.leave();
    };
    return { turn, leave };
  }

  #rateOf(user: string): PublishRate {
    const { publishes, enforce } = this.#limits;
    let rate = this.#rates.get(user);
    if (rate === undefined) {
      const text = `user '${user}' publishes more than ${publishes} messages a second (--publish-rate)`;
      rate = new PublishRate(publishes, enforce, { hit: () => this.#exceeds('publish-rate', text) });
      this.#rates.set(user, rate);
    }
    return rate;
  }

  /** The channel_max that clients are offered at most; 0: what the broker offers. */
  get channelMax(): number {
    return this.#limits.enforce ? this.#limits.channels : 0;
  }

  /** Channels above this one are told to {@link channelAbove}, where nothing is done about them. */
  get channelAlarm(): number {
    const { enforce, channels } = this.#limits;
    return enforce || channels === 0 ? Infinity : channels;
  }

  /** A client has opened, or wants to be able to open, more channels than it may. */
  channelAbove(): void {
    const { channels } = this.#limits;
    this.#exceeds(
      'max-channels-per-client',
      `a client wants more than ${channels} channels, its limit (--max-channels-per-client)`,
    );
  }

  /** Whether it has to be known who connects where: other versions of AMQP don't show it. */
  get asksForUsers(): boolean {
    return this.#access.userVhosts.length > 0;
  }

  /** What there is of each limit, for people. */
  document(): LimitsDocument {
    const { enforce, perAddress, perUser, perVirtualHost, channels, handshakes, publishes } = this.#limits;
    const limits = {
      'max-connections-per-address': perAddress,
      'max-connections-per-user': perUser,
      'max-connections-per-vhost': perVirtualHost,
      'max-channels-per-client': channels,
      'handshake-rate': handshakes,
      'publish-rate': publishes,
    } satisfies Partial<Record<Limit, number>>;
    return { action: enforce ? 'enforce' : 'alarm', limits, hits: this.#hits };
  }

  /** Forgets what makes no difference any more; called a few times a second. @param now of performance.now() */
  sweep(now: number): void {
    for (const [user, rate] of this.#rates) if (rate.isIdle(now)) this.#rates.delete(user);
  }

  /** Counts it, and logs it where that isn't done elsewhere. @returns whether something is done about it */
  #exceeds(limit: Limit, text: string): boolean {
    this.#hits[limit]++;
    const { enforce } = this.#limits;
    const isLogged = enforce && limit !== 'publish-rate' && limit !== 'max-channels-per-client';
    const now = performance.now();
    if (!isLogged && now - (this.#loggedAt.get(limit) ?? -Infinity) >= LOG_INTERVAL) {
      this.#loggedAt.set(limit, now);
      this.#log.warn(
        { limit, hits: this.#hits[limit] },
        enforce ? text : `${text}; it may, by --limits=alarm`,
      );
    }
    return enforce;
  }
}

/** What an address is counted by: listeners see v4 addresses in two forms. */
function nameOf(address: string): string {
  return parseAddress(address).join('.');
}

function notAllowed(code: Refusal['code'], text: string): Refusal {
  return { code, replyCode: REPLY.notAllowed, text, method: METHOD.connectionOpen, silent: false };
}
