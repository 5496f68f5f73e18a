import type { ChannelConsumer } from './channel-consumers.ts';
import { readTag, writeTag } from './delivery-tag.ts';
import { Outstanding } from './outstanding.ts';

/** The redelivered bit, in the octet behind the delivery tag of basic.deliver and basic.get-ok. */
const REDELIVERED = 1;

/**
 * What a channel's client has been given, by delivery tag, and what of it isn't acknowledged. Each channel at the broker
 * begins at tag 1; a client never gets a tag twice, and what it says of tags from another channel at the broker goes nowhere.
 */
export class Deliveries {
  /** The broker's latest tag. */
  #last = 0;
  /** Add it to the broker's tag for the client's. Below 0 where the broker's channel was another client's before. */
  #offset = 0;
  /** The client's tags up to this one are of a channel that is gone. */
  #stale = 0;
  /** By the broker's tags. */
  readonly #unacked = new Outstanding();
  /** Whom the unacknowledged ones were delivered to, where that is known; in rising order. */
  readonly #holders = new Map<number, ChannelConsumer>();

  get last(): number {
    return this.#last;
  }

  get unacked(): number {
    return this.#unacked.size;
  }

  /** The channel at the broker has delivered before, up to tag `last`, to somebody else. */
  begin(last: number): void {
    this.#last = last;
    this.#offset = -last;
  }

  /**
   * A basic.deliver or basic.get-ok: puts the client's tag in the place of the broker's, and marks what may be known from
   * before a loss.
   * @param at of its delivery tag
   * @param consumer whom it is for, where that has to be known
   * @returns false when the broker counts backwards
   */
  deliver(octets: Uint8Array, at: number, needsAck: boolean, consumer: ChannelConsumer | undefined): boolean {
    const tag = readTag(octets, at);
    if (tag <= this.#last || tag === Infinity) return false;
    this.#last = tag;
    if (this.#offset !== 0) writeTag(octets, at, tag + this.#offset);
    if (needsAck) this.#unacked.open(tag);
    if (consumer === undefined) return true;
    if (needsAck) this.#holders.set(tag, consumer);
    if (consumer.redeliveries > 0) {
      consumer.redeliveries--;
      octets[at + 8]! |= REDELIVERED;
    }
    return true;
  }

  /**
   * A basic.ack, basic.nack or basic.reject of the client: puts the broker's tag in the place of the client's.
   * @returns false when it is about deliveries of a channel that is gone, and of no others
   */
  toBroker(octets: Uint8Array, at: number, multiple: boolean): boolean {
    if (this.#offset === 0) return true;
    const tag = readTag(octets, at);
    // All there are: of a channel that is gone, where nothing has come since.
    if (tag === 0) return !multiple || this.#stale === 0 || this.#last > 0;
    if (tag <= this.#stale) return false;
    if (tag - this.#offset <= Number.MAX_SAFE_INTEGER) writeTag(octets, at, tag - this.#offset);
    return true;
  }

  /** The same on its way to the broker. What has no such tag is refused there, and settles nothing. */
  settle(octets: Uint8Array, at: number, multiple: boolean): void {
    const tag = readTag(octets, at);
    if (tag === 0 && multiple) this.recovered();
    else if (!this.#unacked.has(tag)) return;
    else if (multiple) {
      this.#unacked.closeUpTo(tag);
      for (const held of this.#holders.keys()) {
        if (held > tag) break;
        this.#holders.delete(held);
      }
    } else {
      this.#unacked.close(tag);
      this.#holders.delete(tag);
    }
  }

  /** The broker has put all that wasn't acknowledged back into its queues. */
  recovered(): void {
    this.#unacked.closeAll();
    this.#holders.clear();
  }

  /** The channel at the broker is gone, and what wasn't acknowledged there will be delivered again. */
  lost(): void {
    this.#stale = this.#last + this.#offset;
    this.#offset = this.#stale;
    this.#last = 0;
  }

  /** There is another channel at the broker. */
  restored(): void {
    for (const consumer of this.#holders.values()) consumer.redeliveries++;
    this.#unacked.closeAll();
    this.#holders.clear();
  }
}
