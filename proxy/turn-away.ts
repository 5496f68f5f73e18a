import type { Socket } from 'node:net';

/** How long a client that isn't let in has to take its answer, in milliseconds. */
const LINGER = 2000;

/** So many may take theirs at a time: a flood of clients gets no answers, and holds no descriptors. */
const LINGERING_MAX = 500;

/** Tells clients why they aren't let in, before anything of theirs was read. */
export class Doorway {
  #lingering = 0;

  /** @param octets what the client is told; undefined: nothing */
  turnAway(socket: Socket, octets: Uint8Array | undefined): void {
    socket.on('error', () => socket.destroy());
    if (octets === undefined || this.#lingering >= LINGERING_MAX) {
      socket.destroy();
      return;
    }
    this.#lingering++;
    const timer = setTimeout(() => socket.destroy(), LINGER).unref();
    socket.once('close', () => {
      this.#lingering--;
      clearTimeout(timer);
    });
    // A socket that is closed with something unread in it is reset, and its peer loses what it hasn't read yet.
    socket.resume();
    socket.once('end', () => socket.destroy());
    socket.end(octets);
  }
}
