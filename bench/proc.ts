import { readdirSync, readFileSync } from 'node:fs';

// What Linux says of a process in /proc: CPU by its scheduler's own count, in nanoseconds, and memory.

/** Linux shows CPU in hundredths of a second in /proc/PID/stat, whatever its kernel is built with. */
const TICK_NS = 10_000_000;

/** The parent, and the CPU of all threads that it has and had, in nanoseconds: whole ticks. */
export function parseStat(stat: string): { parent: number; cpu: number } {
  // The second field, the name in brackets, may hold anything; ppid is the 4th, utime and stime are the 14th and 15th.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { parent: Number(fields[1]), cpu: (Number(fields[11]) + Number(fields[12])) * TICK_NS };
}

/** The time on a CPU in a thread's schedstat, in nanoseconds. */
export function parseSchedstat(schedstat: string): number {
  return Number(schedstat.slice(0, schedstat.indexOf(' ')));
}

/** A field of /proc/PID/status or smaps_rollup that is in kB, as octets. */
export function parseKilobytes(text: string, field: string): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text);
  if (found === null) throw new Error(`no ${field} among what /proc says of the process`);
  return Number(found[1]) * 1024;
}

/**
 * CPU in nanoseconds: of the threads that there are, to the nanosecond as far as they sleep (a running one lags by up to a
 * scheduler's tick); ended threads are in `stat` alone, whose ticks may run behind by one of each kind.
 */
export function threadsCpu(schedstats: readonly string[], stat: string): number {
  const living = schedstats.map(parseSchedstat).reduce((sum, cpu) => sum + cpu, 0);
  return Math.max(living, parseStat(stat).cpu - 2 * TICK_NS);
}

/** The process and those below it: a proxy with workers is all of them. */
export function familyOf(pid: number): number[] {
  const family = [pid];
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readIfThere(`/proc/${name}/stat`);
    if (stat !== undefined) parents.set(Number(name), parseStat(stat).parent);
  }
  for (const member of family) {
    for (const [child, parent] of parents) if (parent === member) family.push(child);
  }
  return family;
}

/** CPU that the process has used so far, in microseconds. */
export function cpuOf(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  const schedstats = threads
    .map((thread) => readIfThere(`/proc/${pid}/task/${thread}/schedstat`))
    .filter((text) => text !== undefined);
  return threadsCpu(schedstats, readFileSync(`/proc/${pid}/stat`, 'utf8')) / 1000;
}

/** Memory that the process has resident, in octets. */
export function rssOf(pid: number): number {
  return parseKilobytes(readFileSync(`/proc/${pid}/status`, 'utf8'), 'VmRSS');
}

/** The same with a page that n processes share counted as a part of n: what ends with the process, and its share of the rest. */
export function pssOf(pid: number): number {
  return parseKilobytes(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'), 'Pss');
}

/** The text of a file of a process or thread, which may have ended meanwhile. */
function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
