import { expect, it } from 'vitest';
import { blocks } from '../../../../proxy/pool/blocks.ts';

it('large arrays are handed out again once they have been given back, and not before', () => {
  const first = blocks.take(100_000);
  expect(first.length).toBeGreaterThanOrEqual(100_000);
  const second = blocks.take(100_000);
  expect(second.buffer).not.toBe(first.buffer);
  blocks.give(first.subarray(0, 10));
  expect(blocks.take(101_000).buffer).toBe(first.buffer);
});

it('a copy has the octets, and lies in an array that can be given back', () => {
  const octets = Buffer.alloc(20_000, 0x61);
  const copy = blocks.copy(octets);
  octets.fill(0);
  expect(Buffer.from(copy)).toEqual(Buffer.alloc(20_000, 0x61));
  expect(blocks.owns(copy)).toBe(true);
});

it.for([0, 1, 100, 255, 1 << 20])(
  "%i octets are in an array that is nobody else's, and is not kept",
  (length) => {
    const octets = blocks.take(length);
    expect(octets).toHaveLength(length);
    expect(blocks.owns(octets)).toBe(false);
  },
);

it('no more than some MiB are kept for those that come', () => {
  const taken = Array.from({ length: 40 }, () => blocks.take(200_000));
  for (const block of taken) blocks.give(block);
  const buffers = new Set(taken.map(({ buffer }) => buffer));
  const again = taken.map(() => blocks.take(200_000));
  const kept = again.filter(({ buffer }) => buffers.has(buffer));
  expect(kept.length * taken[0]!.length).toBeLessThanOrEqual(4 << 20);
  expect(kept.length).toBeGreaterThan(0);
});
