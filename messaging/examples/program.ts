/** Runs the part of a program that its first argument names; without one all of them, in their order. */
export async function run(parts: Readonly<Record<string, () => Promise<void>>>): Promise<void> {
  const [wanted] = process.argv.slice(2);
  if (wanted !== undefined && !Object.hasOwn(parts, wanted)) {
    console.error(`${wanted}: expected ${Object.keys(parts).join(' or ')}, or nothing for all of it`);
    process.exitCode = 1;
    return;
  }
  for (const [name, part] of Object.entries(parts)) if (wanted === undefined || wanted === name) await part();
}

/** Resolves when the program is told to end. */
export function untilTold(): Promise<void> {
  return new Promise((resolve) => {
    process.once('SIGTERM', () => resolve());
    process.once('SIGINT', () => resolve());
  });
}

/** Says of messages that were published together which were not confirmed. */
export function tellFailures(results: readonly PromiseSettledResult<unknown>[]): void {
  for (const result of results) {
    if (result.status === 'fulfilled') continue;
    console.error(String(result.reason));
    process.exitCode = 1;
  }
}
