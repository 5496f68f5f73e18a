import { FRAME_HEADER_SIZE, FRAME_MIN_SIZE, FRAME_OVERHEAD, METHOD } from '../amqp/constants.ts';
import {
  readChannelMax,
  readClose,
  readFrameMax,
  readVirtualHost,
  withChannelMax,
  withFrameMax,
} from '../amqp/method.ts';
import { Lookup } from './lookup.ts';
import { Relay } from './relay.ts';
import { ruleFor } from './rules/index.ts';
import type { Report, Trial, Tried } from './rules/rule.ts';
import type { Stats } from './stats.ts';

/** Octets of a frame before connection.tune has set frame_max: what brokers propose, and more than any handshake needs. */
const INITIAL_FRAME_MAX = 131_072;

/** The highest channel that there can be. */
const CHANNEL_MAX = 0xffff;

/** Declares of a connection that are remembered as taken; beyond that, it begins anew. */
const ACCEPTED_MAX = 100;

/** Octets of a declare that is remembered: a client's memory in the proxy is bounded. */
const ACCEPTED_SIZE = 512;

const NOTHING = new Uint8Array(0);

/** The smallest frame_max that RabbitMQ 4.1 and later accept. */
const BROKER_FRAME_MIN_SIZE = 8192;

export interface ConversationEvents {
  /** The broker has answered connection.open. */
  opened(): void;
  /** Octets for the broker, behind all that was passed on before. */
  toBroker(pieces: readonly Uint8Array[]): void;
  /** Something exists that was declared without the proxy, and is used as it is. */
  existing(method: string, refusal: string): void;
  /** The broker closes the connection. */
  brokerCloses(replyCode: number, replyText: string): void;
}

/** A client's method that the broker has still to be asked about. */
interface Question {
  readonly name: string;
  readonly trial: Trial;
  readonly tried: Tried;
}

/** What client and broker say to each other: both directions' frames, the rewrites, and how far the connection is. */
export class Conversation {
  readonly fromClient: Relay;
  readonly fromBackend: Relay;
  /** connection.open-ok has been passed on. */
  open = false;
  /** A peer has said connection.close: the end of its socket is the end that was agreed on. */
  closeSeen = false;

