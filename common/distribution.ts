/** Values counted by buckets, in plain fields, to be read as a histogram when scraped. */
export class Distribution {
  /** Upper bounds of the buckets, each included in its bucket, in rising order. */
  readonly bounds: readonly number[];
  /** How many values are in each bucket alone; the last one takes what is above all bounds. */
  readonly counts: Float64Array;
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const { bounds, counts } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]!) bucket++;
    counts[bucket]!++;
    this.sum += value;
  }
}
