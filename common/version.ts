/** A version of RabbitMQ as targets have it: two or three numbers. */
export interface Version {
  readonly major: number;
  readonly minor: number;
  /** undefined in 4.2, which stands for any patch of it. */
  readonly patch: number | undefined;
}

/** Reads 4.2 or 4.2.1; undefined for every other text. */
export function parseVersion(text: string | undefined): Version | undefined {
  const match = /^(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?$/.exec(text ?? '');
  if (match === null) return undefined;
  const [major = 0, minor = 0, patch] = match
    .slice(1)
    .map((part) => (part === undefined ? part : Number(part)));
  return { major, minor, patch };
}

/** Below, at or above zero as `a` is older than, the same as or newer than `b`; 4.2 and 4.2.1 count as the same. */
export function compareVersions(a: Version, b: Version): number {
  const patches = a.patch === undefined || b.patch === undefined ? 0 : a.patch - b.patch;
  return a.major - b.major || a.minor - b.minor || patches;
}
