const unitMilliseconds: Readonly<Record<string, number>> = {
  d: 86_400_000,
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
};

/** What RabbitMQ takes as a time to live: it counts in 32 bits. */
export const LONGEST_MS = 2 ** 32 - 1;

/**
 * Reads a duration with its unit, `500ms`, `30s`, `5m`, `24h` or `7d`, as whole milliseconds; undefined for every other text.
 * A bare number is refused, but for 0: half of the world takes it for seconds and the other half for milliseconds.
 */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0;
  const match = /^(\d{1,12}(?:\.\d{1,3})?)(ms|s|m|h|d)$/.exec(text);
  const value = match === null ? NaN : Number(match[1]) * (unitMilliseconds[match[2]!] ?? NaN);
  return value <= LONGEST_MS ? Math.round(value) : undefined;
}

/** Writes a duration in the largest unit that it is a whole number of: 60000 is `1m`, 90000 is `90s`. */
export function formatDuration(milliseconds: number): string {
  const [unit, size] =
    Object.entries(unitMilliseconds).find(([, size]) => milliseconds >= size && milliseconds % size === 0) ??
    ([milliseconds === 0 ? 's' : 'ms', 1] as const);
  return `${milliseconds / size}${unit}`;
}
