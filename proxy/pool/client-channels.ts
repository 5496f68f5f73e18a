import { encodeChannelCloseOk, encodeChannelOpenOk, encodeConfirmSelectOk } from '../../amqp/connection.ts';
import { FRAME_BODY, FRAME_HEADER, FRAME_METHOD, METHOD, REPLY } from '../../amqp/constants.ts';
import { WireError } from '../../amqp/error.ts';
import { checkMethod } from '../../amqp/grammar.ts';
import type { MessageRun } from '../../amqp/message-run.ts';
import { channelOf, encodeClose, methodOf } from '../../amqp/method.ts';
import type { ProxyErrorCode } from '../errors.ts';
import type { Source } from '../outlet.ts';
import { ChannelState } from './channel-state.ts';
import { ClientChannel } from './client-channel.ts';
import { Mapping, type MappingHost, type MappingSettings } from './mapping.ts';
import { offenceOf } from './offence.ts';
import { type Kept, renumber } from './publish.ts';
import type { UpstreamChannel, UpstreamEnd } from './upstream-channel.ts';
import type { Upstream } from './upstream.ts';
import { Ways } from './ways.ts';
import { WholePublishes } from './whole-publishes.ts';

/** Finds them for all clients: none of them is in the midst of it when another one is. */
const PUBLISHES = new WholePublishes();

export interface ChannelsSettings extends MappingSettings {
  /** Octets of a message's body. */
  readonly maxMessageSize: number;
  /** Whether connections to the broker encrypt. */
  readonly encrypts: boolean;
  /** Frames of the broker for the client; `lent`: valid for the call only. */
  readonly toClient: (octets: Uint8Array, lent: boolean) => void;
  /** Makes what holds the client back. */
  readonly holder: () => Source;
  /** The client's connection has to be ended. */
  readonly refuse: (code: ProxyErrorCode, replyCode: number, text: string, method?: number) => void;
  /** The broker takes no publishes where the client's channels are, for this reason; undefined: it takes them again. */
  readonly blocked: (reason: string | undefined) => void;
}

/**
 * The channels of one client: its frames go to the broker's channels that they are mapped to, publishes only when they
 * are whole. Nothing that a broker would end the connection for goes to a connection that is shared.
 */
export class ClientChannels implements MappingHost {
  readonly channels = new Map<number, ClientChannel>();
  readonly ways: Ways;

  readonly #settings: ChannelsSettings;
  readonly #mapping: Mapping;
  /** Holds the client back while frames wait. */
  readonly #holder: Source;
  /** Frames that wait for a channel at the broker, in order; undefined while none has to. */
  #held: Uint8Array[] | undefined;
  /** The chunk that is being read, where it will be read into again. */
  #lent: Uint8Array | undefined;
  readonly #kept: Kept = { octets: 0 };
  /** Channels with a publish in the chunk that is being read. */
  readonly #inChunk: ClientChannel[] = [];
  /** What is held waits for an answer of the broker. */
  #awaitsAnswer = false;
  #ended = false;
  /** The client's connection is about to be ended: only the proxy's own questions go on. */
  #refused = false;
  /** Called when the last channel is closed. */
  #emptied: (() => void) | undefined;
  /** The last question of the proxy's own, on the lookup's channel. */
  #question: Uint8Array | undefined;

  constructor(settings: ChannelsSettings) {
    this.#settings = settings;
    this.ways = new Ways(settings.holder, settings.encrypts);
    this.#holder = settings.holder();
    this.#mapping = new Mapping(settings, this);
  }

  /** The connections to the broker that are the client's own. */
  get own(): ReadonlySet<Upstream> {
    return this.#mapping.own;
  }

  /** As {@link Mapping.claim}. */
  claim(): boolean {
    return this.#mapping.claim();
  }

  /** What the client is given now must hold for longer: its connections read into other buffers from here on. */
  keepBuffers(): void {
    for (const { upstream } of this.channels.values()) upstream?.upstream.keepBuffer();
  }

  /** Octets that are kept of messages which the client hasn't sent whole. */
  get kept(): number {
    return this.#kept.octets;
  }

