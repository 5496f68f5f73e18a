// What is chosen by chance, and chosen the same for the same seed.

/** Numbers by chance (mulberry32), from a seed and the name of who asks: others' questions don't change the answers. */
export class Chance {
  #state: number;

  constructor(seed: number, name: string) {
    this.#state = seed;
    for (const character of name)
      this.#state = Math.imul(this.#state ^ character.codePointAt(0)!, 0x0100_0193);
  }

  /** A whole number, `from` at least and below `to`. */
  between(from: number, to: number): number {
    return from + Math.floor(this.#fraction() * (to - from));
  }

  percent(share: number): boolean {
    return this.#fraction() * 100 < share;
  }

  oneOf<T>(choices: readonly T[]): T {
    return choices[this.between(0, choices.length)]!;
  }

  #fraction(): number {
    this.#state = (this.#state + 0x6d2b_79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}
