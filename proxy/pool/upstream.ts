import type { Socket } from 'node:net';
import {
  CLOSE_OK,
  encodeOpen,
  encodeTuneOk,
  HEARTBEAT,
  readBlocked,
  readMechanisms,
  readTune,
  type Tune,
} from '../../amqp/connection.ts';
import { FRAME_HEARTBEAT, METHOD, PROTOCOL_HEADER, REPLY } from '../../amqp/constants.ts';
import { WireError } from '../../amqp/error.ts';
import { FrameCutter, type FrameSink } from '../../amqp/frames.ts';
import { encodeClose, readClose } from '../../amqp/method.ts';
import { readUint32 } from '../../amqp/table.ts';
import type { Logger } from '../../common/log.ts';
import type { Backend } from '../backend.ts';
import { resetSocket } from '../faults/reset.ts';
import { INITIAL_FRAME_MAX } from '../negotiation.ts';
import type { Endpoints } from '../proxy-protocol.ts';
import { keepReadBuffer } from '../socket.ts';
import type { Stats } from '../stats.ts';
import type { ChannelState } from './channel-state.ts';
import { agreeOnTune, type Credentials, startOk } from './login.ts';
import { Pulse } from './pulse.ts';
import { ChannelTable } from './channel-table.ts';
import { Gather } from './gather.ts';
import type { ChannelOwner, UpstreamChannel, UpstreamEnd } from './upstream-channel.ts';

/** How long the broker has to end a connection that is closed, in milliseconds. */
const CLOSE_TIMEOUT = 3000;

/**
 * A login that a broker refuses without a word is one that it let wait: 3 s (rabbit_reader's SILENT_CLOSE_DELAY). What ends
 * sooner, in milliseconds, was no refusal: the broker is going down, or the connection broke.
 */
const SILENT_REFUSAL = 2500;

export interface UpstreamSettings {
  readonly backend: Backend;
  /** Whose connection it is, for PROXY protocol: a client's, and what it reached. */
  readonly endpoints: Endpoints;
  /** undefined: they follow by {@link Upstream.login}, and the connection waits for them once it is greeted. */
  readonly credentials: Credentials | undefined;
  readonly limits: {
    /** Milliseconds for the connection, its TLS included. */
    readonly connectTimeout: number;
    /** Milliseconds for each answer of the broker: in the handshake, and when a channel is settled. */
    readonly handshakeTimeout: number;
    /** Seconds wanted between heartbeats; the broker's proposal where it is less, 0 for none. */
    readonly heartbeat: number;
    /** Channels at a time; the broker's channel_max holds too. */
    readonly channelMax: number;
  };
  /** The connection_name. */
  readonly name: string;
  readonly stats: Stats;
  readonly log: Logger;
  readonly events: UpstreamEvents;
}

/** What a connection tells its pool; `ended` comes once and last. */
export interface UpstreamEvents {
  /** connection.start, whole and the receiver's. With credentials the login follows at once. */
  greeted(start: Uint8Array): void;
  /** The login was taken. `tune`: what the broker proposed, its frame_max as agreed and its channel_max never 0. */
  authenticated(tune: Tune): void;
  /** The virtual host is open: channels can be taken. */
  opened(): void;
  /** The broker takes no publishes, for this reason; undefined: it takes them again. */
  blocked(reason: string | undefined): void;
  /** No channel is anybody's any more. */
  idle(): void;
  /** There is room for one more channel. */
  settled(): void;
  ended(end: UpstreamEnd): void;
}

/**
 * `connecting` until connection.start · `greeted` until connection.tune · `authenticated` until connection.open-ok · `open` ·
 * `closing` until connection.close-ok · `ended`.
 */
export type UpstreamStage = 'connecting' | 'greeted' | 'authenticated' | 'open' | 'closing' | 'ended';

/** One connection to the broker, shared by the owners of its channels. All times are milliseconds of performance.now(). */
export class Upstream {
  readonly socket: Socket;
  /** Takes channels alone; undefined: everybody does. */
  reservedFor: ChannelOwner | undefined;

  readonly #settings: Omit<UpstreamSettings, 'credentials'>;
  readonly #cutter: FrameCutter;
  #stage: UpstreamStage = 'connecting';
  #isConnected = false;
  /** By when the stage has to be over. */
  #deadline: number;
  /** What the broker offers, once it has greeted. */
  #mechanisms: readonly string[] = [];
  /** Until they have been sent. */
  #credentials: Credentials | undefined;
  /** Since when the broker looks at the login. */
  #loginAt = Infinity;
  /** connection.open, once it is known what for; and whether it was sent. */
  #openFrame: Uint8Array | undefined;
  #isOpening = false;
  #tune: Tune = { channelMax: 0, frameMax: INITIAL_FRAME_MAX, heartbeat: 0 };
  #pulse: Pulse | undefined;
  #blockedBy: string | undefined;
  readonly #channels: ChannelTable;
  readonly #gather: Gather;
  /** What is being read, and the same where it will be read into again. */
  #chunk: Uint8Array | undefined;
  #lent: Uint8Array | undefined;
  #closedWith = '';
  #closing: NodeJS.Timeout | undefined;

