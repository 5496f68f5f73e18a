/**
 * Methods that the broker hasn't answered yet, and those that it never answers. Brokers do a channel's methods in the order
 * sent, but RabbitMQ's consume-ok may come behind the answer to a later method, since the queue sends it: so answers
 * are matched by what they are, and of those of a kind the first is for the first.
 */
export class Unanswered {
  readonly #awaited: number[] = [];
  #asked = 0;
  #answered = 0;
  /** So many answers prove that all has been done which isn't answered. */
  #proof = 0;

  /** @param answer the method id of the answer that is awaited */
  ask(answer: number): void {
    this.#awaited.push(answer);
    this.#asked++;
  }

  /**
   * A method that isn't answered has been sent.
   * @returns what {@link proves} takes: when one more is answered than has been asked by now, one that was sent later is
   */
  tell(): number {
    this.#proof = this.#asked + 1;
    return this.#proof;
  }

  /** @returns false when nobody has asked for that */
  answer(answer: number): boolean {
    const at = this.#awaited.indexOf(answer);
    if (at < 0) return false;
    if (at === 0) this.#awaited.shift();
    else this.#awaited.splice(at, 1);
    this.#answered++;
    return true;
  }

  /** Whether the broker has done what {@link tell} gave this for. */
  proves(proof: number): boolean {
    return this.#answered >= proof;
  }

  get isAsking(): boolean {
    return this.#awaited.length > 0;
  }

  /** Whether the broker has provably done all that was sent. */
  get isSettled(): boolean {
    return !this.isAsking && this.proves(this.#proof);
  }
}
