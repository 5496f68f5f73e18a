/** A broker's version as far as rules depend on it. */
export interface BrokerVersion {
  readonly major: number;
  readonly minor: number;
}

/** The newest version that the rules know, and what a broker that doesn't tell its version is taken for. */
export const NEWEST: BrokerVersion = { major: 4, minor: 3 };

/** Reads `4.3`, `4.3.6` or `4.3.6+build`; undefined for anything else. */
export function parseVersion(text: string): BrokerVersion | undefined {
  const match = /^(\d{1,4})\.(\d{1,4})(?:[.+-]|$)/.exec(text);
  return match === null ? undefined : { major: Number(match[1]), minor: Number(match[2]) };
}

/** Negative, 0 or positive: `one` is older than, the same minor as, or newer than `other`. */
export function compareVersions(one: BrokerVersion, other: BrokerVersion): number {
  return one.major - other.major || one.minor - other.minor;
}

/** Whether `version` is `major.minor` or newer. */
export function isAtLeast(version: BrokerVersion, major: number, minor: number): boolean {
  return compareVersions(version, { major, minor }) >= 0;
}

/** As {@link parseVersion} reads it. */
export function formatVersion({ major, minor }: BrokerVersion): string {
  return `${major}.${minor}`;
}
