import type { Link } from './link.ts';
import type { Relay } from './relay.ts';

const NOTHING: readonly Uint8Array[] = [];

/**
 * Pushes a client's chunk through its relay. A link that takes publishes by itself gets them as they lie there, run by run,
 * and what lies between them: they are walked once then, and not by the relay as well.
 * @param lent as {@link Link.write}'s
 * @returns what is still to be written
 */
export function relayToLink(
  relay: Relay,
  link: Link,
  chunk: Uint8Array,
  length: number,
  lent: boolean,
): readonly Uint8Array[] {
  relay.offers = link.take !== undefined;
  let pieces = relay.push(chunk, length);
  if (relay.offered < 0) return pieces;
  link.cork?.();
  for (let at = relay.offered; at >= 0; at = relay.offered) {
    if (pieces.length > 0) link.write(pieces, lent);
    const channel = (chunk[at + 1]! << 8) | chunk[at + 2]!;
    const taken = link.take?.(chunk, at, length, relay.maxPayload, lent);
    pieces = relay.goOn(taken, channel, chunk, length);
  }
  if (pieces.length > 0) link.write(pieces, lent);
  link.uncork?.();
  return NOTHING;
}
