/** Writes a line of the result. */
export function out(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** The number in the middle, or the mean of the two there. */
export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return (sorted[Math.floor(half - 0.5)]! + sorted[Math.ceil(half - 0.5)]!) / 2;
}

/** The smallest of the numbers that so large a part of them doesn't exceed. */
export function quantile(numbers: readonly number[], part: number): number {
  return numbers.toSorted((a, b) => a - b)[Math.ceil(numbers.length * part) - 1]!;
}

/** Runs a benchmark, and ends all that it started however it ends: by itself, an error, SIGINT or SIGTERM. */
export async function runToEnd(run: (cleanup: AsyncDisposableStack) => Promise<void>): Promise<void> {
  await using cleanup = new AsyncDisposableStack();
  const interrupted = new Promise<never>((_, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => reject(new Error(`interrupted by ${signal}`)));
    }
  });
  await Promise.race([run(cleanup), interrupted]);
}
