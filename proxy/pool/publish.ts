import { FRAME_HEADER, FRAME_OVERHEAD } from '../../amqp/constants.ts';
import { readUint32 } from '../../amqp/table.ts';
import { blocks } from './blocks.ts';

/** What a piece takes besides its octets, about: a message may come in pieces of one octet. */
const PIECE = 128;

/** What is kept of all messages of a client that aren't whole. */
export interface Kept {
  octets: number;
}

/** What may come next on a client's channel. */
const ANY = 0;
const HEADER = 1;
const BODY = 2;

/**
 * One publish of a client's channel until it is whole: its method, its header and its bodies. While they lie one behind
 * the other in the chunk that is being read, they are kept as one piece of it and nothing is copied.
 */
export class Publish {
  /** The pieces out of earlier chunks, or that other channels' frames came between: none of them is lent. */
  readonly parts: Uint8Array[] = [];
  /** Octets of the parts. */
  size = 0;
  /** The last piece, where it lies: `start` to `end` of `octets`; undefined when there is none. */
  octets: Uint8Array | undefined;
  start = 0;
  end = 0;
  /** It lies in a buffer that the client's socket reads into again. */
  lent = false;

  readonly #kept: Kept;
  #expected = ANY;
  /** Octets of the body that are still to come. */
  #missing = 0;

  constructor(kept: Kept) {
    this.#kept = kept;
  }

  /** Whether a publish has begun and isn't whole. */
  get underWay(): boolean {
    return this.#expected !== ANY;
  }

  /** Whether its content header is due. */
  get wantsHeader(): boolean {
    return this.#expected === HEADER;
  }

  /** A basic.publish method. @param lent as {@link Publish.lent} */
  begin(octets: Uint8Array, start: number, end: number, lent: boolean): void {
    this.#expected = HEADER;
    this.lent = lent;
    this.octets = octets;
    this.start = start;
    this.end = end;
  }

  /**
   * Its content header or one of its bodies.
   * @param size a header: octets of the whole body; a body: octets of this frame's payload
   * @returns whether the publish is whole; undefined: the body is longer than its header says
   */
  add(
    type: number,
    size: number,
    octets: Uint8Array,
    start: number,
    end: number,
    lent: boolean,
  ): boolean | undefined {
    this.#missing = type === FRAME_HEADER ? size : this.#missing - size;
    if (this.#missing < 0) return undefined;
    if (this.octets === octets && this.end === start) this.end = end;
    else {
      this.keep();
      this.lent = lent;
      this.octets = octets;
      this.start = start;
      this.end = end;
    }
    this.#expected = this.#missing === 0 ? ANY : BODY;
    return this.#missing === 0;
  }

  /** Makes the last piece one that lasts: the chunk that it lies in is read over. */
  keep(): void {
    if (this.octets === undefined) return;
    const piece = this.octets.subarray(this.start, this.end);
    const part = this.lent ? blocks.copy(piece) : piece;
    this.octets = undefined;
    this.parts.push(part);
    this.size += part.length;
    this.#kept.octets += part.length + PIECE;
  }

  /** Puts another channel's number into the frames that are there: the one at the broker has changed. */
  renumber(channel: number): void {
    for (const part of this.parts) renumberAll(part, 0, part.length, channel);
    if (this.octets !== undefined) renumberAll(this.octets, this.start, this.end, channel);
  }

  /** Forgets it: it has been passed on, or is dropped. */
  clear(): void {
    this.#expected = ANY;
    this.octets = undefined;
    if (this.size === 0) return; // the usual case: setting an array's length isn't free
    this.#kept.octets -= this.size + this.parts.length * PIECE;
    this.parts.length = 0;
    this.size = 0;
  }
}

/** Puts a channel's number into each of the whole frames from `start` to `end`. */
function renumberAll(octets: Uint8Array, start: number, end: number, channel: number): void {
  for (let at = start; at < end; at += readUint32(octets, at + 3) + FRAME_OVERHEAD)
    renumber(octets, at, channel);
}

/** Puts a channel's number into the frame that begins at `start`. */
export function renumber(octets: Uint8Array, start: number, channel: number): void {
  octets[start + 1] = channel >>> 8;
  octets[start + 2] = channel;
}
