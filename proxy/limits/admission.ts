import { METHOD, REPLY } from '../../amqp/constants.ts';
import type { Logger } from '../../common/log.ts';
import { type Address, parseAddress } from '../access/address.ts';
import { type AccessRules, refusesAddress, refusesLogin, refusesVirtualHost } from '../access/rules.ts';
import type { LimitsDocument } from '../admin/documents.ts';
import { Buffers } from './buffers.ts';
import { type Limit, type Refusal, tooMany } from './limit.ts';
import type { LimitSettings } from './options.ts';
import { PublishRate, type PublishTurn } from './publish-rate.ts';
import { Tally } from './tally.ts';
import { TokenBucket } from './token-bucket.ts';

/** Lines of the log about one limit are so many milliseconds apart. */
const LOG_INTERVAL = 60_000;

/** Limits of which what is beyond is no refusal that is logged by itself, or not always. */
const COUNTED_ONLY: ReadonlySet<Limit> = new Set([
  'publish-rate',
  'max-channels-per-client',
  'max-frame-size',
  'max-buffer',
]);

/** A connection whose virtual host is open. */
export interface Guest {
  /** To be asked for each publish. */
  readonly turn: PublishTurn;
  /** The connection has ended. */
  leave(): void;
}

/** What can be changed while connections are there. */
export interface AdmissionRules {
  readonly limits: LimitSettings;
  readonly access: AccessRules;
}

interface Settings extends AdmissionRules {
  /** Where what goes beyond a limit is counted. */
  readonly hits: Record<Limit, number>;
  readonly log: Logger;
}

/** Who is let in, and how much each has. */
export class Admission {
  /** What is held for clients. */
  readonly buffers: Buffers;
  #limits: LimitSettings;
  #access: AccessRules;
  readonly #hits: Record<Limit, number>;
  readonly #log: Logger;
  readonly #addresses = new Tally();
  readonly #users = new Tally();
  readonly #virtualHosts = new Tally();
  #handshakes: TokenBucket | undefined;
  readonly #rates = new Map<string, PublishRate>();
  readonly #loggedAt = new Map<Limit, number>();

