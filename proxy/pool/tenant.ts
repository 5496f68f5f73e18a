import {
  CLOSE_OK,
  encodeBlocked,
  encodeTune,
  HEARTBEAT,
  OPEN_OK,
  readStartOk,
  readTune,
  type Tune,
  UNBLOCKED,
} from '../../amqp/connection.ts';
import { METHOD, REPLY } from '../../amqp/constants.ts';
import { WireError } from '../../amqp/error.ts';
import { FrameCutter, type FrameSink } from '../../amqp/frames.ts';
import { type ClientIdentity, NOBODY, readClientIdentity } from '../../amqp/handshake.ts';
import { checkMethod } from '../../amqp/grammar.ts';
import type { MessageRun } from '../../amqp/message-run.ts';
import { readVirtualHost } from '../../amqp/method.ts';
import type { ProxyErrorCode } from '../errors.ts';
import type { Gate } from '../gate.ts';
import { HEADER_SIZE } from '../header.ts';
import type { Link, LinkClient, LinkEvents } from '../link.ts';
import { INITIAL_FRAME_MAX } from '../negotiation.ts';
import type { Source } from '../outlet.ts';
import { MAX_COLLECTED } from '../relay.ts';
import { IN_BLOCKS } from './blocks.ts';
import { ClientChannels } from './client-channels.ts';
import { ClientOutput } from './client-output.ts';
import { ClientPulse } from './client-pulse.ts';
import type { Who } from './connection.ts';
import { EarlyFrames } from './early-frames.ts';
import type { Group, GroupMember } from './group.ts';
import { credentialKey } from './key.ts';
import { nameOf } from './quarantine.ts';
import { type PoolRefusal, REFUSAL_CODE } from './refusal.ts';
import type { TenantSettings } from './tenant-settings.ts';
import type { Request } from './waiting.ts';
import { whenClosed } from './when-closed.ts';

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
  #who: Who | undefined;
  #identity: ClientIdentity = NOBODY;
  /** What the client says that it knows. */
  #knowsRefusals = false;
  #knowsBlocked = false;
  #virtualHost = '';
  #pulse: ClientPulse | undefined;
  #group: Group | undefined;
  #channels: ClientChannels | undefined;
  readonly #early: EarlyFrames;
  /** What the session writes now, where it lies in a buffer that the client's socket reads into again. */
  #lent: Uint8Array | undefined;
  readonly #output: ClientOutput;
  /** What the client was offered, and has agreed on; 0 before. */
  #offered = 0;
  #channelMax = 0;
  /** More of the chunk that is being read follows. */
  #isCorked = false;
  /** The client has been told that the broker takes no publishes. */
  #toldBlocked = false;

  constructor(client: LinkClient, settings: TenantSettings) {
    this.#settings = settings;
    this.#client = client;
    this.#events = client.events;
    this.#gate = client.gate;
    this.#holder = this.#gate.holder();
    this.#early = new EarlyFrames(this.#gate.holder());
    this.#cutter = new FrameCutter(MAX_COLLECTED, this, IN_BLOCKS);
    this.#output = new ClientOutput({
      events: this.#events,
      backlog: () => client.backlog(),
      maxBacklog: settings.clientBacklog,
      holder: this.#gate.holder(),
      channels: () => this.#channels,
      given: () => {
        if (this.#pulse !== undefined) this.#pulse.said = true;
      },
      overflows: (text) => this.#overflows(text),
    });
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

  get held(): number {
    return this.#cutter.buffered + (this.#channels?.kept ?? 0);
  }

  get readableLength(): number {
    return this.#channels?.keptForClient ?? 0;
  }

  write(pieces: readonly Uint8Array[], lent: boolean): void {
    if (this.#state === 'ended') return;
    if (this.#pulse !== undefined) this.#pulse.heard = true;
    this.#output.taking();
    for (const piece of pieces) {
      const start = this.#state === 'header' ? this.#header() : 0;
      this.#lent = lent ? piece : undefined;
      this.#channels?.begin(this.#lent);
      this.#cutter.push(piece, start, piece.length);
    }
    const { error } = this.#cutter;
    if (!this.#isCorked || error !== undefined) this.#pass();
    if (error !== undefined) this.#offends(error);
  }

  take(
    octets: Uint8Array,
    start: number,
    end: number,
    maxPayload: number,
    lent: boolean,
  ): MessageRun | undefined {
    if (this.#state !== 'running' || !this.#cutter.takesMore) return undefined;
    if (this.#pulse !== undefined) this.#pulse.heard = true;
    this.#channels?.begin(lent ? octets : undefined);
    return this.#channels?.messages(octets, start, end, maxPayload);
  }

  cork(): void {
    this.#isCorked = true;
    this.#output.taking();
  }

  uncork(): void {
    this.#isCorked = false;
    this.#pass();
  }

  /** The client's chunk has been read: what came of it goes out, to both sides. */
  #pass(): void {
    this.#channels?.flush();
    this.#output.taken();
  }

  /** The protocol header, which the session has looked at. @returns where the first frame begins */
  #header(): number {
    this.#state = 'start-ok';
    this.#output.say(this.#greeting!);
    return HEADER_SIZE;
  }

  #offends(error: WireError): void {
    if (this.#state === 'ended') return;
    const { replyCode, message, method } = error;
    if (this.#channels !== undefined) this.#quarantine(message);
    this.#fail('CLIENT_PROTOCOL', replyCode, message, method);
  }

  /** A whole frame of the client. */
  frame(type: number, channel: number, method: number, octets: Uint8Array, start: number, end: number): void {
    if (this.#isWaiting) this.#early.add(octets, start, end);
    else if (channel !== 0)
      this.#channelsFor(channel, method).frame(type, channel, method, octets, start, end);
    else if (method !== 0) this.#says(method, octets.subarray(start, end));
  }

  /** Whole publishes of the client. */
  messages(octets: Uint8Array, start: number, end: number, maxPayload: number): MessageRun | undefined {
    return this.#state === 'running' ? this.#channels?.messages(octets, start, end, maxPayload) : undefined;
  }

  /** The client's channels, for a frame on this one. @throws WireError where it can't be one of them */
  #channelsFor(channel: number, method: number): ClientChannels {
    // RabbitMQ's code; to those who aren't logged in it says nothing, and hangs up after 3 seconds.
    if (this.#channels === undefined)
      throw new WireError(REPLY.unexpectedFrame, `a frame on channel ${channel} before open-ok`, method);
    if (channel <= this.#channelMax) return this.#channels;
    const text = `channel ${channel} where channel_max is ${this.#channelMax}`;
    throw new WireError(REPLY.channelError, text, method);
  }

  /** The client waits for the pool; what it sends meanwhile is taken afterwards, as brokers do. */
  get #isWaiting(): boolean {
    return this.#state === 'login' || this.#state === 'entering';
  }

  /** Takes what the client has sent while it waited. */
  #takeEarly(): void {
    if (!this.#early.waits) return;
    this.#output.taking();
    try {
      this.#early.show(this);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#offends(error);
    }
    this.#pass();
    this.#early.proceed();
  }

  /** A method of the client on channel 0. */
  #says(method: number, frame: Uint8Array): void {
    checkMethod(method, frame, 0, frame.length);
    if (method === METHOD.connectionClose) {
      this.#closes();
    } else if (method === METHOD.connectionStartOk && this.#state === 'start-ok') {
      this.#logIn(frame);
    } else if (method === METHOD.connectionTuneOk && this.#state === 'tune-ok') {
      this.#agree(readTune(frame));
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

  #agree({ channelMax, heartbeat }: Tune): void {
    if (channelMax === 0 || channelMax > this.#offered) {
      // RabbitMQ 4.0 and 4.3 hang up without a word.
      const text = `channel_max ${channelMax} where ${this.#offered} channels are offered`;
      this.#fail('CLIENT_PROTOCOL', REPLY.notAllowed, text, METHOD.connectionTuneOk);
      return;
    }
    this.#channelMax = channelMax;
    this.#state = 'open';
    this.#pulse = heartbeat === 0 ? undefined : new ClientPulse(heartbeat, performance.now());
  }

  #logIn(frame: Uint8Array): void {
    const startOk = readStartOk(frame);
    this.#output.hearsCancels = startOk.has('consumer_cancel_notify');
    this.#knowsRefusals = startOk.has('authentication_failure_close');
    this.#knowsBlocked = startOk.has('connection.blocked');
    this.#identity = readClientIdentity(frame);
    const { mechanism, response, locale } = startOk;
    const { tlsIdentity, endpoints } = this.#client;
    const credentials = { mechanism, response, locale, user: this.#identity.user };
    this.#who = { credentials, key: credentialKey(credentials, tlsIdentity()), endpoints };
    this.#state = 'login';
    this.#waiting = this.#settings.pool.login(this.#who, (refusal, tune) =>
      this.#events.guard(() => {
        if (this.#state !== 'login') return;
        if (tune === undefined) this.#refuse(refusal!);
        else this.#tune(tune);
      }),
    );
  }

  #tune({ channelMax, frameMax, heartbeat }: Tune): void {
    this.#state = 'tune-ok';
    this.#offered = channelMax;
    this.#output.say(
      encodeTune({ channelMax, frameMax: frameMax === 0 ? INITIAL_FRAME_MAX : frameMax, heartbeat }),
    );
    this.#takeEarly();
  }

  #enter(virtualHost: string): void {
    if (Buffer.byteLength(virtualHost) > 255) {
      const text = 'the virtual host is not UTF-8';
      this.#fail('CLIENT_PROTOCOL', REPLY.syntaxError, text, METHOD.connectionOpen);
      return;
    }
    this.#virtualHost = virtualHost;
    this.#state = 'entering';
    this.#waiting = this.#settings.pool.enter(this.#who!, virtualHost, this, (refusal, group) =>
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
      say: (frame) => this.#output.say(frame),
      toClient: (octets, lent) => this.#output.deliver(octets, lent),
      refuse: (code, replyCode, text, method) => this.#fail(code, replyCode, text, method),
      quarantine: (why) => this.#quarantine(why),
      blocked: (reason) => this.#blocked(reason),
    });
    this.#channels.begin(this.#lent);
    this.#state = 'running';
    this.#output.say(OPEN_OK);
  }

  get #quarantineName(): string {
    return nameOf(this.#identity, this.#virtualHost, this.#client.endpoints.sourceAddress);
  }

  #quarantine(why: string): void {
    this.#settings.quarantine.add(this.#quarantineName, why);
  }

  #refuse({ kind, replyCode, text, silent, wordless }: PoolRefusal): void {
    if (wordless === true || (silent && !this.#knowsRefusals)) {
      this.#events.rejected('LOGIN_REFUSED', text);
      return;
    }
    this.#fail(REFUSAL_CODE[kind], replyCode, text, kind === 'closed' ? METHOD.connectionOpen : undefined);
  }

  /** The client's connection has to be ended, behind what it has been told. */
  #fail(code: ProxyErrorCode, replyCode: number, text: string, method?: number): void {
    this.#output.giveSaid();
    this.#events.refused(code, replyCode, text, method);
  }

  #overflows(text: string): void {
    this.#quarantine(text);
    this.#fail(
      'SHARED_LIMIT',
      REPLY.connectionForced,
      `${text}: connect again, and you have a connection of your own`,
    );
  }

  pause(): void {
    this.#output.pause();
  }

  resume(): void {
    this.#output.resume();
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
    if (!this.#knowsBlocked) return;
    const tells =
      reason === undefined ? this.#toldBlocked : this.#channels?.publishes === true && !this.#toldBlocked;
    if (!tells) return;
    this.#toldBlocked = reason !== undefined;
    this.#output.say(reason === undefined ? UNBLOCKED : encodeBlocked(reason));
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
      this.#output.say(CLOSE_OK);
      this.#output.giveSaid();
      this.#events.ended();
    };
    if (this.#state === 'closing') return;
    const channels = this.#channels;
    this.#state = 'closing';
    if (channels === undefined) return closed();
    channels.flush();
    channels.finish(() => {
      const own = [...channels.own];
      this.#group?.leave(this);
      // Exclusive queues are gone when a broker answers connection.close (rabbit_reader), and so they are here.
      whenClosed(own, () => this.#events.guard(closed));
    });
  }

  destroy(): void {
    this.end();
  }

  end(): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#cutter.stop();
    this.#waiting?.cancel();
    this.#early.clear();
    this.#output.stop();
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
      this.#output.say(HEARTBEAT);
    }
  }
}
