// What has to hold at the end of a soak, and the figures of it.
import type { Figures, Mode } from './proxy.ts';

/** A line of the table at the end. */
export interface Check {
  readonly what: string;
  /** The figures, for a person. */
  readonly seen: string;
  readonly holds: boolean;
}

export interface MemoryFigures {
  readonly mode: Mode;
  /** The median of resident memory between two moments, in seconds since the start and octets. */
  readonly between: (from: number, to: number) => number;
  /** How long the traffic was to flow. */
  readonly seconds: number;
}

/** How much larger resident memory may be at the end. */
const GROWTH_PERCENT = 10;
/** The same where V8's heap, which grows with the first work that it gets, has not settled before what it is held against. */
const YOUNG_GROWTH_PERCENT = 25;
/** The heap is as large as the traffic makes it. */
const SETTLED_SECONDS = 120;
/** All that happens during a soak happens once in so long: what is compared has seen the same. */
const WINDOW_SECONDS = 120;
/** Connections that come and go by themselves: of a scrape, of the question whether the broker is there. */
const SPARE_DESCRIPTORS = 3;

/** What is 0 when no client is there. */
const AT_REST = [
  'connections_active',
  'connections_open',
  'channels_open',
  'buffered_bytes',
  'pool_connections',
  'pool_channels',
  'pool_waiting',
] as const;

export function mebi(octets: number): string {
  return `${(octets / 2 ** 20).toFixed(1)} MiB`;
}

/** Holds the memory of the last minutes against that of the minutes that followed the first two. */
export function judgeMemory({ mode, between, seconds }: MemoryFigures, minutes: number): Check {
  const isYoung = minutes < 3;
  const from = isYoung ? seconds / 2 : SETTLED_SECONDS;
  const window = Math.min(WINDOW_SECONDS, (seconds - from) / 2);
  const [first, last] = [between(from, from + window), between(seconds - window, seconds)];
  const growth = (last / first - 1) * 100;
  const most = isYoung ? YOUNG_GROWTH_PERCENT : GROWTH_PERCENT;
  const why = isYoung ? ', since the heap has not settled in so short a time' : '';
  const span = (start: number) => `${start} to ${start + window} s`;
  return {
    what: `${mode}: resident memory`,
    seen:
      `${mebi(first)} from ${span(from)}, ${mebi(last)} from ${span(seconds - window)}: ` +
      `${growth < 0 ? '' : '+'}${growth.toFixed(1)} %, at most +${most} %${why}`,
    holds: last * 100 <= first * (100 + most),
  };
}

/** Whether a proxy without clients holds nothing for them. */
export function judgeRest(
  mode: Mode,
  { before, after, figures }: { before: number; after: number; figures: Figures },
): Check[] {
  const held = AT_REST.filter((name) => figures.of(name) !== 0);
  const [opened, closed] = [figures.of('channels_opened_total'), figures.of('channels_closed_total')];
  const connections = figures.of('connections_total');
  return [
    {
      what: `${mode}: descriptors at rest`,
      seen: `${before} before, ${after} after`,
      holds: after <= before + SPARE_DESCRIPTORS,
    },
    {
      what: `${mode}: metrics at rest`,
      seen:
        held.length > 0
          ? held.map((name) => `${name} ${figures.of(name)}`).join(', ')
          : `${connections} connections were there, ${opened} channels opened and ${closed} closed`,
      holds: held.length === 0 && opened === closed,
    },
  ];
}
