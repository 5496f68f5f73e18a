import { describe, expect, it } from 'vitest';
import { parseAddress, parseRange } from '../../../../proxy/access/address.ts';
import {
  type AccessRules,
  compileUserVhosts,
  parseUserVhosts,
  refusesAddress,
  refusesLogin,
  refusesVirtualHost,
} from '../../../../proxy/access/rules.ts';

function rules({ allow = [], deny = [], userVhosts = [], guest = true }: Given): AccessRules {
  return {
    allow: allow.map(parseRange),
    deny: deny.map(parseRange),
    userVhosts: userVhosts.map((text) => compileUserVhosts(parseUserVhosts(text))),
    guestLoopbackOnly: guest,
  };
}

interface Given {
  readonly allow?: string[];
  readonly deny?: string[];
  readonly userVhosts?: string[];
  readonly guest?: boolean;
}

describe('an address', () => {
  it.each<[string, Given, string, string | undefined]>([
    ['without rules', {}, '203.0.113.9', undefined],
    ['that is allowed', { allow: ['10.0.0.0/8'] }, '10.1.1.1', undefined],
    ['by one of several', { allow: ['10.0.0.0/8', 'fd00::/8'] }, 'fd00::7', undefined],
    ['that is not among those allowed', { allow: ['10.0.0.0/8'] }, '11.1.1.1', '(--allow)'],
    ['of a family without an allowed range', { allow: ['0.0.0.0/0'] }, 'fd00::7', '(--allow)'],
    ['that is denied', { deny: ['10.0.0.0/8'] }, '10.1.1.1', '(--deny)'],
    ['beside those denied', { deny: ['10.0.0.0/8'] }, '11.1.1.1', undefined],
    ['that is both', { allow: ['10.0.0.0/8'], deny: ['10.9.0.0/16'] }, '10.9.1.1', '(--deny)'],
    ['in v6 form that is denied', { deny: ['10.0.0.0/8'] }, '::ffff:10.1.1.1', '(--deny)'],
  ])('%s', (_name, given, address, expected) => {
    const said = refusesAddress(rules(given), parseAddress(address));
    expect(said?.slice(said.indexOf('('))).toBe(expected);
  });
});

describe('a login', () => {
  it.each<[string | undefined, string, string, boolean, 'refused' | 'passed']>([
    ['guest', 'PLAIN', '10.0.0.1', true, 'refused'],
    ['guest', 'AMQPLAIN', 'fd00::1', true, 'refused'],
    ['guest', 'PLAIN', '127.0.0.1', true, 'passed'],
    ['guest', 'PLAIN', '::1', true, 'passed'],
    ['guest', 'PLAIN', '::ffff:127.0.0.1', true, 'passed'],
    ['guest', 'PLAIN', '10.0.0.1', false, 'passed'],
    ['nova', 'PLAIN', '10.0.0.1', true, 'passed'],
    ['Guest', 'PLAIN', '10.0.0.1', true, 'passed'],
    [undefined, 'ANONYMOUS', '10.0.0.1', true, 'refused'],
    [undefined, 'ANONYMOUS', '127.0.0.1', true, 'passed'],
    [undefined, 'EXTERNAL', '10.0.0.1', true, 'passed'],
  ])(
    'as %s by %s from %s with --guest-loopback-only=%s is %s',
    (user, mechanism, address, guest, expected) => {
      const said = refusesLogin(rules({ guest }), user, mechanism, parseAddress(address));
      const refused = "user 'guest' can only connect via localhost (--guest-loopback-only)";
      expect(said).toBe(expected === 'refused' ? refused : undefined);
    },
  );
});

describe('a virtual host', () => {
  it.each<[string[], string | undefined, string, 'refused' | 'passed']>([
    [[], 'nova', 'openstack', 'passed'],
    [['nova=openstack'], 'nova', 'openstack', 'passed'],
    [['nova=openstack'], 'nova', '/', 'refused'],
    [['nova=openstack'], 'glance', 'openstack', 'refused'],
    [['nova=openstack', '*=/'], 'glance', '/', 'passed'],
    [['svc-*=team-?'], 'svc-mail', 'team-a', 'passed'],
    [['svc-*=team-?'], 'svc-mail', 'team-ab', 'refused'],
    [['nova=a=b'], 'nova', 'a=b', 'passed'],
    [['nova=*'], undefined, '/', 'refused'],
    [['*=*'], undefined, '/', 'passed'],
  ])('with %j for %s at %s is %s', (userVhosts, user, virtualHost, expected) => {
    const said = refusesVirtualHost(rules({ userVhosts }), user, virtualHost);
    const refused = `access to vhost '${virtualHost}' refused for user '${user ?? ''}' (--user-vhosts)`;
    expect(said).toBe(expected === 'refused' ? refused : undefined);
  });

  it.each(['nova', '=x', 'nova=', ''])('is not given by %j', (text) => {
    expect(() => parseUserVhosts(text)).toThrow('expected USER=VHOST');
  });
});
