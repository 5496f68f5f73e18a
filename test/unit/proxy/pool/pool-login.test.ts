import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { PoolRefusal } from '../../../../proxy/pool/refusal.ts';
import { acquire, ENDPOINTS, FakeMember, FakePool, plain } from '../../../support/fake-pool.ts';
import { START } from '../../../support/fake-upstream.ts';

const WHO = plain('u', 'right');

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

describe('a login', () => {
  it('is put to the broker once for all who wait for it, and its connection is kept for the virtual host', () => {
    const fake = new FakePool();
    const logins = [fake.login(WHO), fake.login(WHO)];
    expect(fake.upstreams.length).toBe(1);
    expect(fake.last.credentials).toBe(WHO.credentials);
    fake.last.authenticate();
    expect(logins.map(({ got, answers }) => [got, answers])).toEqual([
      [true, 1],
      [true, 1],
    ]);
    const entered = fake.enter(WHO, 'v', new FakeMember());
    expect(fake.upstreams.length).toBe(1);
    expect(fake.last.virtualHost).toBe('v');
    fake.last.accept();
    expect(entered.got?.alive).toBe(true);
    expect([fake.stats.loginsProven, fake.stats.sharedConnections]).toEqual([2, 1]);
  });

  it('that the broker took holds for the idle timeout, however busy the connections are', () => {
    const fake = new FakePool({ idleTimeout: 60_000 });
    const { member, group, upstream } = fake.open(WHO);
    acquire(group, member);
    vi.advanceTimersByTime(59_999);
    fake.sweep();
    expect(fake.login(WHO).got).toBe(true);
    expect(fake.stats.loginsKnown).toBe(1);
    vi.advanceTimersByTime(1);
    const again = fake.login(WHO);
    expect(again.answers).toBe(0);
    expect(fake.upstreams.length).toBe(2);
    fake.last.refuse();
    expect(again.refusal).toEqual({
      kind: 'refused',
      replyCode: 403,
      text: 'Login was refused using authentication mechanism PLAIN.',
      silent: true,
    });
    // Those who are in stay in, on the connections that there are.
    expect(upstream.state).toBe('open');
    expect(acquire(group, member).got?.upstream).toBe(upstream);
    expect(member.heard).toEqual([]);
    // And one who was let in before the refusal doesn't get in after it.
    expect(fake.enter(WHO, '/', new FakeMember()).refusal?.replyCode).toBe(403);
  });

  it('that is taken again lets clients in again', () => {
    const fake = new FakePool();
    const { group, member, upstream } = fake.open(WHO);
    acquire(group, member);
    vi.advanceTimersByTime(60_000);
    fake.login(WHO);
    fake.last.refuse();
    const again = fake.login(WHO);
    fake.last.authenticate();
    expect(again.got).toBe(true);
    expect(fake.enter(WHO, '/', new FakeMember()).got).toBe(group);
    // The proof's connection isn't needed: it is opened, since brokers warn of those that end before that, and closed.
    expect(fake.last.closedWith).toBeUndefined();
    fake.last.accept();
    expect(fake.last.closedWith).toBe('not needed');
    expect(fake.live).toEqual([upstream]);
  });

  it('with another password is another one: its refusal is nobody else’s', () => {
    const fake = new FakePool();
    const { group, member } = fake.open(WHO);
    const wrong = fake.login(plain('u', 'wrong'));
    fake.last.refuse();
    expect(wrong.refusal?.kind).toBe('refused');
    expect(fake.login(WHO).got).toBe(true);
    expect(acquire(group, member).answers).toBe(1);
    expect(fake.enter(WHO, '/', new FakeMember()).got).toBe(group);
    expect(fake.stats.loginsRefused).toBe(1);
  });

  it('of another TLS identity is another one', () => {
    const fake = new FakePool();
    fake.open(WHO);
    expect(fake.login(plain('u', 'right', 'CN=x')).answers).toBe(0);
  });

  it('takes no slot until it is for something, and is closed where nobody asks for more', () => {
    const fake = new FakePool({ maxUpstreamConnections: 1 });
    const { group, member } = fake.open(WHO);
    acquire(group, member);
    const other = plain('w', 'x');
    expect(fake.login(other).answers).toBe(0);
    fake.last.authenticate();
    expect(fake.pool.document()).toMatchObject({ connections: 1 });
    vi.advanceTimersByTime(5000);
    fake.sweep();
    expect(fake.last.closedWith).toBe('not needed');
    // It was proven all the same.
    expect(fake.login(other).got).toBe(true);
  });

  it('is proven by a connection that is under way for the group, too', () => {
    const fake = new FakePool();
    fake.enter(WHO, '/', new FakeMember());
    const login = fake.login(WHO);
    expect(fake.upstreams.length).toBe(1);
    fake.last.authenticate();
    expect(login.got).toBe(true);
  });

  it('is not vouched for by connections that were lost', () => {
    const fake = new FakePool();
    fake.open(WHO).upstream.lose();
    const login = fake.login(WHO);
    expect(login.answers).toBe(0);
    fake.last.refuse();
    expect(login.refusal?.replyCode).toBe(403);
  });

  it('that a connection of its own group was refused with is not vouched for any more', () => {
    const fake = new FakePool({ maxChannelsPerConnection: 1 });
    const { group, member, upstream } = fake.open(WHO);
    acquire(group, member);
    const more = acquire(group, member);
    fake.last.refuse();
    expect(more.refusal?.replyCode).toBe(403);
    expect(fake.login(WHO).answers).toBe(0);
    // Nothing replaces what is lost now.
    fake.last.refuse();
    upstream.lose();
    expect(member.heard).toMatchObject([false, { kind: 'refused', replyCode: 403 }]);
    vi.advanceTimersByTime(60_000);
    expect(fake.live).toEqual([]);
  });

  it('that is refused is not tried for a group that is about to have no connection', () => {
    const fake = new FakePool({ maxChannelsPerConnection: 1, idleTimeout: 1000 });
    const { group, member, upstream } = fake.open(WHO);
    const held = acquire(group, member).got!;
    acquire(group, member);
    const second = fake.last.accept();
    held.release();
    upstream.closesAtOnce = false;
    vi.advanceTimersByTime(1000);
    fake.sweep();
    fake.login(WHO);
    fake.last.refuse();
    second.lose();
    vi.advanceTimersByTime(5000);
    expect([upstream.state, fake.upstreams.length, member.heard]).toEqual(['closing', 3, [false]]);
    upstream.closed();
    expect(member.heard).toMatchObject([false, { replyCode: 403 }]);
  });

  it('whose connection ended before it was for anything needs another', () => {
    const fake = new FakePool();
    fake.login(WHO);
    fake.last.authenticate().lose();
    const entered = fake.enter(WHO, '/', new FakeMember());
    expect(fake.upstreams.length).toBe(2);
    fake.last.accept();
    expect(entered.got?.alive).toBe(true);
  });

  it('is tried again while the broker is away, and ends with 320', () => {
    const fake = new FakePool({ waitTimeout: 10_000 });
    const login = fake.login(WHO);
    for (let at = 0; at < 100; at++) {
      for (const upstream of fake.live) upstream.fail();
      vi.advanceTimersByTime(100);
      fake.sweep();
    }
    expect(fake.upstreams.length).toBeGreaterThan(3);
    expect(login).toMatchObject({
      answers: 1,
      refusal: {
        replyCode: 320,
        text: 'no connection to the broker within 10 s: backend b:5672 cannot be reached: ECONNREFUSED',
      },
    });
    for (const upstream of fake.live) upstream.fail();
    const { length } = fake.upstreams;
    vi.advanceTimersByTime(60_000);
    expect(fake.upstreams.length).toBe(length);
  });

  it('that is cancelled is never answered, and not tried again', () => {
    const fake = new FakePool();
    const login = fake.login(WHO);
    login.request.cancel();
    fake.last.fail();
    vi.advanceTimersByTime(60_000);
    fake.sweep();
    expect([login.answers, fake.upstreams.length]).toEqual([0, 1]);
  });

  it('waits where very many are under way, first come first served', () => {
    const fake = new FakePool();
    const logins = Array.from({ length: 66 }, (_, at) => fake.login(plain(`u${at}`, 'x')));
    expect(fake.upstreams.length).toBe(64);
    fake.upstreams[5]!.refuse();
    expect(fake.last.credentials?.user).toBe('u64');
    fake.upstreams[7]!.authenticate();
    expect(fake.last.credentials?.user).toBe('u65');
    expect(logins.filter(({ answers }) => answers > 0).length).toBe(2);
  });
});

