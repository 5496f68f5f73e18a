import { FRAME_MIN_SIZE, METHOD } from '../amqp/constants.ts';
import { readClose, readFrameMax } from '../amqp/method.ts';
import { Relay } from './relay.ts';
import { ruleFor } from './rules/index.ts';
import type { Report } from './rules/rule.ts';
import type { Stats } from './stats.ts';

/** Octets of a frame before connection.tune has set frame_max: what brokers propose, and more than any handshake needs. */
const INITIAL_FRAME_MAX = 131_072;

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
      if (method === METHOD.connectionTuneOk) this.#tuned(readFrameMax(frame));
      else this.closeSeen = true;
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

  /** The smaller of both frame_max holds; 0 is no limit (section 1.4.2.6). */
  #tuned(frameMax: number): void {
    const proposals = [frameMax, this.#tunedFrameMax].filter((octets) => octets > 0);
    const agreed = proposals.length === 0 ? 0 : Math.max(FRAME_MIN_SIZE, Math.min(...proposals));
    this.fromClient.scanner.setFrameMax(agreed);
    this.fromBackend.scanner.setFrameMax(agreed);
  }
}
