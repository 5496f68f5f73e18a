import { type BrokerVersion, compareVersions } from '../version.ts';

/** Whether a broker's version is among those that a rule is for. */
export type VersionRange = (version: BrokerVersion) => boolean;

const COMPARISON = /^(>=|<=|>|<|=)?(\d{1,4})\.(\d{1,4})$/;

/**
 * Reads comparisons of major and minor versions joined by spaces, all of which must hold: `>=4.0 <4.3`; a bare version is
 * that minor version.
 * @throws Error whose message says what is expected
 */
export function parseRange(text: string): VersionRange {
  const comparisons = text
    .trim()
    .split(/\s+/)
    .map((part) => {
      const match = COMPARISON.exec(part);
      if (match === null)
        throw new Error('expected a version such as 4.0, or comparisons joined by spaces such as >=4.0 <4.3');
      const [, operator = '=', major, minor] = match;
      return { operator, version: { major: Number(major), minor: Number(minor) } };
    });
  return (version) =>
    comparisons.every(({ operator, version: other }) => holds(operator, compareVersions(version, other)));
}

function holds(operator: string, order: number): boolean {
  switch (operator) {
    case '>=':
      return order >= 0;
    case '<=':
      return order <= 0;
    case '>':
      return order > 0;
    case '<':
      return order < 0;
    default:
      return order === 0;
  }
}
