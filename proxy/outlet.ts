import type { Socket } from 'node:net';

const NONE: readonly Uint8Array[] = [];
const NOTHING = new Uint8Array(0);

/** Octets up to which a socket that isn't behind is expected to take all at once. */
const SMALL = 16 * 1024;

function sizeOf(pieces: readonly Uint8Array[]): number {
  let size = 0;
  for (const piece of pieces) size += piece.length;
  return size;
}

/** Where octets come from, as far as it can be held back. */
export interface Source {
  pause(): void;
  resume(): void;
}

/**
 * Writes one socket's octets to another and holds the source back while the destination is behind: what is under way
 * is never more than one chunk of the source and what the destination's own buffer takes.
 */
export class Outlet {
  readonly #destination: Socket;
  readonly #source: Source;
  /** Encrypting copies the octets at once; a plain socket goes on using them until the kernel has taken all. */
  readonly #copies: boolean;
  /** Writes that tell when the destination has taken them, or given up, and haven't yet. */
  #pending = 0;
  /** The source is paused until there are none. */
  #waiting = false;
  /** What is pending was lent: reading on would overwrite it. */
  #held = false;
  /** The source is paused until {@link proceed}. */
  #onHold = false;
  /** What `give` gets when nothing is pending any more. */
  readonly #borrowed: Uint8Array[] = [];
  readonly #give: ((octets: Uint8Array) => void) | undefined;
  readonly #written = (): void => {
    if (--this.#pending > 0) return;
    if (this.#borrowed.length > 0) for (const octets of this.#borrowed.splice(0)) this.#give?.(octets);
    this.#held = false;
    if (!this.#waiting) return;
    this.#waiting = false;
    if (!this.#onHold) this.#source.resume();
  };

  /** @param give gets pieces that were borrowed back when they have been written */
  constructor(source: Source, destination: Socket, copies: boolean, give?: (octets: Uint8Array) => void) {
    this.#give = give;
    this.#source = source;
    this.#destination = destination;
    this.#copies = copies;
  }

  /**
   * Writes the pieces in order. `lent`: they lie in a buffer that the source reads into again.
   * @param borrowed those of them that have to be given back
   */
  write(pieces: readonly Uint8Array[], lent: boolean, borrowed: readonly Uint8Array[] = NONE): void {
    const to = this.#destination;
    if (pieces.length === 0 || !to.writable) return;
    // Not the pending ones: what the kernel took in the write counts among them until the next tick.
    const behind = to.writableLength > 0;
    if (behind || this.#copies || sizeOf(pieces) > SMALL) this.#writeTold(pieces, lent, borrowed, behind);
    else this.#writeSmall(pieces, lent, borrowed);
  }

  /** Octets that the kernel may well not take all at once: each write tells when it is done. */
  #writeTold(
    pieces: readonly Uint8Array[],
    lent: boolean,
    borrowed: readonly Uint8Array[],
    behind: boolean,
  ): void {
    const to = this.#destination;
    if (borrowed.length > 0) this.#borrowed.push(...borrowed);
    const many = pieces.length > 1;
    let flowing = true;
    if (many) to.cork();
    for (const piece of pieces) {
      if (piece.length === 0) continue; // under way, it would be behind without a length
      // What has to wait in Node's own queue is read from there later: it must not be lent any more.
      const octets = lent && (behind || (many && this.#copies)) ? new Uint8Array(piece) : piece;
      this.#pending++;
      flowing = to.write(octets, this.#written);
    }
    if (many) to.uncork();
    if (lent && !behind && !this.#copies && to.writableLength > 0) this.#held = true;
    if (this.#held || !flowing) this.#wait();
  }

  /**
   * Few octets for a socket that isn't behind: the kernel takes them at once, as a rule. To be told of a write costs a tick
   * of Node's, more than all else that is done for a small message: so only who has to wait is told.
   */
  #writeSmall(pieces: readonly Uint8Array[], lent: boolean, borrowed: readonly Uint8Array[]): void {
    const to = this.#destination;
    const many = pieces.length > 1;
    if (many) to.cork();
    for (const piece of pieces) if (piece.length > 0) to.write(piece);
    if (many) to.uncork();
    if (to.writableLength === 0) {
      for (const octets of borrowed) this.#give?.(octets);
      return;
    }
    if (borrowed.length > 0) this.#borrowed.push(...borrowed);
    this.#pending++;
    // Nothing, behind what is under way: it is done when that is.
    const flowing = to.write(NOTHING, this.#written);
    if (lent) this.#held = true;
    if (lent || !flowing) this.#wait();
  }

  #wait(): void {
    if (this.#waiting) return;
    this.#waiting = true;
    this.#source.pause();
  }

  /** Pauses the source for a reason of the caller's, whether the destination is behind or not. */
  hold(): void {
    this.#onHold = true;
    this.#source.pause();
  }

  /** Ends {@link hold}: the source flows as soon as the destination has caught up. */
  proceed(): void {
    if (!this.#onHold) return;
    this.#onHold = false;
    if (!this.#waiting) this.#source.resume();
  }

  /**
   * Lets the source flow again, however far behind the destination is: its octets are no longer passed on. Those that
   * it has lent are waited for.
   */
  release(): void {
    this.#onHold = false;
    if (this.#held) return;
    this.#waiting = false;
    this.#source.resume();
  }
}
