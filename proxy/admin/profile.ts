import { setTimeout as delay } from 'node:timers/promises';
import { getHeapSpaceStatistics, getHeapStatistics } from 'node:v8';
import type { HeapDocument } from './documents.ts';

export type ProfileKind = 'cpu' | 'heap';

/** Profiles, one at a time: each slows the proxy down a little. */
export class Profiler {
  isBusy = false;

  /**
   * What the proxy does with its time, or who takes its memory, in so many seconds.
   * @returns JSON: a .cpuprofile or a .heapprofile, which the developer tools of Chromium and editors open. It names
   *   functions and has no data of clients, as a heap snapshot would.
   */
  async take(kind: ProfileKind, seconds: number, signal: AbortSignal): Promise<string> {
    this.isBusy = true;
    // Loaded for this alone.
    const { Session } = process.getBuiltinModule('node:inspector/promises');
    const session = new Session();
    try {
      session.connect();
      if (kind === 'cpu') {
        await session.post('Profiler.enable');
        await session.post('Profiler.start');
      } else await session.post('HeapProfiler.startSampling', { samplingInterval: 32_768 });
      // Nobody waiting for it any more ends it early.
      await delay(seconds * 1000, undefined, { signal }).catch(() => {});
      const { profile } =
        kind === 'cpu'
          ? await session.post('Profiler.stop')
          : await session.post('HeapProfiler.stopSampling');
      return JSON.stringify(profile);
    } finally {
      session.disconnect();
      this.isBusy = false;
    }
  }
}

/** The heap's sizes, in octets. */
export function describeHeap(): HeapDocument {
  return {
    residentOctets: process.memoryUsage.rss(),
    heap: { ...getHeapStatistics() },
    spaces: getHeapSpaceStatistics().map((space) => ({
      name: space.space_name,
      size: space.space_size,
      used: space.space_used_size,
      available: space.space_available_size,
    })),
  };
}
