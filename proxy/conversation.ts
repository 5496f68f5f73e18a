import { HEARTBEAT } from '../amqp/connection.ts';
import { METHOD, NOTHING } from '../amqp/constants.ts';
import { type ClientIdentity, NOBODY, readClientIdentity, readServerIdentity } from '../amqp/handshake.ts';
import { readClose, readVirtualHost } from '../amqp/method.ts';
import type { Login } from './access/login.ts';
import type { SessionContext } from './context.ts';
import { InFlight } from './drain/in-flight.ts';
import type { Refusal } from './limits/limit.ts';
import { Visit } from './limits/visit.ts';
import { Lookup } from './lookup.ts';
import { agree, INITIAL_FRAME_MAX, offer, overhear } from './negotiation.ts';
import type { ClientRecord } from './record.ts';
import { Relay, type RelayHandler } from './relay.ts';
import { ruleFor } from './rules/index.ts';
import type { MeaningChange, RewrittenMethod } from './rules/rule.ts';
import type { OpenChannels } from './telemetry/channels.ts';
import { Translation } from './translation.ts';
import { type BrokerVersion, NEWEST, parseVersion } from './version.ts';

/** Octets of a method frame before its arguments. */
const METHOD_HEAD = 11;

export interface ConversationEvents {
  /** The broker has answered connection.open. */
  opened(): void;
  /** Octets for the broker, behind all that was passed on before. */
  toBroker(pieces: readonly Uint8Array[]): void;
  /** Something exists that was declared without the proxy, and is used as it is. */
  existing(method: string, refusal: string): void;
  /** Does something that others set off: a fault of it costs this client its connection, and nobody else. */
  guard(work: () => void): void;
  /** The client isn't let in. */
  refused(refusal: Refusal): void;
  /** The broker closes the connection. */
  brokerCloses(replyCode: number, replyText: string): void;
}

/** What client and broker say to each other: both directions' frames, and how far the connection is. */
export class Conversation {
  readonly fromClient: Relay;
  readonly fromBackend: Relay;
  /** What the client may have. */
  readonly visit: Visit;
  readonly inFlight = new InFlight();
  /** connection.open-ok has been passed on. */
  open = false;
  /** A peer has said connection.close: the end of its socket is the end that was agreed on. */
  closeSeen = false;
  /** What was done for this client, by method and by what changed. */
  readonly rewrites: Partial<Record<RewrittenMethod, number>> = {};
  readonly changes: Partial<Record<MeaningChange, number>> = {};

  readonly #context: SessionContext;
  /** The client's IP address. */
  readonly #address: string;
  /** Where clients log in at the proxy. */
  readonly #login: Login | undefined;
  readonly #events: ConversationEvents;
  readonly #observing: boolean;
  /** The broker's version as it tells it, and as the rules take it. */
  #brokerText: string | undefined;
  #broker: BrokerVersion = NEWEST;
  #client: ClientIdentity = NOBODY;
  /** connection.tune as the broker sent it. */
  #tune: Uint8Array = NOTHING;
  /** Of what was agreed on: see Agreement in negotiation.ts. */
  #clientAsked = 0;
  #tooSmall = false;
  #lookup: Lookup | undefined;
  #virtualHost = '';
  #translation: Translation | undefined;
  #record: ClientRecord | undefined;
  #stays = false;
  #isStayed = false;
  /** The client's connection.close, which waits for what has to be done before. */
  #farewell: Uint8Array | undefined;

