import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Group } from '../../../../proxy/pool/group.ts';
import type { Who } from '../../../../proxy/pool/connection.ts';
import { acquire, type Asked, ENDPOINTS, FakeMember, FakePool, plain } from '../../../support/fake-pool.ts';
import type { FakeChannel, FakeUpstream } from '../../../support/fake-upstream.ts';

const MOST = 3;
const PER_CONNECTION = 2;
const WAIT = 1000;
const LOGINS = [plain('a', '1'), plain('a', '2'), plain('b', '1')];
const HOSTS = ['/', 'v'];

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

interface Client {
  readonly who: Who;
  readonly virtualHost: string;
  readonly member: FakeMember;
  readonly entered: Asked<Group>;
  readonly wants: Want[];
  gone: boolean;
}

interface Want {
  readonly asked: Asked<FakeChannel>;
  readonly own: boolean;
  readonly since: number;
  cancelled: boolean;
}

/** What clients and the broker do to a pool at random, and what must hold whatever they do. */
class World {
  readonly fake = new FakePool({
    maxUpstreamConnections: MOST,
    maxChannelsPerConnection: PER_CONNECTION,
    waitTimeout: WAIT,
    idleTimeout: 3000,
  });
  readonly clients: Client[] = [];
  readonly logins: { who: Who; asked: Asked<true>; since: number; cancelled: boolean }[] = [];
  readonly problems: string[] = [];
  #checked = 0;

