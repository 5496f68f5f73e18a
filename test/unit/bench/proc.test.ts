import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import {
  cpuOf,
  familyOf,
  parseKilobytes,
  parseSchedstat,
  parseStat,
  pssOf,
  rssOf,
  threadsCpu,
} from '../../../bench/proc.ts';

const stat = (utime: number, stime: number, name = 'node'): string =>
  `4242 (${name}) S 17 4242 4242 0 -1 4194560 100 0 0 0 ${utime} ${stime} 3 4 20 0 11 0 1000 2000 300`;

describe('what /proc says of a process', () => {
  it('is read behind a name that holds anything', () => {
    expect(parseStat(stat(7, 5))).toEqual({ parent: 17, cpu: 120_000_000 });
    expect(parseStat(stat(7, 5, 'a) S 1 (b'))).toEqual({ parent: 17, cpu: 120_000_000 });
  });

  it('has the CPU of each thread in nanoseconds', () => {
    expect(parseSchedstat('330993316 18087 15\n')).toBe(330_993_316);
    expect(threadsCpu(['1500 1 1\n', '2500 1 1\n'], stat(0, 0))).toBe(4000);
  });

  it('has the CPU of ended threads in ticks', () => {
    expect(threadsCpu(['1000000000 1 1\n'], stat(80, 20))).toBe(1_000_000_000);
    expect(threadsCpu(['1000000000 1 1\n'], stat(180, 22))).toBe(2_000_000_000);
  });

  it('has memory in kB', () => {
    expect(parseKilobytes('VmPeak:\t  99 kB\nVmRSS:\t   1852 kB\n', 'VmRSS')).toBe(1852 * 1024);
    expect(() => parseKilobytes('VmPeak:\t  99 kB\n', 'VmRSS')).toThrow('no VmRSS among what /proc says');
  });
});

describe('a process that runs', () => {
  it('has the CPU and the memory that it says itself', () => {
    const { user, system } = process.cpuUsage();
    const seen = cpuOf(process.pid);
    // A running thread lags by a tick of the scheduler.
    expect(Math.abs(seen - user - system)).toBeLessThan(0.02 * (user + system) + 50_000);
    expect(rssOf(process.pid) / process.memoryUsage.rss()).toBeCloseTo(1, 0);
  });

  it('has no more memory to itself than it has in all, since others run the same program', () => {
    const [alone, all] = [pssOf(process.pid), rssOf(process.pid)];
    expect(alone).toBeGreaterThan(all / 4);
    expect(alone).toBeLessThan(1.2 * all); // it allocates between the two
  });

  it('has a family: all that it started, and what that started', async () => {
    const shell = spawn('sh', ['-c', 'sleep 60 & echo $!; wait'], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      const [line] = (await once(shell.stdout, 'data')) as [Buffer];
      const family = familyOf(shell.pid!);
      expect(family).toEqual([shell.pid, Number(line.toString())]);
      expect(familyOf(process.pid)).toEqual(expect.arrayContaining(family));
      process.kill(Number(line.toString()));
    } finally {
      shell.kill('SIGKILL');
    }
  });
});
