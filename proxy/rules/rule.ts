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
}
