import { createLogger } from '../../common/log.ts';
import { ChannelState } from '../../proxy/pool/channel-state.ts';
import type { Group, GroupMember } from '../../proxy/pool/group.ts';
import type { Who } from '../../proxy/pool/connection.ts';
import { credentialKey } from '../../proxy/pool/key.ts';
import { Pool, type PoolLimits } from '../../proxy/pool/pool.ts';
import type { PoolRefusal } from '../../proxy/pool/refusal.ts';
import { PoolStats } from '../../proxy/pool/stats.ts';
import type { Request } from '../../proxy/pool/waiting.ts';
import { type FakeChannel, FakeUpstream } from './fake-upstream.ts';

export const ENDPOINTS = {
  sourceAddress: '10.0.0.1',
  sourcePort: 40_000,
  destinationAddress: '10.0.0.2',
  destinationPort: 5672,
};

export function plain(user: string, password: string, tlsIdentity = ''): Who {
  const response = Buffer.from(`\0${user}\0${password}`);
  const credentials = { mechanism: 'PLAIN', response, locale: 'en_US', user };
  return { credentials, key: credentialKey(credentials, tlsIdentity), endpoints: ENDPOINTS };
}

/** What came of something that was asked for. */
export interface Asked<T> {
  refusal?: PoolRefusal;
  got?: T;
  answers: number;
  request: Request;
}

/** A client of the pool that writes down what it is told. */
export class FakeMember implements GroupMember {
  readonly heard: (boolean | PoolRefusal)[] = [];
  readonly owner = { receive: () => {}, lost: () => {}, blocked: () => {} };

  pathAlive(alive: boolean): void {
    this.heard.push(alive);
  }

  refused(refusal: PoolRefusal): void {
    this.heard.push(refusal);
  }
}

/** A pool whose broker is the test; times are those of performance.now(), which the test may fake. */
export class FakePool {
  readonly stats = new PoolStats();
  readonly upstreams: FakeUpstream[] = [];
  readonly pool: Pool;

  constructor(limits: Partial<PoolLimits> = {}) {
    this.pool = new Pool({
      name: 'pool',
      connect: (request) => {
        const upstream = new FakeUpstream(request);
        this.upstreams.push(upstream);
        return upstream.upstream;
      },
      limits: {
        maxUpstreamConnections: 100,
        maxChannelsPerConnection: 200,
        idleTimeout: 60_000,
        waitTimeout: 10_000,
        ...limits,
      },
      stats: this.stats,
      log: createLogger({ name: 'pool', level: 'fatal' }),
    });
  }

  /** Those that have not ended. */
  get live(): FakeUpstream[] {
    return this.upstreams.filter(({ state }) => state !== 'ended');
  }

  /** The one connected last. */
  get last(): FakeUpstream {
    return this.upstreams.at(-1)!;
  }

  login(who: Who): Asked<true> {
    return ask((done) => this.pool.login(who, (refusal, tune) => done(refusal, tune && true)));
  }

  enter(who: Who, virtualHost: string, member: FakeMember): Asked<Group> {
    return ask((done) => this.pool.enter(who, virtualHost, member, done));
  }

  /** A member of a group with one connection. */
  open(who: Who, virtualHost = '/'): { member: FakeMember; group: Group; upstream: FakeUpstream } {
    const member = new FakeMember();
    const entered = this.enter(who, virtualHost, member);
    const upstream = this.last;
    if (entered.answers === 0) upstream.accept();
    return { member, group: entered.got!, upstream };
  }

  sweep(): void {
    this.pool.sweep(performance.now());
  }
}

export function acquire(group: Group, member: FakeMember, own = false): Asked<FakeChannel> {
  const request = {
    member,
    owner: member.owner,
    local: 1,
    state: new ChannelState({ resume: false }),
    private: own,
  };
  return ask((done) =>
    group.acquire(request, (refusal, channel) => done(refusal, channel as FakeChannel | undefined)),
  );
}

export function ask<T>(
  from: (done: (refusal: PoolRefusal | undefined, got: T | undefined) => void) => Request,
): Asked<T> {
  const asked: Asked<T> = { answers: 0, request: { cancel: () => {} } };
  asked.request = from((refusal, got) => {
    asked.answers++;
    if (refusal !== undefined) asked.refusal = refusal;
    if (got !== undefined) asked.got = got;
  });
  return asked;
}
