import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { acquire, FakeMember, FakePool, plain } from '../../../support/fake-pool.ts';

const A = plain('a', 'p');
const B = plain('b', 'p');
const C = plain('c', 'p');

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

describe('at the bound', () => {
  it('an idle connection of any group is closed to make room, the one idle for longest', () => {
    const fake = new FakePool({ maxUpstreamConnections: 2 });
    const a = fake.open(A);
    vi.advanceTimersByTime(10);
    const b = fake.open(B);
    a.upstream.closesAtOnce = false;
    const entered = fake.enter(C, '/', new FakeMember());
    expect([a.upstream.closedWith, b.upstream.closedWith]).toEqual(['its place is needed', undefined]);
    // Its slot is free when it has ended.
    expect(fake.upstreams.length).toBe(2);
    a.upstream.closed();
    expect(fake.upstreams.length).toBe(3);
    fake.last.accept();
    expect([entered.answers, entered.refusal]).toEqual([1, undefined]);
    expect([a.member.heard, a.group.alive]).toEqual([[], true]);
  });

  it('a private connection is never closed to make room', () => {
    const fake = new FakePool({ maxUpstreamConnections: 1 });
    const a = fake.open(A);
    acquire(a.group, a.member, true).got!.release();
    const entered = fake.enter(B, '/', new FakeMember());
    expect([a.upstream.state, fake.upstreams.length]).toEqual(['open', 1]);
    a.group.leave(a.member);
    fake.last.accept();
    expect(entered.got?.alive).toBe(true);
  });

  it('groups get what becomes free in the order in which they came', () => {
    const fake = new FakePool({ maxUpstreamConnections: 1, maxChannelsPerConnection: 1 });
    const a = fake.open(A);
    const held = acquire(a.group, a.member).got!;
    const b = fake.enter(B, '/', new FakeMember());
    const later = acquire(a.group, a.member);
    const c = fake.enter(C, '/', new FakeMember());
    held.release();
    expect(later.answers).toBe(0);
    fake.last.accept();
    expect([b.answers, later.answers, c.answers]).toEqual([1, 0, 0]);
    // Nobody uses it yet, and the next in line is the first group again.
    fake.last.accept();
    expect([later.answers, c.answers]).toEqual([1, 0]);
    later.got!.release();
    fake.last.accept();
    expect(c.answers).toBe(1);
  });

  it('who waits for too long gets 506', () => {
    const fake = new FakePool({ maxUpstreamConnections: 1, maxChannelsPerConnection: 1 });
    const a = fake.open(A);
    acquire(a.group, a.member);
    const asked = acquire(a.group, a.member);
    const own = acquire(a.group, a.member, true);
    const entered = fake.enter(B, '/', new FakeMember());
    vi.advanceTimersByTime(9999);
    fake.sweep();
    expect(asked.answers + own.answers + entered.answers).toBe(0);
    vi.advanceTimersByTime(1);
    fake.sweep();
    const refusal = {
      kind: 'exhausted',
      replyCode: 506,
      text: 'no upstream channel within 10 s: --max-upstream-connections is 1',
      silent: false,
    };
    expect([asked.refusal, own.refusal, entered.refusal]).toEqual([refusal, refusal, refusal]);
    expect([fake.stats.waitTimeouts, fake.stats.waiting]).toEqual([3, 0]);
  });

  it('one who leaves the line is not in anybody’s way', () => {
    const fake = new FakePool({ maxUpstreamConnections: 1 });
    const a = fake.open(A);
    const held = acquire(a.group, a.member).got!;
    const b = fake.enter(B, '/', new FakeMember());
    const c = fake.enter(C, '/', new FakeMember());
    b.request.cancel();
    held.release();
    expect(fake.last.credentials).toBe(C.credentials);
    fake.last.accept();
    expect([b.answers, c.answers]).toEqual([0, 1]);
  });

  it('a request for a channel that is cancelled is not in anybody’s way either', () => {
    const fake = new FakePool({ maxUpstreamConnections: 2, maxChannelsPerConnection: 1 });
    const a = fake.open(A);
    acquire(a.group, a.member);
    const b = fake.open(B);
    acquire(b.group, b.member);
    acquire(a.group, a.member).request.cancel();
    fake.enter(C, '/', new FakeMember());
    b.upstream.lose();
    expect([fake.upstreams.length, fake.last.credentials]).toEqual([3, C.credentials]);
  });

  it('one whose connection failed comes back before those who came later', () => {
    const fake = new FakePool({ maxUpstreamConnections: 1 });
    const a = fake.enter(A, '/', new FakeMember());
    fake.enter(B, '/', new FakeMember());
    fake.last.fail();
    fake.enter(C, '/', new FakeMember());
    vi.advanceTimersByTime(100);
    expect(fake.last.credentials).toBe(B.credentials);
    fake.last.accept();
    expect(fake.last.credentials).toBe(A.credentials);
    fake.last.accept();
    expect([a.answers, fake.last.credentials]).toEqual([1, C.credentials]);
  });

  it('a connection that failed gives its slot to the next', () => {
    const fake = new FakePool({ maxUpstreamConnections: 1 });
    const b = fake.enter(B, '/', new FakeMember());
    const c = fake.enter(C, '/', new FakeMember());
    fake.last.fail();
    expect(fake.last.credentials).toBe(C.credentials);
    fake.last.accept();
    expect([b.answers, c.answers]).toEqual([0, 1]);
    vi.advanceTimersByTime(100);
    expect(fake.last.credentials).toBe(B.credentials);
  });
});

describe('a pool that is closed', () => {
  it('refuses all who wait, ends all connections and makes none', () => {
    const fake = new FakePool({ maxChannelsPerConnection: 1 });
    const a = fake.open(A);
    acquire(a.group, a.member);
    const asked = [
      acquire(a.group, a.member),
      acquire(a.group, a.member, true),
      fake.enter(B, '/', new FakeMember()),
      fake.login(C),
    ];
    fake.pool.close();
    asked.push(fake.login(A), fake.enter(A, '/', new FakeMember()), acquire(a.group, a.member));
    expect(asked.map(({ refusal, answers }) => [refusal?.kind, answers])).toEqual(
      asked.map(() => ['ended', 1]),
    );
    const { length } = fake.upstreams;
    vi.advanceTimersByTime(60_000);
    expect([fake.live, fake.upstreams.length, fake.pool.size]).toEqual([[], length, 0]);
  });
});
