import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { METHOD } from '../../../../amqp/constants.ts';
import { InFlight } from '../../../../proxy/drain/in-flight.ts';

function tag(number: number, multiple: boolean): Uint8Array {
  const octets = Buffer.alloc(9);
  octets.writeBigUInt64BE(BigInt(number));
  octets[8] = multiple ? 1 : 0;
  return octets;
}

type Step =
  | { kind: 'publish' | 'select' | 'close'; channel: number }
  | { kind: 'answer'; channel: number; at: number; multiple: boolean; nack: boolean };

const channel = fc.integer({ min: 1, max: 3 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('publish' as const), channel }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('select' as const), channel }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('close' as const), channel }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('answer' as const),
      channel,
      at: fc.nat(40),
      multiple: fc.boolean(),
      nack: fc.boolean(),
    }),
  },
);

describe('publishes that are not confirmed', () => {
  it('are counted right, whatever is published, confirmed, opened and closed', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
        const inFlight = new InFlight();
        const model = new Map<number, { last: number; open: Set<number> }>();
        let isWhole = true;
        for (const each of steps) {
          const known = model.get(each.channel);
          switch (each.kind) {
            case 'select':
              inFlight.clientSays(METHOD.confirmSelect, each.channel);
              if (known === undefined) model.set(each.channel, { last: 0, open: new Set() });
              break;
            case 'publish':
              inFlight.clientSays(METHOD.basicPublish, each.channel);
              known?.open.add(++known.last);
              break;
            case 'close':
              inFlight.clientSays(METHOD.channelClose, each.channel);
              model.delete(each.channel);
              break;
            case 'answer': {
              const method = each.nack ? METHOD.basicNack : METHOD.basicAck;
              const octets = tag(each.at, each.multiple);
              isWhole &&= inFlight.brokerSays(method, each.channel, octets, 0, octets.length);
              for (const number of known?.open ?? []) {
                const covered = each.at === 0 || number <= each.at;
                if (each.multiple ? covered : number === each.at) known!.open.delete(number);
              }
            }
          }
          const open = [...model.values()].reduce((sum, { open }) => sum + open.size, 0);
          expect([inFlight.unconfirmed, isWhole]).toEqual([open, true]);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('cost nothing before a channel is in confirm mode', () => {
    const inFlight = new InFlight();
    inFlight.clientSays(METHOD.basicPublish, 1);
    expect(inFlight.unconfirmed).toBe(0);
    expect(inFlight.isAnswer(METHOD.basicAck)).toBe(false);
  });

  it('are forgotten with their channel when the broker closes it, and confirms that are cut off are asked for again', () => {
    const inFlight = new InFlight();
    for (const number of [1, 2]) {
      inFlight.clientSays(METHOD.confirmSelect, number);
      inFlight.clientSays(METHOD.basicPublish, number);
    }
    expect(inFlight.brokerSays(METHOD.basicAck, 1, tag(1, false), 0, 8)).toBe(false);
    expect(inFlight.unconfirmed).toBe(2);
    expect(inFlight.isAnswer(METHOD.channelClose)).toBe(true);
    inFlight.brokerSays(METHOD.channelClose, 2, new Uint8Array(0), 0, 0);
    expect(inFlight.unconfirmed).toBe(1);
  });
});