  do(command: number, which: number, how: number): void {
    const { fake } = this;
    const client = this.#pick(
      this.clients.filter(({ gone }) => !gone),
      which,
    );
    switch (command) {
      case 0:
      case 1:
        this.#enter(LOGINS[which % LOGINS.length]!, HOSTS[how % HOSTS.length]!);
        break;
      case 2:
      case 3:
      case 4:
        this.#acquire(client, how % 4 === 0);
        break;
      case 5:
        this.#release(client, how);
        break;
      case 6:
        if (client !== undefined) this.#leave(client);
        break;
      case 7:
        this.#cancel(client, how);
        break;
      case 8:
        this.#login(LOGINS[which % LOGINS.length]!);
        break;
      case 9:
        this.#reserve(client, how);
        break;
      case 10:
        fake.pool.greeting(ENDPOINTS, () => {});
        break;
      case 11:
        this.pass(how * 40);
        break;
      case 12:
        this.#broker(this.#pick(fake.live, which), how % 3 === 0 ? how : 0);
        break;
      default:
        this.#broker(this.#pick(fake.live, which), how);
    }
    this.check();
  }

  #pick<T>(from: readonly T[], which: number): T | undefined {
    return from[which % Math.max(from.length, 1)];
  }

  #enter(who: Who, virtualHost: string): void {
    const member = new FakeMember();
    const wants: Want[] = [];
    // What it gets is known when it is asked, so that a connection made meanwhile is known to be for it.
    const client = { who, virtualHost, member, wants, gone: false, entered: { answers: 0 } as Asked<Group> };
    this.clients.push(client);
    Object.assign(client.entered, { request: { cancel: () => {} } });
    client.entered.request = this.fake.pool.enter(who, virtualHost, member, (refusal, group) => {
      client.entered.answers++;
      if (refusal !== undefined) client.entered.refusal = refusal;
      if (group !== undefined) client.entered.got = group;
      client.gone ||= refusal !== undefined;
    });
  }

  #acquire(client: Client | undefined, own: boolean): void {
    if (client?.entered.got === undefined) return;
    const asked = acquire(client.entered.got, client.member, own);
    client.wants.push({ asked, own, since: performance.now(), cancelled: false });
  }

  #release(client: Client | undefined, how: number): void {
    const want = this.#pick(client?.wants.filter(({ asked }) => asked.got !== undefined) ?? [], how);
    want?.asked.got!.release();
  }

  #leave(client: Client): void {
    client.gone = true;
    for (const { asked } of client.wants) asked.got?.release();
    for (const want of client.wants) want.cancelled ||= want.asked.answers === 0;
    if (client.entered.got === undefined) client.entered.request.cancel();
    else client.entered.got.leave(client.member);
  }

  #cancel(client: Client | undefined, how: number): void {
    const want = this.#pick(client?.wants.filter(({ asked }) => asked.answers === 0) ?? [], how);
    if (want !== undefined) want.cancelled = true;
    want?.asked.request.cancel();
  }

  #login(who: Who): void {
    const one = { who, asked: { answers: 0 } as Asked<true>, since: performance.now(), cancelled: false };
    this.logins.push(one);
    one.asked.request = this.fake.pool.login(who, (refusal) => {
      one.asked.answers++;
      if (refusal !== undefined) one.asked.refusal = refusal;
    });
  }

  #reserve(client: Client | undefined, how: number): void {
    const channel = this.#pick(client?.wants ?? [], how)?.asked.got;
    if (channel === undefined || !channel.upstream.channels.has(channel)) return;
    const others = [...channel.upstream.channels].some(({ owner }) => owner !== client!.member.owner);
    const done = client!.entered.got!.reserve(channel.upstream.upstream, client!.member);
    if (done && others) this.problems.push('reserved what others use');
    if (done) this.reserved.set(channel.upstream, client!);
  }

  readonly reserved = new Map<FakeUpstream, Client>();

  #broker(upstream: FakeUpstream | undefined, how: number): void {
    if (upstream === undefined) return;
    upstream.closesAtOnce = how % 2 === 0;
    switch (upstream.state) {
      case 'connecting':
        if (how === 1) upstream.fail();
        else if (how === 2) upstream.refuse();
        else upstream.greet();
        break;
      case 'greeted':
        if (upstream.credentials === undefined) return;
        if (how === 2) upstream.refuse();
        else if (how === 3) upstream.lose();
        else upstream.authenticate();
        break;
      case 'authenticated':
        if (upstream.virtualHost === undefined) return;
        if (how === 4) upstream.closeWith(530, 'NOT_ALLOWED - vhost not found');
        else if (how === 5) upstream.closeWith(541, 'INTERNAL_ERROR - vhost is down');
        else upstream.accept();
        break;
      case 'open':
        if (how === 6) upstream.lose();
        else if (how === 7) upstream.block(upstream.blockedBy === undefined ? 'disk' : undefined);
        else if (how === 8) upstream.closeWith(320, 'CONNECTION_FORCED - shutdown');
        break;
      case 'closing':
        upstream.closed();
        break;
      case 'ended':
    }
  }

  pass(milliseconds: number): void {
    vi.advanceTimersByTime(milliseconds);
    this.fake.sweep();
    this.check();
    const late = (since: number): boolean => performance.now() - since > WAIT;
    for (const { wants } of this.clients)
      for (const want of wants)
        if (want.asked.answers === 0 && !want.cancelled && late(want.since))
          this.problems.push('a request for a channel is forgotten');
    for (const { asked, since } of this.logins)
      if (asked.answers === 0 && late(since)) this.problems.push('a login is forgotten');
  }

  check(): void {
    const { fake, problems } = this;
    const counted = fake.live.filter(({ virtualHost }) => virtualHost !== undefined);
    if (counted.length > MOST) problems.push('more connections than there may be');
    const { connections } = fake.pool.document() as { connections: number };
    if (connections !== counted.length)
      problems.push(`${connections} slots for ${counted.length} connections`);
    this.#checkDials();
    this.#checkChannels();
    let waiting = 0;
    for (const { entered, wants } of this.clients) {
      if (entered.answers > 1) problems.push('an entry is answered twice');
      for (const { asked, cancelled } of wants) {
        if (asked.answers > 1) problems.push('a request is answered twice');
        if (cancelled && asked.answers > 0) problems.push('a cancelled request is answered');
        if (!cancelled && asked.answers === 0) waiting++;
      }
    }
    for (const { asked } of this.logins) if (asked.answers > 1) problems.push('a login is answered twice');
    if (fake.stats.waiting !== waiting) problems.push(`${fake.stats.waiting} wait, and not ${waiting}`);
    const open = fake.live.filter(({ state }) => state === 'open').length;
    const closing = counted.filter(({ state, wasOpen }) => state === 'closing' && wasOpen).length;
    const { sharedConnections, privateConnections } = fake.stats;
    if (sharedConnections + privateConnections !== open + closing)
      problems.push('open connections miscounted');
  }

  /** Connections that came since the last time are for somebody. */
  #checkDials(): void {
    const { upstreams } = this.fake;
    for (; this.#checked < upstreams.length; this.#checked++) {
      const { credentials, virtualHost } = upstreams[this.#checked]!;
      if (credentials === undefined) continue;
      const wanted =
        virtualHost === undefined
          ? this.logins.some(({ who }) => who.credentials === credentials)
          : this.clients.some(
              (one) => one.who.credentials === credentials && one.virtualHost === virtualHost,
            );
      if (!wanted) this.problems.push('a connection for nobody');
    }
  }

  #checkChannels(): void {
    const owns = new Map<FakeUpstream, Client>(this.reserved);
    for (const client of this.clients) {
      for (const { asked, own } of client.wants) {
        const { got } = asked;
        if (got === undefined || !got.upstream.channels.has(got)) continue;
        const { upstream } = got;
        if (upstream.credentials !== client.who.credentials || upstream.virtualHost !== client.virtualHost)
          this.problems.push("a channel on another group's connection");
        if (own) owns.set(upstream, client);
      }
    }
    for (const [upstream, { member }] of owns)
      for (const { owner } of upstream.channels)
        if (owner !== member.owner) this.problems.push('a private connection is shared');
    for (const upstream of this.fake.live)
      if (!owns.has(upstream) && upstream.state === 'open' && upstream.used > PER_CONNECTION)
        this.problems.push('too many channels on a connection');
  }

  /** The broker does its best from here on, and all clients go. */
  finish(): void {
    for (let round = 0; round < 60; round++) {
      for (const upstream of this.fake.live) if (upstream.state !== 'open') this.#broker(upstream, 0);
      this.pass(100);
    }
    for (const client of this.clients) {
      const { gone, entered } = client;
      if (!gone && entered.answers === 0) this.problems.push('an entry is forgotten');
      if (!gone) this.#leave(client);
    }
    for (let round = 0; round < 60; round++) {
      const { length } = this.fake.upstreams;
      this.pass(200);
      for (const upstream of this.fake.live) if (upstream.state !== 'open') this.#broker(upstream, 0);
      if (this.fake.upstreams.length > length) this.problems.push('a connection without clients');
    }
    if (this.fake.live.length > 0) this.problems.push('a connection is left');
    if (this.fake.pool.size > 0) this.problems.push('the pool keeps one that has ended');
    const { groups, logins } = this.fake.pool.document();
    if (logins > 0) this.problems.push('a login is kept');
    if (groups.length > 0) this.problems.push('a group is left');
  }
}

const commands = fc.array(
  fc.tuple(fc.nat({ max: 20 }), fc.nat({ max: 30 }), fc.oneof(fc.constant(0), fc.nat({ max: 8 }))),
  { minLength: 1, maxLength: 120 },
);

describe('a pool', () => {
  it('keeps its bound, answers everybody once and mixes nobody up, whatever happens', () => {
    fc.assert(
      fc.property(commands, (all) => {
        vi.clearAllTimers();
        const world = new World();
        for (const [command, which, how] of all) world.do(command, which, how);
        world.finish();
        expect(world.problems).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });
});