  /** Octets that are kept of messages which the broker hasn't sent whole. */
  get keptForClient(): number {
    if (!this.#settings.resume) return 0;
    let octets = 0;
    for (const { upstream } of this.channels.values()) octets += upstream?.content?.size ?? 0;
    return octets;
  }

  /** Whether the client has published on a channel that is open. */
  get publishes(): boolean {
    for (const { state } of this.channels.values()) if (state.hasPublished) return true;
    return false;
  }

  /**
   * A frame of the client on another channel than 0.
   * @throws WireError for what a broker ends the connection for
   */
  frame(type: number, channel: number, method: number, octets: Uint8Array, start: number, end: number): void {
    if (this.#ended || (this.#refused && channel !== this.#settings.lookupChannel())) return;
    if (this.#held !== undefined) this.#held.push(Uint8Array.from(octets.subarray(start, end)));
    else if (!this.#take(type, channel, method, octets, start, end)) this.#hold(octets, start, end);
  }

  /**
   * Whole publishes of one channel, `start` is where a frame begins.
   * @param maxPayload octets of a frame's payload
   * @returns those that are on their way now; undefined: none, they have to be taken frame by frame
   */
  messages(octets: Uint8Array, start: number, end: number, maxPayload: number): MessageRun | undefined {
    if (this.#ended || this.#refused || this.#held !== undefined || !PUBLISHES.begins(octets, start, end))
      return undefined;
    const channel = this.channels.get((octets[start + 1]! << 8) | octets[start + 2]!);
    if (channel?.takesPublishes !== true) return undefined;
    const { number, upstream } = channel.upstream!;
    PUBLISHES.channel = number;
    PUBLISHES.maxMessageSize = this.#settings.maxMessageSize;
    if (!PUBLISHES.find(octets, start, end, maxPayload)) return undefined;
    channel.lastMethod = METHOD.basicPublish;
    channel.state.published(PUBLISHES.messages);
    this.ways.add(upstream, octets, start, PUBLISHES.end, octets === this.#lent);
    if (upstream.blockedBy !== undefined) this.#settings.blocked(upstream.blockedBy);
    return PUBLISHES;
  }

  /** Frames follow. @param lent the chunk that they lie in, where it will be read into again */
  begin(lent: Uint8Array | undefined): void {
    this.#lent = lent;
  }

  /** To be called when a chunk has been read: writes what it held. */
  flush(): void {
    while (this.#inChunk.length > 0) this.#inChunk.pop()!.publish.keep();
    this.ways.flush();
  }

  #hold(octets: Uint8Array, start: number, end: number): void {
    if (this.#ended || this.#refused) return;
    this.#held ??= [];
    this.#held.push(Uint8Array.from(octets.subarray(start, end)));
    this.#holder.pause();
  }

  proceed(): void {
    const frames = this.#held;
    if (frames === undefined || this.#ended) return;
    this.#held = undefined;
    try {
      const waiting = frames.findIndex((frame) => !this.#takeWhole(frame));
      if (waiting !== -1 && !this.#refused) this.#held = frames.slice(waiting);
    } catch (error) {
      this.#offends(error);
    }
    this.flush();
    if (this.#held === undefined) this.#holder.resume();
  }

  #takeWhole(frame: Uint8Array): boolean {
    return this.#take(frame[0]!, channelOf(frame), methodOf(frame), frame, 0, frame.length);
  }

  #offends(error: unknown): void {
    if (!(error instanceof WireError)) throw error;
    this.#settings.quarantine(error.message);
    this.endClient('CLIENT_PROTOCOL', error.replyCode, error.message, error.method);
  }

  endClient(code: ProxyErrorCode, replyCode: number, text: string, method?: number): void {
    this.#refused = true;
    this.#settings.refuse(code, replyCode, text, method);
  }

  /** @returns false when the frame has to wait: it comes again then */
  #take(
    type: number,
    number: number,
    method: number,
    octets: Uint8Array,
    start: number,
    end: number,
  ): boolean {
    const channel = this.channels.get(number);
    if (type === FRAME_METHOD) return this.#method(channel, number, method, octets, start, end);
    if (channel === undefined) throw notOpen(method);
    if (channel.phase !== 'open' || channel.closedByBroker || !channel.publish.underWay) return true;
    return this.#content(channel, type, octets, start, end);
  }

  #method(
    channel: ClientChannel | undefined,
    number: number,
    method: number,
    octets: Uint8Array,
    start: number,
    end: number,
  ): boolean {
    checkMethod(method, octets, start, end);
    if (method === METHOD.channelOpen) {
      this.#open(channel, number);
      return true;
    }
    if (channel === undefined) throw notOpen(method);
    if (channel.closedByBroker) {
      channel.phase = 'refused';
      channel.upstream = undefined;
      channel.publish.clear();
    }
    if (channel.phase !== 'open') {
      this.#afterwards(channel, method);
      return true;
    }
    if (channel.publish.underWay) {
      const due = channel.publish.wantsHeader ? 'header' : 'body';
      const what = due === 'header' ? 'header for class 60' : due;
      const text = `expected content ${what}, got non content ${due} frame instead`;
      throw new WireError(REPLY.unexpectedFrame, text, METHOD.basicPublish);
    }
    if (method === METHOD.channelClose) this.#close(channel, true);
    else if (method === METHOD.channelCloseOk) throw unimplemented(method);
    else return this.#request(channel, method, octets, start, end);
    return true;
  }

  /** A method on an open channel, for the broker. */
  #request(channel: ClientChannel, method: number, octets: Uint8Array, start: number, end: number): boolean {
    const mapping = this.#mapping;
    if (!mapping.ownIfNeeded(channel, method, octets, start, end) || !mapping.ensure(channel)) return false;
    const offence = offenceOf(method, octets, start, end, channel.state);
    if (offence !== undefined && !mapping.isAlone(channel)) {
      throw new WireError(offence.replyCode, offence.text, method);
    }
    if (
      method === METHOD.basicCancel &&
      !mapping.isAlone(channel) &&
      channel.cancelsEarly(octets, start, end)
    ) {
      this.#awaitsAnswer = true;
      return false;
    }
    if (method === METHOD.basicPublish) this.#beginPublish(channel, octets, start, end);
    else this.#forward(channel, method, octets, start, end);
    return true;
  }

  #open(channel: ClientChannel | undefined, number: number): void {
    if (channel !== undefined && channel.phase !== 'closing') {
      throw new WireError(REPLY.channelError, "second 'channel.open' seen", METHOD.channelOpen);
    }
    this.channels.set(number, new ClientChannel(number, this.#settings.resume, this.#kept));
    this.#settings.say(encodeChannelOpenOk(number));
  }

  /** A method on a channel that is closing: all but the closing itself is dropped (section 1.5.2.5). */
  #afterwards(channel: ClientChannel, method: number): void {
    if (channel.phase !== 'refused') return;
    if (method === METHOD.channelClose) this.#settings.say(encodeChannelCloseOk(channel.number));
    else if (method !== METHOD.channelCloseOk) return;
    this.#gone(channel);
  }

  /** @param tells whether the client is told: it has closed the channel, and not its connection */
  #close(channel: ClientChannel, tells: boolean): void {
    channel.phase = 'closing';
    const done = (): void => {
      if (this.#ended || this.channels.get(channel.number) !== channel) return;
      if (tells) this.#settings.say(encodeChannelCloseOk(channel.number));
      this.#gone(channel);
    };
    this.ways.flush(); // what was published comes before
    const { upstream, state } = channel;
    const isSpent = state.isSpent;
    upstream?.release(isSpent ? undefined : done);
    if (upstream === undefined || isSpent) done();
  }

  #gone(channel: ClientChannel): void {
    channel.publish.clear();
    this.channels.delete(channel.number);
    if (this.channels.size === 0) this.#emptied?.();
  }

  #forward(channel: ClientChannel, method: number, octets: Uint8Array, start: number, end: number): void {
    const { state } = channel;
    const upstream = channel.upstream!;
    if (!state.outgoing(method, octets, start, end)) return;
    if (channel.selectsConfirms(method, octets, end))
      this.#settings.say(encodeConfirmSelectOk(channel.number));
    else state.sent(method, octets, start, end);
    channel.lastMethod = method;
    if (channel.number === this.#settings.lookupChannel())
      this.#question = Uint8Array.from(octets.subarray(start, end));
    renumber(octets, start, upstream.number);
    this.ways.add(upstream.upstream, octets, start, end, octets === this.#lent);
  }

  #beginPublish(channel: ClientChannel, octets: Uint8Array, start: number, end: number): void {
    renumber(octets, start, channel.upstream!.number);
    channel.publish.begin(octets, start, end, octets === this.#lent);
    if (this.#inChunk.at(-1) !== channel) this.#inChunk.push(channel);
  }

  #content(channel: ClientChannel, type: number, octets: Uint8Array, start: number, end: number): boolean {
    const { publish } = channel;
    const size = channel.contentSize(type, octets, start, end);
    // It adds nothing to the message, which may have endlessly many of them.
    if (type === FRAME_BODY && size === 0) return true;
    if (type === FRAME_HEADER && size > this.#settings.maxMessageSize) {
      this.#refuseMessage(channel, size);
      return true;
    }
    if (!this.#mapping.ensure(channel)) return false;
    const { number, upstream } = channel.upstream!;
    renumber(octets, start, number);
    if (publish.octets === undefined) this.#inChunk.push(channel);
    const whole = publish.add(type, size, octets, start, end, octets === this.#lent);
    if (whole === undefined) {
      const text = 'content body frame exceeds remaining content size'; // RabbitMQ 4.3
      throw new WireError(REPLY.frameError, text, METHOD.basicPublish);
    }
    if (!whole) return true;
    channel.lastMethod = METHOD.basicPublish;
    channel.state.sent(METHOD.basicPublish, octets, start, end);
    for (const part of publish.parts) this.ways.add(upstream, part, 0, part.length, false);
    this.ways.add(upstream, publish.octets!, publish.start, publish.end, publish.lent);
    publish.clear();
    if (upstream.blockedBy !== undefined) this.#settings.blocked(upstream.blockedBy);
    return true;
  }

  /** A message that is larger than is taken: the channel is closed, as brokers do for their max_message_size. */
  #refuseMessage(channel: ClientChannel, size: number): void {
    const { maxMessageSize, say } = this.#settings;
    const text = `message size ${size} is larger than the proxy's --max-message-size ${maxMessageSize}`;
    channel.publish.clear();
    channel.phase = 'refused';
    this.ways.flush();
    channel.upstream?.release(undefined);
    channel.upstream = undefined;
    say(encodeClose(REPLY.preconditionFailed, text, METHOD.basicPublish, channel.number));
  }

  receive(octets: Uint8Array, start: number, end: number, lent: boolean): void {
    if (this.#ended) return;
    this.#settings.toClient(octets.subarray(start, end), lent);
    if (!this.#awaitsAnswer) return;
    this.#awaitsAnswer = false;
    this.proceed();
  }

  blocked(reason: string | undefined): void {
    this.#settings.blocked(reason);
  }

  lost(lost: readonly UpstreamChannel[], end: UpstreamEnd): void {
    const [first] = lost;
    if (first !== undefined) this.ways.forget(first.upstream);
    this.#settings.blocked(undefined); // what comes in its place isn't
    this.#mapping.lost(lost, end);
  }

  /** The lookup's channel begins anew, with the question that hasn't been answered: they may all be asked twice. */
  renewLookup(channel: ClientChannel): void {
    const question = channel.state.isAsking ? this.#question : undefined;
    channel.state = new ChannelState({ resume: false });
    if (question === undefined) return;
    if (!this.#takeWhole(question)) this.#hold(question, 0, question.length);
    this.ways.flush();
  }

  /** The client closes its connection. @param done called when the broker has done with all its channels */
  finish(done: () => void): void {
    for (const channel of this.channels.values()) {
      if (channel.phase === 'refused' || channel.closedByBroker) {
        channel.publish.clear();
        this.channels.delete(channel.number);
      } else if (channel.phase === 'open') this.#close(channel, false);
    }
    if (this.channels.size === 0) done();
    else this.#emptied = done;
  }

  /** The client is gone: its channels are given back, or closed. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#held = undefined;
    this.#inChunk.length = 0;
    this.#kept.octets = 0;
    this.#mapping.end();
    for (const { upstream, phase } of this.channels.values()) {
      if (upstream === undefined) continue;
      upstream.listening = false;
      if (phase === 'open') upstream.release(undefined);
    }
    this.channels.clear();
    this.ways.release();
    this.#holder.resume();
  }
}

function notOpen(method: number): WireError {
  return new WireError(REPLY.channelError, "expected 'channel.open'", method);
}

/** As brokers say it of a method that clients may not send there. */
function unimplemented(method: number): WireError {
  return new WireError(REPLY.commandInvalid, 'unimplemented method', method);
}
