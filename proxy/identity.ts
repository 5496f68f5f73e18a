/** UUIDs with and without dashes, and what Spring puts behind its connections' names: `#` and a hash, with a number. */
const RANDOM =
  /[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])|(?<=#)[0-9a-f]{6,8}(?::\d+)?$/gi;

/** The number before such a part: oslo.messaging has `PROGRAM:PID:UUID`. */
const PROCESS = /:\d+:\*/g;

/**
 * A connection_name without what differs at each start of a client, so that its connections are one client's:
 * `nova-compute:4711:6f9b…` becomes `nova-compute:*:*`.
 */
export function connectionGroup(name: string): string {
  return name.replaceAll(RANDOM, '*').replaceAll(PROCESS, ':*:*');
}
