import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { PROTOCOL_HEADER, REPLY, REPLY_NAME } from '../amqp/constants.ts';
import type { WireError } from '../amqp/error.ts';
import { encodeClose } from '../amqp/method.ts';
import type { SessionContext } from './context.ts';
import { Conversation } from './conversation.ts';
import type { ProxyErrorCode } from './errors.ts';
import { classifyHeader, describeNoise, HEADER_SIZE, isKnownVersion } from './header.ts';
import type { Link } from './link.ts';
import { Outlet } from './outlet.ts';
import type { Endpoints } from './proxy-protocol.ts';

/** How long peers may be silent while their connection ends, in milliseconds. */
const CLOSE_TIMEOUT = 5000;

/**
 * What the session waits for:
 * `header` the client's protocol header · `connecting` the backend · `handshake` connection.open-ok · `open` nothing ·
 * `raw` nothing, and its octets aren't AMQP 0-9-1 · `closing` both sockets' end · `closed` nothing any more.
 */
type State = 'header' | 'connecting' | 'handshake' | 'open' | 'raw' | 'closing' | 'closed';

/** One client and its connection to the backend. All times are milliseconds of performance.now(). */
export class Session {
  readonly id: number;
  readonly #context: SessionContext;
  readonly #endpoints: Endpoints;
  #state: State = 'header';
  #deadline: number;
  #client!: Socket;
  #clientTls = false;
  #backend: Link | undefined;
  #toClient: Outlet | undefined;
  /** Octets of the client that came before there was a backend to send them to. */
  #early: Uint8Array = new Uint8Array(0);
  /** Frames of the client that are in the statistics. */
  #clientFrames = 0;
  /** What passes through, where it is AMQP 0-9-1. */
  #conversation: Conversation | undefined;
  /** Octets of the broker are being looked at, and not yet passed on. */
  #readingBackend = false;
  /** A connection.close that waits for the end of the frame that the client is getting. */
  #lastWords: Uint8Array | undefined;
  /** Octets passed on in both directions, and when the sweep last saw them change. */
  #octets = 0;
  #octetsSeen = 0;
  #activeAt: number;
  #socketsOpen = 2;

  constructor(id: number, endpoints: Endpoints, context: SessionContext) {
    this.id = id;
    this.#context = context;
    this.#endpoints = endpoints;
    this.#activeAt = performance.now();
    this.#deadline = this.#activeAt + context.limits.handshakeTimeout;
  }

  /** Whether the client came by TLS. */
  get encrypted(): boolean {
    return this.#clientTls;
  }

  /** Takes the client's socket, whose octets come by {@link receive}. */
  attach(client: Socket, tls: boolean): void {
    this.#client = client;
    this.#clientTls = tls;
    client.on('error', (error) =>
      this.#context.log.debug({ ...this.#who(), err: error.message }, 'client socket error'),
    );
    // A socket ends in halves: 'end' is what it sends, 'close' is all of it, with or without an 'end' before.
    client.on('end', () => this.#guard(() => this.#clientEnded()));
    client.on('close', () => {
      this.#guard(() => this.#clientEnded());
      this.#guard(() => this.#socketClosed());
    });
  }

  /** Octets of the client. */
  readonly receive = (chunk: Uint8Array, length: number, lent: boolean): void =>
    this.#guard(() => this.#receiveClient(chunk, length, lent));

  #receiveClient(chunk: Uint8Array, length: number, lent: boolean): void {
    this.#context.stats.octetsFromClients += length;
    switch (this.#state) {
      case 'header':
      case 'connecting':
        this.#keepEarly(chunk.subarray(0, length));
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
        break;
      case 'closing':
      case 'closed': // what still comes is read, so that the socket can end, and dropped
    }
  }

