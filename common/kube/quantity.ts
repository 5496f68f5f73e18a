import type { Json } from './types.ts';

/** Factors of the suffixes of k8s.io/apimachinery/pkg/api/resource.Quantity. */
const FACTORS: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/**
 * The value of a quantity such as "500m", "1.5Gi", "1e3" or 2, rounded to 9 significant decimals below one so that
 * equal quantities are equal numbers; undefined for what is no quantity of zero or more.
 */
export function quantity(value: Json | undefined): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) && value >= 0 ? value : undefined;
  if (typeof value !== 'string') return undefined;
  const match = /^\+?(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i)?)$/.exec(value);
  if (match === null) return undefined;
  const factor = match[2] === undefined ? FACTORS[match[3] ?? '']! : 10 ** Number(match[2]);
  return Number((Number(match[1]) * factor).toPrecision(15));
}
