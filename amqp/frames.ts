import { FRAME_OVERHEAD } from './constants.ts';
import { WireError } from './error.ts';
import { FrameScanner, SCAN } from './scan.ts';
import type { FrameTally } from './tally.ts';

/** Takes whole frames. */
export interface FrameSink {
  /**
   * One whole frame: `octets` from `start` to `end` (exclusive), type to end octet. It lies in the chunk that was pushed,
   * or in an array of its own where a chunk's end cut it. Throws WireError to end the stream.
   * @param method class * 65536 + method, 0 for frames that aren't methods
   */
  frame(type: number, channel: number, method: number, octets: Uint8Array, start: number, end: number): void;
}

/**
 * Whole frames out of chunks that are cut anywhere. A frame that lies within a chunk is shown where it lies; of others
 * the octets are collected, at most one frame at a time, so that frame_max bounds what is held.
 */
export class FrameCutter {
  /** Why the stream can't be followed any further: the scanner's error, or what the sink threw. */
  error: WireError | undefined;

  readonly #scanner: FrameScanner;
  readonly #sink: FrameSink;
  #isStopped = false;
  /** The frame that a chunk's end has cut, as long as it will be, and how much of it is there. */
  #cut: Uint8Array | undefined;
  #filled = 0;

  /**
   * @param frameMax octets of the longest frame, as {@link FrameScanner} reads it; above 0
   * @param tally as the scanner's
   * @throws RangeError when it is 0: nothing would bound the memory
   */
  constructor(frameMax: number, sink: FrameSink, tally?: FrameTally) {
    this.#scanner = new FrameScanner(bounded(frameMax), tally);
    this.#sink = sink;
  }

  /** Sets frame_max for the frames that follow. @throws RangeError as the constructor does */
  setFrameMax(frameMax: number): void {
    this.#scanner.setFrameMax(bounded(frameMax));
  }

  /** Whether no frame is under way. */
  get atBoundary(): boolean {
    return this.#scanner.atBoundary;
  }

  /** Frames that were whole. */
  get frames(): number {
    return this.#scanner.frames;
  }

  /** Octets that are taken up by a frame which isn't whole yet. */
  get buffered(): number {
    return this.#cut?.length ?? 0;
  }

  /** Shows nothing any more. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Takes the next octets of the stream, `start` to `end` (exclusive), and shows the frames that they complete. */
  push(octets: Uint8Array, start: number, end: number): void {
    if (this.#cut !== undefined) this.#collect(octets, start, end);
    try {
      this.#run(octets, start, end);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.error = error;
    }
  }

  #run(octets: Uint8Array, start: number, end: number): void {
    const scanner = this.#scanner;
    scanner.start(start);
    let frameStart = start;
    while (!this.#isStopped && this.error === undefined) {
      switch (scanner.next(octets, end)) {
        case SCAN.header: {
          frameStart = scanner.pos - (scanner.headLength - scanner.held);
          const length = scanner.size + FRAME_OVERHEAD;
          if (scanner.held > 0 || frameStart + length > end) {
            this.#cut = new Uint8Array(length);
            this.#cut.set(scanner.head.subarray(0, scanner.held));
            this.#filled = scanner.held;
            this.#collect(octets, frameStart, end);
          }
          break;
        }
        case SCAN.end: {
          const { type, channel, method } = scanner;
          const cut = this.#cut;
          if (cut === undefined) {
            this.#sink.frame(type, channel, method, octets, frameStart, scanner.pos);
          } else {
            this.#cut = undefined;
            this.#sink.frame(type, channel, method, cut, 0, cut.length);
          }
          break;
        }
        case SCAN.more:
          return;
        default:
          this.error = scanner.error;
      }
    }
  }

  #collect(octets: Uint8Array, start: number, end: number): void {
    const cut = this.#cut!;
    const take = Math.min(cut.length - this.#filled, end - start);
    cut.set(octets.subarray(start, start + take), this.#filled);
    this.#filled += take;
  }
}

function bounded(frameMax: number): number {
  if (frameMax > 0) return frameMax;
  throw new RangeError('frame_max has to be bounded');
}
