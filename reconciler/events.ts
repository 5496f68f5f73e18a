import type { Api } from '../common/kube/api.ts';
import { EventWriter, eventOf } from '../common/kube/events.ts';
import { textAt } from '../common/kube/json.ts';
import type { KubeObject } from '../common/kube/types.ts';
import type { Logger } from '../common/log.ts';
import type { ReconcilerStats } from './metrics.ts';
import type { Telling } from './types.ts';

/** Tells something about an object by an Event, now or never; nothing that goes wrong is thrown. */
export type Tell = (object: KubeObject, telling: Telling) => void;

const REPORTER = { controller: 'quorumbridge.io/reconciler', action: 'Reconcile' } as const;
/** The same is told again only after this time. */
const SAME_MS = 10 * 60_000;
/** What was told of objects, at most: beyond it the name of the Event alone tells what was said already. */
const REMEMBERED_MAX = 1000;

/**
 * Writes Events. What was told of an object within ten minutes is not told again, also not by another replica or after a
 * restart: then the Event has the name of the one that is there.
 */
export function createTeller(settings: {
  readonly api: Api;
  readonly log: Logger;
  readonly stats: ReconcilerStats;
  /** Milliseconds since 1970; default Date.now. */
  readonly now?: () => number;
}): Tell {
  const { api, log, stats, now = Date.now } = settings;
  const writer = new EventWriter({ api, log, count: stats.events });
  /** When it was told last; the oldest first. */
  const told = new Map<string, number>();
  return (object, telling) => {
    const time = now();
    const id = [textAt(object, 'metadata', 'uid') ?? '', telling.reason, telling.note].join('\0');
    const last = told.get(id);
    if (last !== undefined && time - last < SAME_MS) return;
    told.delete(id);
    told.set(id, time);
    if (told.size > REMEMBERED_MAX)
      for (const oldest of told.keys()) if (told.size > REMEMBERED_MAX) told.delete(oldest);
    const window = Math.floor(time / SAME_MS);
    void writer.write(eventOf(object, telling, REPORTER, new Date(time), window));
  };
}
