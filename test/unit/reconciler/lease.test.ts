import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import type { Api } from '../../../common/kube/api.ts';
import { valueAt } from '../../../common/kube/json.ts';
import { RABBITMQ } from '../../../common/kube/resources.ts';
import { createLogger } from '../../../common/log.ts';
import { type Elector, startElector, whileLeading } from '../../../reconciler/lease.ts';
import { LeaseStore } from './lease-store.ts';

const TIMES = { durationMs: 1000, renewDeadlineMs: 600, retryMs: 60 };
const log = createLogger({ name: 'test', level: 'silent' });

interface Replica {
  readonly name: string;
  readonly elector: Elector;
  /** When it began to lead, and when its work was told to end; as performance.now(). */
  from?: number;
  to?: number;
  lost?: string;
}

const running: Replica[] = [];

function replica(store: LeaseStore, name: string, more: Partial<typeof TIMES> = {}): Replica {
  const times: Pick<Replica, 'from' | 'to' | 'lost'> = {};
  const elector = startElector({
    api: store.api(name),
    namespace: 'ours',
    name: 'lease',
    identity: name,
    log,
    ...TIMES,
    ...more,
    onLeading: (signal) => {
      times.from = performance.now();
      signal.addEventListener('abort', () => (times.to = performance.now()));
    },
    onLost: (why) => (times.lost = why),
  });
  const one = Object.assign(times, { name, elector });
  running.push(one);
  return one;
}

async function until(what: string, holds: () => boolean, withinMs = 5000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await delay(5);
  }
}

afterEach(async () => {
  await Promise.all(running.splice(0).map(({ elector }) => elector.stop()));
});

