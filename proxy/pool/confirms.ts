import { encodeNack } from '../../amqp/connection.ts';
import { Outstanding } from './outstanding.ts';
import { readTag, writeTag } from './delivery-tag.ts';

/**
 * Publishes of a channel in confirm mode, by the client's numbers: the first after confirm.select is 1. Each channel at the
 * broker begins at 1 again.
 */
export class Confirms {
  #published = 0;
  /** Add it to the broker's number for the client's. */
  #offset = 0;
  readonly #unconfirmed = new Outstanding();

  get unconfirmed(): number {
    return this.#unconfirmed.size;
  }

  publish(count: number): void {
    for (let i = 0; i < count; i++) this.#unconfirmed.open(++this.#published);
  }

  /**
   * The broker's basic.ack or basic.nack: puts the client's number in the place of the broker's.
   * @param at of its delivery tag
   * @param multiple all up to the tag; tag 0 is all there are
   * @returns false for a number that was never published
   */
  answered(octets: Uint8Array, at: number, multiple: boolean): boolean {
    const tag = readTag(octets, at);
    if (tag === 0) {
      if (multiple) this.#unconfirmed.closeAll();
      return multiple;
    }
    const number = tag + this.#offset;
    if (number > this.#published) return false;
    if (this.#offset > 0) writeTag(octets, at, number);
    if (multiple) this.#unconfirmed.closeUpTo(number);
    else this.#unconfirmed.close(number);
    return true;
  }

  /**
   * The broker answers nothing any more.
   * @returns for the client, on `channel`: a basic.nack for each run of publishes without an answer, in order. Between two
   * runs there are answered ones, and none of them is answered twice: clients that resequence (Go's amqp091) would take it.
   */
  lost(channel: number): Uint8Array[] {
    const runs = this.#unconfirmed.runs();
    this.#unconfirmed.closeAll();
    return runs.map(({ start, end }) => encodeNack(channel, end, start !== end));
  }

  /** What is published from here on goes to another channel at the broker. */
  restored(): void {
    this.#offset = this.#published;
  }
}