  /** @param address the client's IP address  @param login undefined where that is between client and broker */
  constructor(
    context: SessionContext,
    address: string,
    login: Login | undefined,
    channels: OpenChannels,
    events: ConversationEvents,
  ) {
    this.#context = context;
    this.#address = address;
    this.#login = login;
    this.#observing = context.mode === 'observe';
    this.#events = events;
    this.visit = new Visit(context.admission, address);
    const { stats, mode } = context;
    const fromClient: RelayHandler = {
      client: true,
      wants: (method, channel) =>
        channel === 0 ? isHandshake(method) : this.#wantsOfClient(method, channel),
      frame: (frame, method, channel) =>
        channel === 0 ? this.#clientSays(frame, method) : this.#clientAsks(frame, method),
      passes: () => !this.#stays && this.visit.publishesFreely && !this.#wantsByRule(METHOD.basicPublish),
      passed: (channel, messages) => this.inFlight.clientPublishes(channel, messages),
    };
    const fromBackend: RelayHandler = {
      client: false,
      wants: (method, channel, octets, at, end) => {
        if (channel === 0) return isHandshake(method);
        if (channel === this.#lookup?.channel) return true;
        channels.heard(method, channel);
        const { inFlight } = this;
        // One that is cut in two is shown when it is whole.
        if (inFlight.isAnswer(method) && !inFlight.brokerSays(method, channel, octets, at, end)) return true;
        return this.#translation?.wantsFromBroker(method, channel) === true;
      },
      frame: (frame, method, channel) =>
        channel === 0 ? this.#brokerSays(frame, method) : this.#brokerAnswers(frame, method, channel),
      passes: (channel) =>
        channel !== this.#lookup?.channel &&
        this.#translation?.wantsFromBroker(METHOD.basicDeliver, channel) !== true,
      passed: () => {},
    };
    // What comes over connections that clients share is counted there.
    const brokerFrames = mode === 'pool' ? undefined : stats.brokerFrames;
    this.fromClient = new Relay(INITIAL_FRAME_MAX, fromClient, stats.clientFrames);
    this.fromBackend = new Relay(INITIAL_FRAME_MAX, fromBackend, brokerFrames);
  }

  /** Who the client says it is, once it has tried to log in. */
  get identity(): ClientIdentity {
    return this.#client;
  }

  /** The user that the proxy has logged the client in as at the broker; undefined where it has logged in by itself. */
  get brokerUser(): string | undefined {
    return this.#login?.brokerUser;
  }

  /** Where the client wants to, '' until it says. */
  get virtualHost(): string {
    return this.#virtualHost;
  }

  /** The channel of the proxy's own questions, once it is known that there is one. */
  get lookupChannel(): number | undefined {
    return this.#lookup?.channel;
  }

  #wantsOfClient(method: number, channel: number): boolean {
    if (this.#stays && method === METHOD.basicPublish) return true;
    this.inFlight.clientSays(method, channel);
    if (this.visit.holds(method, channel)) return true;
    return this.#wantsByRule(method);
  }

  /** Whether a rule concerns the method. */
  #wantsByRule(method: number): boolean {
    return this.#translation?.wants(method) ?? (this.#observing && ruleFor(method) !== undefined);
  }

  /** A method of the client on a channel of its own. */
  #clientAsks(frame: Uint8Array, method: number): Uint8Array | undefined {
    if (method === METHOD.basicPublish) {
      if (this.#stays) this.#isStayed = true;
      else this.visit.hold(frame);
      return undefined;
    }
    this.#record?.said(method, frame);
    return this.#translation === undefined ? frame : this.#translation.translate(frame, method);
  }

  /** A method of the client on channel 0. */
  #clientSays(frame: Uint8Array, method: number): Uint8Array | undefined {
    switch (method) {
      case METHOD.connectionStartOk:
        return this.#logsIn(frame);
      case METHOD.connectionTuneOk:
        return this.#tuned(frame);
      case METHOD.connectionOpen:
        this.#opens(frame);
        return frame;
      case METHOD.connectionClose:
        this.closeSeen = true;
        if (this.#translation?.detains !== true) return frame;
        this.#farewell = frame;
        return undefined;
      default:
        this.closeSeen ||= method === METHOD.connectionCloseOk;
        return frame;
    }
  }

