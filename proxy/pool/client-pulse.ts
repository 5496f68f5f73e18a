/**
 * Heartbeats towards a client (AMQP 0-9-1 section 4.2.7): when one is due, and whether the client has gone silent. All
 * times are milliseconds of performance.now().
 */
export class ClientPulse {
  /** To be set when octets of the client came, and when it was given some. */
  heard = false;
  said = false;
  /** The way behind is not alive: no heartbeats are sent. */
  withheld = false;

  /** Milliseconds between two heartbeats. */
  readonly #interval: number;
  #heardAt: number;
  #saidAt: number;
  #sweptAt: number;

  /** @param seconds the agreed interval, above 0 */
  constructor(seconds: number, now: number) {
    this.#interval = seconds * 1000;
    this.#heardAt = now;
    this.#saidAt = now;
    this.#sweptAt = now;
  }

  /** Seconds without an octet of the client, after which it is given up: two intervals. */
  get patience(): number {
    return (this.#interval * 2) / 1000;
  }

  /** Whether the client has been silent for too long. A long pause between two looks is one of the whole process. */
  isSilent(now: number): boolean {
    const stoodStill = now - this.#sweptAt > this.#interval;
    this.#sweptAt = now;
    if (this.heard || stoodStill) {
      this.heard = false;
      this.#heardAt = now;
    }
    return now - this.#heardAt > this.#interval * 2;
  }

  /** Whether nothing was said for half an interval: then one heartbeat is to be sent. */
  isDue(now: number): boolean {
    if (this.said) {
      this.said = false;
      this.#saidAt = now;
    }
    if (this.withheld || now - this.#saidAt < this.#interval / 2) return false;
    this.#saidAt = now;
    return true;
  }
}
