import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { WireError } from '../../../amqp/error.ts';
import { encodeField } from '../../../amqp/values.ts';
import type { QueueTreatment } from '../../../proxy/policy/policy.ts';
import { ruleFor } from '../../../proxy/rules/index.ts';
import { entriesArbitrary } from '../../support/amqp-arbitraries.ts';
import { basicConsume, basicQos, exchangeDeclare, queueDeclare } from '../../support/amqp-frames.ts';
import { queueDelete } from '../../support/amqp-methods.ts';
import { scan } from '../../support/amqp-streams.ts';
import { ruleContext } from '../../support/rule-context.ts';

const RUNS = 20_000;

const frameArbitrary = fc
  .tuple(fc.nat(4), fc.constantFrom('', 'q', 'amq.x', 'a name'), fc.nat(31), entriesArbitrary)
  .map(([kind, name, flags, entries]) => {
    if (kind === 0) return queueDeclare({ name, flags, entries });
    if (kind === 1) return exchangeDeclare({ name, flags, entries });
    if (kind === 2) return basicConsume({ name, flags, entries });
    if (kind === 3) return queueDelete(1, name, flags);
    return basicQos(flags, flags, flags);
  });

/** A frame whose payload has some octets changed; its header, its two ids and its end octet stay. */
const mutatedArbitrary = fc
  .tuple(frameArbitrary, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }))
  .map(([frame, changes]) => {
    const mutated = new Uint8Array(frame);
    const room = mutated.length - 12;
    for (const [place, octet] of changes) if (room > 0) mutated[11 + (place % room)] = octet;
    return mutated;
  });

const contextArbitrary = fc
  .tuple(
    fc.constantFrom('3.7', '3.10', '4.0', '4.1', '4.3'),
    fc.constantFrom<QueueTreatment['action']>('quorum', 'classic-durable', 'leave'),
    fc.constantFrom<QueueTreatment['expires']>(undefined, 'none', 60_000),
    fc.constantFrom<QueueTreatment['set']>([], [['x-delivery-limit', encodeField(-1n)]]),
    fc.constantFrom<string[]>([], ['x-max-length', 'other']),
  )
  .map(([broker, action, expires, set, remove]) => {
    const rule = { rule: 'any', where: 'here' };
    const treatment = { ...rule, action, set, remove };
    const exchange = { ...rule, action: action === 'leave' ? 'leave' : 'durable' } as const;
    return ruleContext(broker, {
      queue: () => (expires === undefined ? treatment : { ...treatment, expires }),
      exchange: () => exchange,
    });
  });

it(`the rules take ${RUNS} mutated frames: each is refused with 502, or comes out as a frame that is one`, () => {
  let refused = 0;
  let edited = 0;
  fc.assert(
    fc.property(mutatedArbitrary, contextArbitrary, (frame, context) => {
      const before = new Uint8Array(frame);
      const rule = ruleFor(Buffer.from(frame.buffer).readUInt32BE(7))!;
      try {
        const out = rule.rewrite(frame, context);
        expect(scan([out], 0)).toMatchObject({ error: undefined, frames: 1 });
        expect(Buffer.compare(rule.rewrite(out, context), out)).toBe(0);
        if (out !== frame) edited++;
      } catch (error) {
        if (!(error instanceof WireError) || error.replyCode !== 502) throw error;
        refused++;
      }
      expect(frame).toEqual(before);
    }),
    { numRuns: RUNS },
  );
  // Neither way may be one that is never taken.
  expect(Math.min(refused, edited)).toBeGreaterThan(RUNS / 50);
});
