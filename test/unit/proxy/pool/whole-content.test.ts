import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChannelState } from '../../../../proxy/pool/channel-state.ts';
import { WholeContent } from '../../../../proxy/pool/whole-content.ts';
import { frame, method, shortstr } from '../../../support/amqp-frames.ts';

/** basic.deliver with its content: `size` octets in frames of at most `cut`. */
function delivery(size: number, cut: number): Buffer[] {
  const args = Buffer.concat([shortstr('tag'), Buffer.alloc(8), Buffer.of(0), shortstr(''), shortstr('key')]);
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60, 0);
  header.writeBigUInt64BE(BigInt(size), 4);
  const bodies: Buffer[] = [];
  for (let left = size; left > 0; left -= cut) bodies.push(frame(3, 1, Buffer.alloc(Math.min(left, cut), 7)));
  return [method(1, 60, 60, args), frame(2, 1, header), ...bodies];
}

/** What is handed over after each frame. */
function handOver(frames: readonly Buffer[]): Buffer[] {
  const state = new ChannelState({ resume: true });
  const content = new WholeContent();
  return frames.map((one) => {
    state.heard(one[0]!, one[0] === 1 ? one.readUInt32BE(7) : 0, one, 0, one.length);
    const parts = content.add(state, one, 0, one.length);
    return parts === undefined ? one : Buffer.concat(parts);
  });
}

describe('messages of a channel that may be resumed', () => {
  it('are handed over whole, and other frames at once; all in order', () => {
    const ack = method(1, 60, 80, Buffer.alloc(9));
    const part = fc.oneof(
      fc.tuple(fc.nat(300), fc.integer({ min: 1, max: 100 })).map(([size, cut]) => delivery(size, cut)),
      fc.constant([ack]),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
        const frames = parts.flat();
        const handed = handOver(frames);
        expect(Buffer.concat(handed)).toEqual(Buffer.concat(frames));
        let at = -1;
        const atEnd = parts.map((own) => handed[(at += own.length)]);
        expect(atEnd.map((octets) => octets?.length)).toEqual(parts.map((own) => Buffer.concat(own).length));
      }),
    );
  });

  it('of more than is held go on in pieces', () => {
    const frames = delivery(600_000, 100_000);
    const handed = handOver(frames);
    expect(Buffer.concat(handed)).toEqual(Buffer.concat(frames));
    expect(handed.map(({ length }) => length > 0)).toEqual([
      false,
      false,
      false,
      false,
      true,
      true,
      true,
      true,
    ]);
  });

  it('begin anew behind such a one', () => {
    const frames = [...delivery(600_000, 100_000), ...delivery(10, 5)];
    expect(
      handOver(frames)
        .slice(-4)
        .map(({ length }) => length > 0),
    ).toEqual([false, false, false, true]);
  });
});
