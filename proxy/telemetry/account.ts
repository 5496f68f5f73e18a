import { REPLY_NAME } from '../../amqp/constants.ts';
import type { ClientIdentity } from '../../amqp/handshake.ts';
import type { ProxyErrorCode } from '../errors.ts';
import type { Link } from '../link.ts';
import type { Endpoints } from '../proxy-protocol.ts';
import type { MeaningChange, RewrittenMethod } from '../rules/rule.ts';
import type { AuditLog } from './audit.ts';
import { OpenChannels } from './channels.ts';
import type { Party } from './parties.ts';
import type { TelemetryStats } from './stats.ts';

/**
 * Why a connection ended: closed by the client or by the broker with connection.close, ended without a word by whom ever
 * before it was open (and AMQP 1.0 at any time), or one of the proxy's own reasons.
 */
export type EndReason = 'client' | 'broker' | 'unopened' | ProxyErrorCode;

/** Whose frame ended the connection. */
const SENDERS: Partial<Record<ProxyErrorCode, 'client' | 'broker'>> = {
  CLIENT_FRAME: 'client',
  CLIENT_PROTOCOL: 'client',
  BACKEND_PROTOCOL: 'broker',
};

/** What a client's connection has said of itself, and what was done for it. */
export interface Told {
  readonly identity: ClientIdentity;
  /** The user that the proxy has logged it in as at the broker; undefined where it has logged in by itself. */
  readonly brokerUser: string | undefined;
  readonly virtualHost: string;
  readonly rewrites: Readonly<Partial<Record<RewrittenMethod, number>>>;
  readonly changes: Readonly<Partial<Record<MeaningChange, number>>>;
  /** A peer has said connection.close. */
  readonly closeSeen: boolean;
}

export interface AccountSettings {
  /** The connection's number, as in the log. */
  readonly id: number;
  readonly endpoints: Endpoints;
  readonly stats: TelemetryStats;
  readonly audit: AuditLog | undefined;
}

/** What is counted and written about one client's connection, from its beginning to its end. */
export class Account {
  /** Milliseconds of performance.now(). */
  readonly startedAt = performance.now();
  readonly channels: OpenChannels;
  octetsFromClient = 0;
  octetsFromBroker = 0;
  /** By TLS. */
  encrypted = false;

  readonly #settings: AccountSettings;
  #party: Party | undefined;
  /** As the broker let it in: what the client says of itself later is not so. */
  #who: object | undefined;
  #reason: EndReason | undefined;

  constructor(settings: AccountSettings) {
    this.#settings = settings;
    this.channels = new OpenChannels(settings.stats);
  }

  /** Seconds since the beginning, to the millisecond. */
  get seconds(): number {
    return Math.round(performance.now() - this.startedAt) / 1000;
  }

  get isLetIn(): boolean {
    return this.#party !== undefined;
  }

  /** The broker has let the client in. @param link its way to the broker */
  opened(told: Told, link: Pick<Link, 'localEnd'>): void {
    const { identity, virtualHost } = told;
    const { stats, audit } = this.#settings;
    const party = stats.parties.of(virtualHost, identity.user);
    this.#party = party;
    party.opened++;
    party.open++;
    stats.handshakes.observe((performance.now() - this.startedAt) / 1000);
    if (audit === undefined) return;
    this.#who = this.#whoIs(told);
    const { mechanism, product, version, platform, connectionName } = identity;
    const program = { mechanism, product, version, platform, connectionName };
    audit.write('opened', { ...this.#who, ...program, upstream: link.localEnd });
  }

  /** The proxy ends the connection. */
  ends(code: ProxyErrorCode, replyCode = 0): void {
    this.#reason ??= code;
    const sender = SENDERS[code];
    if (sender === undefined) return;
    const failed = this.#settings.stats.framesFailed[sender];
    const name = REPLY_NAME[replyCode] ?? 'OTHER';
    failed.set(name, (failed.get(name) ?? 0) + 1);
  }

  /** The broker has said connection.close. */
  brokerCloses(): void {
    this.#reason ??= 'broker';
  }

  /** Both sockets are closed. @param told undefined where the client has said nothing that is AMQP 0-9-1 */
  ended(told: Told | undefined): void {
    const { stats, audit } = this.#settings;
    const reason = this.#reason ?? (told?.closeSeen === true ? 'client' : 'unopened');
    const party = this.#party ?? stats.parties.nobody;
    if (this.#party !== undefined) party.open--;
    party.closed.set(reason, (party.closed.get(reason) ?? 0) + 1);
    this.channels.ended();
    // Probes and strays that never tried to log in are no business of the audit log.
    if (audit === undefined || told === undefined) return;
    const { identity, rewrites, changes } = told;
    if (this.#who === undefined && identity.mechanism === undefined) return;
    audit.write(this.#party === undefined ? 'refused' : 'closed', {
      ...(this.#who ?? this.#whoIs(told)),
      reason,
      seconds: this.seconds,
      octetsFromClient: this.octetsFromClient,
      octetsFromBroker: this.octetsFromBroker,
      channels: this.channels.opened,
      rewrites,
      changes,
    });
  }

  #whoIs({ identity, brokerUser, virtualHost }: Told): object {
    const { id, endpoints } = this.#settings;
    const client = `${endpoints.sourceAddress} ${endpoints.sourcePort}`;
    const { user } = identity;
    return { connection: id, client, tls: this.encrypted, user, brokerUser, vhost: virtualHost };
  }
}
