import { Distribution } from '../../common/distribution.ts';

/** Seconds: what passing a chunk on may take, from no work at all to an event loop that stands still. */
const BOUNDS = [
  0.000_01, 0.000_025, 0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1,
];

/** One chunk in so many is timed, a power of two: the clock costs more than a small chunk's way through the proxy. */
export const SAMPLED_ONE_IN = 256;

/** How long chunks take through the proxy, of some of them. */
export class LatencySampler {
  readonly seconds = new Distribution(BOUNDS);
  #chunks = 0;

  /** A chunk was read. @returns for {@link end} */
  begin(): number {
    this.#chunks = (this.#chunks + 1) & (SAMPLED_ONE_IN - 1);
    return this.#chunks === 0 ? performance.now() : 0;
  }

  /** It has been handed to the socket, or is held. @param began what {@link begin} answered */
  end(began: number): void {
    if (began !== 0) this.seconds.observe((performance.now() - began) / 1000);
  }
}