  #logsIn(startOk: Uint8Array): Uint8Array | undefined {
    const login = this.#login;
    login?.hold(startOk);
    // A second one is a fault, and no other client.
    if (this.#client === NOBODY) this.#client = readClientIdentity(startOk);
    if (login !== undefined) this.#client = { ...this.#client, user: login.user };
    this.visit.logIn(startOk, this.#client);
    return login === undefined ? startOk : undefined;
  }

  /** A method of the broker on channel 0. */
  #brokerSays(frame: Uint8Array, method: number): Uint8Array {
    switch (method) {
      case METHOD.connectionStart:
        this.#brokerText = readServerIdentity(frame).version;
        this.#broker = parseVersion(this.#brokerText ?? '') ?? NEWEST;
        return this.#login === undefined ? frame : this.#login.offer(frame);
      case METHOD.connectionTune:
        this.#tune = frame;
        return this.visit.offer(this.#observing ? frame : offer(frame));
      case METHOD.connectionOpenOk:
        this.open = true;
        this.visit.enter(this.#client.user, this.#virtualHost);
        this.#letIn();
        this.#events.opened();
        break;
      case METHOD.connectionClose: {
        const { replyCode, replyText } = readClose(frame);
        this.closeSeen = true;
        this.#events.brokerCloses(replyCode, replyText);
        break;
      }
      default:
        this.closeSeen ||= method === METHOD.connectionCloseOk;
    }
    return frame;
  }

  #brokerAnswers(frame: Uint8Array, method: number, channel: number): Uint8Array {
    if (channel !== this.#lookup?.channel) {
      if (method !== METHOD.basicAck && method !== METHOD.basicNack)
        return this.#translation!.heard(frame, method);
      this.inFlight.brokerSays(method, channel, frame, METHOD_HEAD, frame.length);
      return frame;
    }
    this.#lookup.take(frame, method);
    return NOTHING;
  }

  #tuned(tuneOk: Uint8Array): Uint8Array {
    this.visit.agree(tuneOk);
    if (this.#tune.length === 0) return tuneOk;
    const offered = this.visit.offeredFrameMax;
    const agreement = this.#observing
      ? overhear(this.#tune, tuneOk, offered)
      : agree(this.#tune, tuneOk, { shared: this.#context.mode === 'pool', offered });
    this.#tune = NOTHING;
    this.#clientAsked = agreement.clientAsked;
    this.#tooSmall = agreement.tooSmall;
    this.visit.agreed(agreement.clientFrameMax);
    this.fromClient.scanner.setFrameMax(agreement.clientFrameMax);
    this.fromBackend.scanner.setFrameMax(agreement.brokerFrameMax);
    this.fromBackend.splitAbove = agreement.splitAbove;
    if (agreement.tooSmall) this.#context.stats.rewrites['connection.tune-ok']++;
    if (agreement.channelMax !== undefined) {
      this.fromClient.channelMax = agreement.channelMax;
      this.#lookup = new Lookup(agreement.channelMax + 1, (frame) => this.#send(frame));
    }
    return agreement.tuneOk;
  }

  /** connection.open: who the client is and where it goes is known, and with it the rules. */
  #opens(frame: Uint8Array): void {
    this.#virtualHost = readVirtualHost(frame);
    this.visit.open(this.#client.user, this.#virtualHost);
    if (this.#observing) return;
    const { policies, queues, stats } = this.#context;
    const scope = { virtualHost: this.#virtualHost, user: this.#client.user, broker: this.#broker };
    this.#translation = new Translation({
      rules: {
        broker: this.#broker,
        policy: policies.for(scope),
        change: (change) => this.#changed(change),
        step: () => {},
      },
      virtualHost: this.#virtualHost,
      queues,
      lookup: this.#lookup,
      send: (octets) => this.#send(octets),
      release: (octets) => this.#events.toBroker(this.fromClient.release(octets)),
      rewritten: (method) => this.#rewritten(method),
      existing: (method, refusal) => {
        this.#changed('existing');
        this.#events.existing(method, refusal);
      },
      deleted: () => {
        stats.queuesDeleted++;
      },
    });
  }

  /** Whether a frame of the proxy's own can go to the broker now. */
  get atBoundary(): boolean {
    return this.fromClient.atBoundary;
  }

  /** The client is held at a publish until its connection ends: {@link stay}. */
  get isStayed(): boolean {
    return this.#isStayed;
  }

  /** Holds the client at its next publish, whose place is the end of what it has published. */
  stay(): void {
    this.#stays = true;
  }

  /** Tells the broker that the client is there, while the client itself isn't read from. */
  beat(): void {
    this.#send(HEARTBEAT);
  }

  /** Passes a frame of the proxy's own on to the broker, where a frame may begin. */
  #send(frame: Uint8Array): void {
    if (this.fromClient.insert(frame)) this.#events.toBroker([frame]);
  }

  #rewritten(method: RewrittenMethod): void {
    this.#context.stats.rewrites[method]++;
    increment(this.rewrites, method);
    this.#record?.rewritten(method);
  }

  #changed(change: MeaningChange): void {
    this.#context.stats.meaningChanges[change]++;
    increment(this.changes, change);
    this.#record?.changed(change);
  }

