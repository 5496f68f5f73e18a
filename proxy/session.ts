import type { Socket } from 'node:net';
import { NOTHING, PROTOCOL_HEADER, REPLY } from '../amqp/constants.ts';
import { encodeClose } from '../amqp/method.ts';
import { Brakes } from './brakes.ts';
import type { SessionContext } from './context.ts';
import { Conversation } from './conversation.ts';
import { Deadline, type State } from './deadline.ts';
import type { ProxyErrorCode } from './errors.ts';
import { endBackend } from './farewell.ts';
import type { Side } from './faults/fault.ts';
import { resetSocket } from './faults/reset.ts';
import { classifyHeader, describeNoise, HEADER_SIZE } from './header.ts';
import type { Refusal } from './limits/limit.ts';
import type { Link } from './link.ts';
import { relayToLink } from './offer.ts';
import { Outlet } from './outlet.ts';
import type { Endpoints } from './proxy-protocol.ts';
import type { Listed } from './roster.ts';
import { SessionLog } from './session-log.ts';
import { endOnce } from './socket.ts';
import { brokerFault, clientFault } from './stream-faults.ts';
import { Account } from './telemetry/account.ts';
import { tlsIdentityOf } from './tls-identity.ts';

/** One client and its connection to the backend. All times are milliseconds of performance.now(). */
export class Session implements Listed {
  readonly id: number;
  place = 0;
  readonly account: Account;
  readonly #context: SessionContext;
  readonly #log: SessionLog;
  readonly endpoints: Endpoints;
  #state: State = 'header';
  readonly #deadline: Deadline;
  #client!: Socket;
  /** Hold the client back: until there is a backend, and while its virtual host is paused. */
  brakes!: Brakes;
  #backend: Link | undefined;
  #toClient: Outlet | undefined;
  /** Octets of the client that came before there was a backend to send them to. */
  #early: Uint8Array = NOTHING;
  /** What passes through, where it is AMQP 0-9-1. */
  #conversation: Conversation | undefined;
  /** Octets of the broker are being looked at, and not yet passed on. */
  #readingBackend = false;
  /** A connection.close that waits for the end of the frame that the client is getting. */
  #lastWords: Uint8Array | undefined;
  /** Octets passed on in both directions. */
  #octets = 0;
  #socketsOpen = 2;

  constructor(id: number, endpoints: Endpoints, context: SessionContext) {
    this.id = id;
    this.#context = context;
    this.endpoints = endpoints;
    const { stats, audit } = context;
    this.account = new Account({ id, endpoints, stats: stats.telemetry, audit });
    this.#log = new SessionLog({ id, endpoints, account: this.account, context });
    this.#deadline = new Deadline(context);
  }

  /** What passes through, where it is AMQP 0-9-1. */
  get conversation(): Conversation | undefined {
    return this.#conversation;
  }

  get state(): State {
    return this.#state;
  }

