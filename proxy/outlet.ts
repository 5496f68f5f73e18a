import type { Socket } from 'node:net';

/**
 * Writes one socket's octets to another and holds the source back while the destination is behind: what is under way
 * is never more than one chunk of the source and what the destination's own buffer takes.
 */
export class Outlet {
  readonly #destination: Socket;
  readonly #source: Socket;
  /** Encrypting copies the octets at once; a plain socket goes on using them until the kernel has taken all. */
  readonly #copies: boolean;
  #waiting = false;
  readonly #flushed = (): void => {
    if (this.#waiting && this.#destination.writableLength === 0) {
      this.#waiting = false;
      this.#source.resume();
    }
  };

  constructor(source: Socket, destination: Socket, copies: boolean) {
    this.#source = source;
    this.#destination = destination;
    this.#copies = copies;
  }

  /** Writes the pieces in order. `lent`: they lie in a buffer that the source reads into again. */
  write(pieces: readonly Uint8Array[], lent: boolean): void {
    const to = this.#destination;
    if (pieces.length === 0 || !to.writable) return;
    const behind = to.writableLength > 0;
    const many = pieces.length > 1;
    let flowing = true;
    if (many) to.cork();
    for (const piece of pieces) {
      // What has to wait in Node's own queue is read from there later: it must not be lent any more.
      const octets = lent && (behind || (many && this.#copies)) ? Uint8Array.from(piece) : piece;
      flowing = to.write(octets, this.#flushed);
    }
    if (many) to.uncork();
    const held = lent && !behind && !this.#copies && to.writableLength > 0;
    if ((held || !flowing) && !this.#waiting) {
      this.#waiting = true;
      this.#source.pause();
    }
  }

  /** Lets the source flow again, whatever the destination does: its octets are no longer passed on. */
  release(): void {
    this.#waiting = false;
    this.#source.resume();
  }
}
