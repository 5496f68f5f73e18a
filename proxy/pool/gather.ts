import type { Socket } from 'node:net';
import { Outlet } from '../outlet.ts';
import { blocks } from './blocks.ts';

/** Octets of what is gathered at a time from one client: more is worth a write of its own. */
const SMALL = 2048;

const SIZE = 64 * 1024;

/** Nobody is held back here: who finds the socket behind writes by itself. */
const NOBODY = { pause() {}, resume() {} };

const giveBlock = (octets: Uint8Array): void => blocks.give(octets);

/**
 * What many clients write little of within one turn of the event loop goes to the connection that they share in one write:
 * a write costs more than all else that is done for a small message.
 */
export class Gather {
  readonly #socket: Socket;
  readonly #outlet: Outlet;
  #block: Uint8Array | undefined;
  #filled = 0;
  /** The millisecond in which somebody asked last. */
  #askedAt = 0;

  /** @param copies whether the socket encrypts, see {@link Outlet} */
  constructor(socket: Socket, copies: boolean) {
    this.#socket = socket;
    this.#outlet = new Outlet(NOBODY, socket, copies, giveBlock);
  }

  /**
   * Asks for a message, once, whether others are to be expected in this turn: something waits already, or one came within
   * the same millisecond. To wait for the turn's end costs a message that is alone more than it can win.
   * @param clients that share the socket
   */
  expectsMore(clients: number): boolean {
    if (this.#block !== undefined) return true;
    if (clients < 2) return false;
    const now = Date.now(); // cheaper than performance.now(), and a step of the clock does no harm
    const isSame = now === this.#askedAt;
    this.#askedAt = now;
    return isSame;
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
    const octets = [block.subarray(0, filled)];
    this.#outlet.write(octets, false, octets);
  }
}
