// The client's methods and the broker's answers in any order, some of them malformed: nothing but whole frames comes out.
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { WireError } from '../../../amqp/error.ts';
import { Lookup } from '../../../proxy/lookup.ts';
import { Queues } from '../../../proxy/queues.ts';
import { Translation } from '../../../proxy/translation.ts';
import { entriesArbitrary } from '../../support/amqp-arbitraries.ts';
import {
  basicConsume,
  basicQos,
  exchangeDeclare,
  method,
  queueDeclare,
  shortstr,
} from '../../support/amqp-frames.ts';
import { basicCancel, channelClose, channelCloseOk, queueDelete } from '../../support/amqp-methods.ts';
import { scan } from '../../support/amqp-streams.ts';
import { ruleContext } from '../../support/rule-context.ts';

const RUNS = 2000;
const OWN = 9;

/** A few names and tags, so that frames have to do with each other. */
const nameArbitrary = fc.constantFrom('', 'q', 'q', 'q', 'amq.x');
const tagArbitrary = fc.constantFrom('', 't', 't', 't');
const channelArbitrary = fc.constantFrom(1, 1, 1, 2);

/** Often auto-delete alone, or an exclusive consumer. */
const flagsArbitrary = fc.oneof(fc.constantFrom(0, 4, 8, 8), fc.nat(31));

const clientArbitrary = fc
  .tuple(
    fc.constantFrom(0, 1, 2, 3, 4, 4, 4, 4, 5, 6),
    channelArbitrary,
    nameArbitrary,
    tagArbitrary,
    flagsArbitrary,
    fc.oneof(fc.constant([]), entriesArbitrary),
  )
  .map(([kind, channel, name, tag, flags, entries]) => {
    switch (kind) {
      case 0:
        return queueDeclare({ channel, name, flags, entries });
      case 1:
        return exchangeDeclare({ channel, name, flags, entries });
      case 2:
        return basicConsume({ channel, name, tag, flags, entries });
      case 3:
        return queueDelete(channel, name, flags & 7);
      case 4:
        return basicCancel(channel, tag, { noWait: (flags & 1) === 1 });
      case 5:
        return basicQos(0, flags, flags & 1);
      default:
        return channelClose(channel);
    }
  });

const brokerArbitrary = fc
  .tuple(fc.constantFrom(0, 1, 1, 1, 2, 3, 4), channelArbitrary, tagArbitrary)
  .map(([kind, channel, tag]) => {
    switch (kind) {
      case 0:
        return method(channel, 60, 21, shortstr(tag));
      case 1:
        return method(channel, 60, 31, shortstr(tag));
      case 2:
        return basicCancel(channel, tag, { noWait: true });
      case 3:
        return channelClose(channel);
      default:
        return channelCloseOk(channel);
    }
  });

interface Step {
  readonly from: 'client' | 'broker' | 'own';
  readonly octets: Buffer;
  /** What the broker says to the proxy's own question. */
  readonly answer: number;
  readonly mutation: readonly [place: number, octet: number] | undefined;
}

const stepArbitrary: fc.Arbitrary<Step> = fc
  .tuple(
    fc.constantFrom<Step['from']>('client', 'client', 'broker', 'own', 'own'),
    clientArbitrary,
    brokerArbitrary,
    fc.nat(3),
    fc.option(fc.tuple(fc.nat(), fc.nat(255)), { nil: undefined, freq: 100 }),
  )
  .map(([from, ask, say, answer, mutation]) => ({
    from,
    octets: from === 'client' ? ask : say,
    answer,
    mutation,
  }));

/** How a connection with a consumer of an auto-delete queue begins. */
const BEGINNING: readonly Step[] = (
  [
    ['client', queueDeclare({ channel: 1, name: 'q', flags: 8 })],
    ['own', Buffer.alloc(11)],
    ['own', Buffer.alloc(11)],
    ['own', Buffer.alloc(11)],
    ['client', basicConsume({ channel: 1, name: 'q', tag: 't' })],
    ['broker', method(1, 60, 21, shortstr('t'))],
  ] as const
).map(([from, octets]) => ({ from, octets, answer: 1, mutation: undefined }));

function mutated({ octets, mutation }: Step): Uint8Array {
  const copy = Uint8Array.from(octets);
  const room = copy.length - 12;
  if (mutation !== undefined && room > 0) copy[11 + (mutation[0] % room)] = mutation[1];
  return copy;
}

function answerTo(asked: Uint8Array, answer: number): Buffer {
  const id = Buffer.from(asked).readUInt32BE(7);
  if (id === 0x0014_000a) return method(OWN, 20, 11, Buffer.alloc(4));
  if (answer === 0) return channelClose(OWN);
  if (id === 0x0032_000a)
    return method(OWN, 50, 11, Buffer.concat([shortstr('q'), Buffer.alloc(7), Buffer.of(answer - 1)]));
  return id === 0x0032_0028 ? method(OWN, 50, 41, Buffer.alloc(4)) : method(OWN, 40, 11);
}

it(`a connection of any frames, ${RUNS} times`, () => {
  let deleted = 0;
  let refused = 0;
  let held = 0;
  fc.assert(
    fc.property(
      fc.array(stepArbitrary, { maxLength: 40 }),
      fc.constantFrom('3.10', '4.0', '4.3'),
      (steps, broker) => {
        const sent: Uint8Array[] = [];
        const asked: Uint8Array[] = [];
        let holding = false;
        const send = (octets: Uint8Array): void => {
          sent.push(octets);
          if (
            Buffer.from(octets).readUInt16BE(1) === OWN &&
            Buffer.from(octets).readUInt32BE(7) !== 0x0014_0029
          )
            asked.push(octets);
        };
        const lookup = new Lookup(OWN, send);
        const translation = new Translation({
          rules: ruleContext(broker),
          virtualHost: '/',
          queues: new Queues(),
          lookup,
          send,
          release: (octets) => {
            holding = false;
            sent.push(octets);
          },
          rewritten: () => {},
          existing: () => {},
          deleted: () => deleted++,
        });
        for (const step of [...BEGINNING, ...steps]) {
          const octets = mutated(step);
          const id = Buffer.from(octets).readUInt32BE(7);
          try {
            if (step.from === 'own') {
              const question = asked.shift();
              const answer = question === undefined ? undefined : answerTo(question, step.answer);
              if (answer !== undefined) lookup.take(answer, answer.readUInt32BE(7));
            } else if (step.from === 'broker') {
              const channel = Buffer.from(octets).readUInt16BE(1);
              if (translation.wantsFromBroker(id, channel)) sent.push(translation.heard(octets, id));
            } else if (!holding && translation.wants(id)) {
              const out = translation.translate(octets, id);
              if (out !== undefined) sent.push(out);
              else {
                held++;
                holding = true;
                translation.ask();
              }
            }
          } catch (error) {
            if (!(error instanceof WireError) || error.replyCode !== 502) throw error;
            refused++;
            break;
          }
        }
        translation.leave(() => {});
        translation.ended();
        const whole = sent.filter((octets) => octets.length > 0);
        expect(scan(whole, 0)).toMatchObject({ error: undefined, atBoundary: true });
      },
    ),
    { numRuns: RUNS },
  );
  // None of the ways may be one that is never taken.
  expect(Math.min(deleted, refused, held)).toBeGreaterThan(4);
});
