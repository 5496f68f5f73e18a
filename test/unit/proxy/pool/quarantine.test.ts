import { describe, expect, it } from 'vitest';
import { Quarantine } from '../../../../proxy/pool/quarantine.ts';
import { PoolStats } from '../../../../proxy/pool/stats.ts';

const MINUTE = 60_000;

describe('Quarantine', () => {
  it('keeps an identity for ten minutes after its last offence', () => {
    let now = 0;
    const stats = new PoolStats();
    const quarantine = new Quarantine(
      stats,
      () => {},
      () => now,
    );
    quarantine.add('a', 'sent nonsense');
    now = 5 * MINUTE;
    quarantine.add('b', 'too slow');
    expect(stats.quarantined).toBe(2);
    quarantine.add('a', 'again');
    now = 10 * MINUTE;
    expect([quarantine.has('a'), quarantine.has('b'), quarantine.has('c')]).toEqual([true, true, false]);
    expect(quarantine.why('a')).toBe('again');
    now = 15 * MINUTE - 1;
    expect(quarantine.has('a')).toBe(true);
    now = 15 * MINUTE;
    quarantine.sweep();
    expect([quarantine.size, stats.quarantined, quarantine.has('a')]).toEqual([0, 0, false]);
  });

  it('tells of each identity once, as long as it is kept', () => {
    let now = 0;
    const told: string[] = [];
    const quarantine = new Quarantine(
      new PoolStats(),
      (identity, why) => told.push(`${identity} ${why}`),
      () => now,
    );
    quarantine.add('a', 'first');
    quarantine.add('a', 'second');
    quarantine.add('b', 'third');
    now = 10 * MINUTE;
    quarantine.add('a', 'fourth');
    expect(told).toEqual(['a first', 'b third', 'a fourth']);
  });

  it('keeps ten thousand, and lets the oldest go first', () => {
    const quarantine = new Quarantine(
      new PoolStats(),
      () => {},
      () => 0,
    );
    for (let at = 0; at < 10_000; at++) quarantine.add(String(at), 'why');
    quarantine.add('0', 'again');
    quarantine.add('more', 'why');
    expect(quarantine.size).toBe(10_000);
    expect([quarantine.has('0'), quarantine.has('1'), quarantine.has('2'), quarantine.has('more')]).toEqual([
      true,
      false,
      true,
      true,
    ]);
  });
});
