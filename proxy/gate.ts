import type { Source } from './outlet.ts';

/** A source that several hold back independently: it flows when nobody does. */
export class Gate {
  readonly #source: Source;
  #closed = 0;

  constructor(source: Source) {
    this.#source = source;
  }

  /** Whether somebody holds the source back. */
  get closed(): boolean {
    return this.#closed > 0;
  }

  /** One that may hold it back. Saying the same twice changes nothing. */
  holder(): Source {
    return new Holder(this);
  }

  /** One more holds it back, that hasn't before. */
  close(): void {
    if (++this.#closed === 1) this.#source.pause();
  }

  /** One of them holds it back no more. */
  open(): void {
    if (--this.#closed === 0) this.#source.resume();
  }
}

/** A class and no closures: each client has several. */
class Holder implements Source {
  readonly #gate: Gate;
  #holds = false;

  constructor(gate: Gate) {
    this.#gate = gate;
  }

  pause(): void {
    if (this.#holds) return;
    this.#holds = true;
    this.#gate.close();
  }

  resume(): void {
    if (!this.#holds) return;
    this.#holds = false;
    this.#gate.open();
  }
}
