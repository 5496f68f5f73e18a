/**
 * Where a rewrite can't keep all of what the client asked for: counted for each frame, by these names, and explained in
 * docs/proxy.md (a test holds the two together).
 */
export const MEANING_CHANGES = [
  'auto-delete',
  'server-named',
  'priority',
  'overflow-dead-letter',
  'global-prefetch',
  'existing',
] as const;

export type MeaningChange = (typeof MEANING_CHANGES)[number];

/** Told each change of meaning that a rewrite makes. */
export type Report = (change: MeaningChange) => void;

/** The methods that are rewritten: the labels of their counters. connection.tune-ok is negotiated, without a rule. */
export const REWRITTEN_METHODS = [
  'connection.tune-ok',
  'queue.declare',
  'exchange.declare',
  'basic.qos',
  'basic.consume',
  'queue.delete',
] as const;

/** A method that is rewritten on its way to the broker. */
export interface Rule {
  readonly name: Exclude<(typeof REWRITTEN_METHODS)[number], 'connection.tune-ok'>;
  /**
   * From a complete frame to the frame that the broker gets: the same array when nothing changes.
   * @throws WireError 502 when the method is malformed
   */
  rewrite(frame: Uint8Array, report: Report): Uint8Array;
  /** Of methods that depend on what the broker has: it is asked before the client's own is sent. */
  readonly trial?: Trial;
}

/** What a broker says to a question: a channel exception, or it takes it. The counts are those of a queue. */
export interface Answer {
  readonly refusal?: { readonly replyCode: number; readonly replyText: string };
  readonly messages: number;
  readonly consumers: number;
}

/** A client's frame while the broker is asked about it. */
export interface Tried {
  readonly frame: Uint8Array;
  readonly edited: Uint8Array;
  readonly virtualHost: string;
}

/** How the client's method goes on. */
export interface Settlement {
  readonly send: Uint8Array;
  /** The broker's text where something is used as it exists, declared without the proxy. */
  readonly existing?: string;
  /** The channel.close that the client gets in the place of the broker's, which `send` provokes. */
  readonly refusal?: Uint8Array;
}

/** A question to the broker, on a channel of the proxy's own, and what its answer means. */
export interface Trial {
  /** Without an answer the client's own frame is sent; else the rewritten one would do, and once taken it is not asked again. */
  readonly mandatory: boolean;
  /** Whether there is something to ask: not about what is the connection's own, or has no name. */
  isAsked(frame: Uint8Array): boolean;
  /** The question, as a frame on the proxy's channel. */
  question(tried: Tried, channel: number): Uint8Array;
  settle(tried: Tried, answer: Answer): Settlement;
}