  readonly #sink: FrameSink = {
    frame: (type, channel, method, octets, start, end) => {
      if (channel === 0) this.#control(type, method, octets, start, end);
      else if (octets === this.#chunk) this.#channels.frame(type, channel, method, octets, start, end);
      else {
        // The frame was cut: what it lies in is the next one's, too.
        this.#channels.begin(octets);
        this.#channels.frame(type, channel, method, octets, start, end);
        this.#channels.finish();
        this.#channels.begin(this.#lent);
      }
    },
    messages: (octets, start, end, maxPayload) => this.#channels.messages(octets, start, end, maxPayload),
  };

  /** Begins to connect. */
  constructor(settings: UpstreamSettings) {
    const { credentials, ...others } = settings;
    const { backend, limits } = others;
    this.#credentials = credentials;
    this.#settings = others;
    this.#channels = new ChannelTable(this, others);
    this.#cutter = new FrameCutter(INITIAL_FRAME_MAX, this.#sink, {
      tally: others.stats.brokerFrames,
      reuses: true,
    });
    this.#deadline = performance.now() + limits.connectTimeout;
    const socket = backend.connect((chunk, length, lent) =>
      this.#guard(() => this.#receive(chunk, length, lent)),
    );
    this.socket = socket;
    this.#gather = new Gather(socket, backend.tls);
    socket.once(backend.tls ? 'secureConnect' : 'connect', () => this.#guard(() => this.#connected()));
    socket.on('error', (error) => this.#guard(() => this.#failed(error)));
    socket.on('end', () => this.#guard(() => this.#gone()));
    socket.on('close', () => this.#guard(() => this.#gone()));
  }

  get state(): UpstreamStage {
    return this.#stage;
  }

  /** Channels that belong to somebody, those that are being settled included. */
  get used(): number {
    return this.#channels.used;
  }

  /** How many channels can be taken. */
  get room(): number {
    return this.#stage === 'open' ? this.#channels.room : 0;
  }

  /** How many owners have channels. */
  get owners(): number {
    return this.#channels.owners;
  }

  /** Channels at a time, by the broker and by the settings; 0 before the broker has told. */
  get channelMax(): number {
    return Math.min(this.#tune.channelMax, this.#settings.limits.channelMax);
  }

  /** Octets of the longest frame, both ways. */
  get frameMax(): number {
    return this.#tune.frameMax;
  }

  /** Why the broker takes no publishes now. */
  get blockedBy(): string | undefined {
    return this.#blockedBy;
  }

  /** Since when no channel is anybody's, where that is so. */
  get idleSince(): number {
    return this.#channels.idleSince;
  }

  /** Logs in, where the settings had no credentials: now, or as soon as the broker has greeted. */
  login(credentials: Credentials): void {
    this.#credentials = credentials;
    this.#sendLogin();
  }

  #sendLogin(): void {
    const credentials = this.#credentials;
    if (credentials === undefined || this.#stage !== 'greeted') return;
    this.#credentials = undefined;
    // A broker would let it wait for 3 s, and hang up without a word.
    if (!this.#mechanisms.includes(credentials.mechanism)) {
      this.#end({
        kind: 'refused',
        text: `the broker has no mechanism ${JSON.stringify(credentials.mechanism)}`,
      });
      return;
    }
    this.#loginAt = performance.now();
    this.#await();
    this.send(startOk(credentials, this.#settings.name));
  }

  /** Opens the virtual host: now, or as soon as the login is taken. @throws WireError 502 when its name is too long */
  open(virtualHost: string): void {
    this.#openFrame = encodeOpen(virtualHost);
    this.#sendOpen();
  }

  #sendOpen(): void {
    if (this.#openFrame === undefined || this.#stage !== 'authenticated' || this.#isOpening) return;
    this.#isOpening = true;
    this.#await();
    this.send(this.#openFrame);
  }

  /**
   * A channel that is open, or will be: frames may follow at once. One that is open and as new is taken before another is
   * opened. undefined: there is none left, or not for this owner.
   * @param local the owner's number for it
   * @param state of the owner's channel: the broker's frames on it are shown there
   */
  take(owner: ChannelOwner, local: number, state: ChannelState): UpstreamChannel | undefined {
    if (this.#stage !== 'open') return undefined;
    if (this.reservedFor !== undefined && this.reservedFor !== owner) return undefined;
    return this.#channels.take(owner, local, state);
  }

  /** Sends whole frames behind all that has been written, at the latest when the event loop's turn ends. */
  send(frame: Uint8Array): void {
    if (this.#stage === 'open' && this.#gather.add([frame])) return;
    this.#gather.flush();
    if (this.socket.writable) this.socket.write(frame);
  }

  /**
   * Whole frames of one client, which may be written together with those of others, behind all that has been written.
   * @returns false when they have to be written now, by the caller
   */
  gather(pieces: readonly Uint8Array[]): boolean {
    return this.#gather.expectsMore(this.owners) && this.#gather.add(pieces);
  }

  /** To be called by an owner within {@link ChannelOwner.receive}: the lent octets are its own. */
  keepBuffer(): void {
    keepReadBuffer(this.socket);
    this.#cutter.keepCut();
  }

  pauseReading(): void {
    if (this.#stage === 'open') this.socket.pause();
  }

  resumeReading(): void {
    this.socket.resume();
  }

  /** Keeps the heartbeats and ends what takes too long; to be called several times a second until `ended`. */
  sweep(now: number): void {
    if (this.#stage === 'ended') return;
    if (now > this.#deadline) {
      this.#end({ kind: 'timeout', text: this.#lateness });
      return;
    }
    const pulse = this.#pulse;
    if (pulse !== undefined) {
      if (pulse.isSilent(now)) {
        this.#end({ kind: 'silent', text: `nothing came from the broker for ${pulse.patience} s` });
        return;
      }
      if (pulse.isDue(now)) this.send(HEARTBEAT);
    }
    this.#channels.sweep(now);
  }

  get #lateness(): string {
    const { backend, limits } = this.#settings;
    const where = `backend ${backend.host}:${backend.port}`;
    if (!this.#isConnected) return `${where} did not answer within ${limits.connectTimeout / 1000} s`;
    const awaited = {
      connecting: 'start',
      greeted: 'tune',
      authenticated: 'open-ok',
      open: '',
      closing: '',
      ended: '',
    }[this.#stage];
    return `${where} sent no connection.${awaited} within ${limits.handshakeTimeout / 1000} s`;
  }

  /** Ends an open connection with connection.close, another one at once. Owners lose what they have there now. */
  close(text: string): void {
    if (this.#stage !== 'open') {
      if (this.#stage !== 'closing') this.#end({ kind: 'ended', text });
      return;
    }
    this.#stage = 'closing';
    this.#closedWith = text;
    this.send(encodeClose(REPLY.replySuccess, text));
    this.socket.resume();
    this.#closing = setTimeout(() => this.destroy(), CLOSE_TIMEOUT);
    this.#channels.abandon({ kind: 'ended', text });
  }

  /** Breaks the connection off as a network that fails does: by a reset. */
  reset(): void {
    resetSocket(this.socket);
  }

  /** Ends the connection without a word. */
  destroy(): void {
    this.#end({ kind: 'ended', text: this.#closedWith });
  }

  /** A fault of the proxy's own costs this connection and no other. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#logFault(error);
      this.#end({ kind: 'protocol', text: 'internal error' });
    }
  }

  #logFault(error: unknown): void {
    const err = error instanceof Error ? error.stack : String(error);
    this.#settings.log.error({ upstream: this.#settings.name, err }, 'internal error');
  }

  #await(): void {
    this.#deadline = performance.now() + this.#settings.limits.handshakeTimeout;
  }

  #connected(): void {
    if (this.#stage !== 'connecting') return;
    this.#isConnected = true;
    this.#await();
    const announced = this.#settings.backend.header(this.#settings.endpoints);
    if (announced !== undefined) this.send(announced);
    this.send(PROTOCOL_HEADER);
  }

  #failed(error: NodeJS.ErrnoException): void {
    const text = error.code ?? error.message;
    this.#settings.log.debug({ upstream: this.#settings.name, err: text }, 'upstream socket error');
    this.#broken(text);
  }

  #gone(): void {
    if (this.#stage === 'ended') this.socket.destroy();
    else this.#broken('the broker ended the connection');
  }

  /** The connection is no more, and the broker has said nothing. */
  #broken(why: string): void {
    const { host, port } = this.#settings.backend;
    if (this.#stage === 'connecting')
      this.#end({ kind: 'unreachable', text: `backend ${host}:${port} cannot be reached: ${why}` });
    else if (this.#stage === 'greeted' && performance.now() - this.#loginAt >= SILENT_REFUSAL)
      this.#end({ kind: 'refused', text: 'the broker refused the login without a word' });
    else this.#end({ kind: 'lost', text: why });
  }

  #receive(chunk: Uint8Array, length: number, lent: boolean): void {
    if (this.#stage === 'ended') return;
    const { stats } = this.#settings;
    const latency = stats.telemetry.latency.broker;
    const began = latency.begin();
    stats.octetsFromBackend += length;
    if (this.#pulse !== undefined) this.#pulse.heard = true;
    this.#chunk = chunk;
    this.#lent = lent ? chunk : undefined;
    this.#channels.begin(this.#lent);
    this.#cutter.push(chunk, 0, length);
    this.#channels.finish();
    this.#chunk = undefined;
    this.#lent = undefined;
    latency.end(began);
    const { error } = this.#cutter;
    if (error !== undefined)
      this.#end({ kind: 'protocol', text: `the broker's octets are not AMQP: ${error.message}` });
  }

  #control(type: number, method: number, octets: Uint8Array, start: number, end: number): void {
    if (type === FRAME_HEARTBEAT) return;
    const frame = new Uint8Array(octets.subarray(start, end));
    switch (method) {
      case METHOD.connectionStart:
        if (this.#stage !== 'connecting') break;
        this.#greeted(frame);
        return;
      case METHOD.connectionSecure:
        if (this.#stage !== 'greeted') break;
        this.#end({ kind: 'refused', text: 'the mechanism wants a second answer, which is not supported' });
        return;
      case METHOD.connectionTune:
        if (this.#stage !== 'greeted') break;
        this.#authenticated(readTune(frame));
        return;
      case METHOD.connectionOpenOk:
        if (this.#stage !== 'authenticated' || !this.#isOpening) break;
        this.#opened();
        return;
      case METHOD.connectionClose:
        this.#brokerCloses(frame);
        return;
      case METHOD.connectionCloseOk:
        if (this.#stage !== 'closing') break;
        this.#end({ kind: 'ended', text: this.#closedWith });
        return;
      case METHOD.connectionBlocked:
        this.#block(readBlocked(frame));
        return;
      case METHOD.connectionUnblocked:
        this.#block(undefined);
        return;
      default:
    }
    const text = `method ${method >>> 16}.${method & 0xffff} while the connection is ${this.#stage}`;
    throw new WireError(REPLY.commandInvalid, text, method);
  }

  #greeted(start: Uint8Array): void {
    this.#mechanisms = readMechanisms(start);
    this.#stage = 'greeted';
    this.#deadline = Infinity;
    this.#settings.events.greeted(start);
    this.#sendLogin();
  }

  #authenticated(proposed: Tune): void {
    const { limits, events } = this.#settings;
    const agreed = agreeOnTune(proposed, limits.heartbeat);
    const { channelMax, frameMax } = agreed;
    this.#tune = agreed;
    this.#cutter.setFrameMax(frameMax);
    this.#stage = 'authenticated';
    this.#deadline = Infinity;
    this.send(encodeTuneOk(agreed));
    if (agreed.heartbeat > 0) this.#pulse = new Pulse(this.socket, agreed.heartbeat, performance.now());
    this.#sendOpen();
    events.authenticated({ channelMax, frameMax, heartbeat: proposed.heartbeat });
  }

  #opened(): void {
    this.#stage = 'open';
    this.#deadline = Infinity;
    this.#channels.opened(this.channelMax);
    this.#settings.stats.pool.connectionsOpened++;
    this.#settings.events.opened();
  }

  #block(reason: string | undefined): void {
    this.#blockedBy = reason;
    this.#settings.events.blocked(reason);
    this.#channels.block(reason);
  }

  #brokerCloses(frame: Uint8Array): void {
    const { replyCode, replyText } = readClose(frame);
    const isRefusal = this.#stage === 'greeted' && replyCode === REPLY.accessRefused;
    const method = readUint32(frame, frame.length - 5);
    this.#end({ kind: isRefusal ? 'refused' : 'closed', replyCode, text: replyText, method }, CLOSE_OK);
  }

  /** @param lastWords what the broker gets before the connection ends; without any it ends at once */
  #end(end: UpstreamEnd, lastWords?: Uint8Array): void {
    const before = this.#stage;
    if (before === 'ended') return;
    const told: UpstreamEnd = before === 'closing' ? { kind: 'ended', text: this.#closedWith } : end;
    this.#channels.finish();
    this.#stage = 'ended';
    this.#cutter.stop();
    clearTimeout(this.#closing);
    if (lastWords === undefined) this.socket.destroy();
    else {
      this.#gather.flush();
      this.socket.end(lastWords).resume();
      const timer = setTimeout(() => this.socket.destroy(), CLOSE_TIMEOUT);
      this.socket.once('close', () => clearTimeout(timer));
    }
    const { stats, log, name, events } = this.#settings;
    if (told.kind !== 'ended') {
      stats.pool[before === 'open' ? 'connectionsLost' : 'connectionsFailed'][told.kind]++;
      log.debug({ upstream: name, ...told }, 'a connection to the broker ended');
    }
    try {
      events.ended(told);
    } finally {
      this.#channels.abandon(told);
    }
  }
}
