import { Gate } from './gate.ts';
import type { Source } from './outlet.ts';

/** How long the end of a frame that the client has begun to send is waited for, in milliseconds. */
const FRAME_WAIT = 1000;

/** How often the broker is told that a client is there which isn't read from, in milliseconds. */
const BEAT_INTERVAL = 1000;

/** What goes from the client to the broker. */
interface Stream {
  /** Between two frames. */
  readonly atBoundary: boolean;
  /** Sends a heartbeat, where a frame may begin. */
  beat(): void;
}

/**
 * Holds one client back: what it sends stays in its socket, where TCP slows it down, and what the broker sends it goes on.
 * A pause begins between two frames if the client comes to such a place within a second, so that heartbeats can go to the
 * broker in its place: else the broker would end a pause of more than two heartbeat intervals.
 */
export class Brakes {
  /** For what else holds the client back. */
  readonly gate: Gate;
  readonly #connecting: Source;
  readonly #pause: Source;
  #stream: Stream | undefined;
  #isHeld = false;
  #since = 0;
  #beatAt = 0;

  /** @param client its socket */
  constructor(client: Source) {
    this.gate = new Gate(client);
    this.#connecting = this.gate.holder();
    this.#pause = this.gate.holder();
  }

  /** There is no backend yet. */
  connecting(): void {
    this.#connecting.pause();
  }

  connected(): void {
    this.#connecting.resume();
  }

  get isPaused(): boolean {
    return this.#stream !== undefined;
  }

  /** Stops reading from a client that is in, until {@link resume}. */
  pause(stream: Stream): void {
    if (this.isPaused) return;
    this.#stream = stream;
    this.#since = performance.now();
    this.#beatAt = this.#since;
    this.#hold(this.#since);
  }

  #hold(now: number): void {
    if (this.#stream?.atBoundary !== true && now - this.#since < FRAME_WAIT) return;
    this.#isHeld = true;
    this.#pause.pause();
  }

  resume(): void {
    this.#stream = undefined;
    this.#isHeld = false;
    this.#pause.resume();
  }

  /** The connection ends: what the client still sends is read. */
  release(): void {
    this.connected();
    this.resume();
  }

  /** To be called a few times a second. @param now milliseconds of performance.now() */
  sweep(now: number): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    if (!this.#isHeld) this.#hold(now);
    else if (now - this.#beatAt >= BEAT_INTERVAL && stream.atBoundary) {
      this.#beatAt = now;
      stream.beat();
    }
  }
}
