import type { Policy } from '../policy/policy.ts';
import type { BrokerVersion } from '../version.ts';

/**
 * Where a rewrite can't keep all of what the client asked for: counted for each frame, by these names, and explained in
 * docs/proxy.md (a test holds the two together).
 */
export const MEANING_CHANGES = [
  'auto-delete',
  'server-named',
  'delivery-limit',
  'priority',
  'overflow-dead-letter',
  'global-prefetch',
  'existing',
] as const;

export type MeaningChange = (typeof MEANING_CHANGES)[number];

/** What a rewrite depends on besides the frame, and whom it tells what it does. */
export interface RuleContext {
  readonly broker: BrokerVersion;
  readonly policy: Policy;
  /** Told each change of meaning that the rewrite makes. */
  change(change: MeaningChange): void;
  /** Told each thing that the rewrite does and why, in words; constant texts, for this is on the path of frames. */
  step(text: string): void;
}

/** The methods that are rewritten: the labels of their counters. connection.tune-ok is negotiated, without a rule. */
export const REWRITTEN_METHODS = [
  'connection.tune-ok',
  'queue.declare',
  'exchange.declare',
  'basic.qos',
  'basic.consume',
  'queue.delete',
] as const;

export type RewrittenMethod = (typeof REWRITTEN_METHODS)[number];

/** A method that is rewritten on its way to the broker. */
export interface Rule {
  readonly name: Exclude<RewrittenMethod, 'connection.tune-ok'>;
  /**
   * From a complete frame to the frame that the broker gets: the same array when nothing changes.
   * @throws WireError 502 when the method is malformed
   */
  rewrite(frame: Uint8Array, context: RuleContext): Uint8Array;
  /** Where a frame depends on what the broker has: it is asked before the client's own is sent. */
  trial?(frame: Uint8Array, context: RuleContext): Trial | undefined;
}

/** What a broker says to a question: a channel exception, or it takes it. The counts are those of a queue. */
export interface Answer {
  readonly refusal?: { readonly replyCode: number; readonly replyText: string };
  readonly messages: number;
  readonly consumers: number;
  /** It says nothing in time. */
  readonly unanswered?: true;
}

/** A client's frame while the broker is asked about it. */
export interface Tried {
  readonly frame: Uint8Array;
  readonly edited: Uint8Array;
  readonly virtualHost: string;
  /** Milliseconds since the question was asked for the first time. */
  readonly waited: number;
}

/** How the client's method goes on. */
export interface Settlement {
  readonly send: Uint8Array;
  /** The broker's text where something is used as it exists, declared without the proxy. */
  readonly existing?: string;
  /** The channel.close that the client gets in the place of the broker's, which `send` provokes. */
  readonly refusal?: Uint8Array;
}

/** The same question, asked again. */
export interface Retry {
  /** Milliseconds to wait before it. */
  readonly againIn: number;
}

/** A question to the broker, on a channel of the proxy's own, and what its answer means. */
export interface Trial {
  /**
   * `edited` only about a frame that the rewrite has changed, `always` about each.
   */
  readonly asks: 'edited' | 'always';
  /** A frame that was taken once is taken again, without asking. */
  readonly remembered: boolean;
  /** The rewritten frame won't do without an answer: where the broker can't be asked, the client's own is sent. */
  readonly needed: boolean;
  /** The question, as a frame on the proxy's channel. It creates nothing: the client's own method may never be carried out. */
  question(tried: Tried, channel: number): Uint8Array;
  /** What is asked next where the first question was not refused: whether what exists is as the frame has it. */
  compare?(tried: Tried, channel: number): Uint8Array;
  settle(tried: Tried, answer: Answer): Settlement | Retry;
}
