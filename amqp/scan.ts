import {
  FRAME_BODY,
  FRAME_END,
  FRAME_HEADER,
  FRAME_HEADER_SIZE,
  FRAME_HEARTBEAT,
  FRAME_METHOD,
  FRAME_OVERHEAD,
  REPLY,
} from './constants.ts';
import { WireError } from './error.ts';
import type { MessageRun } from './message-run.ts';
import type { FrameTally } from './tally.ts';

/** What {@link FrameScanner.next} met. */
export const SCAN = {
  /** The chunk is used up; the frame, if one has begun, goes on in the next chunk. */
  more: 0,
  /** A frame's header is known (for a method frame also its class and method). */
  header: 1,
  /** The frame is complete: `pos` is right behind its end octet. */
  end: 2,
  /** The stream can't be followed any further: see `error`. */
  corrupt: 3,
} as const;

export type ScanEvent = (typeof SCAN)[keyof typeof SCAN];

const METHOD_HEAD = FRAME_HEADER_SIZE + 4;
const NO_HEAD = new Uint8Array(0);
const CLASS_CONNECTION = 10;

/**
 * Follows a stream of AMQP 0-9-1 frames (section 4.2.3) over chunks that are cut anywhere. It reads frame headers
 * and end octets only, copies nothing but a header that a chunk's end cuts in two (10 octets at most), and
 * allocates nothing per frame.
 *
 * Use: `start(chunk offset)`, then `next(chunk, end)` until it answers `SCAN.more`.
 */
export class FrameScanner {
  /** The frame's type, channel and payload size in octets; valid from `SCAN.header` on. */
  type = 0;
  channel = 0;
  size = 0;
  /** The method's class * 65536 + method, 0 for frames that aren't methods. */
  method = 0;
  /** The position in the current chunk, behind all that has been scanned. */
  pos = 0;
  /** The header's octets so far, where it came in more than one chunk; made when one first does: few connections need it. */
  head: Uint8Array = NO_HEAD;
  /** How many octets of `head` came from earlier chunks: they have been seen by nobody but the scanner. */
  held = 0;
  /** Why the stream is corrupt. */
  error: WireError | undefined;
  /** The error is a frame above frame_max. */
  tooLarge = false;
  /** Frames that came to their end. */
  frames = 0;

  #maxPayload: number;
  /** Octets still to come of the current frame, the end octet included; 0 between frames. */
  #left = 0;
  #headDone = false;

  readonly #tally: FrameTally | undefined;

  /**
   * @param frameMax frame_max of connection.tune in octets; 0 is no limit. See {@link maxPayload}.
   * @param tally where frames that end are counted, too
   */
  constructor(frameMax: number, tally?: FrameTally) {
    this.#maxPayload = maxPayload(frameMax);
    this.#tally = tally;
  }

  /** Sets the negotiated frame_max (octets; 0 is no limit) for the frames that follow. */
  setFrameMax(frameMax: number): void {
    this.#maxPayload = maxPayload(frameMax);
  }

  /** True between two frames: octets that are put into the stream here break nothing. */
  get atBoundary(): boolean {
    return !this.#headDone && this.held === 0;
  }

  /** Octets of a header that isn't complete yet: nobody knows so far what frame they belong to. */
  get heldBack(): number {
    return this.#headDone ? 0 : this.held;
  }

  /** Octets that had to be read before `SCAN.header`: the frame header, and a method's class and method ids. */
  get headLength(): number {
    return this.type === FRAME_METHOD ? METHOD_HEAD : FRAME_HEADER_SIZE;
  }

  /** Octets of the largest payload. */
  get maxPayload(): number {
    return this.#maxPayload;
  }

  /** Goes on behind whole messages that begin at {@link pos}, which is between two frames. */
  skip({ messages, bodies, end }: MessageRun): void {
    this.pos = end;
    this.frames += 2 * messages + bodies;
    this.#tally?.addMessages(messages, bodies);
  }

  /** Begins a chunk at this offset. */
  start(offset: number): void {
    this.pos = offset;
  }

  /**
   * Goes on to the next event in `chunk`, of which octets up to `end` (exclusive) are valid.
   * After `SCAN.corrupt` it answers `SCAN.corrupt` for ever.
   */
  next(chunk: Uint8Array, end: number): ScanEvent {
    if (this.error !== undefined) return SCAN.corrupt;
    if (this.#headDone) return this.#payload(chunk, end);
    if (this.held > 0) return this.#splitHead(chunk, end);
    const { pos } = this;
    const available = end - pos;
    if (available >= METHOD_HEAD) {
      const type = chunk[pos]!;
      this.pos = pos + (type === FRAME_METHOD ? METHOD_HEAD : FRAME_HEADER_SIZE);
      return this.#takeHead(
        type,
        (chunk[pos + 1]! << 8) | chunk[pos + 2]!,
        ((chunk[pos + 3]! << 24) | (chunk[pos + 4]! << 16) | (chunk[pos + 5]! << 8) | chunk[pos + 6]!) >>> 0,
        (chunk[pos + 7]! << 24) | (chunk[pos + 8]! << 16) | (chunk[pos + 9]! << 8) | chunk[pos + 10]!,
      );
    }
    // Too little to know what it is: a bad type is told at once all the same, so that noise isn't waited for.
    if (available === 0) return SCAN.more;
    const type = chunk[pos]!;
    if (!isFrameType(type)) {
      this.method = 0;
      return this.#corrupt(REPLY.frameError, badType(type));
    }
    if (this.head === NO_HEAD) this.head = new Uint8Array(METHOD_HEAD);
    this.head[0] = type;
    return this.#splitHead(chunk, end);
  }

