import type { ProxyErrorCode } from './errors.ts';

/** Lines of the log about one error code within a second, at most. */
const A_SECOND = 10;

interface Second {
  beganAt: number;
  lines: number;
  left: number;
}

/** Whether the log has a line for a client that was never let in: a flood of such clients must not be a flood of lines. */
export class StrangerLines {
  readonly #seconds = new Map<ProxyErrorCode, Second>();

  /**
   * @param now milliseconds of performance.now()
   * @returns undefined: no line; else how many have been left out since the last one
   */
  take(code: ProxyErrorCode, now: number): number | undefined {
    let second = this.#seconds.get(code);
    if (second === undefined) {
      second = { beganAt: now, lines: 0, left: 0 };
      this.#seconds.set(code, second);
    } else if (now - second.beganAt >= 1000) {
      second.beganAt = now;
      second.lines = 0;
    }
    if (second.lines >= A_SECOND) {
      second.left++;
      return undefined;
    }
    second.lines++;
    const { left } = second;
    second.left = 0;
    return left;
  }
}
