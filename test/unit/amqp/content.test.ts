import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ContentOrder } from '../../../amqp/content.ts';
import { clientTraceArbitrary } from '../../support/amqp-arbitraries.ts';

const PUBLISH = 0x003c_0028;
const OTHER = 0x0032_000a;

/** Frames by a letter each: p basic.publish, m another method, h header, b body, H heartbeat. */
const LETTERS: Readonly<Record<string, readonly [type: number, method: number]>> = {
  p: [1, PUBLISH],
  m: [1, OTHER],
  h: [2, 0],
  b: [3, 0],
  H: [8, 0],
};

/** Follows letters on a channel; answers what it says of the last one, and fails when an earlier one is refused. */
function last(order: ContentOrder, letters: string, channel = 1): string | undefined {
  const verdicts = letters.split('').map((letter) => {
    const [type, method] = LETTERS[letter]!;
    return order.follow(type, letter === 'H' ? 0 : channel, method);
  });
  expect(verdicts.slice(0, -1).filter((verdict) => verdict !== undefined)).toEqual([]);
  return verdicts.at(-1);
}

describe('the order of content on a channel', () => {
  it.each(['m', 'mm', 'ph', 'phb', 'phbbbb', 'phm', 'phbm', 'phph', 'phbph', 'pHhHbH', 'phbmphb'])(
    'allows %s',
    (letters) => {
      expect(last(new ContentOrder(), letters)).toBeUndefined();
    },
  );

  it.each([
    ['pp', 'method on channel 1 where a content header is due'],
    ['pm', 'method on channel 1 where a content header is due'],
    ['phbpm', 'method on channel 1 where a content header is due'],
    ['h', 'content header on channel 1 without basic.publish'],
    ['mh', 'content header on channel 1 without basic.publish'],
    ['phh', 'content header on channel 1 without basic.publish'],
    ['phbh', 'content header on channel 1 without basic.publish'],
    ['b', 'content body on channel 1 without a content header'],
    ['pb', 'content body on channel 1 without a content header'],
    ['mb', 'content body on channel 1 without a content header'],
    ['phbmb', 'content body on channel 1 without a content header'],
  ])('refuses the last of %s: %s', (letters, verdict) => {
    expect(last(new ContentOrder(), letters)).toBe(verdict);
  });

  it('is kept for each channel by itself, up to the highest', () => {
    const channels = [1, 15, 16, 17, 31, 32, 1023, 1024, 0xffff];
    const order = new ContentOrder();
    for (const letter of 'phb') {
      for (const channel of channels) {
        expect(last(order, letter, channel), `${letter} on ${channel}`).toBeUndefined();
        // its neighbours have had nothing
        expect(last(order, 'h', channel === 1 ? 2 : channel - 3)).toContain('without basic.publish');
      }
    }
  });

  it('is right in whatever clients send, channels interleaved', () => {
    fc.assert(
      fc.property(clientTraceArbitrary, (trace) => {
        const order = new ContentOrder();
        const verdicts = trace.map(({ type, channel, method }) => order.follow(type, channel, method));
        expect(verdicts.every((verdict) => verdict === undefined)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });
});
