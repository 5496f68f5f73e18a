import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { withoutCancels } from '../../../../proxy/pool/cancels.ts';
import { frame, method, shortstr } from '../../../support/amqp-frames.ts';

const cancel = method(3, 60, 30, Buffer.concat([shortstr('tag'), Buffer.of(1)]));
const others = [
  method(3, 60, 31, shortstr('tag')),
  frame(2, 3, Buffer.alloc(14)),
  frame(3, 3, Buffer.from([60, 0, 30, 0, 60, 0, 30])),
  frame(8, 0, Buffer.alloc(0)),
];

describe('frames for a client that is not told of cancelled consumers', () => {
  it('lack the broker’s basic.cancel, wherever it is, and nothing else', () => {
    const sequences = fc.array(fc.constantFrom(cancel, ...others), { maxLength: 12 });
    fc.assert(
      fc.property(sequences, (frames) => {
        const kept = frames.filter((one) => one !== cancel);
        const left = withoutCancels(Buffer.concat(frames));
        expect(Buffer.from(left)).toEqual(Buffer.concat(kept));
      }),
    );
  });

  it('are the same octets where there is none', () => {
    const octets = Buffer.concat(others);
    expect(withoutCancels(octets)).toBe(octets);
  });
});
