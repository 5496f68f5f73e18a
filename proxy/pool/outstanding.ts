const WORD = 32;

/** Numbers that follow each other, from `start` to `end` (inclusive). */
export interface Run {
  start: number;
  end: number;
}

/**
 * Which of the numbers that were given out in rising order are still open. A bit for each, in words of 32, and only words
 * with open numbers are kept: one number that stays open while millions come and go costs one word. The word of the latest
 * numbers is at hand, so that what is closed soon after it was opened never reaches the map.
 */
export class Outstanding {
  #size = 0;
  #last = 0;
  #tailAt = 0;
  #tail = 0;
  /** In rising order, as maps keep it: only the tail is ever put in. */
  #words: Map<number, number> | undefined;

  get size(): number {
    return this.#size;
  }

  /** @param number above all that were opened before, at most 2^53 - 1 */
  open(number: number): void {
    const at = Math.floor(number / WORD);
    if (at !== this.#tailAt) {
      if (this.#tail !== 0) (this.#words ??= new Map()).set(this.#tailAt, this.#tail);
      this.#tailAt = at;
      this.#tail = 0;
    }
    this.#tail |= 1 << (number % WORD);
    this.#last = number;
    this.#size++;
  }

  has(number: number): boolean {
    return number <= this.#last && (this.#wordAt(Math.floor(number / WORD)) & (1 << (number % WORD))) !== 0;
  }

  /** @returns false when it isn't open */
  close(number: number): boolean {
    if (!this.has(number)) return false;
    this.#clear(Math.floor(number / WORD), 1 << (number % WORD));
    this.#size--;
    return true;
  }

  /** Closes all up to `number`, inclusive. */
  closeUpTo(number: number): void {
    if (number >= this.#last) {
      this.closeAll();
      return;
    }
    const at = Math.floor(number / WORD);
    if (this.#words !== undefined && this.#words.size > 0) {
      for (const [below, word] of this.#words) {
        if (below >= at) break;
        this.#words.delete(below);
        this.#size -= ones(word);
      }
    }
    const closed = this.#wordAt(at) & ((2 << (number % WORD)) - 1);
    if (closed === 0) return;
    this.#clear(at, closed);
    this.#size -= ones(closed);
  }

  closeAll(): void {
    this.#size = 0;
    this.#tail = 0;
    this.#words = undefined;
  }

  /** The open numbers, as the fewest runs, in rising order. */
  runs(): Run[] {
    const runs: Run[] = [];
    for (const [at, word] of this.#words ?? []) collect(runs, at, word);
    collect(runs, this.#tailAt, this.#tail);
    return runs;
  }

  #wordAt(at: number): number {
    return at === this.#tailAt ? this.#tail : (this.#words?.get(at) ?? 0);
  }

  #clear(at: number, bits: number): void {
    const left = this.#wordAt(at) & ~bits;
    if (at === this.#tailAt) this.#tail = left;
    else if (left === 0) this.#words?.delete(at);
    else this.#words?.set(at, left);
  }
}

function ones(word: number): number {
  let count = 0;
  for (let left = word; left !== 0; left &= left - 1) count++;
  return count;
}

function collect(runs: Run[], at: number, word: number): void {
  for (let bit = 0; bit < WORD; bit++) {
    if ((word & (1 << bit)) === 0) continue;
    const number = at * WORD + bit;
    const run = runs.at(-1);
    if (run?.end === number - 1) run.end = number;
    else runs.push({ start: number, end: number });
  }
}
