import type { Source } from '../outlet.ts';

/** Octets that one line holds before its source is paused, and chunks, each of which costs memory of its own. */
const OCTETS_MAX = 1 << 20;
const CHUNKS_MAX = 4096;

interface Held {
  /** When it came, in milliseconds of performance.now(). */
  readonly at: number;
  readonly octets: number;
  readonly pass: () => void;
}

/**
 * One direction of a connection, as long as the network of that time: what comes in goes out so many milliseconds later, in
 * order. Its source is paused while much is under way, so that memory stays bounded.
 */
export class DelayLine implements Source {
  readonly #source: Source;
  readonly #held: Held[] = [];
  #milliseconds = 0;
  #octets = 0;
  #isFull = false;
  /** Whoever gets the octets takes none now. */
  #isPaused = false;
  #isPassing = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(source: Source) {
    this.#source = source;
  }

  /** Whether what comes now goes on at once: it needs not be held. */
  get isOpen(): boolean {
    return this.#milliseconds === 0 && this.isEmpty;
  }

  /** Whether nothing is held. */
  get isEmpty(): boolean {
    return this.#held.length === 0;
  }

  /** Octets that are held. */
  get length(): number {
    return this.#octets;
  }

  /** Sets how long what is held, and what comes, is held from its coming on; 0 ends the delay. */
  delay(milliseconds: number): void {
    this.#milliseconds = milliseconds;
    this.#passOn();
  }

  /**
   * Takes something whose turn is behind all that came before.
   * @param octets that `pass` hands on, which nobody else changes; 0: it tells of an end
   */
  hold(octets: number, pass: () => void): void {
    this.#held.push({ at: performance.now(), octets, pass });
    this.#octets += octets;
    if (!this.#isFull && this.#isLong) {
      this.#isFull = true;
      if (!this.#isPaused) this.#source.pause();
    }
    this.#passOn();
  }

  get #isLong(): boolean {
    return this.#octets > OCTETS_MAX || this.#held.length > CHUNKS_MAX;
  }

  /** Forgets octets that are held, and tells of ends: the connection is broken off. */
  drop(): void {
    const ends = this.#held.filter(({ octets }) => octets === 0);
    this.#held.splice(0, this.#held.length, ...ends);
    this.#octets = 0;
    this.#isPaused = false;
    this.delay(0);
  }

  pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    if (!this.#isFull) this.#source.pause();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    if (!this.#isFull) this.#source.resume();
    this.#passOn();
  }

  #passOn(): void {
    if (this.#isPassing) return;
    clearTimeout(this.#timer);
    this.#isPassing = true;
    while (!this.#isPaused) {
      const first = this.#held[0];
      if (first === undefined) break;
      const wait = first.at + this.#milliseconds - performance.now();
      if (wait > 0) {
        this.#timer = setTimeout(() => this.#passOn(), Math.ceil(wait));
        break;
      }
      this.#held.shift();
      this.#octets -= first.octets;
      first.pass();
    }
    this.#isPassing = false;
    if (!this.#isFull || this.#isLong) return;
    this.#isFull = false;
    if (!this.#isPaused) this.#source.resume();
  }
}