  /** A header that began in an earlier chunk: collect the rest of it in `head`. */
  #splitHead(chunk: Uint8Array, end: number): ScanEvent {
    const { head, held } = this;
    const needed = head[0] === FRAME_METHOD ? METHOD_HEAD : FRAME_HEADER_SIZE;
    const take = Math.min(needed - held, end - this.pos);
    for (let i = 0; i < take; i++) head[held + i] = chunk[this.pos + i]!;
    const size = ((head[3]! << 24) | (head[4]! << 16) | (head[5]! << 8) | head[6]!) >>> 0;
    // A method frame of a wrong size is told without its ids: there may never be so many octets.
    const wrong = held + take >= FRAME_HEADER_SIZE && (size < 4 || size > this.#maxPayload);
    if (held + take < needed && !wrong) {
      this.held += take;
      this.pos += take;
      return SCAN.more;
    }
    const event = this.#takeHead(
      head[0]!,
      (head[1]! << 8) | head[2]!,
      size,
      (head[7]! << 24) | (head[8]! << 16) | (head[9]! << 8) | head[10]!,
    );
    if (event === SCAN.header) this.pos += take;
    return event;
  }

  /** Numbers and not octets, so that the arrays of the two callers don't slow each other's access down. */
  #takeHead(type: number, channel: number, size: number, ids: number): ScanEvent {
    this.type = type;
    this.channel = channel;
    this.size = size;
    this.method = 0;
    if (size > this.#maxPayload) return this.#tooLarge(size);
    switch (type) {
      case FRAME_METHOD:
        if (size < 4) {
          return this.#corrupt(REPLY.frameError, `method frame with a payload of ${size} octets`);
        }
        this.method = ids >>> 0;
        if ((ids >>> 16 === CLASS_CONNECTION) !== (channel === 0)) {
          const text = `method ${ids >>> 16}.${ids & 0xffff} on channel ${channel}`;
          return this.#corrupt(REPLY.commandInvalid, text);
        }
        this.#left = size - 3;
        break;
      case FRAME_HEADER:
      case FRAME_BODY:
        if (channel === 0) return this.#corrupt(REPLY.channelError, 'content frame on channel 0');
        this.#left = size + 1;
        break;
      case FRAME_HEARTBEAT:
        if (channel !== 0 || size !== 0) {
          const text = `heartbeat frame on channel ${channel} with ${size} octets`;
          return this.#corrupt(REPLY.frameError, text);
        }
        this.#left = 1;
        break;
      default:
        return this.#corrupt(REPLY.frameError, badType(type));
    }
    this.#headDone = true;
    return SCAN.header;
  }

  #tooLarge(size: number): ScanEvent {
    if (!isFrameType(this.type)) return this.#corrupt(REPLY.frameError, badType(this.type));
    this.tooLarge = true;
    const text = `frame of ${size + FRAME_OVERHEAD} octets exceeds frame_max ${this.#maxPayload}`;
    return this.#corrupt(REPLY.frameError, text);
  }

  #payload(chunk: Uint8Array, end: number): ScanEvent {
    const available = end - this.pos;
    if (available < this.#left) {
      this.#left -= available;
      this.pos = end;
      return SCAN.more;
    }
    const last = this.pos + this.#left - 1;
    if (chunk[last] !== FRAME_END) {
      const text = `frame end octet is 0x${chunk[last]!.toString(16).padStart(2, '0')} and not 0xce`;
      return this.#corrupt(REPLY.frameError, text);
    }
    this.pos = last + 1;
    this.#left = 0;
    this.#headDone = false;
    this.held = 0;
    this.frames++;
    this.#tally?.add(this.type);
    return SCAN.end;
  }

  #corrupt(replyCode: number, text: string): ScanEvent {
    this.error = new WireError(replyCode, text, this.method);
    return SCAN.corrupt;
  }
}

function isFrameType(type: number): boolean {
  return type === FRAME_METHOD || type === FRAME_HEADER || type === FRAME_BODY || type === FRAME_HEARTBEAT;
}

function badType(type: number): string {
  return `unknown frame type ${type}`;
}

/**
 * The largest payload. By section 4.2.3 frame_max counts a frame's other 8 octets too; brokers take as many more, since
 * clients get it wrong (RabbitMQ 3.10, 4.0 and 4.3, measured), and such clients have to work here as well.
 */
function maxPayload(frameMax: number): number {
  return frameMax === 0 ? 0xffffffff : frameMax;
}
