import type { ChannelOwner } from './upstream-channel.ts';

/** Octets below which a run is copied for its owner: cheaper than to keep a whole read buffer for it. */
const SMALL = 16 * 1024;

const NOTHING = new Uint8Array(0);

/**
 * Hands frames to their owners: frames of one owner that lie one behind the other are handed over together.
 */
export class Runs {
  /** The read buffer under way, where it will be read into again. */
  lent: Uint8Array | undefined;

  readonly #failed: (owner: ChannelOwner, error: unknown) => void;
  #owner: ChannelOwner | undefined;
  #octets: Uint8Array = NOTHING;
  #start = 0;
  #end = 0;

  /** @param failed told of an owner that threw */
  constructor(failed: (owner: ChannelOwner, error: unknown) => void) {
    this.#failed = failed;
  }

  /** Adds a whole frame, type to end octet. */
  add(owner: ChannelOwner, octets: Uint8Array, start: number, end: number): void {
    if (owner === this.#owner && octets === this.#octets && start === this.#end) {
      this.#end = end;
      return;
    }
    this.flush();
    this.#owner = owner;
    this.#octets = octets;
    this.#start = start;
    this.#end = end;
  }

  /** Hands over what was added; to be called before the buffer is read into again. */
  flush(): void {
    const owner = this.#owner;
    if (owner === undefined) return;
    const octets = this.#octets;
    const start = this.#start;
    const end = this.#end;
    this.#owner = undefined;
    this.#octets = NOTHING;
    try {
      if (octets !== this.lent) owner.receive(octets, start, end, false);
      else if (end - start >= SMALL) owner.receive(octets, start, end, true);
      else owner.receive(Buffer.from(octets.subarray(start, end)), 0, end - start, false);
    } catch (error) {
      this.#failed(owner, error);
    }
  }
}
