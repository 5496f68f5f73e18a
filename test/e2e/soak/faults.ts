/** How many faults of one kind are told one by one. */
const TOLD = 5;

/** message: lost, damaged, doubled or crossed; client: lost or stuck without a cause; event: one that failed; log: of a proxy. */
export type FaultKind = 'message' | 'client' | 'event' | 'log';

/** What went wrong, of all kinds: the first few of each, and how many there were. */
export class Faults {
  readonly #texts = new Map<FaultKind, string[]>();
  readonly #counts = new Map<FaultKind, number>();
  readonly #tell: (line: string) => void;

  /** @param tell told the first few when they happen */
  constructor(tell: (line: string) => void = () => {}) {
    this.#tell = tell;
  }

  note(kind: FaultKind, text: string): void {
    const count = this.count(kind) + 1;
    this.#counts.set(kind, count);
    if (count > TOLD) return;
    this.#texts.set(kind, [...this.first(kind), text]);
    this.#tell(`FAULT (${kind}): ${text}`);
  }

  count(kind: FaultKind): number {
    return this.#counts.get(kind) ?? 0;
  }

  /** The first five. */
  first(kind: FaultKind): readonly string[] {
    return this.#texts.get(kind) ?? [];
  }
}
