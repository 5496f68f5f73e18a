/** All that there are of something at any time, in the order in which they came. */
export interface Roll<T> extends Iterable<T> {
  readonly size: number;
}

/** What a {@link Roster} has. */
export interface Listed {
  /** The roster's own. */
  place: number;
}

/**
 * What comes and goes often, as connections do. Not a Set: V8 makes a Set a new table after some removals, and the old
 * one refers to the new one and to all that it had. Once one of them has reached the old generation, its garbage
 * keeps all that come later from being collected cheaply.
 */
export class Roster<T extends Listed> implements Roll<T> {
  #all: (T | undefined)[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(one: T): void {
    if (this.#all.length > 2 * this.#size + 16) this.#close();
    one.place = this.#all.push(one) - 1;
    this.#size++;
  }

  /** To be called once for each that was added. */
  delete(one: T): void {
    this.#all[one.place] = undefined;
    this.#size--;
  }

  /** Takes the gaps out that were left. */
  #close(): void {
    this.#all = [...this];
    for (const [place, one] of this.#all.entries()) one!.place = place;
  }

  /** Those that are there now, whoever goes meanwhile. */
  [Symbol.iterator](): IterableIterator<T> {
    return this.#all.filter((one) => one !== undefined)[Symbol.iterator]();
  }
}
