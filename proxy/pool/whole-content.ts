import type { ChannelState } from './channel-state.ts';

/** Octets that are held of one message; a larger one goes on in pieces, and its channel can't be resumed meanwhile. */
const MOST = 256 * 1024;

/**
 * Holds back the broker's messages of a channel until they are whole: a client that has got the half of one would have to
 * be told of a loss, and can't be resumed.
 */
export class WholeContent {
  readonly #parts: Uint8Array[] = [];
  /** Octets of what is held. */
  size = 0;
  /** The message under way is too large to be held. */
  #passes = false;

  /**
   * Takes a whole frame of the broker, which the state has heard of.
   * @returns what is to be handed over now: the frame alone is told by undefined; empty: nothing
   */
  add(
    state: ChannelState,
    octets: Uint8Array,
    start: number,
    end: number,
  ): readonly Uint8Array[] | undefined {
    if (this.#passes || (!state.midContent && this.size === 0)) {
      this.#passes = state.midContent;
      return undefined;
    }
    const frame = Uint8Array.from(octets.subarray(start, end));
    this.#parts.push(frame);
    this.size += frame.length;
    if (state.midContent && this.size <= MOST) return NONE;
    this.#passes = state.midContent;
    this.size = 0;
    return this.#parts.splice(0);
  }
}

const NONE: readonly Uint8Array[] = [];
