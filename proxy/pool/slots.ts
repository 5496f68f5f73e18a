/** Wants a connection to the broker to be made. */
export interface Wish {
  /** Of the request that it is for: who came first is first in line. */
  readonly arrival: number;
  /** There is a slot, and it is taken: {@link Slots.free} gives it back. */
  granted(): void;
}

/** How many connections there may be at a time, and the line of those who want one more, by arrival. */
export class Slots {
  #most: number;
  readonly #evict: () => boolean;
  #taken = 0;
  #leaving = 0;
  #granting = false;
  readonly #line: Wish[] = [];

  /** @param evict begins to close a connection that nobody uses ({@link leave}), or false: there is none */
  constructor(most: number, evict: () => boolean) {
    this.#most = most;
    this.#evict = evict;
  }

  get taken(): number {
    return this.#taken;
  }

  get full(): boolean {
    return this.#taken >= this.#most;
  }

  /** Another bound from now on. Where it is lower, those that are beyond it stay. */
  use(most: number): void {
    this.#most = most;
    this.grant();
  }

  /** The arrival of who is first in line; Infinity without one. */
  get oldest(): number {
    return this.#line[0]?.arrival ?? Infinity;
  }

  /** Gets in line. */
  want(wish: Wish): void {
    let at = this.#line.length;
    while (at > 0 && this.#line[at - 1]!.arrival > wish.arrival) at--;
    this.#line.splice(at, 0, wish);
    this.grant();
  }

  withdraw(wish: Wish): void {
    const at = this.#line.indexOf(wish);
    if (at >= 0) this.#line.splice(at, 1);
  }

  /** The connection in a slot is about to end. */
  leave(): void {
    this.#leaving++;
  }

  /** The connection in a slot is gone. @param left whether it was said before that it is about to end */
  free(left: boolean): void {
    this.#taken--;
    if (left) this.#leaving--;
    this.grant();
  }

  /** Lets in whom there is room for, and makes room where nobody uses it. */
  grant(): void {
    if (this.#granting) return;
    this.#granting = true;
    try {
      do {
        while (this.#line.length > 0 && !this.full) {
          this.#taken++;
          this.#line.shift()!.granted();
        }
        while (this.#line.length > this.#leaving && this.#evict());
      } while (this.#line.length > 0 && !this.full);
    } finally {
      this.#granting = false;
    }
  }
}
