import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';

/** What can be told of a password, and no more: whether one is it (scrypt, RFC 7914). */
export interface PasswordHash {
  /** The logarithm of N, to the base 2. */
  readonly costLog: number;
  readonly blockSize: number;
  readonly parallelization: number;
  readonly salt: Uint8Array;
  readonly key: Uint8Array;
}

/** Octets of a password: more is no password of anybody's. */
export const PASSWORD_MAX = 1024;

/** As strong as N of 2^17 (OWASP's advice), with 16 MiB of memory: a sidecar has little. */
const NEW = { costLog: 14, blockSize: 8, parallelization: 5 } as const;

const SALT_SIZE = 16;
const KEY_SIZE = 32;

/** What a hash in a file may cost: octets of memory, and N × r × p, which is the time. */
const MEMORY_MAX = 64 * 1024 ** 2;
const WORK_MAX = 2 ** 21;

const EXPECTED = 'expected a hash as `quorumbridge credentials hash` makes it, and no plain text';

const PATTERN =
  /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})$/;

/**
 * Reads a hash in PHC's string format: `$scrypt$ln=14,r=8,p=5$SALT$KEY`, both in base64 without padding.
 * @throws Error with what is expected; it never repeats the text
 */
export function parsePasswordHash(text: string): PasswordHash {
  const [, ...parts] = PATTERN.exec(text) ?? [];
  if (parts.length === 0) throw new Error(EXPECTED);
  const [costLog = 0, blockSize = 0, parallelization = 0] = parts.slice(0, 3).map(Number);
  if (costLog < 10 || blockSize < 1 || parallelization < 1)
    throw new Error(`${EXPECTED}: ln has to be 10 at least, r and p 1`);
  const cost = 2 ** costLog;
  if (128 * cost * blockSize > MEMORY_MAX || cost * blockSize * parallelization > WORK_MAX)
    throw new Error('a hash that takes more than 64 MiB, or N × r × p more than 2^21: make a cheaper one');
  const [salt, key] = parts.slice(3).map((part) => new Uint8Array(Buffer.from(part, 'base64')));
  return { costLog, blockSize, parallelization, salt: salt!, key: key! };
}

/** As {@link parsePasswordHash} reads it. */
function formatPasswordHash(hash: PasswordHash): string {
  const { costLog, blockSize, parallelization, salt, key } = hash;
  const [encodedSalt, encodedKey] = [salt, key].map((octets) =>
    Buffer.from(octets).toString('base64').replaceAll('=', ''),
  );
  return `$scrypt$ln=${costLog},r=${blockSize},p=${parallelization}$${encodedSalt}$${encodedKey}`;
}

/** A hash of this password with a salt of its own, as text. */
export async function hashPassword(password: Uint8Array): Promise<string> {
  const salt = randomBytes(SALT_SIZE);
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  derive(password, { ...NEW, salt, key: new Uint8Array(KEY_SIZE) }, (error, key) => {
    if (error === null) resolve(key);
    else reject(error);
  });
  return formatPasswordHash({ ...NEW, salt, key: await promise });
}

/** The hash of no password, which takes as long to be tried as the other does. */
export function nobodysHash(like: PasswordHash): PasswordHash {
  return { ...like, salt: randomBytes(like.salt.length), key: randomBytes(like.key.length) };
}

/**
 * Tries a password, on another thread.
 * @param done called later, with false also where it can't be tried
 */
export function tryPassword(
  password: Uint8Array,
  hash: PasswordHash,
  done: (isRight: boolean) => void,
): void {
  derive(password, hash, (error, key) => done(error === null && timingSafeEqual(key, hash.key)));
}

function derive(
  password: Uint8Array,
  { costLog, blockSize, parallelization, salt, key }: PasswordHash,
  done: (error: Error | null, key: Buffer) => void,
): void {
  const options = { N: 2 ** costLog, r: blockSize, p: parallelization, maxmem: 2 * MEMORY_MAX };
  scrypt(password, salt, key.length, options, done);
}
