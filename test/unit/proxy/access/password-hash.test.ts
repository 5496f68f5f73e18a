import { scryptSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  hashPassword,
  nobodysHash,
  parsePasswordHash,
  tryPassword,
} from '../../../../proxy/access/password-hash.ts';
import { cheapHash } from '../../../support/credentials.ts';

function isRight(password: string, hash: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  tryPassword(Buffer.from(password), parsePasswordHash(hash), resolve);
  return promise;
}

/** A hash of full cost takes as long as the machine is busy, in milliseconds. */
const PATIENCE = 90_000;

describe('a hash of a password', () => {
  it('is of scrypt, with a salt of its own, and fits that password', { timeout: PATIENCE }, async () => {
    const one = await hashPassword(Buffer.from('s3cr+t/"ü'));
    expect(one).toMatch(/^\$scrypt\$ln=14,r=8,p=5\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/);
    expect(one).not.toBe(await hashPassword(Buffer.from('s3cr+t/"ü')));
    expect(await isRight('s3cr+t/"ü', one)).toBe(true);
  });

  it('fits no other password', async () => {
    const hash = cheapHash('s3cr+t/"ü');
    const tried = ['s3cr+t/"ü', 's3cr+t/"u', '', 's3cr+t/"ü ', 'S3cr+t/"ü'].map((password) =>
      isRight(password, hash),
    );
    expect(await Promise.all(tried)).toEqual([true, false, false, false, false]);
  });

  it('is read from the string format of PHC', async () => {
    const salt = Buffer.from('some salt');
    const key = scryptSync('pass', salt, 16, { N: 1024, r: 4, p: 3 });
    const [encodedSalt, encodedKey] = [salt, key].map((octets) =>
      octets.toString('base64').replace(/=*$/, ''),
    );
    const text = `$scrypt$ln=10,r=4,p=3$${encodedSalt}$${encodedKey}`;
    expect(parsePasswordHash(text)).toEqual({
      costLog: 10,
      blockSize: 4,
      parallelization: 3,
      salt: new Uint8Array(salt),
      key: new Uint8Array(key),
    });
    expect([await isRight('pass', text), await isRight('Pass', text)]).toEqual([true, false]);
  });

  it.each([
    'geheim-4711',
    '',
    '$scrypt$ln=14,r=8,p=5$geheim-4711',
    '$scrypt$ln=14,r=8,p=5$geheim4711ge$geheim4711',
    '$argon2id$v=19$m=65536,t=3,p=4$Z2VoZWltLTQ3MTE$Z2VoZWltLTQ3MTFnZWhlaW0tNDcxMQ',
    '$scrypt$ln=9,r=8,p=1$Z2VoZWltLTQ3MTE$Z2VoZWltLTQ3MTFnZWhlaW0tNDcxMQ',
    '$scrypt$ln=14,r=0,p=1$Z2VoZWltLTQ3MTE$Z2VoZWltLTQ3MTFnZWhlaW0tNDcxMQ',
    '$scrypt$ln=14,r=8,p=0$Z2VoZWltLTQ3MTE$Z2VoZWltLTQ3MTFnZWhlaW0tNDcxMQ',
  ])('that is none is refused, and not repeated: %s', (text) => {
    const parse = (): unknown => parsePasswordHash(text);
    expect(parse).toThrow(/^expected a hash as `quorumbridge credentials hash` makes it, and no plain text/);
    expect(parse).not.toThrow(/geheim|Z2Vo/);
  });

  it.each(['ln=17,r=8,p=1', 'ln=16,r=9,p=1', 'ln=99,r=99,p=99', 'ln=14,r=8,p=17'])(
    'that costs too much is refused: %s',
    (costs) => {
      const text = `$scrypt$${costs}$Z2VoZWltLTQ3MTE$Z2VoZWltLTQ3MTFnZWhlaW0tNDcxMQ`;
      expect(() => parsePasswordHash(text)).toThrow('more than 64 MiB, or N × r × p more than 2^21');
    },
  );

  it('of nobody takes as long as the one that it is like, and fits nothing', async () => {
    const hash = parsePasswordHash(cheapHash('one'));
    const { salt, key, ...costs } = nobodysHash(hash);
    expect(hash).toMatchObject(costs);
    expect([salt.length, key.length]).toEqual([hash.salt.length, hash.key.length]);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    tryPassword(Buffer.from('one'), nobodysHash(hash), resolve);
    expect(await promise).toBe(false);
  });
});
