import { FRAME_METHOD, FRAME_OVERHEAD } from './constants.ts';
import { WireError } from './error.ts';
import type { MessageRun } from './message-run.ts';
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
  /**
   * Takes whole messages that lie in the chunk from `start` on, where a frame begins, in place of being shown their frames.
   * @param maxPayload octets of the largest payload that there may be
   * @returns those that it has taken; undefined: none
   */
  messages?(octets: Uint8Array, start: number, end: number, maxPayload: number): MessageRun | undefined;
}

export interface CutterOptions {
  readonly tally?: FrameTally;
  readonly reuses?: boolean;
  readonly allocate?: (length: number) => Uint8Array;
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
  /** The array of the frame that a chunk's end has cut, how long the frame will be, and how much of it is there. */
  #cut: Uint8Array | undefined;
  #length = 0;
  #filled = 0;
  readonly #reuses: boolean;
  readonly #allocate: (length: number) => Uint8Array;
  /** The array of the last one, for the next. */
  #spare: Uint8Array | undefined;

  /**
   * @param frameMax octets of the longest frame, as {@link FrameScanner} reads it; above 0
   * @param options tally: as the scanner's · reuses: the array of a frame that was cut is valid for the sink's call only ·
   *   allocate: makes such an array, of at least so many octets
   * @throws RangeError when it is 0: nothing would bound the memory
   */
  constructor(frameMax: number, sink: FrameSink, options: CutterOptions = {}) {
    this.#scanner = new FrameScanner(bounded(frameMax), options.tally);
    this.#sink = sink;
    this.#reuses = options.reuses === true;
    this.#allocate = options.allocate ?? ((length) => new Uint8Array(length));
  }

  /** To be called within the sink's call: the array of the frame that it is shown is the sink's, though arrays are reused. */
  keepCut(): void {
    this.#spare = undefined;
  }

  /** Sets frame_max for the frames that follow. @throws RangeError as the constructor does */
  setFrameMax(frameMax: number): void {
    this.#scanner.setFrameMax(bounded(frameMax));
  }

  /** Whether no frame is under way. */
  get atBoundary(): boolean {
    return this.#scanner.atBoundary;
  }

  /** Whether a frame may begin now: none is under way, the stream is followed, and shown. */
  get takesMore(): boolean {
    return this.#scanner.atBoundary && this.error === undefined && !this.#isStopped;
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
    if (scanner.atBoundary) this.#skip(octets, end);
    let frameStart = scanner.pos;
    while (!this.#isStopped && this.error === undefined) {
      switch (scanner.next(octets, end)) {
        case SCAN.header: {
          frameStart = scanner.pos - (scanner.headLength - scanner.held);
          const length = scanner.size + FRAME_OVERHEAD;
          if (scanner.held > 0 || frameStart + length > end) {
            this.#cut = this.#arrayFor(length);
            this.#length = length;
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
            if (this.#reuses) this.#spare = cut;
            this.#sink.frame(type, channel, method, cut, 0, this.#length);
          }
          this.#skip(octets, end);
          break;
        }
        case SCAN.more:
          return;
        default:
          this.error = scanner.error;
      }
    }
  }

  /** Goes on behind messages that the sink takes whole, between two frames. */
  #skip(octets: Uint8Array, end: number): void {
    const scanner = this.#scanner;
    while (!this.#isStopped && octets[scanner.pos] === FRAME_METHOD) {
      const taken = this.#sink.messages?.(octets, scanner.pos, end, scanner.maxPayload);
      if (taken === undefined) return;
      scanner.skip(taken);
    }
  }

  #arrayFor(length: number): Uint8Array {
    const spare = this.#spare;
    this.#spare = undefined;
    return spare !== undefined && spare.length >= length ? spare : this.#allocate(length);
  }

  #collect(octets: Uint8Array, start: number, end: number): void {
    const cut = this.#cut!;
    const take = Math.min(this.#length - this.#filled, end - start);
    cut.set(octets.subarray(start, start + take), this.#filled);
    this.#filled += take;
  }
}

function bounded(frameMax: number): number {
  if (frameMax > 0) return frameMax;
  throw new RangeError('frame_max has to be bounded');
}
