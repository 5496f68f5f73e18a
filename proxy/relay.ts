import { FRAME_BODY, FRAME_HEADER, FRAME_OVERHEAD, METHOD, REPLY } from '../amqp/constants.ts';
import { ContentOrder } from '../amqp/content.ts';
import { WireError } from '../amqp/error.ts';
import { MessageRun } from '../amqp/message-run.ts';
import { FrameScanner, SCAN } from '../amqp/scan.ts';
import type { FrameTally } from '../amqp/tally.ts';
import { splitBody } from '../amqp/splice.ts';

/**
 * The largest frame that is read whole, in octets, whatever frame_max says: what a declare can ever need, and a bound on
 * what a peer can make the proxy hold.
 */
export const MAX_COLLECTED = 1 << 20;

/** What one direction of a connection wants to see and where its octets go. */
export interface RelayHandler {
  /** Whether the peer is a client, whose content must come in order; a broker's is taken as it is. */
  readonly client: boolean;
  /**
   * Whether frames of this method (class * 65536 + method) are wanted whole; asked for each method frame. Its arguments lie
   * in `octets` from `at` on, as far as they are before `end`.
   */
  wants(method: number, channel: number, octets: Uint8Array, at: number, end: number): boolean;
  /**
   * A wanted frame, complete. What it returns goes on in its place: the same array, an edited one, an empty one for
   * nothing; undefined holds the stream until {@link Relay.release}. Throws WireError.
   */
  frame(frame: Uint8Array, method: number, channel: number): Uint8Array | undefined;
  /**
   * Whether messages on this channel, a client's publishes or a broker's deliveries, go on without {@link wants} being asked
   * as long as nothing else comes; asked for each run of them.
   */
  passes(channel: number): boolean;
  /** So many messages have come, and go on. */
  passed(channel: number, messages: number): void;
}

/** Finds messages for all relays: none of them is in the midst of it when another one is. */
const PUBLISHES = new MessageRun(METHOD.basicPublish);
const DELIVERIES = new MessageRun(METHOD.basicDeliver);

/**
 * One direction of a connection. Octets that nobody wants to see go on as they came, in one piece per chunk and without
 * waiting for a frame's end; a wanted method frame is collected, shown and replaced, and a body that is too large for the
 * receiver is cut.
 */
export class Relay {
  readonly scanner: FrameScanner;
  /** Set to pass nothing on behind the current frame; wanted frames are still shown. */
  stopping = false;
  /** Payloads of more octets are too large for the receiver: bodies are cut into several frames. 0 is no limit. */
  splitAbove = 0;
  /** Why the stream can't be followed any further. */
  error: WireError | undefined;
  /** Frames on higher channels are an error (504): what the peer agreed to in connection.tune-ok. */
  channelMax = 0xffff;
  /** The error is a frame that is too large for the receiver and can't be cut: nobody broke the protocol. */
  unsplittable = false;
  /**
   * Whether a client's messages that nobody wants to see are offered to whoever takes the octets, before they are looked
   * at: see {@link offered}.
   */
  offers = false;
  /** Where in its chunk the last call has stopped, in front of such messages: {@link goOn} has to be called. -1: nowhere. */
  offered = -1;

  readonly #handler: RelayHandler;
  readonly #order: ContentOrder | undefined;
  readonly #pieces: Uint8Array[] = [];
  #frame: Uint8Array | undefined;
  #filled = 0;
  #inFrame = false;
  /** Nothing is passed on any more. */
  #muted = false;
  /** Pieces of this call that came before that. */
  #kept = 0;
  /** Frames of the proxy's own that wait for the end of the frame under way. */
  readonly #inserted: Uint8Array[] = [];
  /** The stream is held: what came behind the frame that holds it. */
  #held: Uint8Array | undefined;
  /** What comes in this chunk is offered. */
  #mayOffer = false;

  /** @param tally where frames are counted */
  constructor(frameMax: number, handler: RelayHandler, tally?: FrameTally) {
    this.scanner = new FrameScanner(frameMax, tally);
    this.#handler = handler;
    this.#order = handler.client ? new ContentOrder() : undefined;
  }

  /** Whether what has been passed on so far ends with a whole frame, so that another may be put behind it. */
  get atBoundary(): boolean {
    return !this.#inFrame;
  }

  /** Whether the relay passes nothing on any more: it was stopped, and the frame under way is complete. */
  get stopped(): boolean {
    return this.error !== undefined || this.#muted || (this.stopping && !this.#inFrame);
  }

  /**
   * Puts a frame of the proxy's own behind the one under way.
   * @returns true when there is none: the caller passes it on at once
   */
  insert(frame: Uint8Array): boolean {
    if (this.atBoundary) return true;
    this.#inserted.push(frame);
    return false;
  }

