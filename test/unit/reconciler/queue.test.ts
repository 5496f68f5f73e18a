import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BACKOFF, BUCKET, type Timers, WorkQueue } from '../../../reconciler/queue.ts';

/** A clock that goes only when told to. */
class Clock implements Timers {
  #now = 0;
  #next = 0;
  readonly #timers = new Map<number, { at: number; fire: () => void }>();

  readonly now = (): number => this.#now;

  after(ms: number, fire: () => void): () => void {
    const id = this.#next++;
    this.#timers.set(id, { at: this.#now + ms, fire });
    return () => void this.#timers.delete(id);
  }

  get waiting(): number {
    return this.#timers.size;
  }

  /** Lets so many milliseconds pass, timer by timer, and what each of them starts get as far as it can. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await settle();
      const due = [...this.#timers].filter(([, { at }]) => at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (due === undefined) break;
      const [id, { at, fire }] = due;
      this.#timers.delete(id);
      this.#now = Math.max(this.#now, at);
      fire();
    }
    this.#now = end;
    await settle();
  }
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Run {
  key: string;
  from: number;
  to: number;
}

/** A queue on a clock of its own; each run takes `takes` milliseconds. */
function started({
  takes = 0,
  workers = 2,
}: { takes?: number | ((key: string) => number); workers?: number } = {}) {
  const clock = new Clock();
  const runs: Run[] = [];
  const queue = new WorkQueue({
    workers,
    timers: clock,
    random: () => 0.5,
    process: async (key) => {
      const run: Run = { key, from: clock.now(), to: Infinity };
      runs.push(run);
      const ms = typeof takes === 'number' ? takes : takes(key);
      if (ms > 0) await new Promise<void>((resolve) => void clock.after(ms, resolve));
      run.to = clock.now();
    },
  });
  queue.start();
  return { clock, queue, runs };
}

describe('the work queue', () => {
  it('runs a key once however often it is added while it waits, and again when it is added while it runs', async () => {
    const { clock, queue, runs } = started({ takes: 10, workers: 1 });
    queue.add('busy');
    for (const _ of [1, 2, 3]) queue.add('a');
    expect(queue).toMatchObject({ depth: 1, running: 1 });
    await clock.pass(15);
    queue.add('a');
    queue.add('a');
    await clock.pass(100);
    expect(runs.map(({ key }) => key)).toEqual(['busy', 'a', 'a']);
    expect(queue).toMatchObject({ depth: 0, running: 0 });
  });

  it('keeps what is added before the start', async () => {
    const ran: string[] = [];
    const queue = new WorkQueue({ workers: 1, process: async (key) => void ran.push(key) });
    queue.add('a');
    queue.add('a');
    queue.add('b');
    expect([queue.depth, ran]).toEqual([2, []]);
    queue.start();
    queue.start();
    await settle();
    expect(ran).toEqual(['a', 'b']);
  });

  it('takes the earliest of several times, and none of them twice', async () => {
    const { clock, queue, runs } = started();
    queue.addAfter('a', 500);
    queue.addAfter('a', 200);
    queue.addAfter('a', 300);
    await clock.pass(2000);
    expect(runs.map(({ from }) => from)).toEqual([200]);
    expect(clock.waiting).toBe(0);
  });

  it('lets a run for another reason be the one that was to come later', async () => {
    const { clock, queue, runs } = started();
    queue.addAfter('a', 500);
    await clock.pass(100);
    queue.add('a');
    await clock.pass(2000);
    expect(runs.map(({ from }) => from)).toEqual([100]);
  });

  it('retries later each time, up to a minute, and from the start again once it is forgotten', async () => {
    const { queue } = started();
    const pauses = Array.from({ length: 14 }, () => queue.retry('a'));
    expect(pauses.slice(0, 5)).toEqual([50, 100, 200, 400, 800]);
    expect(pauses.slice(-2)).toEqual([BACKOFF.maxMs, BACKOFF.maxMs]);
    queue.forget('a');
    expect(queue.retry('a')).toBe(BACKOFF.firstMs);
    expect(queue.retry('b')).toBe(BACKOFF.firstMs);
  });

  it('spreads retries by a fifth to both sides', () => {
    const pauseWith = (random: number): number => {
      const queue = new WorkQueue({ workers: 1, random: () => random, process: async () => {} });
      const pause = queue.retry('a');
      void queue.stop();
      return pause;
    };
    expect([0, 0.5, 1].map(pauseWith)).toEqual([40, 50, 60]);
  });

  it('begins so many runs at once and then so many a second, of a key that wakes itself as well', async () => {
    const clock = new Clock();
    let runs = 0;
    const queue: WorkQueue = new WorkQueue({
      workers: 2,
      timers: clock,
      process: async (key) => {
        runs++;
        queue.add(key);
      },
    });
    queue.start();
    queue.add('a');
    await clock.pass(0);
    expect(runs).toBe(BUCKET.burst);
    await clock.pass(10_000);
    expect(runs).toBeGreaterThanOrEqual(BUCKET.burst + 10 * BUCKET.perSecond - 1);
    expect(runs).toBeLessThanOrEqual(BUCKET.burst + 10 * BUCKET.perSecond);
    await queue.stop();
  });

  it('ends what it works at and begins nothing more when it is stopped', async () => {
    const { clock, queue, runs } = started({ takes: 50, workers: 1 });
    queue.add('a');
    queue.add('b');
    queue.addAfter('c', 10);
    let isStopped = false;
    const stopped = queue.stop().then(() => (isStopped = true));
    queue.add('d');
    queue.addAfter('d', 1);
    await clock.pass(40);
    expect(isStopped).toBe(false);
    await clock.pass(500);
    await stopped;
    expect(runs.map(({ key, to }) => [key, to])).toEqual([['a', 50]]);
    expect(clock.waiting).toBe(0);
    await queue.stop();
  });
});

const KEYS = ['a', 'b', 'c', 'd'];
const key = fc.constantFrom(...KEYS);
const ms = fc.integer({ min: 0, max: 2000 });
type Action =
  | { type: 'add' | 'retry' | 'forget'; key: string }
  | { type: 'addAfter'; key: string; ms: number }
  | { type: 'pass'; ms: number };
const action: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ type: fc.constant('add' as const), key }),
  fc.record({ type: fc.constant('addAfter' as const), key, ms }),
  fc.record({ type: fc.constant('retry' as const), key }),
  fc.record({ type: fc.constant('forget' as const), key }),
  fc.record({ type: fc.constant('pass' as const), ms }),
);

