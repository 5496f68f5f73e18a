/**
 * Octets of what is handed out: a frame of the usual frame_max fits into the last but one, a whole read buffer into the last.
 * Smaller ones aren't worth it.
 */
const SIZES = [1, 4, 17, 34, 68, 136, 272].map((kib) => kib * 1024);

const SMALLEST = 256;

/** What is kept for the next at most, in octets. */
const KEPT = 4 * 1024 * 1024;

/**
 * Arrays for large parts of messages that wait until the message is whole. Fresh ones cost more than all else that is done
 * for such a message: they are filled with zeros, and the garbage collector is sent for them again and again.
 */
class Blocks {
  readonly #free: Uint8Array[][] = SIZES.map(() => []);
  readonly #own = new WeakSet<ArrayBufferLike>();
  #kept = 0;

  /** An array of at least so many octets, with anything in it. */
  take(length: number): Uint8Array {
    const at = length < SMALLEST ? -1 : SIZES.findIndex((size) => size >= length);
    if (at < 0) return new Uint8Array(length);
    const free = this.#free[at]!.pop();
    if (free !== undefined) {
      this.#kept -= free.length;
      return free;
    }
    const block = Buffer.allocUnsafeSlow(SIZES[at]!);
    this.#own.add(block.buffer);
    return block;
  }

  /** The same octets in an array of {@link take}. */
  copy(octets: Uint8Array): Uint8Array {
    const block = this.take(octets.length);
    block.set(octets);
    return block.length === octets.length ? block : block.subarray(0, octets.length);
  }

  /** Whether the octets lie in an array of {@link take} that may be given back. */
  owns({ buffer }: Uint8Array): boolean {
    return buffer.byteLength > SMALLEST && this.#own.has(buffer);
  }

  /** Octets that {@link owns} knows are needed no more. */
  give({ buffer }: Uint8Array): void {
    const size = buffer.byteLength;
    if (this.#kept + size > KEPT) return;
    this.#kept += size;
    this.#free[SIZES.indexOf(size)]!.push(new Uint8Array(buffer));
  }
}

export const blocks = new Blocks();

/** Has a FrameCutter collect what it has to in them. */
export const IN_BLOCKS = { allocate: (length: number): Uint8Array => blocks.take(length) } as const;