  /** Takes the client's socket, whose octets come by {@link receive}. */
  attach(client: Socket, tls: boolean): void {
    this.#client = client;
    this.brakes = new Brakes(client);
    this.account.encrypted = tls;
    client.on('error', ({ message }) => this.#log.debug('client socket error', { err: message }));
    // A socket ends in halves: 'end' is what it sends, 'close' is all of it, with or without an 'end' before.
    client.on('end', () => this.#guard(() => this.#clientEnded()));
    client.on('close', () => {
      this.#guard(() => this.#clientEnded());
      this.#guard(() => this.#socketClosed());
    });
  }

  /** Octets of the client. */
  readonly receive = (chunk: Uint8Array, length: number, lent: boolean): void => {
    try {
      this.#receiveClient(chunk, length, lent);
    } catch (error) {
      this.#fault(error);
    }
  };

  #receiveClient(chunk: Uint8Array, length: number, lent: boolean): void {
    this.#context.stats.octetsFromClients += length;
    this.account.octetsFromClient += length;
    const { latency } = this.#context.stats.telemetry;
    const began = latency.client.begin();
    switch (this.#state) {
      case 'header':
      case 'connecting':
        this.#early = Buffer.concat([this.#early, chunk.subarray(0, length)]);
        if (this.#state === 'header') this.#readHeader();
        break;
      case 'raw':
        this.#octets += length;
        this.#backend!.write([chunk.subarray(0, length)], lent);
        break;
      case 'handshake':
      case 'open':
        this.#octets += length;
        this.#relayFromClient(chunk, length, lent);
        latency.client.end(began);
        break;
      default: // closing: what still comes is read, so that the socket can end, and dropped
    }
  }

  /** A fault of the proxy's own costs this connection and no other. What is done for each chunk goes without the function. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fault(error);
    }
  }

  #fault(error: unknown): void {
    this.#log.fault(error);
    this.#enterClosing();
    this.destroy();
  }

  #receiveBackend(chunk: Uint8Array, length: number, lent: boolean): void {
    // What comes over connections that clients share is counted there.
    const counted = this.#context.mode !== 'pool';
    const { latency } = this.#context.stats.telemetry;
    const began = counted ? latency.broker.begin() : 0;
    if (counted) this.#context.stats.octetsFromBackend += length;
    this.account.octetsFromBroker += length;
    this.#octets += length;
    const relay = this.#conversation?.fromBackend;
    if (relay === undefined || this.#state === 'raw' || this.#speaksOtherVersion(chunk)) {
      this.#toClient!.write([chunk.subarray(0, length)], lent);
      return;
    }
    this.#readingBackend = true;
    const pieces = relay.push(chunk, length);
    this.#readingBackend = false;
    this.#toClient!.write(pieces, lent);
    latency.broker.end(began);
    if (this.#lastWords !== undefined && relay.stopped) this.#sayLastWords();
    else if (relay.error !== undefined) this.#refuse(brokerFault(this.#conversation!, relay.error));
  }

  #refuse({ code, replyCode, text, method, silent, why = text }: Refusal): void {
    if (silent) this.#reject(code, why);
    else this.fail(code, replyCode, text, method, why);
  }

  /** Whether versions of AMQP whose frames aren't followed are refused. */
  get #needsKnown(): boolean {
    const { mode, admission, logins } = this.#context;
    return mode === 'pool' || admission.asksForUsers || logins.areAsked;
  }

  #readHeader(): void {
    const kind = classifyHeader(this.#early);
    if (kind === 'more') return;
    if (kind === 'noise' || (kind === 'other-amqp' && this.#needsKnown)) {
      const noise =
        kind === 'noise'
          ? describeNoise(this.#early, this.account.encrypted)
          : 'the client speaks another version of AMQP: pool mode, --user-vhosts and --credentials have 0-9-1 only';
      this.#log.ends('CLIENT_PROTOCOL_HEADER', noise);
      this.#client.end(PROTOCOL_HEADER); // section 4.2.2: answer with what is spoken here, and close
      this.#enterClosing();
      return;
    }
    if (kind === 'amqp-0-9-1') {
      this.#conversation = new Conversation(
        this.#context,
        this.endpoints.sourceAddress,
        this.#context.logins.of(this.#client),
        this.account.channels,
        {
          opened: () => this.#opened(),
          toBroker: (pieces) => this.#passToBroker(pieces, false),
          existing: (method, refusal) => this.#log.existing(method, refusal),
          brokerCloses: (replyCode, replyText) => this.#log.brokerCloses(replyCode, replyText),
          guard: (work) => this.#guard(work),
          refused: (refusal) => this.#refuse(refusal),
        },
      );
    }
    this.#connect();
  }

  #connect(): void {
    this.#state = 'connecting';
    this.#deadline.entered(this.#state);
    this.brakes.connecting();
    this.#dial();
  }

  #dial(): void {
    const barrier = this.#context.barrier();
    if (barrier !== undefined) {
      if (!barrier.waits) this.fail('BREAKER_OPEN', REPLY.connectionForced, barrier.text);
      return;
    }
    const tlsIdentity = tlsIdentityOf(this.#client);
    const link = this.#context.connect({
      id: this.id,
      backlog: () => this.#client.writableLength,
      gate: this.brakes.gate,
      endpoints: this.endpoints,
      tlsIdentity: () => (this.#conversation?.brokerUser === undefined ? tlsIdentity : ''),
      lookupChannel: () => this.#conversation?.lookupChannel,
      events: {
        guard: (work) => this.#guard(work),
        connected: () => this.#guard(() => this.#connected()),
        receive: (chunk, length, lent) => {
          try {
            this.#receiveBackend(chunk, length, lent);
          } catch (error) {
            this.#fault(error);
          }
        },
        failed: (error) => this.#guard(() => this.#backendFailed(error)),
        refused: (code, replyCode, text, method) =>
          this.#guard(() => this.fail(code, replyCode, text, method)),
        rejected: (code, text) => this.#guard(() => this.#reject(code, text)),
        ended: () => this.#guard(() => this.#backendEnded()),
        closed: () => this.#guard(() => this.#socketClosed()),
      },
    });
    this.#backend = link;
    this.#toClient = new Outlet(link, this.#client, this.account.encrypted);
  }

