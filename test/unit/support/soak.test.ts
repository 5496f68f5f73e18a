// What a soak goes by: were these wrong, it would hold whatever it sees.
import { describe, expect, it } from 'vitest';
import { Chance } from '../../e2e/soak/chance.ts';
import { judgeMemory, judgeRest } from '../../e2e/soak/checks.ts';
import { Crowd } from '../../e2e/soak/crowd.ts';
import { Faults } from '../../e2e/soak/faults.ts';
import { median } from '../../e2e/soak/gauge.ts';
import { MessageLedger } from '../../e2e/soak/ledger.ts';
import { readSoakOptions } from '../../e2e/soak/options.ts';
import { Figures } from '../../e2e/soak/proxy.ts';

function startLedger() {
  const faults = new Faults();
  const ledger = new MessageLedger(faults);
  const publication = ledger.publisher('p', 'q');
  return { faults, ledger, publication };
}

describe("a soak's messages", () => {
  it('are lost when they were confirmed and never came', () => {
    const { faults, ledger, publication } = startLedger();
    const [first, second] = [publication.next(10), publication.next(0)];
    publication.confirmed(first.sequence);
    publication.confirmed(second.sequence);
    ledger.got('q', first.body, false);
    expect(ledger.outstanding).toBe(1);
    expect(ledger.conclude()).toBe(1);
    expect(faults.first('message')).toEqual(['lost after confirm: p 2 in q']);
  });

  it('may be missing when they were never confirmed, or their queue went with its connection', () => {
    const { ledger, publication } = startLedger();
    publication.next(0);
    const waived = publication.next(0);
    publication.confirmed(waived.sequence);
    publication.waive(waived.sequence);
    expect(ledger.outstanding).toBe(0);
    expect(ledger.conclude()).toBe(0);
  });

  it('may come before their confirm', () => {
    const { ledger, publication } = startLedger();
    const { sequence, body } = publication.next(0);
    ledger.got('q', body, false);
    publication.confirmed(sequence);
    expect(ledger.outstanding).toBe(0);
    expect(ledger.tally).toEqual({ published: 1, republished: 0, confirmed: 1, received: 1, redelivered: 0 });
  });

  it('may come twice with the flag, or when they were published twice, and not else', () => {
    const { faults, ledger, publication } = startLedger();
    const { sequence, body } = publication.next(0);
    ledger.got('q', body, false);
    ledger.got('q', body, true);
    publication.again(sequence);
    ledger.got('q', body, false);
    expect(faults.count('message')).toBe(0);
    ledger.got('q', body, false);
    expect(faults.first('message')).toEqual(['p 1 in q came 3 times without the flag, sent 2 times']);
  });

  it('are told apart when they are damaged, crossed or unknown', () => {
    const { faults, ledger, publication } = startLedger();
    const { body } = publication.next(20);
    ledger.got('q', body.subarray(0, -1), false);
    ledger.got('q', Buffer.from('{}'), false);
    const damaged = Buffer.from(body);
    damaged[damaged.length - 1]! ^= 1;
    ledger.got('q', damaged, false);
    ledger.got('r', body, false);
    ledger.got('q', startLedger().ledger.publisher('other', 'q').next(0).body, false);
    expect(faults.first('message').map((text) => text.split(' ', 1)[0])).toEqual([
      'damaged:',
      'damaged:',
      'damaged:',
      'crossed:',
      'other',
    ]);
  });

  it('are counted beyond what was made room for at first', () => {
    const { ledger, publication } = startLedger();
    for (let count = 0; count < 1000; count += 1) publication.confirmed(publication.next(0).sequence);
    expect(publication.missing()).toHaveLength(1000);
    expect(ledger.outstanding).toBe(1000);
  });
});

