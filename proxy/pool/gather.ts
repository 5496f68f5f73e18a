import type { Socket } from 'node:net';
import { blocks } from './blocks.ts';

/** Octets of what is gathered at a time from one client: more is worth a write of its own. */
const SMALL = 2048;

const SIZE = 64 * 1024;

/**
 * What many clients write little of within one turn of the event loop goes to the connection that they share in one write:
 * a write costs more than all else that is done for a small message.
 */
export class Gather {
  readonly #socket: Socket;
  #block: Uint8Array | undefined;
  #filled = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Something was gathered. */
  get waits(): boolean {
    return this.#block !== undefined;
  }

  /**
   * Copies the pieces, to be written when the turn ends.
   * @returns false when they are too many octets, or the socket is behind: all that was gathered before has been written then
   */
  add(pieces: readonly Uint8Array[]): boolean {
    let size = 0;
    for (const piece of pieces) size += piece.length;
    if (size > SMALL || this.#socket.writableLength > 0) {
      this.flush();
      return false;
    }
    if (this.#filled + size > SIZE) this.flush();
    if (this.#block === undefined) {
      this.#block = blocks.take(SIZE);
      setImmediate(() => this.flush());
    }
    for (const piece of pieces) {
      this.#block.set(piece, this.#filled);
      this.#filled += piece.length;
    }
    return true;
  }

  /** Writes what was gathered. */
  flush(): void {
    const block = this.#block;
    if (block === undefined) return;
    const filled = this.#filled;
    this.#block = undefined;
    this.#filled = 0;
    if (this.#socket.writable) this.#socket.write(block.subarray(0, filled), () => blocks.give(block));
  }
}
