import { hostname, userInfo } from 'node:os';
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { CASES, type Case } from '../../../bench/cases.ts';
import { median } from '../../../bench/peers.ts';
import { caseLine, footLines, headLine } from '../../../bench/report.ts';
import { describeMachine, digits, judge, limitText, type Results, toJson } from '../../../bench/results.ts';
import type { Figures } from '../../../bench/runs.ts';
import { keptResults, performanceTables } from '../../support/docs/performance.ts';

const caseOf = (name: string): Case => CASES.find((one) => one.name === name)!;
const cpus = (...figures: number[]): Figures[] => figures.map((cpu) => ({ cpu, perSecond: 1000 / cpu }));
const rates = (...figures: number[]): Figures[] => figures.map((perSecond) => ({ perSecond }));
const trips = (...figures: number[]): Figures[] => figures.map((roundTrip) => ({ roundTrip }));

/** Results in which every case has the same figures. */
function results(change: Partial<Results> = {}): Results {
  const figures: Figures = { cpu: 2, perSecond: 500, roundTrip: 30, memory: 50 * 2 ** 20, brokerCpu: 18 };
  const all = {
    direct: [{ perSecond: 500, roundTrip: 20, brokerCpu: 18 }],
    haproxy: [{ ...figures, cpu: 1 }],
  };
  const found = { ...all, transparent: [figures], pool: [figures] };
  return {
    made: '2026-01-02',
    machine: { cpus: 2, model: 'a CPU', memoryMiB: 4096, kernel: 'Linux 6.1', node: '26.0.0' },
    rounds: 1,
    quick: false,
    missing: {},
    versions: { haproxy: '2.6.12' },
    cases: Object.fromEntries(CASES.map(({ name }) => [name, found])),
    ...change,
  };
}

describe('a median', () => {
  it('is the number in the middle, or the mean of the two there', () => {
    expect([median([3]), median([9, 1]), median([9, 1, 2]), median([9, 1, 2, 4])]).toEqual([3, 5, 2, 3]);
  });
});

describe('a target in a case', () => {
  it("is judged by the median of the rounds' ratios to HAProxy's CPU", () => {
    const found = { haproxy: cpus(1, 2, 4), transparent: cpus(1.5, 3.4, 4) };
    expect(judge(caseOf('publish-16'), 'transparent', found)).toEqual({
      value: 3.4,
      ratio: 1.5,
      limit: 1.6,
      met: true,
      share: undefined,
      sharedMemory: undefined,
    });
    expect(judge(caseOf('publish-1k'), 'transparent', found)).toMatchObject({
      ratio: 1.5,
      limit: 1,
      met: false,
    });
    expect(judge(caseOf('publish-1k'), 'haproxy', found)).toMatchObject({
      ratio: 1,
      limit: undefined,
      met: undefined,
    });
  });

  it('is judged by its rate, of which more is better', () => {
    const found = { direct: rates(100, 200), transparent: rates(90, 190), pool: rates(500, 1400) };
    expect(judge(caseOf('cycle-far'), 'transparent', found)).toMatchObject({ value: 140, met: false });
    expect(judge(caseOf('cycle-far'), 'pool', found)).toMatchObject({
      value: 950,
      ratio: 6,
      limit: 5,
      met: true,
    });
  });

  it('is judged by what it adds to the round trip', () => {
    const found = { direct: trips(20, 30, 40), haproxy: trips(29, 40, 48), pool: trips(50, 49, 61) };
    expect(judge(caseOf('latency'), 'haproxy', found)).toMatchObject({ value: 9, ratio: undefined });
    expect(judge(caseOf('latency'), 'pool', found)).toMatchObject({ value: 21, limit: 20, met: false });
    expect(judge(caseOf('latency'), 'pool', { pool: trips(50) })).toBeUndefined();
  });

  it('is judged by its memory', () => {
    const found = { pool: [{ memory: 64 * 2 ** 20 }], direct: [{}] };
    expect(judge(caseOf('memory-idle'), 'pool', found)).toMatchObject({ value: 64, limit: 64, met: true });
    expect(judge(caseOf('memory-idle'), 'direct', found)).toBeUndefined();
    const shared = { pool: [{ memory: 64 * 2 ** 20, sharedMemory: 48 * 2 ** 20 }] };
    expect(caseLine(caseOf('memory-idle'), ['pool'], shared)).toContain(
      ' 64.0 MiB (PSS 48.0) (≤ 64 MiB) met',
    );
  });

  it("has a part of its CPU and the broker's where there is a real one", () => {
    const found = { direct: rates(100), pool: [{ perSecond: 98, cpu: 1, brokerCpu: 19 }] };
    expect(judge(caseOf('quorum'), 'pool', found)).toMatchObject({ met: true, share: 0.05 });
  });

  it('is not judged where HAProxy is missing, or nothing is aimed at', () => {
    expect(judge(caseOf('publish-16'), 'pool', { pool: cpus(3) })).toMatchObject({
      value: 3,
      ratio: undefined,
      met: undefined,
    });
    const found = { haproxy: cpus(1), pool: cpus(3) };
    expect(judge(caseOf('cycle-tls'), 'pool', found)).toMatchObject({
      ratio: 3,
      limit: undefined,
      met: undefined,
    });
  });
});