describe('the work queue, whatever it is told', () => {
  const TAKES = 40;
  const play = async (actions: readonly Action[], workers: number) => {
    const { clock, queue, runs } = started({ takes: TAKES, workers });
    const asked: { key: string; at: number; by: number }[] = [];
    for (const step of actions) {
      const at = clock.now();
      if (step.type === 'pass') await clock.pass(step.ms);
      else if (step.type === 'forget') queue.forget(step.key);
      else if (step.type === 'add') {
        queue.add(step.key);
        asked.push({ key: step.key, at, by: at });
      } else if (step.type === 'addAfter') {
        queue.addAfter(step.key, step.ms);
        asked.push({ key: step.key, at, by: at + step.ms });
      } else asked.push({ key: step.key, at, by: at + queue.retry(step.key) });
    }
    await clock.pass(120_000);
    return { asked, runs, clock, queue };
  };

  it('never works at a key twice at a time, nor at more keys than it has workers', async () => {
    const property = fc.asyncProperty(
      fc.array(action, { maxLength: 60 }),
      fc.integer({ min: 1, max: 3 }),
      async (actions, workers) => {
        const { runs } = await play(actions, workers);
        const overlapping = runs.filter((run, index) =>
          runs.some((other, at) => at < index && other.key === run.key && other.to > run.from),
        );
        expect(overlapping).toEqual([]);
        for (const { from } of runs)
          expect(runs.filter((other) => other.from <= from && other.to > from).length).toBeLessThanOrEqual(
            workers,
          );
      },
    );
    await fc.assert(property, { numRuns: 150 });
  });

  it('loses nothing: whatever is asked for begins afterwards, and in time', async () => {
    const property = fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
      const { asked, runs } = await play(actions, KEYS.length);
      // The bucket is larger than all that is asked for here.
      for (const { key, at, by } of asked) {
        const answering = runs.filter((run) => run.key === key && run.from >= at && run.from <= by + TAKES);
        expect(answering, `${key} asked for at ${at} by ${by}`).not.toEqual([]);
      }
    });
    await fc.assert(property, { numRuns: 150 });
  });

  it('runs no more often than it is asked to, and remembers nothing in the end', async () => {
    const property = fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
      const { asked, runs, clock, queue } = await play(actions, 2);
      for (const key of KEYS)
        expect(runs.filter((run) => run.key === key).length).toBeLessThanOrEqual(
          asked.filter((one) => one.key === key).length,
        );
      expect(clock.waiting).toBe(0);
      expect(queue).toMatchObject({ depth: 0, running: 0 });
    });
    await fc.assert(property, { numRuns: 150 });
  });
});
