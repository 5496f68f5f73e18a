import { type ScanEvent, FrameScanner, SCAN } from '../../amqp/scan.ts';

/** An octet range inside a larger buffer whose other octets are `garbage`, so that reading outside shows. */
export function amidst(octets: Uint8Array, garbage: number, before = 5, after = 19): Uint8Array {
  const larger = new Uint8Array(before + octets.length + after).fill(garbage);
  larger.set(octets, before);
  return larger.subarray(before, before + octets.length);
}

/** What a scanner said of a stream, in order; positions are octets from the stream's start. */
export interface Scanned {
  readonly events: readonly string[];
  /** How it ended: the reply code, the method and the text of the error. */
  readonly error: { code: number; method: number; text: string } | undefined;
  /** Octets that had come when the error was told. */
  readonly toldAt: number | undefined;
  readonly frames: number;
  /** Whether it ended between two frames; undefined after an error. */
  readonly atBoundary: boolean | undefined;
}

/** Where chunks begin in the arrays that a scanner is given. */
const START = 3;

/** An event as {@link scan} tells it; `at` is the position behind what was scanned. */
export function describeEvent(
  what: 'header' | 'end',
  frame: { type: number; channel: number; size: number; method: number },
  at: number,
): string {
  const { type, channel, size, method } = frame;
  return `${what} of type ${type} on ${channel}, ${size} octets, method ${method}, @${at}`;
}

/** Runs a scanner over chunks, each inside a buffer of its own, at an offset, with `garbage` around it. */
export function scan(chunks: readonly Uint8Array[], frameMax: number, garbage = 0xce): Scanned {
  const scanner = new FrameScanner(frameMax);
  const events: string[] = [];
  let passed = 0;
  let toldAt: number | undefined;
  for (const chunk of chunks) {
    // The view begins before the chunk and goes on behind it, and so does its buffer around the view.
    const view = amidst(new Uint8Array(START + chunk.length + 12).fill(garbage), garbage);
    view.set(chunk, START);
    const end = START + chunk.length;
    scanner.start(START);
    let event: ScanEvent;
    while ((event = scanner.next(view, end)) === SCAN.header || event === SCAN.end) {
      const { type, channel, size, method, pos } = scanner;
      const what = event === SCAN.header ? 'header' : 'end';
      events.push(describeEvent(what, { type, channel, size, method }, passed + pos - START));
    }
    passed += chunk.length;
    if (event === SCAN.corrupt) toldAt ??= passed;
  }
  const { error, frames, atBoundary } = scanner;
  return {
    events,
    error: error && { code: error.replyCode, method: error.method, text: error.message },
    toldAt,
    frames,
    atBoundary: error === undefined ? atBoundary : undefined,
  };
}