describe('leader election', () => {
  it.each([333, 2000 / 3])(
    'takes times that are no even number of milliseconds: %d',
    async (renewDeadlineMs) => {
      const one = replica(new LeaseStore(), 'one', { renewDeadlineMs });
      await until('it leads', () => one.elector.leading);
      expect(one.elector.failures).toBe(0);
    },
  );

  it('lets one of several lead, who keeps the Lease and counts no transitions', async () => {
    const store = new LeaseStore();
    const all = ['a', 'b', 'c'].map((name) => replica(store, name));
    await until('a leader', () => all.some(({ elector }) => elector.leading));
    await delay(400);
    expect(all.filter(({ elector }) => elector.leading)).toHaveLength(1);
    expect(new Set(store.writes.map(({ holder }) => holder)).size).toBe(1);
    expect(store.writes.length).toBeGreaterThan(3);
    const leader = all.find(({ elector }) => elector.leading)!;
    expect(all.map(({ elector }) => elector.holder)).toEqual(Array(3).fill(leader.name));
    expect(store.lease).toMatchObject({
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { namespace: 'ours', name: 'lease' },
      spec: { holderIdentity: leader.name, leaseDurationSeconds: 1, leaseTransitions: 0 },
    });
    expect(valueAt(store.lease, 'spec', 'renewTime')).toMatch(/\.\d{6}Z$/);
  });

  it('hands the Lease over at once when it ends in good order, and not before its work was told to end', async () => {
    const store = new LeaseStore();
    const a = replica(store, 'a');
    await until('a leads', () => a.elector.leading);
    const b = replica(store, 'b');
    await delay(200);
    expect(b.elector.leading).toBe(false);
    const began = performance.now();
    await a.elector.stop();
    await until('b leads', () => b.elector.leading);
    expect(performance.now() - began).toBeLessThan(500);
    expect(b.from).toBeGreaterThan(a.to!);
    expect([a.lost, a.elector.leading]).toEqual([undefined, false]);
    expect(store.lease).toMatchObject({ spec: { holderIdentity: 'b', leaseTransitions: 1 } });
  });

  it('gives back a Lease that it took in the moment of its end', async () => {
    const store = new LeaseStore();
    const a = replica(store, 'a');
    await a.elector.stop();
    expect(store.writes.map(({ holder }) => holder)).toEqual(['a', '']);
    expect(a.elector.leading).toBe(false);
  });

  it('waits for as long as it has seen a Lease unchanged, whatever time stands in it', async () => {
    const store = new LeaseStore();
    const gone = replica(store, 'gone');
    await until('it leads', () => gone.elector.leading);
    store.moods.set('gone', 'hanging');
    for (const renewTime of ['2001-01-01T00:00:00.000000Z', '2099-01-01T00:00:00.000000Z']) {
      (store.lease!['spec'] as Record<string, unknown>)['renewTime'] = renewTime;
    }
    const began = performance.now();
    const next = replica(store, 'next');
    await until('the next one leads', () => next.elector.leading);
    expect(performance.now() - began).toBeGreaterThan(TIMES.durationMs);
    expect(next.from).toBeGreaterThan(gone.to!);
  });

  it.each(['refusing', 'hanging', 'mute'] as const)(
    'ends its work within the deadline when the API server is %s, before anybody else begins',
    async (mood) => {
      const store = new LeaseStore();
      const [a, b] = [replica(store, 'a'), replica(store, 'b')];
      await until('a leader', () => a.elector.leading || b.elector.leading);
      const [leader, other] = a.elector.leading ? [a, b] : [b, a];
      await delay(150);
      const began = performance.now();
      store.moods.set(leader.name, mood);
      await until('the other leads', () => other.elector.leading);
      expect(leader.to! - began).toBeLessThan(TIMES.renewDeadlineMs + 100);
      expect(other.from).toBeGreaterThan(leader.to!);
      await until('it says so', () => leader.lost !== undefined);
      expect(leader.elector.leading).toBe(false);
      expect(leader.elector.failures > 0 || mood === 'mute').toBe(true);
    },
  );

  it('lives through an API server that is away for less than the deadline', async () => {
    const store = new LeaseStore();
    const a = replica(store, 'a');
    await until('a leads', () => a.elector.leading);
    for (const mood of ['refusing', 'mute'] as const) {
      store.moods.set('a', mood);
      await delay(200);
      store.moods.set('a', 'well');
      await delay(500);
      expect([a.elector.leading, a.lost, a.to]).toEqual([true, undefined, undefined]);
    }
  });

  it('ends its work as soon as it sees that somebody else has the Lease', async () => {
    const store = new LeaseStore();
    const a = replica(store, 'a');
    await until('a leads', () => a.elector.leading);
    const thief = { ...store.lease!, spec: { holderIdentity: 'thief', leaseDurationSeconds: 30 } };
    await store.api('thief').replace(RABBITMQ, thief, new AbortController().signal);
    await until('a has noticed', () => a.lost !== undefined, 400);
    expect(a.lost).toBe('thief holds the Lease now');
    expect(a.to).toBeDefined();
  });

  it('makes a Lease that was deleted again, and goes on', async () => {
    const store = new LeaseStore();
    const a = replica(store, 'a');
    await until('a leads', () => a.elector.leading);
    store.lease = undefined;
    await until('it is there again', () => store.holder === 'a');
    await delay(300);
    expect([a.elector.leading, a.lost]).toEqual([true, undefined]);
  });

  it.each([[{}], [{ holderIdentity: '' }], [{ holderIdentity: null, leaseDurationSeconds: 3600 }]])(
    'takes a Lease that nobody holds at once: %j',
    async (spec) => {
      const store = new LeaseStore();
      store.lease = {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { resourceVersion: '0' },
        spec,
      };
      const a = replica(store, 'a');
      await until('a leads', () => a.elector.leading, 300);
      expect(store.holder).toBe('a');
    },
  );

  it.each([[0], [-5], ['15'], [undefined]])(
    'takes its own duration where a Lease has none that makes sense: %j',
    async (leaseDurationSeconds) => {
      const store = new LeaseStore();
      const spec = {
        holderIdentity: 'gone',
        ...(leaseDurationSeconds !== undefined && { leaseDurationSeconds }),
      };
      store.lease = {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { resourceVersion: '0' },
        spec,
      };
      const began = performance.now();
      const a = replica(store, 'a');
      await until('a leads', () => a.elector.leading);
      expect(performance.now() - began).toBeGreaterThan(TIMES.durationMs);
    },
  );

  it('never has two leaders at a time, whatever becomes of their requests', async () => {
    const store = new LeaseStore();
    const names = ['a', 'b', 'c', 'd', 'e'];
    const all = names.map((name) => replica(store, name));
    const moods = ['well', 'refusing', 'hanging', 'mute'] as const;
    const end = performance.now() + 6000;
    let random = 7;
    while (performance.now() < end) {
      random = (random * 1_103_515_245 + 12_345) % 2 ** 31;
      const leader = all.find(({ elector }) => elector.leading);
      expect(all.filter(({ elector }) => elector.leading).length).toBeLessThanOrEqual(1);
      const victim = random % 3 === 0 ? (leader?.name ?? 'a') : names[random % names.length]!;
      store.moods.set(victim, moods[(random >> 8) % moods.length]!);
      await delay(random % 40);
    }
    const spans = all
      .filter(({ from }) => from !== undefined)
      .map(({ from, to = Infinity }) => [from!, to] as const)
      .sort(([x], [y]) => x - y);
    expect(spans.length).toBeGreaterThan(1);
    for (const [index, [from]] of spans.slice(1).entries()) expect(from).toBeGreaterThan(spans[index]![1]);
  });
});

describe('the API of a leader', () => {
  it('refuses to write, and only that, as soon as it leads no more', async () => {
    let leads = true;
    const asked: string[] = [];
    const note = (verb: string) => () => Promise.resolve(void asked.push(verb));
    const verbs = ['get', 'list', 'watch', 'create', 'replace', 'apply', 'patch', 'remove'];
    const all = Object.fromEntries(verbs.map((verb) => [verb, note(verb)])) as unknown as Api;
    const api = whileLeading(all, () => leads) as unknown as Record<string, () => Promise<void>>;
    for (const verb of verbs) await api[verb]!();
    expect(asked).toEqual(verbs);
    leads = false;
    for (const verb of verbs.slice(0, 3)) await api[verb]!();
    for (const verb of verbs.slice(3))
      await expect(api[verb]!()).rejects.toThrow('this replica leads no more');
    expect(asked).toEqual([...verbs, 'get', 'list', 'watch']);
  });
});
