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
    let holds = false;
    return {
      pause: () => {
        if (holds) return;
        holds = true;
        if (++this.#closed === 1) this.#source.pause();
      },
      resume: () => {
        if (!holds) return;
        holds = false;
        if (--this.#closed === 0) this.#source.resume();
      },
    };
  }
}
