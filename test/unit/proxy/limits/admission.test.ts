import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { createLogger } from '../../../../common/log.ts';
import { parseRange } from '../../../../proxy/access/address.ts';
import { Admission, type Guest } from '../../../../proxy/limits/admission.ts';
import type { LimitSettings } from '../../../../proxy/limits/options.ts';
import { Stats } from '../../../../proxy/stats.ts';

const NONE: LimitSettings = {
  enforce: true,
  perUser: 0,
  perVirtualHost: 0,
  perAddress: 0,
  channels: 0,
  frameSize: 0,
  handshakes: 0,
  publishes: 0,
  bufferPerClient: 0,
  buffer: 0,
};

interface Admitting {
  readonly admission: Admission;
  readonly hits: Stats['limitHits'];
  /** What it has logged. */
  readonly log: () => Record<string, unknown>[];
}

const access = { allow: [], deny: [], userVhosts: [], guestLoopbackOnly: true };

function admission(limits: Partial<LimitSettings>): Admitting {
  const hits = new Stats().limitHits;
  const lines: string[] = [];
  const destination = new Writable({
    write: (line, _encoding, done) => {
      lines.push(String(line));
      done();
    },
  });
  const log = createLogger({ name: 'test', level: 'info', destination });
  return {
    admission: new Admission({ limits: { ...NONE, ...limits }, access, hits, log }),
    hits,
    log: () => lines.map((line) => JSON.parse(line) as Record<string, unknown>),
  };
}

it('counts an address once, in whatever form listeners see it', () => {
  const { admission: one, hits } = admission({ perAddress: 1 });
  expect(one.arrive('10.0.0.1')).toBeUndefined();
  expect(one.arrive('::ffff:10.0.0.1')?.replyCode).toBe(320);
  expect(one.arrive('10.0.0.2')).toBeUndefined();
  one.leave('::ffff:10.0.0.1');
  expect(one.arrive('::ffff:10.0.0.1')).toBeUndefined();
  expect(hits['max-connections-per-address']).toBe(1);
});

it('counts a network of global v6 addresses as one, since a host may have all of them, and others one by one', () => {
  const { admission: one } = admission({ perAddress: 1 });
  const refused = (address: string): string | undefined => one.arrive(address)?.text;
  expect(refused('2001:db8:0:1::1')).toBeUndefined();
  expect(refused('2001:db8:0:1:ffff::2')).toBe(
    'the /64 of 2001:db8:0:1:ffff::2 has 1 connections, its limit (--max-connections-per-address)',
  );
  for (const address of ['2001:db8:0:2::1', 'fd00::1', 'fd00::2', 'fe80::1', 'fe80::2', '::1'])
    expect(refused(address)).toBeUndefined();
  expect(refused('fd00::1')).toMatch(/^fd00::1 has 1/);
  one.leave('2001:db8:0:1:ffff::2');
  expect(refused('2001:db8:0:1::3')).toBeUndefined();
});

it('counts who does not say its name by its mechanism, and with nobody whose name is empty', () => {
  const { admission: one } = admission({ perUser: 1, publishes: 2 });
  const first = one.enter(undefined, 'EXTERNAL', '/') as Guest;
  expect(one.enter(undefined, 'EXTERNAL', '/')).toMatchObject({
    text: 'connection refused for a user by EXTERNAL: user connection limit (1) is reached',
  });
  const others = [one.enter('', 'PLAIN', '/') as Guest, one.enter(undefined, 'ANONYMOUS', '/') as Guest];
  for (const { turn } of [first, ...others])
    expect([turn.take(), turn.take(), turn.take()]).toEqual([true, true, false]);
});

it('counts for neither limit who is refused by one of both', () => {
  const { admission: one } = admission({ perUser: 1, perVirtualHost: 2 });
  const first = one.enter('a', 'PLAIN', '/') as Guest;
  expect(one.enter('a', 'PLAIN', '/')).toMatchObject({ replyCode: 530, code: 'CONNECTION_LIMIT' });
  expect(one.enter('b', 'PLAIN', '/')).toHaveProperty('leave');
  expect(one.enter('c', 'PLAIN', '/')).toMatchObject({ replyCode: 530 });
  first.leave();
  expect(one.enter('a', 'PLAIN', '/')).toHaveProperty('leave');
});