  /** The broker has let the client in. */
  #letIn(): void {
    const who = { virtualHost: this.#virtualHost, address: this.#address, frameMax: this.#clientAsked };
    this.#record = this.#context.clients.connected({ ...this.#client, ...who }, this.#brokerText);
    if (!this.#tooSmall) return;
    increment(this.rewrites, 'connection.tune-ok');
    this.#record.rewritten('connection.tune-ok');
  }

  /**
   * Does what the client's stream is held for; to be called when all that came before has been passed on. The stream goes
   * on by itself.
   */
  unhold(): void {
    if (this.#isStayed) return;
    const login = this.#login;
    if (login?.isHolding === true) {
      const events = this.#events;
      login.decide({
        letIn: (startOk) => events.guard(() => events.toBroker(this.fromClient.release(startOk))),
        refused: (refusal) => events.guard(() => events.refused(refusal)),
      });
      return;
    }
    if (this.visit.isHolding) {
      const go = (publish: Uint8Array): void => this.#events.toBroker(this.fromClient.release(publish));
      this.visit.wait((publish) => this.#events.guard(() => go(publish)));
      return;
    }
    const farewell = this.#farewell;
    if (farewell === undefined) {
      this.#translation?.ask();
      return;
    }
    this.#farewell = undefined;
    this.leave(() => this.#events.toBroker(this.fromClient.release(farewell)));
  }

  /** Looks at what is held for a limit; called a few times a second. @param now milliseconds of performance.now() */
  sweep(now: number): void {
    const pulse = this.visit.pulse(now);
    if (pulse !== undefined) this.#send(pulse);
  }

  /** The client goes. @param done called when the broker has been told all that has to come before */
  leave(done: () => void): void {
    if (this.#translation === undefined || !this.open) done();
    else this.#translation.leave(done);
  }

  /** The connection has ended. */
  ended(): void {
    this.#login?.end();
    this.visit.leave();
    this.#translation?.ended();
    this.#record?.ended();
    this.#record = undefined;
  }
}

/** Methods of channel 0 that are looked at: how a connection begins and ends. */
function isHandshake(method: number): boolean {
  switch (method) {
    case METHOD.connectionStart:
    case METHOD.connectionStartOk:
    case METHOD.connectionTune:
    case METHOD.connectionTuneOk:
    case METHOD.connectionOpen:
    case METHOD.connectionOpenOk:
    case METHOD.connectionClose:
    case METHOD.connectionCloseOk:
      return true;
    default:
      return false;
  }
}

function increment<K extends string>(counts: Partial<Record<K, number>>, key: K): void {
  counts[key] = (counts[key] ?? 0) + 1;
}