describe('the greeting', () => {
  const greet = (fake: FakePool): (Uint8Array | PoolRefusal)[] => {
    const got: (Uint8Array | PoolRefusal)[] = [];
    fake.pool.greeting(ENDPOINTS, (start) => got.push(start));
    return got;
  };

  it('is had from one connection for all who wait, which serves the first login', () => {
    const fake = new FakePool();
    const got = [greet(fake), greet(fake)];
    expect([fake.upstreams.length, fake.last.credentials]).toEqual([1, undefined]);
    fake.last.greet();
    expect(got).toEqual([[START], [START]]);
    const login = fake.login(WHO);
    expect(fake.upstreams.length).toBe(1);
    expect(fake.last.credentials).toBe(WHO.credentials);
    fake.last.authenticate();
    expect(login.got).toBe(true);
  });

  it('is known for ten seconds, and as long as a connection is open', () => {
    const fake = new FakePool();
    greet(fake);
    fake.last.greet();
    vi.advanceTimersByTime(10_000);
    fake.sweep();
    expect(fake.live).toEqual([]);
    expect(greet(fake)).toEqual([START]);
    vi.advanceTimersByTime(1);
    expect(greet(fake)).toEqual([]);
    fake.last.greet();
    fake.open(WHO);
    vi.advanceTimersByTime(50_000);
    expect(greet(fake)).toEqual([START]);
  });

  it('that is under way is nobody’s login yet', () => {
    const fake = new FakePool();
    const got = greet(fake);
    fake.login(WHO);
    expect(fake.upstreams.map(({ credentials }) => credentials)).toEqual([undefined, WHO.credentials]);
    fake.upstreams[0]!.fail();
    fake.last.greet();
    expect(got).toEqual([START]);
  });

  it('is 320 when the broker can not be reached', () => {
    const fake = new FakePool({ waitTimeout: 1000 });
    const got = greet(fake);
    fake.last.fail();
    vi.advanceTimersByTime(1000);
    fake.sweep();
    expect(got).toMatchObject([{ kind: 'unreachable', replyCode: 320 }]);
  });
});
