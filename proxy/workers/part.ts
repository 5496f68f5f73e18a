import { startAdmin } from '../../common/admin.ts';

/** Which of the workers a process is. */
export interface Seat {
  /** From 1 on. */
  readonly index: number;
  readonly count: number;
}

/** What a process is of a proxy, and what of it is another's. */
export interface Part {
  readonly seat: Seat;
  /** Serves the admin port. */
  readonly serveAdmin: typeof startAdmin;
}

/** A proxy of one process. */
export const WHOLE: Part = { seat: { index: 1, count: 1 }, serveAdmin: startAdmin };
