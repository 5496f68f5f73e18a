import { describe, expect, it } from 'vitest';
import { FRAME_BODY, FRAME_HEADER } from '../../../../amqp/constants.ts';
import { type Kept, Publish } from '../../../../proxy/pool/publish.ts';

/** A frame of so many octets: what is in it makes no difference here. */
const FRAME = new Uint8Array(100);

/** Takes a method, a header and so many bodies of 10 octets each, each out of a chunk of its own. */
function take(publish: Publish, bodies: number, lent = true): void {
  publish.begin(FRAME, 0, 50, lent);
  publish.keep();
  publish.add(FRAME_HEADER, 1000, FRAME, 0, 30, lent);
  publish.keep();
  for (let i = 0; i < bodies; i++) {
    publish.add(FRAME_BODY, 2, FRAME, 0, 10, lent);
    publish.keep();
  }
}

describe('what is kept of publishes that are not whole', () => {
  it('is counted over all channels, and what the pieces take besides', () => {
    const kept: Kept = { octets: 0 };
    const [one, other] = [new Publish(kept), new Publish(kept)];
    take(one, 5);
    expect(one.size).toBe(130);
    expect(kept.octets).toBeGreaterThan(130 + 7 * 64);
    const before = kept.octets;
    take(other, 5, false);
    expect(kept.octets).toBe(2 * before);
    one.clear();
    expect(kept.octets).toBe(before);
    one.clear();
    other.clear();
    expect(kept.octets).toBe(0);
  });

  it('is nothing of one that comes in one chunk', () => {
    const kept: Kept = { octets: 0 };
    const publish = new Publish(kept);
    publish.begin(FRAME, 0, 50, true);
    expect(publish.add(FRAME_HEADER, 0, FRAME, 50, 80, true)).toBe(true);
    publish.clear();
    expect(kept.octets).toBe(0);
  });
});
