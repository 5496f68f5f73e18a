import { FRAME_MIN_SIZE, FRAME_OVERHEAD, METHOD } from '../amqp/constants.ts';
import { readClose, readFrameMax, withFrameMax } from '../amqp/method.ts';
import { Relay } from './relay.ts';
import { ruleFor } from './rules/index.ts';
import type { Report } from './rules/rule.ts';
import type { Stats } from './stats.ts';

/** Octets of a frame before connection.tune has set frame_max: what brokers propose, and more than any handshake needs. */
const INITIAL_FRAME_MAX = 131_072;

/** The smallest frame_max that RabbitMQ 4.1 and later accept. */
const BROKER_FRAME_MIN_SIZE = 8192;

export interface ConversationEvents {
  /** The broker has answered connection.open. */
  opened(): void;
  /** The broker closes the connection. */
  brokerCloses(replyCode: number, replyText: string): void;
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

  constructor(stats: Stats, events: ConversationEvents) {
    this.#stats = stats;
    this.#events = events;
    this.fromClient = new Relay(INITIAL_FRAME_MAX, {
      client: true,
      wants: (method) =>
        ruleFor(method) !== undefined ||
        method === METHOD.connectionTuneOk ||
        method === METHOD.connectionClose ||
        method === METHOD.connectionCloseOk,
      frame: (frame, method) => this.#clientSays(frame, method),
    });
    this.fromBackend = new Relay(INITIAL_FRAME_MAX, {
      client: false,
      wants: (method) =>
        method === METHOD.connectionTune ||
        method === METHOD.connectionOpenOk ||
        method === METHOD.connectionClose ||
        method === METHOD.connectionCloseOk,
      frame: (frame, method) => this.#brokerSays(frame, method),
    });
  }

  #clientSays(frame: Uint8Array, method: number): Uint8Array {
    const rule = ruleFor(method);
    if (rule === undefined) {
      if (method === METHOD.connectionTuneOk) return this.#tuned(frame);
      this.closeSeen = true;
      return frame;
    }
    const edited = rule.rewrite(frame, this.#report);
    if (edited !== frame) this.#stats.rewrites[rule.name]++;
    return edited;
  }

  #brokerSays(frame: Uint8Array, method: number): Uint8Array {
    switch (method) {
      case METHOD.connectionTune:
        this.#tunedFrameMax = readFrameMax(frame);
        break;
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

  /**
   * The smaller of both frame_max holds; 0 is no limit (section 1.4.2.6). RabbitMQ since 4.1 ends the connection of a
   * client that asks for less than 8192: it gets its own proposal, and what is too large for the client is cut here.
   */
  #tuned(tuneOk: Uint8Array): Uint8Array {
    const asked = readFrameMax(tuneOk);
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
