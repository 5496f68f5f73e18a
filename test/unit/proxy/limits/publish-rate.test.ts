import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { PublishRate, type PublishTurn } from '../../../../proxy/limits/publish-rate.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});

afterEach(() => {
  vi.useRealTimers();
});

/** A connection that publishes as fast as it may, as a stream does: what must wait holds all behind it. */
class Stream {
  sent = 0;
  waits = 0;
  readonly #turn: PublishTurn;
  #left = 0;

  constructor(rate: PublishRate) {
    this.#turn = rate.join();
  }

  publish(count: number): void {
    const isHeld = this.#left > 0;
    this.#left += count;
    if (!isHeld) this.#go();
  }

  get left(): number {
    return this.#left;
  }

  end(): void {
    this.#turn.leave();
  }

  #go(): void {
    while (this.#left > 0) {
      if (!this.#turn.take()) {
        this.waits++;
        this.#turn.wait(() => {
          this.#pass();
          this.#go();
        });
        return;
      }
      this.#pass();
    }
  }

  #pass(): void {
    this.sent++;
    this.#left--;
  }
}

describe('what the connections of one user publish', () => {
  it('never is more than rate × time + burst, and all of it goes', () => {
    const plan = fc.record({
      rate: fc.integer({ min: 1, max: 500 }),
      loads: fc.array(fc.array(fc.nat({ max: 300 }), { minLength: 1, maxLength: 3 }), {
        minLength: 1,
        maxLength: 6,
      }),
      pause: fc.integer({ min: 0, max: 1500 }),
    });
    fc.assert(
      fc.property(plan, ({ rate, loads, pause }) => {
        const limiter = new PublishRate(rate, true, { hit: () => {} });
        const began = performance.now();
        const streams = loads.map(() => new Stream(limiter));
        const sent = (): number => streams.reduce((sum, stream) => sum + stream.sent, 0);
        const isBounded = (): void =>
          expect(sent()).toBeLessThanOrEqual((rate * (performance.now() - began)) / 1000 + rate + 1e-6);
        for (let round = 0; round < 3; round++) {
          for (const [i, stream] of streams.entries()) stream.publish(loads[i]![round] ?? 0);
          isBounded();
          for (let ms = 0; ms < pause; ms += 50) {
            vi.advanceTimersByTime(50);
            isBounded();
          }
        }
        const total = loads.flat().reduce((sum, count) => sum + count, 0);
        // What is left takes its time, and at most a timer's rounding up for each batch more.
        vi.advanceTimersByTime((total / rate) * 1000 * 1.25 + 2000);
        expect(sent()).toBe(total);
        isBounded();
      }),
      { numRuns: 150 },
    );
  });

  it('is shared alike by those that want more, however much one of them wants', () => {
    const limiter = new PublishRate(100, true, { hit: () => {} });
    const streams = [5000, 400, 400, 400].map((count) => {
      const stream = new Stream(limiter);
      stream.publish(count);
      return stream;
    });
    vi.advanceTimersByTime(8000);
    // The burst of a second went to the first one.
    expect(streams[0]!.sent).toBeGreaterThan(250);
    for (const { sent } of streams.slice(1)) {
      expect(sent).toBeGreaterThan(180);
      expect(sent).toBeLessThan(220);
    }
  });

  it('goes on for the others when one that waits ends, and without a timer when none is left', () => {
    const limiter = new PublishRate(10, true, { hit: () => {} });
    const [one, other] = [new Stream(limiter), new Stream(limiter)];
    one.publish(30);
    other.publish(5);
    expect([one.sent, other.sent]).toEqual([10, 0]);
    one.end();
    vi.advanceTimersByTime(1000);
    expect([one.sent, other.sent]).toEqual([10, 5]);
    other.publish(50);
    other.end();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('is counted and passes where it is only told', () => {
    let hits = 0;
    const limiter = new PublishRate(10, false, { hit: () => hits++ });
    const stream = new Stream(limiter);
    stream.publish(25);
    expect([stream.sent, stream.waits, hits]).toEqual([25, 0, 15]);
  });

  it('goes on by another rate at once, with what was left of the old one', () => {
    const limiter = new PublishRate(10, true, { hit: () => {} });
    const stream = new Stream(limiter);
    stream.publish(1000);
    expect(stream.sent).toBe(10);
    limiter.use(100, true);
    expect(stream.sent).toBe(10);
    vi.advanceTimersByTime(1000);
    expect(stream.sent).toBeGreaterThan(100);
    expect(stream.sent).toBeLessThanOrEqual(110);
    const before = stream.sent;
    limiter.use(1, true);
    vi.advanceTimersByTime(3000);
    expect(stream.sent - before).toBeGreaterThanOrEqual(2);
    expect(stream.sent - before).toBeLessThanOrEqual(4);
  });

  it.each([
    ['there is no limit any more', 0, true],
    ['the limit is only told', 1, false],
  ])('is all let go where %s', (_name, rate, enforce) => {
    const limiter = new PublishRate(1, true, { hit: () => {} });
    const streams = [new Stream(limiter), new Stream(limiter)];
    for (const stream of streams) stream.publish(50);
    limiter.use(rate, enforce);
    expect(streams.map(({ sent }) => sent)).toEqual([50, 50]);
    expect(vi.getTimerCount()).toBe(0);
    for (const stream of streams) stream.end();
    vi.advanceTimersByTime(2000);
    expect(limiter.isIdle(performance.now())).toBe(true);
  });

  it('has no limit, and then one', () => {
    const limiter = new PublishRate(0, true, { hit: () => {} });
    const stream = new Stream(limiter);
    stream.publish(50);
    expect(stream.sent).toBe(50);
    limiter.use(10, true);
    stream.publish(50);
    expect(stream.sent).toBe(60);
  });

  it('can be forgotten when nobody is there and the second is over', () => {
    const limiter = new PublishRate(10, true, { hit: () => {} });
    const stream = new Stream(limiter);
    stream.publish(5);
    stream.end();
    expect(limiter.isIdle(performance.now())).toBe(false);
    vi.advanceTimersByTime(500);
    expect(limiter.isIdle(performance.now())).toBe(true);
    limiter.join();
    expect(limiter.isIdle(performance.now())).toBe(false);
  });
});
