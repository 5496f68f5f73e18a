import {
  cycling,
  delivering,
  memory,
  publishing,
  quorum,
  quorumCycling,
  roundTrips,
  type Run,
  small,
} from './runs.ts';

// What is measured, and what is aimed at.

/** How a figure is judged: against HAProxy's, or direct's, of the same round, or by itself. */
export type Measure =
  /** CPU, as a ratio to HAProxy's. */
  | 'cpu'
  /** Cycles a second, as a ratio to direct's. */
  | 'rate'
  /** What is added to direct's round trip, in microseconds. */
  | 'added'
  /** Resident memory in MiB. */
  | 'memory';

export type World = 'near' | 'far' | 'fresh' | 'rabbit';

/** A row of the table. */
export interface Case {
  readonly name: string;
  readonly title: string;
  readonly measure: Measure;
  /** What is aimed at: at most, but for a rate at least; undefined: nothing. */
  readonly limits: { readonly transparent: number; readonly pool: number } | undefined;
  /**
   * What a target is in front of: the sink, near or 20 ms away, or a RabbitMQ; `fresh`: the sink, and the target is started
   * for each run.
   */
  readonly world: World;
  /** Whether clients speak TLS. */
  readonly tls: boolean;
  /** Messages or cycles of a run, and of one of --quick; undefined: not then. */
  readonly count: number;
  readonly quick: number | undefined;
  readonly run: Run;
}

const KIB = 1024;
const MIB = 1024 * KIB;

type Limits = readonly [transparent: number, pool: number];

/** Messages as fast as they are taken: `octets` in all, and a quarter of that with --quick, which has none of 16 KiB. */
function bulk(name: string, title: string, limits: Limits, octets: number, size: number, run: Run): Case {
  return {
    name,
    title,
    measure: 'cpu',
    limits: { transparent: limits[0], pool: limits[1] },
    world: 'near',
    tls: name.endsWith('-tls'),
    count: Math.ceil(octets / size),
    quick: size === 16 * KIB ? undefined : Math.ceil(octets / 4 / size),
    run,
  };
}

/** What isn't told by its octets. */
function other(
  name: string,
  title: string,
  measure: Measure,
  limits: Limits | undefined,
  what: Pick<Case, 'world' | 'count' | 'run'> & { quick?: number },
): Case {
  const both = limits && { transparent: limits[0], pool: limits[1] };
  return { name, title, measure, limits: both, tls: name.endsWith('-tls'), quick: undefined, ...what };
}

const near = { world: 'near' } as const;
const far = { world: 'far', count: 500 } as const;
const fresh = { world: 'fresh', run: memory } as const;
const rabbit = { world: 'rabbit' } as const;

/** The rows, in their order. */
export const CASES: readonly Case[] = [
  bulk('publish-16', 'publish 16 B', [1.6, 2], 24 * MIB, 16, publishing(16)),
  bulk('publish-1k', 'publish 1 KiB', [1, 1.15], 192 * MIB, KIB, publishing(KIB)),
  bulk('publish-16k', 'publish 16 KiB', [1, 1.15], 384 * MIB, 16 * KIB, publishing(16 * KIB)),
  bulk('publish-256k', 'publish 256 KiB', [1, 1.15], 384 * MIB, 256 * KIB, publishing(256 * KIB)),
  bulk('deliver-1k', 'deliver 1 KiB', [1, 1.15], 192 * MIB, KIB, delivering(KIB)),
  bulk('deliver-16k', 'deliver 16 KiB', [1, 1.15], 384 * MIB, 16 * KIB, delivering(16 * KIB)),
  bulk('deliver-256k', 'deliver 256 KiB', [1, 1.15], 384 * MIB, 256 * KIB, delivering(256 * KIB)),
  bulk('publish-1k-tls', 'publish 1 KiB, TLS', [1.5, 1.7], 192 * MIB, KIB, publishing(KIB)),
  bulk('publish-256k-tls', 'publish 256 KiB, TLS', [1.5, 1.7], 384 * MIB, 256 * KIB, publishing(256 * KIB)),
  other('latency', 'round trip, one client', 'added', [15, 20], {
    ...near,
    count: 4000,
    quick: 500,
    run: roundTrips,
  }),
  other('paced', '16 B, paced, on 20 connections', 'cpu', [1.4, 1.6], {
    ...near,
    count: 2000,
    quick: 300,
    run: small(20, 'paced'),
  }),
  other('many', '16 B on each of 400 connections', 'cpu', [1.4, 0.7], {
    ...near,
    count: 100,
    quick: 20,
    run: small(400, 'bursts'),
  }),
  other('cycle', 'connect, publish, confirm, close', 'cpu', [2.5, 1.5], {
    ...near,
    count: 800,
    quick: 200,
    run: cycling(true),
  }),
  other('cycle-tls', 'the same, TLS', 'cpu', undefined, { ...near, count: 500, run: cycling(true) }),
  other('cycle-far', 'the same, broker 20 ms away', 'rate', [0.95, 5], { ...far, run: cycling(true) }),
  other('cycle-far-unconfirmed', 'without confirm, broker 20 ms away', 'rate', [0.95, 5], {
    ...far,
    run: cycling(false),
  }),
  other('memory-idle', 'memory, idle', 'memory', [60, 64], { ...fresh, count: 0 }),
  other('memory-1000', 'memory, 1,000 clients', 'memory', [85, 90], { ...fresh, count: 1000 }),
  other('memory-1000-tls', 'memory, 1,000 clients, TLS', 'memory', [115, 115], { ...fresh, count: 1000 }),
  other('quorum', 'publish 1 KiB with confirm, RabbitMQ', 'rate', [0.97, 0.97], {
    ...rabbit,
    count: 20_000,
    run: quorum(KIB),
  }),
  other('quorum-cycle', 'connect … close, RabbitMQ', 'rate', undefined, {
    ...rabbit,
    count: 500,
    run: quorumCycling,
  }),
];