describe('the table on the terminal', () => {
  const targets = ['direct', 'haproxy', 'transparent', 'pool', 'other'];

  it('has figures, ratios, aims and whether they are met, each below the head of its target', () => {
    const found = {
      direct: rates(2_000_000),
      haproxy: cpus(0.034),
      transparent: cpus(0.05),
      pool: cpus(0.1),
      other: cpus(1.31),
    };
    const head = stripVTControlCharacters(headLine(targets));
    const line = caseLine(caseOf('publish-16'), targets, found);
    const cell = (at: number): string =>
      line
        .slice(
          head.indexOf(targets[at]!),
          at + 1 < targets.length ? head.indexOf(targets[at + 1]!) : undefined,
        )
        .trim();
    expect(targets.map((_, at) => cell(at))).toEqual([
      '2,000,000/s',
      '0.034 µs',
      '0.050 µs 1.47 × (≤ 1.6 ×) met',
      '0.100 µs 2.94 × (≤ 2 ×) MISSED',
      '1.31 µs 38.5 ×',
    ]);
  });

  it('has what there is where a target is missing, and says which and why', () => {
    const line = caseLine(caseOf('latency'), ['direct', 'pool'], { direct: trips(20), pool: trips(30) });
    expect(line.split(/ {2,}/)).toEqual(['round trip, one client', '20.0 µs', '10.0 µs (≤ 20 µs) met']);
    expect(caseLine(caseOf('publish-1k-tls'), ['direct', 'pool'], {}).split(/ {2,}/).slice(1)).toEqual([
      '-',
      '-',
    ]);
    const lines = footLines(results({ missing: { haproxy: 'Debian has none' } }));
    expect(lines).toContain('missing: haproxy: Debian has none');
  });

  it('has numbers with three digits that count, and aims with their units', () => {
    expect([0.03914, 1.234, 56.78, 987.6, 12_345.6].map(digits)).toEqual([
      '0.039',
      '1.23',
      '56.8',
      '988',
      '12,346',
    ]);
    expect(limitText(caseOf('memory-idle'), 60)).toBe('≤ 60 MiB');
    expect(limitText(caseOf('cycle-far'), 5)).toBe('≥ 5 ×');
  });
});

describe('the results', () => {
  it('come back from JSON as they were, a line for each round of a target', () => {
    const text = toJson(results());
    expect(JSON.parse(text)).toEqual(results());
    expect(text.split('\n').filter((line) => /^ *\{ "cpu": 2, .*\},?$/.test(line))).toHaveLength(
      2 * CASES.length,
    );
    expect(toJson(results({ rounds: 1.23456789 }))).toContain('"rounds": 1.2346,');
  });

  it('say what the machine is, and not which', () => {
    const text = JSON.stringify(describeMachine());
    expect(text).toContain(process.versions.node);
    expect([hostname(), userInfo().username, '/'].filter((name) => text.includes(name))).toEqual([]);
  });
});

describe('the tables of the documents', () => {
  it('have every aim, with what misses it in bold', () => {
    const lines = performanceTables(results()).get('performance')!.split('\n');
    expect(lines[0]).toBe(
      '| 2026-01-02: Node 26.0.0, HAProxy 2.6.12, 2 CPUs | transparent | aim | pool | aim |',
    );
    expect(lines).toHaveLength(2 + CASES.filter(({ limits }) => limits !== undefined).length);
    expect(lines).toContain('| publish 16 B | **2.00 × HAProxy** | ≤ 1.6 × | 2.00 × HAProxy | ≤ 2 × |');
    expect(lines).toContain('| memory, idle | 50.0 MiB | ≤ 60 MiB | 50.0 MiB | ≤ 64 MiB |');
    expect(lines).toContain(
      '| publish 1 KiB with confirm, RabbitMQ | 1.00 × direct | ≥ 0.97 × | 1.00 × direct | ≥ 0.97 × |',
    );
  });

  it("have a real broker's CPU, and the proxy's part of both", () => {
    const table = performanceTables(results()).get('performance with RabbitMQ')!;
    expect(table).toContain('| CPU of RabbitMQ for each | 18.0 µs | 18.0 µs | 18.0 µs | 18.0 µs |');
    expect(table).toContain("| the proxy's part | | 5.26 % | 10.0 % | 10.0 % |");
  });

  it('are not made of less than a whole run', () => {
    const { quorum: _, ...others } = results().cases;
    expect(() => performanceTables(results({ cases: others }))).toThrow(
      'bench/results.json has no case quorum: make it by npm run bench -- --json bench/results.json',
    );
    const { haproxy: __, ...rest } = results().cases['publish-16']!;
    expect(() => performanceTables(results({ cases: { ...results().cases, 'publish-16': rest } }))).toThrow(
      'bench/results.json has no haproxy in the case publish-16',
    );
  });

  it('are made of a whole run that is kept, with HAProxy', () => {
    const kept = keptResults();
    expect([kept.quick, kept.missing]).toEqual([false, {}]);
    expect(Object.keys(kept.cases).sort()).toEqual(CASES.map(({ name }) => name).sort());
    const targets = Object.values(kept.cases).map((found) => Object.keys(found));
    expect(
      targets.filter((names) => !['haproxy', 'transparent', 'pool'].every((name) => names.includes(name))),
    ).toEqual([]);
  });
});
