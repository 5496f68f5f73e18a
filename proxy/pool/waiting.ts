/** Something asked for that is answered once, unless it is cancelled before. */
export interface Request {
  cancel(): void;
}

/** Of what was answered at once. */
export const ANSWERED: Request = { cancel: () => {} };

/** One that waits. */
export interface Waiting {
  /** Its place among all that wait for anything: who came first has the lowest. */
  readonly arrival: number;
  /** Milliseconds of the pool's clock. */
  readonly deadline: number;
  /** It is not to be answered any more. */
  cancelled?: boolean;
}

/** Those to be answered, in turn: what the answer to one does may cancel others. */
export function* still<T extends Waiting>(all: readonly T[]): Iterable<T> {
  for (const one of all) if (one.cancelled !== true) yield one;
}

/** The first of those that wait in order of arrival. */
export function first<T extends Waiting>(waiting: ReadonlySet<T>): T | undefined {
  return waiting.values().next().value;
}

/** Takes those out whose deadline is over; all wait equally long, so that they are the first ones. */
export function takeExpired<T extends Waiting>(waiting: Set<T>, now: number): T[] {
  const expired: T[] = [];
  for (const one of waiting) {
    if (one.deadline > now) break;
    expired.push(one);
  }
  for (const one of expired) waiting.delete(one);
  return expired;
}

/** Takes all out. */
export function takeAll<T>(waiting: Set<T>): T[] {
  const all = [...waiting];
  waiting.clear();
  return all;
}
