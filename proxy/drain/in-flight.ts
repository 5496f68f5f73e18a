import { METHOD } from '../../amqp/constants.ts';
import { readTag } from '../pool/delivery-tag.ts';
import { Outstanding } from '../pool/outstanding.ts';

/** Octets of a confirm's arguments: a delivery tag and its bits. */
const CONFIRM_ARGUMENTS = 9;
const MULTIPLE = 1;

/** A channel in confirm mode. */
interface Confirming {
  published: number;
  readonly open: Outstanding;
}

/**
 * What a client has published and the broker hasn't confirmed. Read from the methods' ids and the broker's delivery tags
 * alone, and only for channels in confirm mode: without it nobody is told what became of a publish.
 */
export class InFlight {
  /** Publishes that have begun, with confirms and without. */
  published = 0;
  /** By channel; undefined until one is in confirm mode. */
  #channels: Map<number, Confirming> | undefined;

  /** Publishes without an answer. */
  get unconfirmed(): number {
    let sum = 0;
    for (const { open } of this.#channels?.values() ?? []) sum += open.size;
    return sum;
  }

  /** So many publishes of the client. */
  clientPublishes(channel: number, count: number): void {
    this.published += count;
    const confirming = this.#channels?.get(channel);
    if (confirming === undefined) return;
    for (let i = 0; i < count; i++) confirming.open.open(++confirming.published);
  }

  /** A method of the client. */
  clientSays(method: number, channel: number): void {
    switch (method) {
      case METHOD.basicPublish:
        this.clientPublishes(channel, 1);
        return;
      case METHOD.confirmSelect:
        this.#channels ??= new Map();
        if (!this.#channels.has(channel))
          this.#channels.set(channel, { published: 0, open: new Outstanding() });
        return;
      case METHOD.channelClose:
      case METHOD.channelCloseOk:
        this.#channels?.delete(channel);
        return;
      default:
    }
  }

  /** Whether the method of the broker is one that {@link brokerSays} has to be told of. */
  isAnswer(method: number): boolean {
    if (this.#channels === undefined) return false;
    return method === METHOD.basicAck || method === METHOD.basicNack || method === METHOD.channelClose;
  }

  /**
   * The broker's answer, where its arguments lie in `octets` from `at` to before `end`.
   * @returns false when they aren't all there
   */
  brokerSays(method: number, channel: number, octets: Uint8Array, at: number, end: number): boolean {
    if (method === METHOD.channelClose) {
      this.#channels?.delete(channel);
      return true;
    }
    if (at + CONFIRM_ARGUMENTS > end) return false;
    const open = this.#channels?.get(channel)?.open;
    if (open === undefined) return true;
    const tag = readTag(octets, at);
    const multiple = (octets[at + 8]! & MULTIPLE) !== 0;
    if (tag === 0 && multiple) open.closeAll();
    else if (multiple) open.closeUpTo(tag);
    else open.close(tag);
    return true;
  }
}
