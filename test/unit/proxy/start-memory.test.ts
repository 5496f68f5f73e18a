import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { giveBackStartMemory } from '../../../proxy/start-memory.ts';

const collect = vi.fn();

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('gc', collect);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  collect.mockClear();
});

it('collects once, as thoroughly as V8 does, when the start is over', () => {
  giveBackStartMemory(() => false);
  expect(collect).not.toHaveBeenCalled();
  vi.advanceTimersByTime(60_000);
  expect(collect.mock.calls).toEqual([[{ type: 'major', execution: 'sync', flavor: 'last-resort' }]]);
});

it('stops nobody for it who is a client already', () => {
  giveBackStartMemory(() => true);
  vi.advanceTimersByTime(60_000);
  expect(collect).not.toHaveBeenCalled();
});

it('does nothing where Node is run without --expose-gc', () => {
  vi.unstubAllGlobals();
  giveBackStartMemory(() => false);
  expect(() => vi.advanceTimersByTime(60_000)).not.toThrow();
});