describe("a soak's figures", () => {
  /** Octets by second: so much until the end of the heap's youth, and so much more behind it. */
  const steady = (growth: number) => (from: number) => (from < 240 ? 100 : 100 + growth) * 2 ** 20;

  it('hold a growth of 10 % since the first two minutes, and no more', () => {
    const figures = { mode: 'pool', seconds: 1200 } as const;
    expect(judgeMemory({ ...figures, between: steady(10) }, 20).holds).toBe(true);
    expect(judgeMemory({ ...figures, between: steady(-50) }, 20).holds).toBe(true);
    expect(judgeMemory({ ...figures, between: steady(11) }, 20)).toEqual({
      what: 'pool: resident memory',
      seen: '100.0 MiB from 120 to 240 s, 111.0 MiB from 1080 to 1200 s: +11.0 %, at most +10 %',
      holds: false,
    });
  });

  it('fail where nothing was measured', () => {
    expect(judgeMemory({ mode: 'pool', seconds: 1200, between: () => median([]) }, 20).holds).toBe(false);
  });

  it('compare the third quarter of a short soak with the fourth, and say why they allow more', () => {
    const asked: [number, number][] = [];
    const between = (from: number, to: number) => asked.push([from, to]) * 2 ** 20;
    const { seen, holds } = judgeMemory({ mode: 'pool', seconds: 60, between }, 1);
    expect(asked).toEqual([
      [30, 45],
      [45, 60],
    ]);
    expect(holds).toBe(false);
    expect(seen).toContain('since the heap has not settled');
  });

  it('are medians', () => {
    expect([median([3, 1, 2]), median([4, 1, 3, 2]), median([])]).toEqual([2, 2.5, Number.NaN]);
  });

  it('are the samples of a metric, alone and in sum', () => {
    const figures = new Figures(
      [
        '# TYPE quorumbridge_proxy_connections_open gauge',
        'quorumbridge_proxy_connections_open{vhost="/",user="a b"} 2',
        'quorumbridge_proxy_connections_open{vhost="/",user="c"} 1e3',
        '# TYPE quorumbridge_proxy_pool_waiting gauge',
      ].join('\n'),
    );
    expect(figures.of('connections_open')).toBe(1002);
    expect(figures.of('connections_open{vhost="/",user="c"}')).toBe(1000);
    expect(figures.of('pool_waiting')).toBe(0);
    expect(() => figures.of('connections')).toThrow('there is no metric connections');
  });

  it('find what a proxy without clients still holds', () => {
    const names = ['connections_active', 'connections_open', 'buffered_bytes', 'connections_total'];
    const pool = ['pool_connections', 'pool_channels', 'pool_waiting'];
    const channels = ['channels_open', 'channels_opened_total', 'channels_closed_total'];
    const text = [...names, ...pool, ...channels].map((name) => `quorumbridge_proxy_${name} 0`).join('\n');
    const holds = (figures: string, after: number) =>
      judgeRest('pool', { before: 20, after, figures: new Figures(figures) }).map(({ holds }) => holds);
    expect(holds(text, 23)).toEqual([true, true]);
    expect(holds(text, 24)).toEqual([false, true]);
    expect(holds(text.replace('channels_open 0', 'channels_open 1'), 20)).toEqual([true, false]);
    expect(holds(text.replace('opened_total 0', 'opened_total 1'), 20)).toEqual([true, false]);
  });
});

describe("a soak's clients", () => {
  it('may be lost in a storm, and not in calm weather', async () => {
    const faults = new Faults();
    const crowd = new Crowd(1, faults);
    const stop = new AbortController();
    let losses = 0;
    crowd.storm();
    crowd.keep('client', stop.signal, async () => {
      losses += 1;
      if (losses === 2) stop.abort();
      await Promise.reject(new Error(`lost ${losses}`));
    });
    const stuck = await crowd.stuck(0);
    await crowd.ended();
    expect([crowd.lost, faults.count('client'), stuck]).toEqual([2, 0, ['client']]);

    const calm = new Crowd(1, faults);
    const over = new AbortController();
    calm.keep('other', over.signal, async (getsOn) => {
      getsOn();
      over.abort();
      await Promise.reject(new Error('lost'));
    });
    await calm.ended();
    expect([calm.lost, faults.first('client')]).toEqual([0, ['other: lost']]);
  });

  it('that fail often are told five times, and all counted', () => {
    const told: string[] = [];
    const faults = new Faults((line) => told.push(line));
    for (let count = 1; count <= 7; count += 1) faults.note('log', `line ${count}`);
    expect(told).toHaveLength(5);
    expect([faults.first('log').length, faults.count('log'), faults.count('event')]).toEqual([5, 7, 0]);
  });

  it('choose the same by the same seed and name, over all of the range', () => {
    const draw = (seed: number, name: string) => {
      const chance = new Chance(seed, name);
      return Array.from({ length: 1000 }, () => chance.between(3, 8));
    };
    expect(draw(7, 'a')).toEqual(draw(7, 'a'));
    expect(draw(7, 'a')).not.toEqual(draw(7, 'b'));
    expect(draw(7, 'a')).not.toEqual(draw(8, 'a'));
    expect([...new Set(draw(7, 'a'))].sort((a, b) => a - b)).toEqual([3, 4, 5, 6, 7]);
  });
});

describe("a soak's options", () => {
  it('have defaults', () => {
    expect(readSoakOptions([])).toMatchObject({
      minutes: 20,
      modes: ['transparent', 'pool'],
      broker: '4.3',
      seed: expect.any(Number) as number,
    });
  });

  it('are read', () => {
    const args = ['--minutes', '600', '--mode', 'pool', '--broker=4.0', '--seed=0'];
    expect(readSoakOptions(args)).toEqual({ minutes: 600, modes: ['pool'], broker: '4.0', seed: 0 });
    expect(readSoakOptions(['-h'])).toBe('help');
  });

  it.each([
    [['--minutes=0'], 'option --minutes: "0" is no whole number from 1 to 600'],
    [['--minutes=601'], 'option --minutes: "601" is no whole number from 1 to 600'],
    [['--minutes=1.5'], 'option --minutes: "1.5" is no whole number from 1 to 600'],
    [['--mode=observe'], 'option --mode: "observe" is none of transparent, pool'],
    [['--broker=5.0'], 'option --broker: "5.0" is none of 3.10, 4.0, 4.3'],
    [['--seed=x'], 'option --seed: "x" is no whole number from 0 to 2147483648'],
    [['--minute=1'], "Unknown option '--minute'"],
  ])('are refused: %s', (args, why) => {
    const error = readSoakOptions(args);
    expect(error).toBeInstanceOf(Error);
    expect((error as Error).message).toContain(why);
  });
});
