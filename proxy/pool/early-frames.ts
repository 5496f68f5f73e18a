import { channelOf, methodOf } from '../../amqp/method.ts';
import type { FrameSink } from '../../amqp/frames.ts';
import type { Source } from '../outlet.ts';

/** Whole frames of a client that came while it waits for the pool, in order; nothing more is read from it meanwhile. */
export class EarlyFrames {
  readonly #holder: Source;
  readonly #frames: Uint8Array[] = [];

  /** @param holder holds the client back while there are any */
  constructor(holder: Source) {
    this.#holder = holder;
  }

  add(octets: Uint8Array, start: number, end: number): void {
    this.#frames.push(Uint8Array.from(octets.subarray(start, end)));
    this.#holder.pause();
  }

  get waits(): boolean {
    return this.#frames.length > 0;
  }

  /** Shows them: those that have to wait again are added again. */
  show(sink: Pick<FrameSink, 'frame'>): void {
    for (const frame of this.#frames.splice(0))
      sink.frame(frame[0]!, channelOf(frame), methodOf(frame), frame, 0, frame.length);
  }

  /** Lets the client flow, unless some of them wait again. */
  proceed(): void {
    if (!this.waits) this.#holder.resume();
  }

  /** Forgets them: the client is gone. */
  clear(): void {
    this.#frames.length = 0;
    this.#holder.resume();
  }
}
