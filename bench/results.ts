import { cpus, release, totalmem, type } from 'node:os';
import type { Case } from './cases.ts';
import { median } from './peers.ts';
import type { Figures } from './runs.ts';

/** What a benchmark has found, as `--json` writes it. */
export interface Results {
  /** The day, as 2026-11-22. */
  readonly made: string;
  readonly machine: {
    readonly cpus: number;
    readonly model: string;
    readonly memoryMiB: number;
    readonly kernel: string;
    readonly node: string;
  };
  readonly rounds: number;
  readonly quick: boolean;
  /** Targets that could not be had, and why. */
  readonly missing: Readonly<Record<string, string>>;
  /** Versions of what is not this project's. */
  readonly versions: Readonly<Record<string, string>>;
  /** By case and target: the figures of all rounds. */
  readonly cases: Readonly<Record<string, Readonly<Record<string, readonly Figures[]>>>>;
}

/** This machine, without its names. */
export function describeMachine(): Results['machine'] {
  const all = cpus();
  return {
    cpus: all.length,
    model: all[0]!.model,
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    kernel: `${type()} ${/^\d+\.\d+/.exec(release())![0]}`,
    node: process.versions.node,
  };
}

/** A target in a case, as it is judged. */
export interface Verdict {
  /** The median: µs of CPU, cycles or messages a second, added µs, or MiB. */
  readonly value: number;
  /** To HAProxy's CPU or direct's rate: the median of the rounds' ratios. */
  readonly ratio: number | undefined;
  /** What is aimed at; undefined: nothing. */
  readonly limit: number | undefined;
  /** Whether it is reached; undefined: nothing to reach, or nothing to compare with. */
  readonly met: boolean | undefined;
  /** The target's part of its CPU and a real broker's. */
  readonly share: number | undefined;
  /** Memory with what processes share counted once among them, in MiB. */
  readonly sharedMemory: number | undefined;
}

/** The target whose figure makes a ratio of another's; undefined: the figure itself is judged. */
export const COMPARED = { cpu: 'haproxy', rate: 'direct', added: undefined, memory: undefined } as const;

/** The figures of a target that count in a case, round by round; undefined: it has none. */
function valuesOf(one: Case, name: string, found: Results['cases'][string]): readonly number[] | undefined {
  const values = found[name]?.map(({ cpu, perSecond, roundTrip, memory }, round) => {
    if (one.measure === 'cpu') return cpu;
    if (one.measure === 'rate') return perSecond;
    if (one.measure === 'memory') return memory === undefined ? undefined : memory / 2 ** 20;
    const direct = found['direct']?.[round]?.roundTrip;
    return direct === undefined || roundTrip === undefined ? undefined : roundTrip - direct;
  });
  return values?.every((value) => value !== undefined) ? values : undefined;
}

/** Judges a target in a case; undefined where it has no figure. */
export function judge(one: Case, name: string, found: Results['cases'][string]): Verdict | undefined {
  const values = valuesOf(one, name, found);
  if (values === undefined || values.length === 0) return undefined;
  const value = median(values);
  const other = COMPARED[one.measure];
  const others = other === undefined ? undefined : valuesOf(one, other, found);
  const ratio = others && median(values.map((own, round) => own / others[round]!));
  const limit = name === 'transparent' || name === 'pool' ? one.limits?.[name] : undefined;
  const judged = other === undefined ? value : ratio;
  const isMet = (reached: number, aim: number) => (one.measure === 'rate' ? reached >= aim : reached <= aim);
  const shares = found[name]!.map(({ cpu, brokerCpu }) =>
    cpu === undefined || brokerCpu === undefined ? undefined : cpu / (cpu + brokerCpu),
  );
  const memory = found[name]!.map(({ sharedMemory }) => sharedMemory && sharedMemory / 2 ** 20);
  return {
    value,
    ratio,
    limit,
    met: limit === undefined || judged === undefined ? undefined : isMet(judged, limit),
    share: shares.every((share) => share !== undefined) ? median(shares) : undefined,
    sharedMemory: memory.every((octets) => octets !== undefined) ? median(memory) : undefined,
  };
}

const UNITS = { cpu: 'µs', rate: '/s', added: 'µs', memory: 'MiB' } as const;

/** A number with three digits that count, such as 0.0391, 12.3 or 4,210. */
export function digits(value: number): string {
  if (value >= 1000) return Math.round(value).toLocaleString('en');
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3);
}

/** A ratio, such as `0.97 ×` or `12.3 ×`. */
export function times(ratio: number): string {
  return `${ratio.toFixed(ratio >= 10 ? 1 : 2)} ×`;
}

/** A figure with its unit. */
export function withUnit(one: Case, value: number): string {
  const unit = UNITS[one.measure];
  return unit === '/s' ? `${digits(value)}/s` : `${digits(value)} ${unit}`;
}

/** What is aimed at, such as `≤ 1.6 ×` or `≤ 60 MiB`. */
export function limitText(one: Case, limit: number): string {
  if (one.measure === 'cpu') return `≤ ${limit} ×`;
  if (one.measure === 'rate') return `≥ ${limit} ×`;
  return `≤ ${limit} ${UNITS[one.measure]}`;
}

/** The results as JSON: a line for each round of a target, numbers with as many digits as mean something. */
export function toJson(results: Results): string {
  const short = (_: string, value: unknown) =>
    typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value;
  const text = JSON.stringify(results, short, 2);
  return `${text.replaceAll(/\{\s+([^{}[\]]+?)\s+\}/g, (_, inner: string) => `{ ${inner.replaceAll(/\n\s+/g, ' ')} }`)}\n`;
}
