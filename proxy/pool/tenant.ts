import {
  CLOSE_OK,
  encodeBlocked,
  encodeTune,
  HEARTBEAT,
  OPEN_OK,
  readStartOk,
  readTune,
  type StartOk,
  type Tune,
  UNBLOCKED,
} from '../../amqp/connection.ts';
import { METHOD, REPLY } from '../../amqp/constants.ts';
import { WireError } from '../../amqp/error.ts';
import { FrameCutter, type FrameSink } from '../../amqp/frames.ts';
import { type ClientIdentity, NOBODY, readClientIdentity } from '../../amqp/handshake.ts';
import { checkMethod } from '../../amqp/grammar.ts';
import { channelOf, methodOf, readVirtualHost } from '../../amqp/method.ts';
import type { ProxyErrorCode } from '../errors.ts';
import type { Gate } from '../gate.ts';
import { HEADER_SIZE } from '../header.ts';
import type { Link, LinkClient, LinkEvents } from '../link.ts';
import { INITIAL_FRAME_MAX } from '../negotiation.ts';
import type { Source } from '../outlet.ts';
import { MAX_COLLECTED } from '../relay.ts';
import { ClientChannels } from './client-channels.ts';
import { withoutCancels } from './cancels.ts';
import { ClientPulse } from './client-pulse.ts';
import type { Who } from './connection.ts';
import type { Group, GroupMember } from './group.ts';
import type { Credentials } from './login.ts';
import type { Pool } from './pool.ts';
import { nameOf, type Quarantine } from './quarantine.ts';
import { type PoolRefusal, REFUSAL_CODE } from './refusal.ts';
import type { PoolStats } from './stats.ts';
import type { Request } from './waiting.ts';
import { whenClosed } from './when-closed.ts';

export interface TenantSettings {
  readonly pool: Pool;
  readonly quarantine: Quarantine;
  readonly stats: PoolStats;
  readonly resume: boolean;
  /** Milliseconds that channels with state may take to be made anew. */
  readonly resumeTimeout: number;
  /** Octets of a message's body. */
  readonly maxMessageSize: number;
  /** Octets for a client that it hasn't taken yet, on connections that it shares. */
  readonly clientBacklog: number;
  /** Whether connections to the broker encrypt. */
  readonly encrypts: boolean;
}

/**
 * What the client is expected to send: `header` the protocol header · `start-ok` · `login` nothing, it is being logged in ·
 * `tune-ok` · `open` connection.open · `entering` nothing, it waits for the virtual host · `running` anything ·
 * `closing` nothing more, its channels end · `ended` nothing, it is gone.
 */
type State =
  | 'header'
  | 'start-ok'
  | 'login'
  | 'tune-ok'
  | 'open'
  | 'entering'
  | 'running'
  | 'closing'
  | 'ended';

/**
 * The broker of one client, as the client sees it: it answers the handshake and keeps the client's channels, which are on
 * connections to the real broker that clients share.
 */
export class Tenant implements Link, FrameSink, GroupMember {
  readonly #settings: TenantSettings;
  readonly #client: LinkClient;
  readonly #events: LinkEvents;
  readonly #cutter: FrameCutter;
  readonly #gate: Gate;
  /** What the session holds the client back with. */
  readonly #holder: Source;
  #state: State = 'header';
  #waiting: Request | undefined;
  /** The broker's connection.start. */
  #greeting: Uint8Array | undefined;
  /** Kept as long as the client is there: new connections to the broker are made with them. */
  #credentials: Credentials | undefined;
  #identity: ClientIdentity = NOBODY;
  #startOk: StartOk | undefined;
  #virtualHost = '';
  #pulse: ClientPulse | undefined;
  #group: Group | undefined;
  #channels: ClientChannels | undefined;
  /** Frames that came while the client waits for the pool, and what holds it back then. */
  readonly #early: Uint8Array[] = [];
  readonly #earlyHolder: Source;
  /** What the session writes now, where it lies in a buffer that the client's socket reads into again. */
  #lent: Uint8Array | undefined;
  /** Frames of the tenant's own for the client, in order. */
  readonly #said: Uint8Array[] = [];
  /** What the session has written is being taken. */
  #isTaking = false;
  /** The session is being given octets for the client: it can't be given others before it has taken them. */
  #isGiving = false;
  /** The client hasn't taken all that it was given. */
  #isSlow = false;
  /** What the client is given now lies in a buffer that is read into again. */
  #isLent = false;
  /** The client has been told that the broker takes no publishes. */
  #toldBlocked = false;