  /** A fault of the proxy's own costs this connection and no other. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#report('INTERNAL', 'internal error', {
        err: error instanceof Error ? error.stack : String(error),
      });
      this.#enterClosing();
      this.destroy();
    }
  }

  #receiveBackend(chunk: Uint8Array, length: number, lent: boolean): void {
    // What comes over connections that clients share is counted there.
    const counted = this.#context.mode !== 'pool';
    if (counted) this.#context.stats.octetsFromBackend += length;
    this.#octets += length;
    const relay = this.#conversation?.fromBackend;
    if (relay === undefined || this.#state === 'raw' || this.#speaksOtherVersion(chunk)) {
      this.#toClient!.write([chunk.subarray(0, length)], lent);
      return;
    }
    const before = relay.scanner.frames;
    this.#readingBackend = true;
    const pieces = relay.push(chunk, length);
    this.#readingBackend = false;
    this.#toClient!.write(pieces, lent);
    if (counted) this.#context.stats.framesFromBackend += relay.scanner.frames - before;
    if (this.#lastWords !== undefined && relay.stopped) this.#sayLastWords();
    else if (relay.error !== undefined) this.#brokerFault(relay.error, relay.unsplittable);
  }

  #brokerFault(error: WireError, tooLarge: boolean): void {
    if (tooLarge) this.fail('CLIENT_FRAME_MAX', error.replyCode, error.message, error.method);
    else
      this.fail(
        'BACKEND_PROTOCOL',
        REPLY.internalError,
        `the broker's octets are not AMQP: ${error.message}`,
      );
  }

  #keepEarly(octets: Uint8Array): void {
    const kept = new Uint8Array(this.#early.length + octets.length);
    kept.set(this.#early);
    kept.set(octets, this.#early.length);
    this.#early = kept;
  }

  #readHeader(): void {
    const kind = classifyHeader(this.#early);
    if (kind === 'more') return;
    if (kind === 'noise' || (this.#context.mode === 'pool' && !isKnownVersion(this.#early))) {
      const noise =
        kind === 'noise'
          ? describeNoise(this.#early, this.#clientTls)
          : 'the client speaks another version of AMQP: pool mode has 0-9-1 only';
      this.#report('CLIENT_PROTOCOL_HEADER', noise);
      this.#client.end(PROTOCOL_HEADER); // section 4.2.2: answer with what is spoken here, and close
      this.#enterClosing();
      return;
    }
    if (kind === 'amqp-0-9-1') {
      this.#conversation = new Conversation(this.#context, this.#endpoints.sourceAddress, {
        opened: () => this.#opened(),
        toBroker: (pieces) => this.#passToBroker(pieces, false),
        existing: (method, refusal) => this.#existing(method, refusal),
        brokerCloses: (replyCode, replyText) => this.#brokerCloses(replyCode, replyText),
      });
    }
    this.#connect();
  }

  #connect(): void {
    const { connect, limits } = this.#context;
    this.#state = 'connecting';
    this.#deadline = performance.now() + limits.connectTimeout;
    this.#client.pause();
    const link = connect({
      id: this.id,
      socket: this.#client,
      endpoints: this.#endpoints,
      tlsIdentity: tlsIdentityOf(this.#client),
      lookupChannel: () => this.#conversation?.lookupChannel,
      events: {
        guard: (work) => this.#guard(work),
        connected: () => this.#guard(() => this.#connected()),
        receive: (chunk, length, lent) => this.#guard(() => this.#receiveBackend(chunk, length, lent)),
        failed: (error) => this.#guard(() => this.#backendFailed(error)),
        refused: (code, replyCode, text, method) =>
          this.#guard(() => this.fail(code, replyCode, text, method)),
        rejected: (code, text) => this.#guard(() => this.#reject(code, text)),
        ended: () => this.#guard(() => this.#backendEnded()),
        closed: () => this.#guard(() => this.#socketClosed()),
      },
    });
    this.#backend = link;
    this.#toClient = new Outlet(link, this.#client, this.#clientTls);
  }

  #connected(): void {
    if (this.#state !== 'connecting') return;
    const link = this.#backend!;
    link.write([this.#early.subarray(0, HEADER_SIZE)], false);
    const rest = this.#early.subarray(HEADER_SIZE);
    this.#early = new Uint8Array(0);
    this.#state = this.#conversation === undefined ? 'raw' : 'handshake';
    this.#deadline = performance.now() + this.#context.limits.handshakeTimeout;
    this.#octets += HEADER_SIZE + rest.length;
    this.#client.resume();
    if (this.#state === 'raw') this.#backend!.write([rest], false);
    else this.#relayFromClient(rest, rest.length, false);
  }

  #relayFromClient(chunk: Uint8Array, length: number, lent: boolean): void {
    this.#passToBroker(this.#conversation!.fromClient.push(chunk, length), lent);
  }

  #passToBroker(pieces: readonly Uint8Array[], lent: boolean): void {
    const { fromClient } = this.#conversation!;
    this.#backend!.write(pieces, lent);
    const { frames } = fromClient.scanner;
    this.#context.stats.framesFromClients += frames - this.#clientFrames;
    this.#clientFrames = frames;
    if (fromClient.error !== undefined) {
      const { replyCode, message, method } = fromClient.error;
      this.fail('CLIENT_FRAME', replyCode, message, method);
    } else if (fromClient.holding) {
      this.#backend!.hold();
      this.#conversation!.unhold();
    } else this.#backend!.proceed();
  }

  #existing(method: string, refusal: string): void {
    const text = `${method}: it exists as it was declared without the proxy, and is used so: ${refusal}`;
    this.#context.log[this.#context.isNews(text) ? 'warn' : 'debug'](this.#who(), text);
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
    this.#activeAt = performance.now();
    this.#context.opened();
    this.#context.log.debug(this.#who(), 'connection open');
  }

  #brokerCloses(replyCode: number, replyText: string): void {
    const level = replyCode === 200 || replyCode === REPLY.connectionForced ? 'info' : 'warn';
    this.#context.log[level]({ ...this.#who(), replyCode, replyText }, 'the broker closed the connection');
  }

  /** Whether the end of a socket now is no end that the peers agreed on. */
  get #broken(): boolean {
    return this.#state === 'open' && this.#conversation?.closeSeen === false;
  }

  #clientEnded(): void {
    if (this.#state === 'closed' || this.#state === 'closing') return;
    if (this.#state === 'header' || this.#state === 'connecting') {
      this.#backend?.destroy();
      this.#client.end();
    } else {
      if (this.#broken) this.#report('CLIENT_LOST', 'the client went without connection.close');
      this.#endBackend('client went without connection.close');
    }
    this.#enterClosing();
  }

  #backendFailed(error: NodeJS.ErrnoException): void {
    if (this.#state === 'connecting') this.#unreachable(error.code ?? error.message);
    else this.#context.log.debug({ ...this.#who(), err: error.message }, 'backend socket error');
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
      if (this.#lastWords === undefined) this.#client.end();
      else this.#client.destroy();
      return;
    }
    if (this.#broken) {
      this.fail('BACKEND_LOST', REPLY.connectionForced, 'the broker ended the connection');
      return;
    }
    // In the handshake a bare end is a broker's answer (wrong credentials, frame_max too small): clients know it.
    this.#client.end();
    this.#backend?.end();
    this.#backend?.release();
    this.#enterClosing();
  }

  /**
   * Ends the session for a reason of the proxy's: the client is told by connection.close where a whole frame can be put
   * before its end, the backend likewise.
   */
  fail(code: ProxyErrorCode, replyCode: number, text: string, method = 0): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    const before = this.#state;
    this.#report(code, text, { replyCode: `${replyCode} ${REPLY_NAME[replyCode] ?? ''}`.trim() });
    this.#enterClosing();
    if (before === 'header') {
      this.#client.destroy();
      return;
    }
    this.#endBackend(text);
    this.#backend?.release();
    const relay = this.#conversation?.fromBackend;
    if (relay === undefined || before === 'raw') {
      this.#client.end();
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
    this.#report(code, text);
    this.#enterClosing();
    this.#client.end();
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

  /** Ends the backend's side: by connection.close where a frame may begin, so that the broker frees exclusive queues at once. */
  #endBackend(text: string): void {
    const backend = this.#backend;
    if (backend === undefined || backend.destroyed) return;
    const conversation = this.#conversation;
    if (backend.connecting || conversation?.fromClient.atBoundary === false) backend.destroy();
    else if (conversation?.open !== true || backend.readableEnded) backend.end();
    else {
      const words = conversation.closeSeen ? undefined : encodeClose(REPLY.connectionForced, text);
      conversation.leave(() => (words === undefined ? backend.end() : backend.end(words)));
    }
  }

  #enterClosing(): void {
    this.#state = 'closing';
    this.#deadline = performance.now() + CLOSE_TIMEOUT;
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
    this.#context.log.debug(this.#who(), 'connection ended');
    this.#context.ended(this);
  }

  /** Looks at the session's deadline; called a few times a second. */
  sweep(now: number): void {
    this.#backend?.sweep(now);
    switch (this.#state) {
      case 'header':
      case 'handshake':
        if (this.#backend?.connecting === true) this.#deadline = now + this.#context.limits.handshakeTimeout;
        if (now > this.#deadline) {
          const seconds = this.#context.limits.handshakeTimeout / 1000;
          this.fail('HANDSHAKE_TIMEOUT', REPLY.connectionForced, `the handshake took more than ${seconds} s`);
        }
        break;
      case 'connecting':
        if (now > this.#deadline) {
          const { host, port } = this.#context.backend;
          const text = `backend ${host}:${port} did not answer in time`;
          this.fail('BACKEND_CONNECT_TIMEOUT', REPLY.connectionForced, text);
        }
        break;
      case 'closing':
        if (this.#octets !== this.#octetsSeen) {
          this.#octetsSeen = this.#octets;
          this.#deadline = now + CLOSE_TIMEOUT;
        } else if (now > this.#deadline) this.destroy();
        break;
      case 'open':
      case 'raw':
        this.#sweepIdle(now);
        break;
      case 'closed':
    }
  }

  #sweepIdle(now: number): void {
    const { idleTimeout } = this.#context.limits;
    if (this.#octets !== this.#octetsSeen) {
      this.#octetsSeen = this.#octets;
      this.#activeAt = now;
    } else if (idleTimeout > 0 && now - this.#activeAt > idleTimeout) {
      this.fail('IDLE_TIMEOUT', REPLY.connectionForced, `no traffic for ${idleTimeout / 1000} s`);
    }
  }

  /** Ends both sockets at once. */
  destroy(): void {
    this.#client.destroy();
    this.#backend?.destroy();
  }

  #who(): { connection: number; client: string } {
    const { sourceAddress, sourcePort } = this.#endpoints;
    return { connection: this.id, client: `${sourceAddress} ${sourcePort}` };
  }

  #report(code: ProxyErrorCode, text: string, more?: object): void {
    this.#context.stats.errors[code]++;
    const level = code === 'CLIENT_LOST' || code === 'DRAIN' || code === 'IDLE_TIMEOUT' ? 'info' : 'warn';
    this.#context.log[level]({ ...this.#who(), code, ...more }, text);
  }
}

/** The SHA-256 of the certificate that a TLS client showed, '' without one. */
function tlsIdentityOf(socket: Socket): string {
  if (!(socket instanceof TLSSocket)) return '';
  return socket.getPeerX509Certificate()?.fingerprint256 ?? '';
}