  #connected(): void {
    if (this.#state !== 'connecting') return;
    const link = this.#backend!;
    link.write([this.#early.subarray(0, HEADER_SIZE)], false);
    const rest = this.#early.subarray(HEADER_SIZE);
    this.#early = NOTHING;
    this.#state = this.#conversation === undefined ? 'raw' : 'handshake';
    this.#deadline.entered(this.#state);
    this.#octets += HEADER_SIZE + rest.length;
    this.brakes.connected();
    if (this.#state === 'raw') this.#backend!.write([rest], false);
    else this.#relayFromClient(rest, rest.length, false);
  }

  #relayFromClient(chunk: Uint8Array, length: number, lent: boolean): void {
    const { fromClient } = this.#conversation!;
    this.#passToBroker(relayToLink(fromClient, this.#backend!, chunk, length, lent), lent);
  }

  #passToBroker(pieces: readonly Uint8Array[], lent: boolean): void {
    const { fromClient } = this.#conversation!;
    const backend = this.#backend!;
    backend.write(pieces, lent);
    if (fromClient.error !== undefined) {
      this.#refuse(clientFault(this.#conversation!, fromClient.error));
    } else if (fromClient.holding) {
      backend.hold();
      this.#conversation!.unhold();
    } else backend.proceed();
    const { held = 0 } = backend;
    if (held > 0) this.#context.admission.buffers.check(this, held);
  }

  /** A broker that doesn't know the client's version says which one it speaks, and that is not a frame. */
  #speaksOtherVersion(chunk: Uint8Array): boolean {
    const { scanner } = this.#conversation!.fromBackend;
    const first = scanner.frames === 0 && scanner.atBoundary && this.#state === 'handshake';
    if (!first || chunk[0] !== PROTOCOL_HEADER[0]) return false;
    this.#state = 'raw';
    return true;
  }

