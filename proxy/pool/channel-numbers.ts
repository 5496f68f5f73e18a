/**
 * The channel numbers of one connection: which are free, and which are open at the broker and nobody's. The others belong
 * to somebody, or were lost with what the broker never answered.
 */
export class ChannelNumbers {
  readonly #max: number;
  /** Open and nobody's, the one used last at the end. */
  readonly #idle: number[] = [];
  /** Of idle numbers on which the broker has delivered: its latest delivery tag, since it goes on from there. */
  readonly #delivered = new Map<number, number>();
  /** All that aren't free. */
  readonly #taken = new Set<number>();
  /** No number below this one is free. */
  #lowest = 1;

  /** @param max the highest number */
  constructor(max: number) {
    this.#max = max;
  }

  get idle(): number {
    return this.#idle.length;
  }

  /** How many can be taken. */
  get room(): number {
    return this.#idle.length + this.#max - this.#taken.size;
  }

  /**
   * Takes the idle number that was used last; 0: there is none.
   * @param anyTag whether the broker's delivery tags may begin above 1 there
   */
  takeIdle(anyTag: boolean): number {
    const at = this.#idle.findLastIndex((number) => anyTag || !this.#delivered.has(number));
    return at === -1 ? 0 : this.#idle.splice(at, 1)[0]!;
  }

  /** The broker's latest delivery tag on a number that was idle and is taken now; 0 for none. */
  takeDelivered(number: number): number {
    const last = this.#delivered.get(number) ?? 0;
    this.#delivered.delete(number);
    return last;
  }

  /** Takes the lowest free number; 0: there is none. */
  takeFree(): number {
    while (this.#taken.has(this.#lowest)) this.#lowest++;
    if (this.#lowest > this.#max) return 0;
    this.#taken.add(this.#lowest);
    return this.#lowest++;
  }

  /** A taken number is nobody's any more, and open. @param delivered the broker's latest delivery tag there, 0 for none */
  rest(number: number, delivered: number): void {
    this.#idle.push(number);
    if (delivered > 0) this.#delivered.set(number, delivered);
  }

  /** A taken number is closed. */
  free(number: number): void {
    this.#taken.delete(number);
    this.#lowest = Math.min(this.#lowest, number);
  }

  /** Frees an idle number, which the broker closed. @returns whether it was idle */
  drop(number: number): boolean {
    const at = this.#idle.indexOf(number);
    if (at === -1) return false;
    this.#idle.splice(at, 1);
    this.#delivered.delete(number);
    this.free(number);
    return true;
  }
}
