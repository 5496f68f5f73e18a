// Events beside objects (events.k8s.io/v1): what people see in `kubectl describe`.
import { hostname } from 'node:os';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { LabelledCount } from '../metrics.ts';
import type { Api } from './api.ts';
import { fingerprint, textAt } from './json.ts';
import { EVENT } from './resources.ts';
import type { Json, KubeObject } from './types.ts';

/** Something to be told about an object. */
export interface ToldEvent {
  readonly type: 'Normal' | 'Warning';
  /** One word in capitals, such as ProxyInjected. */
  readonly reason: string;
  readonly note: string;
}

/** Who tells it. */
export interface Reporter {
  /** Such as quorumbridge.io/webhook. */
  readonly controller: string;
  /** What it does when it tells something, such as Admission. */
  readonly action: string;
  /** Which of several, such as the pod's name; default: the host's name. */
  readonly instance?: string;
}

/** How many Events became what; `known` has been told by another replica already. */
export type EventCount = LabelledCount<{
  reason: string;
  result: 'written' | 'known' | 'failed' | 'left out';
}>;

/** Limit of events.k8s.io/v1, in characters. */
const NOTE_MAX = 1024;
const CREATE_TIMEOUT_MS = 5000;
/** More than this are a flood, of which the first say enough. */
const EVENTS_PER_MINUTE = 60;

/** As metav1.MicroTime has it: six digits behind the dot, and no fewer. */
export function microTime(date: Date): string {
  return date.toISOString().replace(/\.(\d+)Z$/, '.$1000Z');
}

/**
 * The Event. Its name is made of what is told of which object, and of `once`: those who tell the same make the same Event,
 * of which the API server keeps one.
 */
export function eventOf(
  object: KubeObject,
  { type, reason, note }: ToldEvent,
  { controller, action, instance = hostname() }: Reporter,
  now: Date,
  once: Json,
): KubeObject {
  const [name, namespace, uid] = ['name', 'namespace', 'uid'].map(
    (key) => textAt(object, 'metadata', key) ?? '',
  );
  const told = fingerprint(JSON.stringify([uid, once, reason, note]));
  const text = note.length > NOTE_MAX ? `${note.slice(0, NOTE_MAX - 1)}…` : note;
  return {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { namespace, name: `${name!.slice(0, 200)}.${told}` },
    eventTime: microTime(now),
    type,
    reason,
    note: text,
    action,
    reportingController: controller,
    reportingInstance: instance.slice(0, 128),
    regarding: {
      apiVersion: object.apiVersion,
      kind: object.kind,
      namespace,
      name,
      uid,
      resourceVersion: textAt(object, 'metadata', 'resourceVersion') ?? '',
    },
  };
}

/** Writes Events: not too many, each in a bounded time, and nothing that goes wrong is thrown. */
export class EventWriter {
  readonly #settings: { readonly api: Api; readonly log: Logger; readonly count: EventCount };
  #minute = 0;
  #written = 0;

  constructor(settings: { readonly api: Api; readonly log: Logger; readonly count: EventCount }) {
    this.#settings = settings;
  }

  async write(event: KubeObject): Promise<void> {
    const { api, log, count } = this.#settings;
    const reason = textAt(event, 'reason') ?? '';
    const minute = Math.floor(performance.now() / 60_000);
    if (minute !== this.#minute) [this.#minute, this.#written] = [minute, 0];
    if (++this.#written > EVENTS_PER_MINUTE) {
      count.add({ reason, result: 'left out' });
      return;
    }
    try {
      const done = await api.create(EVENT, event, AbortSignal.timeout(CREATE_TIMEOUT_MS));
      count.add({ reason, result: done === 'created' ? 'written' : 'known' });
    } catch (error) {
      count.add({ reason, result: 'failed' });
      log.warn({ reason, why: messageOf(error) }, 'an Event could not be written');
    }
  }
}