  #opened(): void {
    if (this.#state !== 'handshake') return;
    this.#state = 'open';
    this.#deadline.entered(this.#state);
    this.account.opened(this.#conversation!, this.#backend!);
    if (this.#context.isPaused(this.#conversation!.virtualHost)) this.brakes.pause(this.#conversation!);
    this.#context.opened(this);
    this.#log.opened(this.#backend!);
  }

  /** Whether the end of a socket now is no end that the peers agreed on. */
  get #broken(): boolean {
    return this.#state === 'open' && this.#conversation?.closeSeen === false;
  }

  #clientEnded(): void {
    if (this.#state === 'closed' || this.#state === 'closing') return;
    if (this.#state === 'header' || this.#state === 'connecting') {
      this.#backend?.destroy();
      endOnce(this.#client);
    } else {
      if (this.#broken) this.#log.ends('CLIENT_LOST', 'the client went without connection.close');
      endBackend(this.#backend, this.#conversation, 'client went without connection.close');
    }
    this.#enterClosing();
  }

  #backendFailed(error: NodeJS.ErrnoException): void {
    if (this.#state === 'connecting') this.#unreachable(error.code ?? error.message);
    else this.#log.debug('backend socket error', { err: error.message });
  }

  #unreachable(why: string): void {
    const { host, port } = this.#context.backend;
    const text = `backend ${host}:${port} cannot be reached: ${why}`;
    this.fail('BACKEND_UNREACHABLE', REPLY.connectionForced, text);
  }

  #backendEnded(): void {
    if (this.#state === 'closed') return;
    if (this.#state === 'connecting') this.#unreachable('it ended the connection');
    if (this.#state === 'closing') {
      // Its half of the close is done: it answers nothing more, and the client gets nothing more from it.
      this.#backend?.end();
      if (this.#lastWords === undefined) endOnce(this.#client);
      else this.#client.destroy();
      return;
    }
    if (this.#broken) {
      this.fail('BACKEND_LOST', REPLY.connectionForced, 'the broker ended the connection');
      return;
    }
    // In the handshake a bare end is a broker's answer (wrong credentials, frame_max too small): clients know it.
    endOnce(this.#client);
    this.#backend?.end();
    this.#backend?.release();
    this.#enterClosing();
  }

  /**
   * Ends the session for a reason of the proxy's: the client is told by connection.close where a whole frame can be put
   * before its end, the backend likewise.
   * @param why what the log says in place of the text
   */
  fail(code: ProxyErrorCode, replyCode: number, text: string, method = 0, why = text): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    const before = this.#state;
    this.#log.ends(code, why, replyCode);
    this.#enterClosing();
    if (before === 'header') {
      this.#client.destroy();
      return;
    }
    endBackend(this.#backend, this.#conversation, text);
    this.#backend?.release();
    const relay = this.#conversation?.fromBackend;
    if (relay === undefined || before === 'raw') {
      endOnce(this.#client);
      return;
    }
    this.#lastWords = encodeClose(replyCode, text, method);
    relay.stopping = true;
    // What the broker's answer to a question set off comes before the octets around it are on their way to the client.
    if (this.#readingBackend) return;
    if (relay.atBoundary) this.#sayLastWords();
    else if (code === 'BACKEND_LOST' || relay.error !== undefined) this.#client.destroy();
  }

  /** Ends the session for a reason that the client isn't told. */
  #reject(code: ProxyErrorCode, text: string): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    this.#log.ends(code, text);
    this.#enterClosing();
    endOnce(this.#client);
    this.#backend?.end();
    this.#backend?.release();
  }

  #sayLastWords(): void {
    const words = this.#lastWords;
    if (words === undefined || this.#client.destroyed) return;
    this.#lastWords = undefined;
    this.#client.end(words);
    this.#toClient?.release();
  }

  #enterClosing(): void {
    this.#state = 'closing';
    this.brakes.release();
    this.#deadline.entered(this.#state);
  }

  #socketClosed(): void {
    this.#socketsOpen--;
    if (this.#backend === undefined) this.#socketsOpen = 0;
    if (this.#socketsOpen > 0) {
      // One side is gone for good: what the other still sends has nowhere to go.
      if (this.#client.destroyed && this.#backend !== undefined && !this.#backend.destroyed)
        this.#toClient?.release();
      return;
    }
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#conversation?.ended();
    this.account.ended(this.#conversation);
    this.#log.debug('connection ended');
    this.#context.ended(this);
  }

  /** Octets held for the client: those that its socket hasn't taken, and a part of a frame or message. */
  get bufferedForClient(): number {
    const inRelay = this.#conversation?.fromBackend.buffered ?? 0;
    return this.#client.writableLength + (this.#backend?.readableLength ?? 0) + inRelay;
  }

  /**
   * Octets held for the broker: those that the connection hasn't taken, where that is the client's alone, and a part of a
   * frame or message. Not what one read has brought behind a publish that waits: that can't get more, or less by itself.
   */
  get bufferedForBroker(): number {
    const { fromClient, visit } = this.#conversation ?? {};
    const inRelay = visit?.isHolding === true ? 0 : (fromClient?.buffered ?? 0);
    const { writableLength = 0, held = 0 } = this.#backend ?? {};
    return this.#early.length + inRelay + writableLength + held;
  }

  /** Octets of both that wait for the client: for it to read, or to send the rest of a message. */
  get owed(): number {
    return this.bufferedForClient + (this.#backend?.held ?? 0);
  }

  /** Looks at the session's deadline; called a few times a second. */
  sweep(now: number): void {
    this.#backend?.sweep(now);
    if (this.#state === 'connecting' && this.#backend === undefined) this.#guard(() => this.#dial());
    const isPassing = this.#state === 'open' || this.#state === 'raw';
    if (isPassing) {
      this.#guard(() => this.brakes.sweep(now));
      this.#guard(() => this.#conversation?.sweep(now));
    }
    const isExcused = isPassing
      ? this.brakes.isPaused || this.#conversation?.visit.isHolding === true
      : this.#backend?.connecting === true;
    const missed = this.#deadline.missed(now, this.#state, this.#octets, isExcused);
    if (missed === undefined) return;
    if (missed.code === undefined) this.destroy();
    else this.fail(missed.code, REPLY.connectionForced, missed.text);
  }

  /** Breaks the connection off as a network that fails does: by a reset, and without a word. */
  sever(side: Side): void {
    this.#log.isSevered = true;
    if (side !== 'broker') resetSocket(this.#client);
    if (side !== 'client') this.#backend?.reset?.();
  }

  /** Ends both sockets at once. */
  destroy(): void {
    this.#client.destroy();
    this.#backend?.destroy();
  }
}