  readonly #stats: Stats;
  readonly #events: ConversationEvents;
  readonly #report: Report = (change) => {
    this.#stats.meaningChanges[change]++;
  };
  /** What the broker proposed in connection.tune. */
  #tunedFrameMax = 0;
  #tunedChannelMax = 0;
  #lookup: Lookup | undefined;
  #virtualHost = '';
  /** What the client gets for the broker's next channel.close, by channel. */
  readonly #refusals = new Map<number, Uint8Array>();
  /** A method that holds the client's stream and has not been asked about yet. */
  #question: Question | undefined;
  readonly #accepted = new Set<string>();

  constructor(stats: Stats, events: ConversationEvents) {
    this.#stats = stats;
    this.#events = events;
    this.fromClient = new Relay(INITIAL_FRAME_MAX, {
      client: true,
      wants: (method) =>
        ruleFor(method) !== undefined ||
        method === METHOD.connectionTuneOk ||
        method === METHOD.connectionOpen ||
        method === METHOD.connectionClose ||
        method === METHOD.connectionCloseOk,
      frame: (frame, method) => this.#clientSays(frame, method),
    });
    this.fromBackend = new Relay(INITIAL_FRAME_MAX, {
      client: false,
      wants: (method, channel) =>
        (channel !== 0 && channel === this.#lookup?.channel) ||
        (method === METHOD.channelClose && this.#refusals.has(channel)) ||
        method === METHOD.connectionTune ||
        method === METHOD.connectionOpenOk ||
        method === METHOD.connectionClose ||
        method === METHOD.connectionCloseOk,
      frame: (frame, method, channel) => this.#brokerSays(frame, method, channel),
    });
  }

  #clientSays(frame: Uint8Array, method: number): Uint8Array | undefined {
    const rule = ruleFor(method);
    if (rule === undefined) {
      if (method === METHOD.connectionTuneOk) return this.#tuned(frame);
      if (method === METHOD.connectionOpen) this.#virtualHost = readVirtualHost(frame);
      else this.closeSeen = true;
      return frame;
    }
    const { trial } = rule;
    const canAsk = trial !== undefined && this.#lookup !== undefined && trial.isAsked(frame);
    if (trial?.mandatory === true && !canAsk) return frame;
    const edited = rule.rewrite(frame, this.#report);
    if (edited === frame) return frame;
    this.#stats.rewrites[rule.name]++;
    if (!canAsk || (!trial.mandatory && this.#isAccepted(edited))) return edited;
    this.#question = { name: rule.name, trial, tried: { frame, edited, virtualHost: this.#virtualHost } };
    return undefined;
  }

  /**
   * Asks the broker what the client's stream is held for; to be called when all that came before has been passed on.
   * The answer lets the stream go on.
   */
  ask(): void {
    const question = this.#question;
    const lookup = this.#lookup;
    if (question === undefined || lookup === undefined) return;
    this.#question = undefined;
    const { name, trial, tried } = question;
    lookup.ask(trial.question(tried, lookup.channel), (answer) => {
      if (answer.refusal === undefined && !trial.mandatory) this.#accept(tried.edited);
      const { send, existing, refusal } = trial.settle(tried, answer);
      if (existing !== undefined) {
        this.#report('existing');
        this.#events.existing(name, existing);
      }
      if (refusal !== undefined) this.#refusals.set(channelOf(send), refusal);
      this.#events.toBroker(this.fromClient.release(send));
    });
  }

  /** Declares that the broker has taken once are taken again: a client that repeats itself isn't held for each. */
  #isAccepted(edited: Uint8Array): boolean {
    return this.#accepted.has(fingerprint(edited));
  }

  #accept(edited: Uint8Array): void {
    if (edited.length > ACCEPTED_SIZE) return;
    if (this.#accepted.size >= ACCEPTED_MAX) this.#accepted.clear();
    this.#accepted.add(fingerprint(edited));
  }

  #brokerSays(frame: Uint8Array, method: number, channel: number): Uint8Array {
    if (channel === this.#lookup?.channel) {
      this.#lookup.take(frame, method);
      return NOTHING;
    }
    if (channel !== 0) {
      const refusal = this.#refusals.get(channel);
      this.#refusals.delete(channel);
      return refusal ?? frame;
    }
    switch (method) {
      case METHOD.connectionTune:
        return this.#tuning(frame);
      case METHOD.connectionOpenOk:
        this.open = true;
        this.#events.opened();
        break;
      case METHOD.connectionClose: {
        const { replyCode, replyText } = readClose(frame);
        this.closeSeen = true;
        this.#events.brokerCloses(replyCode, replyText);
        break;
      }
      default:
        this.closeSeen = true;
    }
    return frame;
  }

  /** The client is offered one channel less than the broker has: that one is for lookups. */
  #tuning(tune: Uint8Array): Uint8Array {
    this.#tunedFrameMax = readFrameMax(tune);
    this.#tunedChannelMax = readChannelMax(tune) || CHANNEL_MAX;
    return this.#tunedChannelMax > 1 ? withChannelMax(tune, this.#tunedChannelMax - 1) : tune;
  }

  /** The channel above the client's last one; none where the client leaves no room, or asks for what brokers refuse. */
  #tuneChannels(tuneOk: Uint8Array): Uint8Array {
    const asked = readChannelMax(tuneOk);
    if (asked === 0 || asked >= this.#tunedChannelMax) return tuneOk;
    this.fromClient.channelMax = asked;
    this.#lookup = new Lookup(asked + 1, (frame) => this.#events.toBroker([frame]));
    return withChannelMax(tuneOk, asked + 1);
  }

  /**
   * The smaller of both frame_max holds; 0 is no limit (section 1.4.2.6). RabbitMQ since 4.1 ends the connection of a
   * client that asks for less than 8192: it gets its own proposal, and what is too large for the client is cut here.
   */
  #tuned(clients: Uint8Array): Uint8Array {
    const asked = readFrameMax(clients);
    const tuneOk = this.#tuneChannels(clients);
    const proposed = this.#tunedFrameMax;
    const limits = [asked, proposed].filter((octets) => octets > 0);
    const agreed = limits.length === 0 ? 0 : Math.max(FRAME_MIN_SIZE, Math.min(...limits));
    this.fromClient.scanner.setFrameMax(agreed);
    if (asked === 0 || asked >= BROKER_FRAME_MIN_SIZE || (proposed > 0 && proposed <= asked)) {
      this.fromBackend.scanner.setFrameMax(agreed);
      return tuneOk;
    }
    const upstream = Math.min(proposed || INITIAL_FRAME_MAX, INITIAL_FRAME_MAX);
    this.fromBackend.scanner.setFrameMax(upstream);
    this.fromBackend.splitAbove = agreed - FRAME_OVERHEAD;
    this.#stats.rewrites['connection.tune-ok']++;
    return withFrameMax(tuneOk, upstream);
  }
}

function channelOf(frame: Uint8Array): number {
  return (frame[1]! << 8) | frame[2]!;
}

/** Equal for declares that are equal on whatever channel. */
function fingerprint(frame: Uint8Array): string {
  return new TextDecoder('latin1').decode(frame.subarray(FRAME_HEADER_SIZE));
}