  /**
   * Takes the next octets of the stream.
   * @returns the pieces to pass on, in order: views of `chunk` wherever nothing changes. The array is the relay's own
   *   and valid until the next call. After an `error` it holds what came before the fault, in whole frames.
   */
  push(chunk: Uint8Array, end: number): readonly Uint8Array[] {
    this.#begin();
    this.#mayOffer = this.offers;
    if (this.#held === undefined) return this.#ending(this.#run(chunk, end, 0));
    const held = new Uint8Array(this.#held.length + end);
    held.set(this.#held);
    held.set(chunk.subarray(0, end), this.#held.length);
    this.#held = held;
    return this.#pieces;
  }

  /**
   * Goes on behind {@link offered}, in the same chunk.
   * @param taken what was taken there: it isn't passed on; undefined: nothing, and no more is offered in this chunk
   * @param channel that it came on
   * @returns as {@link push} does
   */
  goOn(
    taken: MessageRun | undefined,
    channel: number,
    chunk: Uint8Array,
    end: number,
  ): readonly Uint8Array[] {
    this.offered = -1;
    this.#begin();
    if (taken === undefined) this.#mayOffer = false;
    else this.#pass(taken, channel);
    return this.#ending(this.#run(chunk, end, this.scanner.pos));
  }

  /** Octets of the largest payload that may be passed on as it is. */
  get maxPayload(): number {
    const { maxPayload } = this.scanner;
    return this.splitAbove > 0 ? Math.min(this.splitAbove, maxPayload) : maxPayload;
  }

  /** Whether the stream is held: whoever feeds it should wait. */
  get holding(): boolean {
    return this.#held !== undefined;
  }

  /** Octets that are taken up by a frame which isn't whole yet, and by what waits in a held stream. */
  get buffered(): number {
    return (this.#frame?.length ?? 0) + (this.#held?.length ?? 0);
  }

  /** Goes on with a held stream: `frame` in the place of the one that held it, then what came behind it. */
  release(frame: Uint8Array): readonly Uint8Array[] {
    const held = this.#held ?? new Uint8Array(0);
    this.#held = undefined;
    this.#begin();
    this.#pieces.push(frame);
    this.#mayOffer = false;
    return this.#ending(this.#run(held, held.length, 0));
  }

  #begin(): void {
    while (this.#pieces.length > 0) this.#pieces.pop(); // cheaper than to set the length
    this.#kept = 0;
    if (this.stopping && !this.#inFrame) this.#muted = true;
  }

  #ending(pieces: Uint8Array[]): readonly Uint8Array[] {
    if (this.#muted) pieces.length = Math.min(pieces.length, this.#kept);
    return pieces;
  }

  #run(chunk: Uint8Array, end: number, from: number): Uint8Array[] {
    if (this.error !== undefined) return this.#pieces;
    const { scanner } = this;
    scanner.start(from);
    let run = from; // first octet of the chunk that is neither passed on nor collected
    if (this.#skip(chunk, end)) return this.#offer(chunk, run);
    let whole = scanner.pos; // behind the last frame that ended in this chunk
    for (;;) {
      switch (scanner.next(chunk, end)) {
        case SCAN.header: {
          const wrong = this.#wrong();
          if (wrong !== undefined) {
            this.#passOn(chunk, run, whole);
            return this.#fail(wrong);
          }
          const large = this.splitAbove > 0 && scanner.size > this.splitAbove;
          if (large && scanner.type !== FRAME_BODY) {
            this.#passOn(chunk, run, whole);
            return this.#refuseLarge();
          }
          if (
            large ||
            (scanner.method !== 0 &&
              this.#handler.wants(scanner.method, scanner.channel, chunk, scanner.pos, end))
          ) {
            this.#passOn(chunk, run, scanner.pos - (scanner.headLength - scanner.held));
            if (!this.#collect(chunk)) return this.#pieces;
            run = scanner.pos;
          } else if (scanner.held > 0) {
            this.#pieces.push(scanner.head.slice(0, scanner.held));
          }
          break;
        }
        case SCAN.end:
          if (this.#frame !== undefined) {
            if (!this.#complete(chunk, run, end)) return this.#pieces;
            run = scanner.pos;
          }
          this.#inFrame = false;
          if (this.#inserted.length > 0 || (this.stopping && !this.#muted)) {
            this.#passOn(chunk, run, scanner.pos);
            run = scanner.pos;
            this.#pieces.push(...this.#inserted.splice(0));
          }
          if (this.stopping && !this.#muted) {
            this.#muted = true;
            this.#kept = this.#pieces.length;
          }
          if (this.#skip(chunk, end)) return this.#offer(chunk, run);
          whole = scanner.pos;
          break;
        case SCAN.more:
          if (this.#frame !== undefined) {
            this.#frame.set(chunk.subarray(run, end), this.#filled);
            this.#filled += end - run;
          } else {
            this.#passOn(chunk, run, end - scanner.heldBack);
            this.#inFrame = !scanner.atBoundary && scanner.heldBack === 0;
          }
          return this.#pieces;
        case SCAN.corrupt:
          // The held octets of the faulty frame's own header are the last piece already: no frame has ended since.
          if (whole === 0 && scanner.held > 0) this.#pieces.pop();
          this.#passOn(chunk, run, whole);
          return this.#fail(scanner.error!);
      }
    }
  }

  /** Goes on behind messages that nobody wants to see. @returns whether it has stopped in front of such, to offer them */
  #skip(chunk: Uint8Array, end: number): boolean {
    const { scanner, maxPayload } = this;
    const handler = this.#handler;
    const messages = handler.client ? PUBLISHES : DELIVERIES;
    if (!scanner.atBoundary || this.stopping) return false;
    while (messages.begins(chunk, scanner.pos, end)) {
      const start = scanner.pos;
      const channel = (chunk[start + 1]! << 8) | chunk[start + 2]!;
      if (channel === 0 || channel > this.channelMax || this.#order?.mayBegin(channel) === false)
        return false;
      if (!handler.passes(channel)) return false;
      if (this.#mayOffer) return true;
      if (!messages.find(chunk, start, end, maxPayload)) return false;
      this.#pass(messages, channel);
    }
    return false;
  }

  #pass(messages: MessageRun, channel: number): void {
    this.scanner.skip(messages);
    this.#order?.passed(channel);
    this.#handler.passed(channel, messages.messages);
  }

  #offer(chunk: Uint8Array, run: number): Uint8Array[] {
    this.offered = this.scanner.pos;
    this.#passOn(chunk, run, this.offered);
    return this.#pieces;
  }

  #refuseLarge(): Uint8Array[] {
    const { type, size, method } = this.scanner;
    const kind = type === FRAME_HEADER ? 'content header' : 'method';
    const text = `a ${kind} of ${size} octets doesn't fit the client's frame_max of ${this.splitAbove + FRAME_OVERHEAD}`;
    this.unsplittable = true;
    return this.#fail(
      new WireError(REPLY.frameError, `${text}, and only bodies can be cut: raise it`, method),
    );
  }

  #passOn(chunk: Uint8Array, start: number, end: number): void {
    if (end > start) this.#pieces.push(chunk.subarray(start, end));
  }

  /** Begins to collect the frame whose header has just been scanned. */
  #collect(chunk: Uint8Array): boolean {
    const { scanner } = this;
    if (scanner.size + FRAME_OVERHEAD > MAX_COLLECTED) {
      const text = `frame of ${scanner.size + FRAME_OVERHEAD} octets exceeds ${MAX_COLLECTED}`;
      this.#fail(new WireError(REPLY.frameError, text, scanner.method));
      return false;
    }
    const { head, held, headLength, pos } = scanner;
    const frame = new Uint8Array(scanner.size + FRAME_OVERHEAD);
    // Octet by octet: so few cost less than a view of them.
    for (let i = 0; i < held; i++) frame[i] = head[i]!;
    for (let i = held; i < headLength; i++) frame[i] = chunk[pos - headLength + i]!;
    this.#frame = frame;
    this.#filled = headLength;
    return true;
  }

  /** Shows a frame that is complete at the scanner's position; false when the stream doesn't go on from there. */
  #complete(chunk: Uint8Array, start: number, end: number): boolean {
    const frame = this.#frame!;
    const { pos, type, method, channel } = this.scanner;
    frame.set(chunk.subarray(start, pos), this.#filled);
    this.#frame = undefined;
    try {
      const shown =
        type === FRAME_BODY ? splitBody(frame, this.splitAbove) : this.#handler.frame(frame, method, channel);
      if (shown === undefined) this.#held = new Uint8Array(chunk.subarray(pos, end));
      else if (shown.length > 0) this.#pieces.push(shown);
      return shown !== undefined;
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#fail(new WireError(error.replyCode, error.message, method));
      return false;
    }
  }

  /** What is wrong with the frame whose header has just been scanned, by what came before it and what was agreed on. */
  #wrong(): WireError | undefined {
    const { type, channel, method } = this.scanner;
    if (channel > this.channelMax) {
      const text = `channel ${channel} where channel_max is ${this.channelMax}`;
      return new WireError(REPLY.channelError, text, method);
    }
    const disorder = this.#order?.follow(type, channel, method);
    return disorder === undefined ? undefined : new WireError(REPLY.unexpectedFrame, disorder, method);
  }

  #fail(error: WireError): Uint8Array[] {
    this.error = error;
    this.#frame = undefined;
    return this.#pieces;
  }
}
