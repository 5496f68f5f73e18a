import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { DelayLine } from '../../../../proxy/faults/delay-line.ts';

/** A line whose source tells what was done to it, and that notes what comes out and when. */
function lineOf(): { line: DelayLine; done: string[]; put: (name: string, octets?: number) => void } {
  const done: string[] = [];
  const line = new DelayLine({ pause: () => done.push('pause'), resume: () => done.push('resume') });
  return { line, done, put: (name, octets = 1) => line.hold(octets, () => done.push(name)) };
}

describe('a delay line', () => {
  it('is open without a delay, and from the end of a delay on', () => {
    const { line, done, put } = lineOf();
    expect([line.isOpen, line.isEmpty]).toEqual([true, true]);
    line.delay(10_000);
    put('one', 5);
    put('two', 6);
    expect([line.isOpen, line.length, done]).toEqual([false, 11, []]);
    line.delay(0);
    expect([line.isOpen, line.length, done]).toEqual([true, 0, ['one', 'two']]);
  });

  it('holds everything for as long as it is told to, in order', async () => {
    const { line, done, put } = lineOf();
    line.delay(40);
    const began = performance.now();
    let tookOne = 0;
    line.hold(1, () => (tookOne = performance.now() - began));
    put('two');
    await sleep(5);
    put('three');
    await expect.poll(() => done, { timeout: 10_000 }).toEqual(['two', 'three']);
    expect(tookOne).toBeGreaterThanOrEqual(40);
  });

  it('holds what is held already by a delay that is changed', async () => {
    const { line, done, put } = lineOf();
    line.delay(10_000);
    put('one');
    line.delay(1);
    put('two');
    await expect.poll(() => done, { timeout: 10_000 }).toEqual(['one', 'two']);
    line.delay(0);
    expect(line.isOpen).toBe(true);
  });

  it('pauses its source beyond a MiB, and lets it flow when less is held', () => {
    const { line, done, put } = lineOf();
    line.delay(10_000);
    put('much', 1 << 20);
    expect(done).toEqual([]);
    put('more');
    put('still more');
    expect(done).toEqual(['pause']);
    line.delay(0);
    expect(done).toEqual(['pause', 'much', 'more', 'still more', 'resume']);
  });

  it('pauses its source beyond so many chunks, each of which costs memory of its own', () => {
    const { line, done } = lineOf();
    line.delay(10_000);
    for (let chunk = 0; chunk < 5000; chunk++) line.hold(1, () => {});
    expect(done).toEqual(['pause']);
    line.drop();
    expect([line.isOpen, line.length, done]).toEqual([true, 0, ['pause', 'resume']]);
  });

  it('tells of an end when it drops what is held, also where nobody takes anything', () => {
    const { line, done, put } = lineOf();
    line.delay(10_000);
    put('octets');
    put('end', 0);
    line.pause();
    line.drop();
    expect([line.isOpen, done]).toEqual([true, ['pause', 'end']]);
  });

  it('passes nothing on while nobody takes it, and its source waits', () => {
    const { line, done, put } = lineOf();
    line.delay(10_000);
    put('one', 2 << 20);
    line.pause();
    line.pause();
    line.delay(0);
    put('two');
    expect([line.isOpen, done]).toEqual([false, ['pause']]);
    line.resume();
    expect(done).toEqual(['pause', 'one', 'two', 'resume']);
    line.resume();
    expect(done).toHaveLength(4);
  });

  it('stops where the taker stops it, and does not pass on within what it passes on', () => {
    const { line, done, put } = lineOf();
    line.delay(10_000);
    line.hold(1, () => {
      done.push('one');
      line.pause();
      line.resume();
      done.push('end of one');
    });
    line.hold(1, () => {
      done.push('two');
      line.pause();
    });
    put('three');
    line.delay(0);
    expect(done).toEqual(['one', 'pause', 'resume', 'end of one', 'two', 'pause']);
    line.resume();
    expect(done.slice(-2)).toEqual(['resume', 'three']);
  });
});