  constructor({ limits, access, hits, log }: Settings) {
    this.#limits = limits;
    this.#access = access;
    this.#hits = hits;
    this.#log = log;
    this.buffers = new Buffers(limits, (limit, describe) => this.#exceeds(limit, describe));
    this.#limitHandshakes();
  }

  /**
   * Goes on with other limits and rules. Connections that are there stay and count on, whatever the limits are now; how
   * many messages they may publish changes at once, and the rest is for those that come.
   */
  use({ limits, access }: AdmissionRules): void {
    this.#limits = limits;
    this.#access = access;
    this.#loggedAt.clear();
    this.#limitHandshakes();
    for (const rate of this.#rates.values()) rate.use(limits.publishes, limits.enforce);
    this.buffers.use(limits);
  }

  #limitHandshakes(): void {
    const { handshakes } = this.#limits;
    const now = performance.now();
    if (handshakes === 0) this.#handshakes = undefined;
    else if (this.#handshakes === undefined) this.#handshakes = new TokenBucket(handshakes, handshakes, now);
    else this.#handshakes.use(handshakes, handshakes, now);
  }

  /** Whether connections from this address are taken now. @param address as node:net gives it */
  admit(address: string): Refusal | undefined {
    const { handshakes } = this.#limits;
    const unwanted = refusesAddress(this.#access, parseAddress(address));
    if (unwanted !== undefined) {
      const text = `a client from ${address} is refused: ${unwanted}`;
      return { code: 'ACCESS_REFUSED', replyCode: REPLY.accessRefused, text, method: 0, silent: true };
    }
    if (this.buffers.isFull) {
      const { text } = this.buffers;
      this.#exceeds('max-buffer', () => text);
      return tooMany(`${text}: try again later`);
    }
    if (this.#handshakes?.take(performance.now()) !== false) return undefined;
    const text = `more than ${handshakes} new connections in a second (--handshake-rate): try again later`;
    return this.#exceeds('handshake-rate', () => text) ? tooMany(text) : undefined;
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
      const who = isShared(parseAddress(address)) ? `the /64 of ${address}` : address;
      const text = `${who} has ${perAddress} connections, its limit (--max-connections-per-address)`;
      if (this.#exceeds('max-connections-per-address', () => text)) return tooMany(text);
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

  /**
   * The broker has let a client in: the user is who it says, and the virtual host is there.
   * @param user undefined where the mechanism doesn't tell it: all that log in by the same one count together, as they may
   *   be one user to the broker
   */
  enter(user: string | undefined, mechanism: string | undefined, virtualHost: string): Refusal | Guest {
    const { perUser, perVirtualHost } = this.#limits;
    const name = user === undefined ? `a user by ${mechanism}` : `user '${user}'`;
    // The texts are RabbitMQ's (rabbit_reader of 3.10 to 4.3), for its own limits of this kind.
    if (perVirtualHost > 0 && this.#virtualHosts.of(virtualHost) >= perVirtualHost) {
      const text = `access to vhost '${virtualHost}' refused for ${name}: connection limit (${perVirtualHost}) is reached`;
      if (this.#exceeds('max-connections-per-vhost', () => text)) return notAllowed('CONNECTION_LIMIT', text);
    }
    if (perUser > 0 && this.#users.of(name) >= perUser) {
      const text = `connection refused for ${name}: user connection limit (${perUser}) is reached`;
      if (this.#exceeds('max-connections-per-user', () => text)) return notAllowed('CONNECTION_LIMIT', text);
    }
    this.#users.add(name);
    this.#virtualHosts.add(virtualHost);
    const turn = this.#rateOf(name).join();
    const leave = (): void => {
      this.#users.remove(name);
      this.#virtualHosts.remove(virtualHost);
      turn.leave();
    };
    return { turn, leave };
  }

  /** @param name of the user, as it is counted by */
  #rateOf(name: string): PublishRate {
    let rate = this.#rates.get(name);
    if (rate === undefined) {
      const { publishes, enforce } = this.#limits;
      const describe = (): string =>
        `${name} publishes more than ${this.#limits.publishes} messages a second (--publish-rate)`;
      rate = new PublishRate(publishes, enforce, { hit: () => this.#exceeds('publish-rate', describe) });
      this.#rates.set(name, rate);
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
  channelAbove(channels: number): void {
    this.#exceeds(
      'max-channels-per-client',
      () => `a client wants more than ${channels} channels, its limit (--max-channels-per-client)`,
    );
  }

  /** The frame_max that clients are offered at most, in octets; 0: what the broker offers. */
  get frameMax(): number {
    return this.#limits.enforce ? this.#limits.frameSize : 0;
  }

  /** Clients that agree on more are told to {@link frameAbove}, where nothing is done about them; 0: none are. */
  get frameAlarm(): number {
    return this.#limits.enforce ? 0 : this.#limits.frameSize;
  }

  /** A client wants to send longer frames than it may, or has sent one. */
  frameAbove(octets: number): void {
    this.#exceeds(
      'max-frame-size',
      () => `a client wants frames of more than ${octets} octets, its limit (--max-frame-size)`,
    );
  }

  /** Whether it has to be known who connects where: other versions of AMQP don't show it. */
  get asksForUsers(): boolean {
    return this.#access.userVhosts.length > 0;
  }

  /** What there is of each limit, for people. */
  document(): LimitsDocument {
    const given = this.#limits;
    const limits = {
      'max-connections-per-address': given.perAddress,
      'max-connections-per-user': given.perUser,
      'max-connections-per-vhost': given.perVirtualHost,
      'max-channels-per-client': given.channels,
      'max-frame-size': given.frameSize,
      'handshake-rate': given.handshakes,
      'publish-rate': given.publishes,
      'max-buffer-per-client': given.bufferPerClient,
      'max-buffer': given.buffer,
    } satisfies Partial<Record<Limit, number>>;
    return { action: given.enforce ? 'enforce' : 'alarm', limits, hits: this.#hits };
  }

  /** Forgets what makes no difference any more; called a few times a second. @param now of performance.now() */
  sweep(now: number): void {
    for (const [name, rate] of this.#rates) if (rate.isIdle(now)) this.#rates.delete(name);
  }

  /** Counts it, and logs it where that isn't done elsewhere. @returns whether something is done about it */
  #exceeds(limit: Limit, describe: () => string): boolean {
    this.#hits[limit]++;
    const { enforce } = this.#limits;
    const isLogged = enforce && !COUNTED_ONLY.has(limit);
    const now = performance.now();
    if (!isLogged && now - (this.#loggedAt.get(limit) ?? -Infinity) >= LOG_INTERVAL) {
      this.#loggedAt.set(limit, now);
      const text = describe();
      this.#log.warn(
        { limit, hits: this.#hits[limit] },
        enforce ? text : `${text}; it may, by --limits=alarm`,
      );
    }
    return enforce;
  }
}

/** Octets of a v6 address that are its network's; the rest is the host's own choice (RFC 4291, section 2.5.1; RFC 7934). */
const NETWORK = 8;

/** What an address is counted by: listeners see v4 addresses in two forms. */
function nameOf(address: string): string {
  const octets = parseAddress(address);
  return (isShared(octets) ? octets.slice(0, NETWORK) : octets).join('.');
}

/** Whether a host may have all addresses of the network: a global v6 address (2000::/3, RFC 4291 section 2.4). */
function isShared(octets: Address): boolean {
  return octets.length === 16 && (octets[0]! & 0xe0) === 0x20;
}

function notAllowed(code: Refusal['code'], text: string): Refusal {
  return { code, replyCode: REPLY.notAllowed, text, method: METHOD.connectionOpen, silent: false };
}