  constructor(client: LinkClient, settings: TenantSettings) {
    this.#settings = settings;
    this.#client = client;
    this.#events = client.events;
    this.#gate = client.gate;
    this.#holder = this.#gate.holder();
    this.#earlyHolder = this.#gate.holder();
    this.#cutter = new FrameCutter(MAX_COLLECTED, this);
    // The session has to know its link before it is told of it.
    process.nextTick(() => this.#events.guard(() => this.#greet()));
  }

  #greet(): void {
    if (this.#state === 'ended') return;
    this.#waiting = this.#settings.pool.greeting(this.#client.endpoints, (greeting) =>
      this.#events.guard(() => {
        if (greeting instanceof Uint8Array) {
          this.#greeting = greeting;
          this.#events.connected();
        } else this.#refuse(greeting);
      }),
    );
  }

  get connecting(): boolean {
    return this.#greeting === undefined || this.#state === 'login' || this.#state === 'entering';
  }

  get destroyed(): boolean {
    return this.#state === 'ended';
  }

  get readableEnded(): boolean {
    return this.#state === 'ended';
  }

  write(pieces: readonly Uint8Array[], lent: boolean): void {
    if (this.#state === 'ended') return;
    if (this.#pulse !== undefined) this.#pulse.heard = true;
    this.#isTaking = true;
    for (const piece of pieces) {
      const start = this.#state === 'header' ? this.#header() : 0;
      this.#lent = lent ? piece : undefined;
      this.#channels?.begin(this.#lent);
      this.#cutter.push(piece, start, piece.length);
      this.#channels?.flush();
    }
    this.#isTaking = false;
    this.#sayAll();
    if (this.#cutter.error !== undefined) this.#offends(this.#cutter.error);
  }

  /** The protocol header, which the session has looked at. @returns where the first frame begins */
  #header(): number {
    this.#state = 'start-ok';
    this.#say(this.#greeting!);
    return HEADER_SIZE;
  }

  #offends(error: WireError): void {
    if (this.#state === 'ended') return;
    const { replyCode, message, method } = error;
    this.#quarantine(message);
    this.#fail('CLIENT_PROTOCOL', replyCode, message, method);
  }

  /** A whole frame of the client. */
  frame(type: number, channel: number, method: number, octets: Uint8Array, start: number, end: number): void {
    if (this.#isWaiting) {
      this.#early.push(Uint8Array.from(octets.subarray(start, end)));
      this.#earlyHolder.pause();
    } else if (channel !== 0) this.#channels?.frame(type, channel, method, octets, start, end);
    else if (method !== 0) this.#says(method, octets.subarray(start, end));
  }

  /** The client waits for the pool; what it sends meanwhile is taken afterwards, as brokers do. */
  get #isWaiting(): boolean {
    return this.#state === 'login' || this.#state === 'entering';
  }

  /** Takes what the client has sent while it waited. */
  #takeEarly(): void {
    if (this.#early.length === 0) return;
    const frames = this.#early.splice(0);
    this.#isTaking = true;
    try {
      for (const frame of frames)
        this.frame(frame[0]!, channelOf(frame), methodOf(frame), frame, 0, frame.length);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#offends(error);
    } finally {
      this.#isTaking = false;
    }
    this.#channels?.flush();
    this.#sayAll();
    if (this.#early.length === 0) this.#earlyHolder.resume();
  }

  /** A method of the client on channel 0. */
  #says(method: number, frame: Uint8Array): void {
    checkMethod(method, frame, 0, frame.length);
    if (method === METHOD.connectionClose) {
      this.#closes();
    } else if (method === METHOD.connectionStartOk && this.#state === 'start-ok') {
      this.#logIn(frame);
    } else if (method === METHOD.connectionTuneOk && this.#state === 'tune-ok') {
      const { heartbeat } = readTune(frame);
      this.#state = 'open';
      this.#pulse = heartbeat === 0 ? undefined : new ClientPulse(heartbeat, performance.now());
    } else if (method === METHOD.connectionOpen && this.#state === 'open') {
      this.#enter(readVirtualHost(frame));
    } else if (method === METHOD.connectionUpdateSecret && this.#state === 'running') {
      const text = 'a connection that is shared has one secret: connect again with the new one';
      this.#fail('CLIENT_PROTOCOL', REPLY.notImplemented, text, method);
    } else if (method !== METHOD.connectionCloseOk) {
      const text = `connection method ${method & 0xffff} where none of its kind is due`;
      this.#fail('CLIENT_PROTOCOL', REPLY.commandInvalid, text, method);
    }
  }

  #who(credentials: Credentials): Who {
    const { tlsIdentity, endpoints } = this.#client;
    return { credentials, tlsIdentity, endpoints };
  }

  #logIn(frame: Uint8Array): void {
    this.#startOk = readStartOk(frame);
    const { mechanism, response, locale } = this.#startOk;
    this.#identity = readClientIdentity(frame);
    this.#credentials = { mechanism, response, locale, user: this.#identity.user };
    this.#state = 'login';
    this.#waiting = this.#settings.pool.login(this.#who(this.#credentials), (refusal, tune) =>
      this.#events.guard(() => {
        if (this.#state !== 'login') return;
        if (tune === undefined) this.#refuse(refusal!);
        else this.#tune(tune);
      }),
    );
  }

  #tune({ channelMax, frameMax, heartbeat }: Tune): void {
    this.#state = 'tune-ok';
    this.#say(encodeTune({ channelMax, frameMax: frameMax === 0 ? INITIAL_FRAME_MAX : frameMax, heartbeat }));
    this.#takeEarly();
  }

  #enter(virtualHost: string): void {
    if (Buffer.byteLength(virtualHost) > 255) {
      this.#fail(
        'CLIENT_PROTOCOL',
        REPLY.syntaxError,
        'the virtual host is not UTF-8',
        METHOD.connectionOpen,
      );
      return;
    }
    this.#virtualHost = virtualHost;
    this.#state = 'entering';
    const who = this.#who(this.#credentials!);
    this.#waiting = this.#settings.pool.enter(who, virtualHost, this, (refusal, group) =>
      this.#events.guard(() => {
        if (this.#state !== 'entering') group?.leave(this);
        else if (group === undefined) this.#refuse(refusal!);
        else {
          this.#entered(group);
          this.#takeEarly();
        }
      }),
    );
  }

  #entered(group: Group): void {
    this.#group = group;
    this.#channels = new ClientChannels({
      ...this.#settings,
      group,
      member: this,
      isPrivate: this.#settings.quarantine.has(this.#quarantineName),
      lookupChannel: this.#client.lookupChannel,
      holder: () => this.#gate.holder(),
      guard: (work) => this.#events.guard(work),
      say: (frame) => this.#say(frame),
      toClient: (octets, lent) => this.#deliver(octets, lent),
      refuse: (code, replyCode, text, method) => this.#fail(code, replyCode, text, method),
      quarantine: (why) => this.#quarantine(why),
      blocked: (reason) => this.#blocked(reason),
    });
    this.#channels.begin(this.#lent);
    this.#state = 'running';
    this.#say(OPEN_OK);
  }

  get #quarantineName(): string {
    return nameOf(this.#identity, this.#virtualHost, this.#client.endpoints.sourceAddress);
  }

  #quarantine(why: string): void {
    this.#settings.quarantine.add(this.#quarantineName, why);
  }

  #refuse({ kind, replyCode, text, silent, wordless }: PoolRefusal): void {
    if (wordless === true || (silent && this.#startOk?.has('authentication_failure_close') !== true)) {
      this.#events.rejected('LOGIN_REFUSED', text);
      return;
    }
    this.#fail(REFUSAL_CODE[kind], replyCode, text, kind === 'closed' ? METHOD.connectionOpen : undefined);
  }

  /**
   * A frame of the tenant's own for the client. The session gets it when what it has written is taken: its answer may be
   * to write again.
   */
  #say(frame: Uint8Array): void {
    this.#said.push(frame);
    if (!this.#isTaking && this.#said.length === 1)
      process.nextTick(() => this.#events.guard(() => this.#sayAll()));
  }

  #sayAll(): void {
    if (this.#isGiving) return;
    for (let frame = this.#said.shift(); frame !== undefined; frame = this.#said.shift()) {
      this.#give(frame, false);
    }
  }

  /** The client's connection has to be ended, behind what it has been told. */
  #fail(code: ProxyErrorCode, replyCode: number, text: string, method?: number): void {
    this.#sayAll();
    this.#events.refused(code, replyCode, text, method);
  }

  /** Frames of the broker's for the client. */
  #deliver(octets: Uint8Array, lent: boolean): void {
    this.#sayAll();
    this.#give(octets, lent);
    this.#sayAll();
  }

  #give(octets: Uint8Array, lent: boolean): void {
    if (this.#state === 'ended') return;
    const { clientBacklog } = this.#settings;
    const kept = this.#startOk?.has('consumer_cancel_notify') === false ? withoutCancels(octets) : octets;
    if (this.#pulse !== undefined) this.#pulse.said = true;
    this.#isLent = lent;
    this.#isGiving = true;
    if (kept.length > 0) this.#events.receive(kept, kept.length, lent && kept === octets);
    this.#isGiving = false;
    this.#isLent = false;
    if (!this.#isSlow) return;
    const { writableLength } = this.#client.socket;
    if (writableLength <= clientBacklog) return;
    if (this.#channels?.claim() === true) {
      this.pause();
      return;
    }
    const text = `${writableLength} octets wait for the client, more than --client-backlog ${clientBacklog}`;
    this.#quarantine(text);
    this.#fail(
      'SHARED_LIMIT',
      REPLY.connectionForced,
      `${text}: connect again, and you have a connection of your own`,
    );
  }

  /** The client is behind: a connection to the broker that is its own waits for it, a shared one can't. */
  pause(): void {
    this.#isSlow = true;
    if (this.#isLent) this.#channels?.keepBuffers();
    for (const upstream of this.#channels?.own ?? []) upstream.pauseReading();
  }

  resume(): void {
    this.#isSlow = false;
    for (const upstream of this.#channels?.own ?? []) upstream.resumeReading();
  }

  hold(): void {
    this.#holder.pause();
  }

  proceed(): void {
    this.#holder.resume();
  }

  release(): void {
    this.#holder.resume();
  }

  /** connection.blocked and connection.unblocked go to clients that publish, where they know them. */
  #blocked(reason: string | undefined): void {
    if (this.#startOk?.has('connection.blocked') !== true) return;
    const tells =
      reason === undefined ? this.#toldBlocked : this.#channels?.publishes === true && !this.#toldBlocked;
    if (!tells) return;
    this.#toldBlocked = reason !== undefined;
    this.#say(reason === undefined ? UNBLOCKED : encodeBlocked(reason));
  }

  pathAlive(alive: boolean): void {
    if (this.#pulse !== undefined) this.#pulse.withheld = !alive;
  }

  refused(refusal: PoolRefusal): void {
    this.#events.guard(() => this.#refuse(refusal));
  }

  /** The client closes its connection: it is told when the broker has done with all that it has sent. */
  #closes(): void {
    const closed = (): void => {
      if (this.#state === 'ended') return;
      this.#say(CLOSE_OK);
      this.#sayAll();
      this.#events.ended();
    };
    if (this.#state === 'closing') return;
    const channels = this.#channels;
    this.#state = 'closing';
    if (channels === undefined) {
      closed();
      return;
    }
    channels.flush();
    channels.finish(() => {
      const own = [...channels.own];
      this.#group?.leave(this);
      // Exclusive queues are gone when a broker answers connection.close (rabbit_reader), and so they are here.
      whenClosed(own, () => this.#events.guard(closed));
    });
  }

  end(): void {
    this.#end();
  }

  destroy(): void {
    this.#end();
  }

  #end(): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#cutter.stop();
    this.#waiting?.cancel();
    this.#early.length = 0;
    this.#earlyHolder.resume();
    this.#channels?.end();
    this.#group?.leave(this);
    this.#holder.resume();
    process.nextTick(() => {
      this.#events.ended();
      this.#events.closed();
    });
  }

  sweep(now: number): void {
    const pulse = this.#pulse;
    if (pulse === undefined || this.#state === 'ended') return;
    if (this.#gate.closed) pulse.heard = true; // it isn't being read
    if (pulse.isSilent(now)) {
      this.#events.rejected(
        'CLIENT_LOST',
        `the client was silent for two heartbeat intervals, ${pulse.patience} s`,
      );
    } else if (pulse.isDue(now)) {
      this.#say(HEARTBEAT);
    }
  }
}
