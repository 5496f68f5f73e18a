import {
  FRAME_BODY,
  FRAME_END,
  FRAME_HEADER,
  FRAME_HEADER_SIZE,
  FRAME_METHOD,
  FRAME_OVERHEAD,
} from './constants.ts';

/** Octets of a method frame up to its arguments. */
const METHOD_HEAD = FRAME_HEADER_SIZE + 4;

/**
 * Whole messages of one channel that lie one behind the other: a method of class basic, its content header and bodies each.
 * It looks at what {@link FrameScanner} looks at, in one loop without a state, which costs an eighth of it; at the first
 * frame that isn't so, or isn't whole, it stops, and the scanner says what that is. Body sizes aren't added up.
 */
export class MessageRun {
  /** How many there are, and how many body frames they have in all. */
  messages = 0;
  bodies = 0;
  /** Behind the last one. */
  end = 0;
  /** Class * 65536 + method. */
  readonly #method: number;
  #view: DataView = new DataView(new ArrayBuffer(0));
  #octets: Uint8Array = new Uint8Array(0);

  /** @param method that begins a message (class * 65536 + method) */
  constructor(method: number) {
    this.#method = method;
  }

  /** Whether such a method frame seems to begin at `start`. */
  begins(octets: Uint8Array, start: number, end: number): boolean {
    if (end - start <= METHOD_HEAD || octets[start] !== FRAME_METHOD) return false;
    // Not by a view of the buffer: most chunks of most sockets begin with something else, and each view is garbage then.
    const at = start + FRAME_HEADER_SIZE;
    const method = (octets[at]! << 24) | (octets[at + 1]! << 16) | (octets[at + 2]! << 8) | octets[at + 3]!;
    return method === this.#method;
  }

  /** All of the buffer that such octets lie in, and {@link octets} after that: sockets read into the same one again and again. */
  protected viewOf({ buffer }: Uint8Array): DataView {
    if (this.#view.buffer !== buffer) {
      this.#view = new DataView(buffer);
      this.#octets = new Uint8Array(buffer);
    }
    return this.#view;
  }

  /** All of the buffer that was looked at last. */
  protected get octets(): Uint8Array {
    return this.#octets;
  }

  /**
   * Looks for messages from `start` on, where a frame begins.
   * @param maxPayload octets of the largest payload; larger ones end the run
   * @returns whether there are any
   */
  find(octets: Uint8Array, start: number, end: number, maxPayload: number): boolean {
    const view = this.viewOf(octets);
    const offset = octets.byteOffset;
    const limit = offset + end;
    const method = this.#method;
    const channel = view.getUint16(offset + start + 1);
    // Type and channel of a frame, as its first three octets.
    const isMethod = (FRAME_METHOD << 16) | channel;
    const isHeader = (FRAME_HEADER << 16) | channel;
    const isBody = (FRAME_BODY << 16) | channel;
    let messages = 0;
    let bodies = 0;
    let at = offset + start;
    while (limit - at > METHOD_HEAD && view.getUint32(at) >>> 8 === isMethod) {
      // Read as a signed number, a size of 2^31 and more is below 0.
      let size = view.getInt32(at + 3);
      if (size < 4 || size > maxPayload || view.getInt32(at + FRAME_HEADER_SIZE) !== method) break;
      const header = at + size + FRAME_OVERHEAD;
      if (limit - header < FRAME_OVERHEAD || view.getUint8(header - 1) !== FRAME_END) break;
      if (view.getUint32(header) >>> 8 !== isHeader) break;
      size = view.getInt32(header + 3);
      let next = header + size + FRAME_OVERHEAD;
      if (size < 0 || size > maxPayload || next > limit || view.getUint8(next - 1) !== FRAME_END) break;
      let count = 0;
      while (limit - next >= FRAME_OVERHEAD && view.getUint32(next) >>> 8 === isBody) {
        size = view.getInt32(next + 3);
        const behind = next + size + FRAME_OVERHEAD;
        if (size < 0 || size > maxPayload || behind > limit || view.getUint8(behind - 1) !== FRAME_END) break;
        next = behind;
        count++;
      }
      if (!this.accepts(view, this.#octets, at, header, next)) break;
      messages++;
      bodies += count;
      at = next;
    }
    this.messages = messages;
    this.bodies = bodies;
    this.end = at - offset;
    return messages > 0;
  }

  /**
   * Whether a message belongs to the run: one that doesn't ends it. All positions are those of the whole buffer.
   * @param octets the same as the view  @param start where its method frame begins
   * @param header where its content header begins  @param end behind its last body
   */
  protected accepts(
    _view: DataView,
    _octets: Uint8Array,
    _start: number,
    _header: number,
    _end: number,
  ): boolean {
    return true;
  }
}

/**
 * Puts a channel's number into all frames of a message that MessageRun has found whole, in place.
 * @param start where its method frame begins  @param header where its content header begins  @param end behind its last body
 */
export function renumberMessage(
  view: DataView,
  start: number,
  header: number,
  end: number,
  channel: number,
): void {
  view.setUint16(start + 1, channel);
  for (let at = header; at < end; at += view.getInt32(at + 3) + FRAME_OVERHEAD)
    view.setUint16(at + 1, channel);
}
