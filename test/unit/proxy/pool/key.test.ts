import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { credentialKey, poolKey } from '../../../../proxy/pool/key.ts';
import type { Credentials } from '../../../../proxy/pool/login.ts';

const text = fc.string({ maxLength: 4 });
const login = fc.record({
  mechanism: text,
  response: fc.uint8Array({ maxLength: 6 }),
  user: fc.option(text, { nil: undefined }),
  tlsIdentity: text,
  virtualHost: text,
});

type Login = typeof login extends fc.Arbitrary<infer T> ? T : never;

const credentials = ({ mechanism, response, user }: Login): Credentials => ({
  mechanism,
  response,
  user,
  locale: 'en_US',
});
const key = (one: Login): string =>
  poolKey(credentialKey(credentials(one), one.tlsIdentity), one.virtualHost);
const parts = ({ mechanism, response, user, tlsIdentity, virtualHost }: Login): string =>
  JSON.stringify([mechanism, [...response], user ?? 0, tlsIdentity, virtualHost]);

describe('poolKey', () => {
  it('is the same for the same login, virtual host and TLS identity, and for no others', () => {
    fc.assert(
      fc.property(login, login, (one, other) => {
        expect(key(one) === key(other)).toBe(parts(one) === parts(other));
        expect(key({ ...one, response: new Uint8Array(one.response) })).toBe(key(one));
      }),
      { numRuns: 500 },
    );
  });

  it('differs where octets move from one part to the next', () => {
    const base: Login = {
      mechanism: 'AB',
      response: Buffer.from('CD'),
      user: 'EF',
      tlsIdentity: 'GH',
      virtualHost: 'IJ',
    };
    const others: Login[] = [
      { ...base, mechanism: 'ABC', response: Buffer.from('D') },
      { ...base, response: Buffer.from('CDG'), tlsIdentity: 'H' },
      { ...base, tlsIdentity: 'GHE', user: 'F' },
      { ...base, user: 'EFI', virtualHost: 'J' },
      { ...base, user: undefined, virtualHost: 'EFIJ' },
      { ...base, mechanism: 'AB2 CD', response: Buffer.of() },
    ];
    expect(new Set([base, ...others].map(key)).size).toBe(1 + others.length);
  });

  it('says nothing of the password, and is none of an unkeyed hash', () => {
    const one: Login = {
      mechanism: 'PLAIN',
      response: Buffer.from('\0u\0secret'),
      user: 'u',
      tlsIdentity: '',
      virtualHost: '/',
    };
    expect(key(one)).toMatch(/^[\w-]{43} \/$/);
    expect(key(one)).not.toContain('secret');
  });
});

describe('credentialKey', () => {
  it('is no key of a virtual host, not even of the one without a name', () => {
    fc.assert(
      fc.property(login, (one) => {
        expect(credentialKey(credentials(one), one.tlsIdentity)).not.toBe(key(one));
        expect(credentialKey(credentials(one), one.tlsIdentity)).not.toBe(key({ ...one, virtualHost: '' }));
      }),
    );
  });
});
