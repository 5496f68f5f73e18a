import type { Socket } from 'node:net';

/**
 * Heartbeats of a connection to the broker (AMQP 0-9-1 section 4.2.7): when one is due, and whether the broker has gone
 * silent. All times are milliseconds of performance.now().
 */
export class Pulse {
  /** To be set when octets of the broker came. */
  heard = false;

  readonly #socket: Socket;
  /** Milliseconds between two heartbeats. */
  readonly #interval: number;
  #sweptAt: number;
  #heardAt: number;
  #writtenAt: number;
  #written: number;

  /** @param seconds the agreed interval, above 0 */
  constructor(socket: Socket, seconds: number, now: number) {
    this.#socket = socket;
    this.#interval = seconds * 1000;
    this.#sweptAt = now;
    this.#heardAt = now;
    this.#writtenAt = now;
    this.#written = socket.bytesWritten;
  }

  /** Seconds without an octet of the broker, after which it is given up: two intervals. */
  get patience(): number {
    return (this.#interval * 2) / 1000;
  }

  /**
   * Whether the broker has been silent for too long. To be called more often than twice in an interval: a longer pause is
   * taken for one of the whole process, which then has octets waiting that it hasn't read.
   */
  isSilent(now: number): boolean {
    const stoodStill = now - this.#sweptAt > this.#interval / 2;
    this.#sweptAt = now;
    if (this.heard || stoodStill || this.#socket.isPaused()) {
      this.heard = false;
      this.#heardAt = now;
    }
    return now - this.#heardAt > this.#interval * 2;
  }

  /** Whether nothing was written for half an interval, and nothing waits to be: then one heartbeat is to be sent. */
  isDue(now: number): boolean {
    const written = this.#socket.bytesWritten;
    if (written !== this.#written || this.#socket.writableLength > 0) {
      this.#written = written;
      this.#writtenAt = now;
      return false;
    }
    if (now - this.#writtenAt < this.#interval / 2) return false;
    this.#writtenAt = now;
    return true;
  }
}
