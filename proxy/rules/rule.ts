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
] as const;

/** A method that is rewritten on its way to the broker. */
export interface Rule {
  readonly name: Exclude<(typeof REWRITTEN_METHODS)[number], 'connection.tune-ok'>;
  /**
   * From a complete frame to the frame that the broker gets: the same array when nothing changes.
   * @throws WireError 502 when the method is malformed
   */
  rewrite(frame: Uint8Array, report: Report): Uint8Array;
  /** Of declares, whose rewritten form is tried before the client's own is sent. */
  readonly trial?: Trial;
}

/** What may exist already, declared without the proxy, when a rewritten declare is sent. */
export interface Trial {
  /** Whether others can have declared it: not what is the connection's own. @param frame the client's own frame */
  isShared(frame: Uint8Array): boolean;
  /**
   * What to send when the broker refuses the rewritten declare: undefined where that is none of the rewrite's doing.
   * @param frame the client's own frame
   * @param refusal the broker's reply text
   */
  settle(frame: Uint8Array, refusal: string): Uint8Array | undefined;
}
