import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ChannelState } from '../../../../proxy/pool/channel-state.ts';
import { acquire, type Asked, FakeMember, FakePool, plain } from '../../../support/fake-pool.ts';
import type { FakeChannel } from '../../../support/fake-upstream.ts';

const WHO = plain('u', 'p');

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

describe('a group', () => {
  it('shares one connection between its members, and none with others', () => {
    const fake = new FakePool();
    const one = fake.open(WHO);
    const two = fake.open(WHO);
    const other = fake.open(WHO, 'other');
    expect(two.group).toBe(one.group);
    const channels = [one, two, other].map(({ group, member }) => acquire(group, member).got!);
    expect(channels.map(({ upstream }) => upstream.virtualHost)).toEqual(['/', '/', 'other']);
    expect(fake.upstreams.length).toBe(2);
  });

  it('takes the least loaded connection, and opens another when all are full', () => {
    const fake = new FakePool({ maxChannelsPerConnection: 2 });
    const { group, member, upstream } = fake.open(WHO);
    const first = acquire(group, member).got!;
    acquire(group, member);
    const third = acquire(group, member);
    expect([third.answers, fake.upstreams.length, fake.stats.waiting]).toEqual([0, 2, 1]);
    fake.last.accept();
    expect([third.got?.upstream, fake.stats.waiting]).toEqual([fake.last, 0]);
    first.release();
    acquire(group, member);
    first.release();
    expect([upstream.used, fake.last.used]).toEqual([2, 1]);
    expect(acquire(group, member).got?.upstream).toBe(fake.last);
  });

  it('has one connection under way at a time, unless more wait than it will have room for', () => {
    const fake = new FakePool({ maxChannelsPerConnection: 2 });
    const { group, member } = fake.open(WHO);
    const asked = Array.from({ length: 7 }, () => acquire(group, member));
    expect(fake.upstreams.length).toBe(1 + 3);
    for (const upstream of fake.upstreams.slice(1)) upstream.accept();
    expect(asked.map(({ answers }) => answers)).toEqual([1, 1, 1, 1, 1, 1, 1]);
  });

  it('gives a free channel to who has waited longest', () => {
    const fake = new FakePool({ maxUpstreamConnections: 1, maxChannelsPerConnection: 1 });
    const { group, member } = fake.open(WHO);
    const held = acquire(group, member).got!;
    const [first, second] = [acquire(group, member), acquire(group, member)];
    held.release();
    expect([first.answers, second.answers]).toEqual([1, 0]);
    first.got!.release();
    expect(second.answers).toBe(1);
  });

  it('serves those who wait before who asks again as soon as it was served', () => {
    const fake = new FakePool({ maxUpstreamConnections: 2, maxChannelsPerConnection: 2 });
    const { group, member } = fake.open(WHO);
    const held = [acquire(group, member), acquire(group, member)];
    const again: Asked<FakeChannel>[] = [];
    const state = new ChannelState({ resume: false });
    const request = { member, owner: member.owner, local: 1, state, private: false };
    group.acquire(request, () => again.push(acquire(group, member)));
    const waiting = acquire(group, member);
    fake.last.accept();
    expect([waiting.answers, again[0]?.answers]).toEqual([1, 0]);
    held[0]!.got!.release();
    expect(again[0]?.answers).toBe(1);
  });

  it('does not let anybody in on a connection that is being closed', () => {
    const fake = new FakePool({ idleTimeout: 1000 });
    const { upstream } = fake.open(WHO);
    upstream.closesAtOnce = false;
    vi.advanceTimersByTime(1000);
    fake.sweep();
    expect(upstream.state).toBe('closing');
    const entered = fake.enter(WHO, '/', new FakeMember());
    expect([entered.answers, fake.upstreams.length]).toEqual([0, 2]);
    upstream.closed();
    fake.last.accept();
    expect([entered.answers, fake.upstreams.length]).toEqual([1, 2]);
  });

  it('forgets a request that is cancelled while its connection is under way', () => {
    const fake = new FakePool({ maxChannelsPerConnection: 1 });
    const { group, member } = fake.open(WHO);
    acquire(group, member);
    const cancelled = acquire(group, member);
    cancelled.request.cancel();
    cancelled.request.cancel();
    fake.last.accept();
    expect([cancelled.answers, fake.stats.waiting, fake.last.used]).toEqual([0, 0, 0]);
    expect(acquire(group, member).got?.upstream).toBe(fake.last);
  });

  it('keeps a connection whose last client left while it was under way, and makes none without clients', () => {
    const fake = new FakePool();
    const member = new FakeMember();
    const entered = fake.enter(WHO, '/', member);
    entered.request.cancel();
    fake.last.accept();
    expect([entered.answers, fake.stats.sharedConnections]).toEqual([0, 1]);
    fake.last.lose();
    vi.advanceTimersByTime(60_000);
    fake.sweep();
    expect([fake.upstreams.length, fake.stats.sharedConnections]).toEqual([1, 0]);
    expect(fake.pool.document()).toMatchObject({ connections: 0, groups: [] });
  });

  it('stops trying when the last client leaves', () => {
    const fake = new FakePool();
    const { group, member, upstream } = fake.open(WHO);
    upstream.lose();
    group.leave(member);
    vi.advanceTimersByTime(60_000);
    expect(fake.upstreams.length).toBe(1);
    expect(() => acquire(group, member)).toThrow('only members of a group get channels');
  });

  it('closes idle connections after the idle timeout, and makes a new one when somebody needs it', () => {
    const fake = new FakePool({ idleTimeout: 60_000 });
    const { group, member, upstream } = fake.open(WHO);
    const channel = acquire(group, member).got!;
    vi.advanceTimersByTime(120_000);
    fake.sweep();
    expect(upstream.state).toBe('open');
    channel.release();
    vi.advanceTimersByTime(59_999);
    fake.sweep();
    expect(upstream.state).toBe('open');
    vi.advanceTimersByTime(1);
    fake.sweep();
    expect(upstream.closedWith).toBe('idle');
    expect([group.alive, member.heard, fake.live]).toEqual([true, [], []]);
    const again = acquire(group, member);
    fake.last.accept();
    expect([again.got?.upstream, fake.upstreams.length]).toEqual([fake.last, 2]);
  });

  it('connects again by itself after a loss, ever more slowly, and tells its clients', () => {
    const random = vi.spyOn(Math, 'random').mockReturnValue(0.999);
    const fake = new FakePool();
    const { group, member, upstream } = fake.open(WHO);
    upstream.lose();
    expect([member.heard, group.alive, fake.upstreams.length]).toEqual([[false], false, 1]);
    const delays: number[] = [];
    for (let at = 0; at < 9; at++) {
      const { length } = fake.upstreams;
      const before = performance.now();
      while (fake.upstreams.length === length) vi.advanceTimersByTime(1);
      delays.push(Math.round((performance.now() - before) / 100) * 100);
      if (at < 8) fake.last.fail();
    }
    expect(delays).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    fake.last.accept();
    expect([member.heard, group.alive]).toEqual([[false, true], true]);
    fake.last.lose();
    vi.advanceTimersByTime(100);
    expect(fake.live.length).toBe(1);
    random.mockRestore();
  });

  it('tells who waits for too long whether the broker is away', () => {
    const fake = new FakePool();
    const { group, member, upstream } = fake.open(WHO);
    upstream.lose();
    const asked = acquire(group, member);
    vi.advanceTimersByTime(100);
    fake.last.fail();
    vi.advanceTimersByTime(9900);
    fake.sweep();
    expect(asked.refusal).toMatchObject({ kind: 'unreachable', replyCode: 320, silent: false });
    expect([fake.stats.waitTimeouts, fake.stats.waiting]).toEqual([1, 0]);
  });

  it('says so in the broker’s words when the broker does not open the virtual host, and is forgotten', () => {
    const fake = new FakePool();
    const asked = [fake.enter(WHO, 'nope', new FakeMember()), fake.enter(WHO, 'nope', new FakeMember())];
    fake.last.authenticate().closeWith(530, 'NOT_ALLOWED - vhost nope not found');
    const refusal = { kind: 'closed', replyCode: 530, text: 'vhost nope not found', silent: false };
    expect(asked.map((one) => one.refusal)).toEqual([refusal, refusal]);
    expect(fake.pool.document()).toMatchObject({ connections: 0, groups: [] });
    vi.advanceTimersByTime(60_000);
    expect(fake.upstreams.length).toBe(1);
    // The login itself was taken, and holds for other virtual hosts.
    const again = fake.enter(WHO, 'nope', new FakeMember());
    expect([again.answers, fake.upstreams.length]).toEqual([0, 2]);
  });

  it('tries again where the broker says that it goes down', () => {
    const fake = new FakePool();
    const entered = fake.enter(WHO, '/', new FakeMember());
    fake.last
      .authenticate()
      .closeWith(320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'");
    vi.advanceTimersByTime(100);
    fake.last.accept();
    expect([entered.answers, entered.refusal]).toEqual([1, undefined]);
  });

  it('keeps its connections when one more is refused', () => {
    const fake = new FakePool({ maxChannelsPerConnection: 1 });
    const { group, member, upstream } = fake.open(WHO);
    const held = acquire(group, member).got!;
    const asked = acquire(group, member);
    fake.last
      .authenticate()
      .closeWith(530, 'NOT_ALLOWED - access to vhost refused: connection limit (1) is reached');
    expect(asked.refusal).toMatchObject({ replyCode: 530, kind: 'closed' });
    held.release();
    expect([acquire(group, member).got?.upstream, member.heard]).toEqual([upstream, []]);
  });

  it('that is refused after a loss is over, and its clients are told', () => {
    const fake = new FakePool();
    const { group, member, upstream } = fake.open(WHO);
    upstream.lose();
    vi.advanceTimersByTime(100);
    fake.last.refuse();
    expect(member.heard).toMatchObject([false, { kind: 'refused', replyCode: 403 }]);
    expect(acquire(group, member).refusal?.replyCode).toBe(403);
    vi.advanceTimersByTime(60_000);
    expect(fake.upstreams.length).toBe(2);
    // With the password right again, the next client has a group of its own.
    const login = fake.login(WHO);
    fake.last.authenticate();
    const next = fake.open(WHO);
    expect([login.got, next.group === group]).toEqual([true, false]);
    group.leave(member);
    expect(fake.open(WHO).group).toBe(next.group);
  });

  it('does not use a connection that the broker has blocked, as long as there is another', () => {
    const fake = new FakePool();
    const { group, member, upstream } = fake.open(WHO);
    upstream.block('low on memory');
    const asked = acquire(group, member);
    expect(asked.answers).toBe(0);
    fake.last.accept();
    expect(asked.got?.upstream).toBe(fake.last);
    fake.last.block('low on memory');
    expect(acquire(group, member).got?.upstream).toBe(upstream);
    fake.last.block(undefined);
    expect(acquire(group, member).got?.upstream).toBe(fake.last);
    expect(fake.upstreams.length).toBe(2);
  });
});

describe('a connection of a member’s own', () => {
  it('is one that nobody uses, or a new one, and is found again', () => {
    const fake = new FakePool();
    const { group, member, upstream } = fake.open(WHO);
    const { member: other } = fake.open(WHO);
    expect(acquire(group, member, true).got?.upstream).toBe(upstream);
    expect([fake.stats.sharedConnections, fake.stats.privateConnections]).toEqual([0, 1]);
    acquire(group, other);
    fake.last.accept();
    const asked = acquire(group, other, true);
    fake.last.accept();
    expect(asked.got?.upstream).toBe(fake.last);
    expect(acquire(group, other, true).got?.upstream).toBe(fake.last);
    expect(acquire(group, member, true).got?.upstream).toBe(upstream);
    expect(fake.upstreams.length).toBe(3);
  });

  it('is closed when its member leaves, and never swept', () => {
    const fake = new FakePool();
    const { group, member, upstream } = fake.open(WHO);
    acquire(group, member, true).got!.release();
    vi.advanceTimersByTime(120_000);
    fake.sweep();
    expect(upstream.state).toBe('open');
    group.leave(member);
    expect([upstream.closedWith, fake.stats.privateConnections]).toEqual(['its client is gone', 0]);
    expect(fake.pool.document()).toMatchObject({ connections: 0, groups: [] });
  });

  it('that is under way when its member leaves is closed', () => {
    const fake = new FakePool();
    const { group, member } = fake.open(WHO);
    acquire(group, member);
    const asked = acquire(group, member, true);
    group.leave(member);
    expect([fake.last.state, asked.answers, fake.stats.waiting]).toEqual(['ended', 0, 0]);
  });

  it('may have as many channels as the broker lets it', () => {
    const fake = new FakePool({ maxChannelsPerConnection: 1 });
    const { group, member } = fake.open(WHO);
    for (let at = 0; at < 5; at++) expect(acquire(group, member, true).answers).toBe(1);
    expect(fake.upstreams.length).toBe(1);
  });

  it('is a shared one where no other client has channels there', () => {
    const fake = new FakePool();
    const { group, member, upstream } = fake.open(WHO);
    const { member: other } = fake.open(WHO);
    acquire(group, member);
    const theirs = acquire(group, other).got!;
    expect(group.reserve(upstream.upstream, member)).toBe(false);
    theirs.release();
    expect(group.reserve(upstream.upstream, member)).toBe(true);
    expect(group.reserve(upstream.upstream, member)).toBe(true);
    expect(group.reserve(upstream.upstream, other)).toBe(false);
    expect(acquire(group, member, true).got?.upstream).toBe(upstream);
    const asked = acquire(group, other);
    fake.last.accept();
    expect(asked.got?.upstream).toBe(fake.last);
    expect(group.reserve(fake.last.upstream, member)).toBe(false);
    expect([fake.stats.sharedConnections, fake.stats.privateConnections]).toEqual([1, 1]);
  });

  it('that is full is not joined by a second one', () => {
    const fake = new FakePool();
    const { group, member, upstream } = fake.open(WHO);
    upstream.channelMax = 1;
    const held = acquire(group, member, true).got!;
    const late = acquire(group, member, true);
    vi.advanceTimersByTime(10_000);
    fake.sweep();
    expect(late.refusal).toMatchObject({
      replyCode: 506,
      text: 'no upstream channel within 10 s: all channels of the connection to the broker are used',
    });
    const next = acquire(group, member, true);
    held.release();
    expect([next.got?.upstream, fake.upstreams.length]).toEqual([upstream, 1]);
  });

  it('lets others in, who get another one when they need it', () => {
    const fake = new FakePool();
    const { group, member } = fake.open(WHO);
    acquire(group, member, true);
    const other = new FakeMember();
    expect(fake.enter(WHO, '/', other).got).toBe(group);
    expect(fake.upstreams.length).toBe(1);
    acquire(group, other);
    expect(fake.upstreams.length).toBe(2);
  });

  it('is made anew when it is lost and needed again', () => {
    const fake = new FakePool();
    const { group, member, upstream } = fake.open(WHO);
    const { member: other } = fake.open(WHO);
    acquire(group, member, true);
    acquire(group, other);
    fake.last.accept();
    upstream.lose();
    expect([member.heard, group.alive]).toEqual([[], true]);
    const asked = acquire(group, member, true);
    fake.last.accept();
    expect(asked.got?.upstream).toBe(fake.last);
    expect(fake.upstreams.length).toBe(3);
  });
});
