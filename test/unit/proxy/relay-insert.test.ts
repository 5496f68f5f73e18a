import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { Relay } from '../../../proxy/relay.ts';
import { clientTraceArbitrary, cut, cutsArbitrary } from '../../support/amqp-arbitraries.ts';
import { method, queueDeclare } from '../../support/amqp-frames.ts';

const QUEUE_DECLARE = 0x0032_000a;
/** A frame that no trace has: on a channel of its own. */
const OWN = method(0xfff0, 50, 40, Buffer.from('inserted'));

it('frames that are put in between lie between whole frames, and all others are as they were', () => {
  fc.assert(
    fc.property(clientTraceArbitrary, cutsArbitrary, fc.array(fc.boolean()), (trace, cuts, when) => {
      const relay = new Relay(0, {
        client: true,
        wants: (id) => id === QUEUE_DECLARE,
        frame: (octets) => octets,
        passes: () => true,
        passed: () => {},
      });
      const stream = Buffer.concat(trace.map(({ octets }) => octets));
      const passed: Uint8Array[] = [];
      let inserted = 0;
      let i = 0;
      for (const chunk of cut(stream, cuts)) {
        passed.push(...relay.push(chunk, chunk.length).map((piece) => Buffer.from(piece)));
        if (when[i++] !== true) continue;
        inserted++;
        if (relay.insert(OWN)) passed.push(OWN);
      }
      const all = Buffer.concat(passed);
      const frames: Buffer[] = [];
      for (let at = 0; at < all.length; at += frames.at(-1)!.length)
        frames.push(all.subarray(at, at + all.readUInt32BE(at + 3) + 8));
      expect(frames.filter((one) => one.equals(OWN))).toHaveLength(inserted);
      expect(Buffer.concat(frames.filter((one) => !one.equals(OWN)))).toEqual(stream);
    }),
    { numRuns: 300 },
  );
});

it('what is wanted is shown behind the point where nothing is passed on any more', () => {
  const shown: number[] = [];
  const relay = new Relay(0, {
    client: false,
    wants: (id) => id === QUEUE_DECLARE,
    frame: (octets, _id, channel) => {
      shown.push(channel);
      return octets;
    },
    passes: () => true,
    passed: () => {},
  });
  relay.stopping = true;
  const declares = Buffer.concat([queueDeclare({ channel: 3 }), queueDeclare({ channel: 4 })]);
  expect(relay.push(declares.subarray(0, 30), 30)).toEqual([]);
  const rest = declares.subarray(30);
  expect(relay.push(rest, rest.length)).toEqual([]);
  expect(shown).toEqual([3, 4]);
  expect(relay.stopped).toBe(true);
});
