import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WireError } from '../../../amqp/error.ts';
import {
  type MethodSpans,
  encodeClose,
  readClose,
  readExchangeDeclare,
  readFrameMax,
  readQueueDeclare,
} from '../../../amqp/method.ts';
import { entriesArbitrary } from '../../support/amqp-arbitraries.ts';
import {
  encodeTable,
  entry,
  exchangeDeclare,
  longstr,
  method,
  queueDeclare,
  shortstr,
} from '../../support/amqp-frames.ts';
import { amidst } from '../../support/amqp-streams.ts';

const nameArbitrary = fc.uint8Array({ maxLength: 255 }).map((octets) => Buffer.from(octets));

/** The parts that spans point to. */
function partsOf(frame: Uint8Array, spans: MethodSpans): { name: Buffer; flags: number; table: Buffer } {
  return {
    name: Buffer.from(frame.subarray(spans.nameStart, spans.nameEnd)),
    flags: frame[spans.flagsAt]!,
    table: Buffer.from(frame.subarray(spans.tableStart, -1)),
  };
}

/** The WireError of a call that must throw one. */
function wireErrorOf(call: () => unknown): WireError {
  try {
    call();
  } catch (error) {
    if (error instanceof WireError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('the parts of a declare', () => {
  it('are found in queue.declare', () => {
    fc.assert(
      fc.property(nameArbitrary, fc.nat(31), entriesArbitrary, (name, flags, entries) => {
        const frame = amidst(queueDeclare({ name, flags, entries }), 0xff);
        expect(partsOf(frame, readQueueDeclare(frame))).toEqual({ name, flags, table: encodeTable(entries) });
      }),
      { numRuns: 200 },
    );
  });

  it('are found in exchange.declare', () => {
    fc.assert(
      fc.property(nameArbitrary, fc.string(), fc.nat(31), entriesArbitrary, (name, type, flags, entries) => {
        const frame = amidst(exchangeDeclare({ name, type, flags, entries }), 0xff);
        const parts = { name, flags, table: encodeTable(entries) };
        expect(partsOf(frame, readExchangeDeclare(frame))).toEqual(parts);
      }),
      { numRuns: 200 },
    );
  });
});

describe.each([
  ['queue.declare', 0x0032_000a, readQueueDeclare, queueDeclare],
  ['exchange.declare', 0x0028_000a, readExchangeDeclare, exchangeDeclare],
] as const)('a malformed %s', (_name, id, read, write) => {
  const good = write({ name: 'name', entries: [entry('k', longstr('v'))] });

  it('whose arguments are cut off anywhere is refused with 502', () => {
    for (let kept = 0; kept < good.length - 12; kept++) {
      const short = method(1, id >>> 16, id & 0xffff, good.subarray(11, 11 + kept));
      // The octets behind the frame are those that were cut off: they are not its own.
      const within = Buffer.concat([short, good.subarray(11 + kept)]).subarray(0, short.length);
      const error = wireErrorOf(() => read(within));
      expect(error.replyCode, `${kept} octets`).toBe(502);
    }
  });

  it('with octets behind its arguments is refused with 502', () => {
    for (const more of [1, 2, 100]) {
      const args = Buffer.concat([good.subarray(11, -1), Buffer.alloc(more)]);
      const error = wireErrorOf(() => read(method(1, id >>> 16, id & 0xffff, args)));
      expect(error.replyCode).toBe(502);
      expect(error.message).toBe(`${more} octets behind the arguments`);
    }
  });

  it('of any octets throws nothing but 502, and is not read outside', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(255), fc.uint8Array({ maxLength: 30 }), (place, octet, noise) => {
        const changed = Buffer.from(good);
        changed[11 + (place % (good.length - 12))] = octet;
        for (const frame of [changed, method(1, id >>> 16, id & 0xffff, noise)]) {
          const [one, other] = [0x00, 0xff].map((garbage) => {
            try {
              return `read: ${JSON.stringify(read(amidst(frame, garbage)))}`;
            } catch (error) {
              return error instanceof WireError ? `${error.replyCode} ${error.message}` : error;
            }
          });
          expect(one).toBe(other);
          expect(one).toMatch(/^(read: |502 )/);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('frame_max of connection.tune', () => {
  it.each([0, 4096, 131_072, 0xffff_ffff])('is read: %i', (frameMax) => {
    const args = Buffer.alloc(8, 0xee);
    args.writeUInt32BE(frameMax, 2);
    expect(readFrameMax(method(0, 10, 30, args))).toBe(frameMax);
  });

  it('in a frame that is cut off is refused with 502', () => {
    for (let length = 0; length < 8; length++) {
      const frame = method(0, 10, 31, Buffer.alloc(length));
      expect(wireErrorOf(() => readFrameMax(frame)).replyCode).toBe(502);
    }
  });
});

describe('connection.close', () => {
  const codeOctets = (code: number): Buffer => Buffer.of(code >>> 8, code & 0xff);

  it('is read', () => {
    const args = Buffer.concat([codeOctets(541), shortstr('INTERNAL_ERROR - ü'), Buffer.of(0, 50, 0, 10)]);
    expect(readClose(method(0, 10, 50, args))).toEqual({ replyCode: 541, replyText: 'INTERNAL_ERROR - ü' });
  });

  it('with a text that is no UTF-8 is read all the same', () => {
    const args = Buffer.concat([codeOctets(320), shortstr(Buffer.of(0x61, 0xff)), Buffer.alloc(4)]);
    expect(readClose(method(0, 10, 50, args))).toEqual({ replyCode: 320, replyText: 'a\ufffd' });
  });

  it('that is cut off is refused with 502', () => {
    const args = Buffer.concat([codeOctets(320), shortstr('text')]);
    for (let length = 0; length < args.length; length++) {
      const frame = amidst(method(0, 10, 50, args.subarray(0, length)), 0);
      expect(wireErrorOf(() => readClose(frame)).replyCode).toBe(502);
    }
  });

  it('is written as the specification has it', () => {
    const args = [codeOctets(503), shortstr('COMMAND_INVALID - no'), Buffer.of(0, 50, 0, 10)];
    const frame = method(0, 10, 50, Buffer.concat(args));
    expect(Buffer.from(encodeClose(503, 'no', 0x0032_000a))).toEqual(frame);
  });

  it('is written without a method at fault and without a name where there is none', () => {
    const frame = method(0, 10, 50, Buffer.concat([codeOctets(200), shortstr('bye'), Buffer.alloc(4)]));
    expect(Buffer.from(encodeClose(200, 'bye'))).toEqual(frame);
  });

  it('has at most 255 octets of text, cut between two characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 300, size: 'max' }), (text) => {
        const written = Buffer.from(encodeClose(320, text));
        const { replyText } = readClose(written);
        const whole = Buffer.from(`CONNECTION_FORCED - ${text}`).toString();
        expect(whole.startsWith(replyText)).toBe(true);
        const length = Buffer.byteLength(replyText);
        expect(replyText === whole || length > 255 - 4).toBe(true);
        expect(length).toBeLessThanOrEqual(255);
        const args = Buffer.concat([codeOctets(320), shortstr(replyText), Buffer.alloc(4)]);
        expect(written).toEqual(method(0, 10, 50, args));
      }),
      { numRuns: 200 },
    );
  });
});