it('lets nobody publish more by coming again', () => {
  const { admission: one } = admission({ publishes: 3 });
  const publishes = (guest: Guest): number => [1, 2, 3, 4].filter(() => guest.turn.take()).length;
  const first = one.enter('a', 'PLAIN', '/') as Guest;
  expect(publishes(first)).toBe(3);
  first.leave();
  one.sweep(performance.now());
  expect(publishes(one.enter('a', 'PLAIN', '/') as Guest)).toBe(0);
  expect(publishes(one.enter('b', 'PLAIN', '/') as Guest)).toBe(3);
});

describe('other limits and rules, while clients are there', () => {
  const use = (one: Admission, limits: Partial<LimitSettings>): void =>
    one.use({ limits: { ...NONE, ...limits }, access });

  it('count those who came before', () => {
    const { admission: one } = admission({});
    const first = one.enter('a', 'PLAIN', '/') as Guest;
    one.enter('a', 'PLAIN', '/');
    expect(one.arrive('10.0.0.1')).toBeUndefined();
    use(one, { perUser: 2, perAddress: 1 });
    expect(one.enter('a', 'PLAIN', '/')).toMatchObject({ replyCode: 530 });
    expect(one.arrive('10.0.0.1')).toMatchObject({ replyCode: 320 });
    first.leave();
    one.leave('10.0.0.1');
    expect(one.enter('a', 'PLAIN', '/')).toHaveProperty('leave');
    expect(one.arrive('10.0.0.1')).toBeUndefined();
    use(one, {});
    expect(one.enter('a', 'PLAIN', '/')).toHaveProperty('leave');
    expect(one.document().limits['max-connections-per-user']).toBe(0);
  });

  it('hold for the publishes of those who came before', () => {
    const { admission: one, hits } = admission({});
    const { turn } = one.enter('a', 'PLAIN', '/') as Guest;
    const taken = (): number => Array.from({ length: 20 }, () => turn.take()).filter(Boolean).length;
    expect(taken()).toBe(20);
    use(one, { publishes: 5 });
    expect(taken()).toBe(5);
    use(one, { publishes: 5, enforce: false });
    expect(taken()).toBe(20);
    expect(hits['publish-rate']).toBe(35);
    use(one, {});
    expect(taken()).toBe(20);
    expect(hits['publish-rate']).toBe(35);
  });

  it('let go who is held, where there is no limit any more', () => {
    const { admission: one } = admission({ publishes: 1 });
    const { turn } = one.enter('a', 'PLAIN', '/') as Guest;
    let isHeld = turn.take();
    turn.wait(() => (isHeld = false));
    expect(isHeld).toBe(true);
    use(one, {});
    expect(isHeld).toBe(false);
  });

  it('hold for new connections at once', () => {
    const { admission: one } = admission({ handshakes: 2 });
    const admitted = (): number => [1, 2, 3, 4, 5].filter(() => one.admit('10.0.0.1') === undefined).length;
    expect(admitted()).toBe(2);
    use(one, {});
    expect(admitted()).toBe(5);
    use(one, { handshakes: 3 });
    expect(admitted()).toBe(3);
    one.use({ limits: NONE, access: { ...access, deny: [parseRange('10.0.0.0/8')] } });
    expect(one.admit('10.0.0.1')).toMatchObject({ code: 'ACCESS_REFUSED', silent: true });
  });

  it('are told once more where the old ones were', () => {
    const { admission: one, log } = admission({ perUser: 1, enforce: false });
    for (let i = 0; i < 3; i++) one.enter('a', 'PLAIN', '/');
    use(one, { perUser: 2, enforce: false });
    for (let i = 0; i < 3; i++) one.enter('a', 'PLAIN', '/');
    expect(log().map(({ msg }) => /limit \((\d)\)/.exec(String(msg))?.[1])).toEqual(['1', '2']);
  });
});
