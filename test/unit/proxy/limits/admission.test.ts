import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { createLogger } from '../../../../common/log.ts';
import { Admission, type Guest } from '../../../../proxy/limits/admission.ts';
import type { LimitSettings } from '../../../../proxy/limits/options.ts';
import { Stats } from '../../../../proxy/stats.ts';

const NONE: LimitSettings = {
  enforce: true,
  perUser: 0,
  perVirtualHost: 0,
  perAddress: 0,
  channels: 0,
  handshakes: 0,
  publishes: 0,
};

function admission(limits: Partial<LimitSettings>): { admission: Admission; hits: Stats['limitHits'] } {
  const hits = new Stats().limitHits;
  const log = createLogger({ name: 'test', level: 'error', destination: new PassThrough() });
  const access = { allow: [], deny: [], userVhosts: [], guestLoopbackOnly: true };
  return { admission: new Admission({ limits: { ...NONE, ...limits }, access, hits, log }), hits };
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

it('counts for neither limit who is refused by one of both', () => {
  const { admission: one } = admission({ perUser: 1, perVirtualHost: 2 });
  const first = one.enter('a', '/') as Guest;
  expect(one.enter('a', '/')).toMatchObject({ replyCode: 530, code: 'CONNECTION_LIMIT' });
  expect(one.enter('b', '/')).toHaveProperty('leave');
  expect(one.enter('c', '/')).toMatchObject({ replyCode: 530 });
  first.leave();
  expect(one.enter('a', '/')).toHaveProperty('leave');
});

it('lets nobody publish more by coming again', () => {
  const { admission: one } = admission({ publishes: 3 });
  const publishes = (guest: Guest): number => [1, 2, 3, 4].filter(() => guest.turn!.take()).length;
  const first = one.enter('a', '/') as Guest;
  expect(publishes(first)).toBe(3);
  first.leave();
  one.sweep(performance.now());
  expect(publishes(one.enter('a', '/') as Guest)).toBe(0);
  expect(publishes(one.enter('b', '/') as Guest)).toBe(3);
});
