import { afterEach, expect, it, vi } from 'vitest';
import { Queues } from '../../../proxy/queues.ts';

afterEach(() => {
  vi.useRealTimers();
});

it('a queue that nobody has declared or consumed from for 30 minutes is none that goes with its last consumer', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  const queues = new Queues();
  const later = (minutes: number): boolean => {
    vi.advanceTimersByTime(minutes * 60_000);
    return queues.isAutoDelete('/', 'q');
  };
  queues.declaredAutoDelete('/', 'q');
  expect(later(29)).toBe(true);
  queues.consumerCame('/', 'q');
  expect(later(1000)).toBe(true);
  queues.consumerWent('/', 'q');
  expect(later(29)).toBe(true);
  expect(later(2)).toBe(false);
});

it('queues of one name in two virtual hosts are two', () => {
  const queues = new Queues();
  queues.declaredAutoDelete('ab', 'c');
  expect(queues.isAutoDelete('ab', 'c')).toBe(true);
  expect(queues.isAutoDelete('a', 'bc')).toBe(false);
});

it('remembers 20,000 auto-delete queues, and forgets the one that was declared longest ago', () => {
  const queues = new Queues();
  for (let i = 0; i < 20_000; i++) queues.declaredAutoDelete('/', `q${i}`);
  queues.declaredAutoDelete('/', 'q0');
  queues.declaredAutoDelete('/', 'one more');
  expect(['q0', 'q1', 'q2', 'one more'].map((name) => queues.isAutoDelete('/', name))).toEqual([
    true,
    false,
    true,
    true,
  ]);
});

it('tells the last consumer of a queue', () => {
  const queues = new Queues();
  queues.consumerCame('/', 'q');
  queues.consumerCame('/', 'q');
  expect([queues.consumerWent('/', 'q'), queues.consumerWent('/', 'q')]).toEqual([false, true]);
});

it('an exclusive consumer is released by its holder alone', () => {
  const queues = new Queues();
  const [one, other] = [{}, {}];
  queues.hold('/', 'q', one);
  queues.release('/', 'q', other);
  expect(queues.isInExclusiveUse('/', 'q')).toBe(true);
  queues.release('/', 'q', one);
  expect(queues.isInExclusiveUse('/', 'q')).toBe(false);
});
