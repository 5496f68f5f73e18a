import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { PasswordLogin } from '../../amqp/sasl.ts';
import { type PasswordHash, tryPassword } from './password-hash.ts';

/** Of this process alone, so that nothing of a password can be had from what is kept of it. */
const SECRET = randomBytes(32);

/** Passwords that wait to be tried: more take longer than clients wait. */
export const CHECKS_MAX = 32;

type Done = (isRight: boolean) => void;

/** One user's password that is tried for everybody who gives it. */
interface Check {
  readonly hash: PasswordHash;
  readonly password: Uint8Array;
  readonly digest: Buffer;
  readonly waiting: Set<Done>;
}

/** Ends the wait for an answer, which doesn't come any more. */
export type Cancel = () => void;

/**
 * Tries passwords one after the other, off the event loop: a storm of wrong ones takes one thread, and a bounded queue.
 * A right password is tried once as long as its hash is in use, and known from then on: fleets that come back all at once
 * don't wait.
 */
export class PasswordChecks {
  readonly #proven = new WeakMap<PasswordHash, Buffer>();
  readonly #queue: Check[] = [];
  #running: Check | undefined;

  /**
   * @param login the user tells apart who has no hash of its own
   * @param done called at once where the password is known to be right, else later
   * @returns undefined when too many wait
   */
  check(hash: PasswordHash, { user, password }: PasswordLogin, done: Done): Cancel | undefined {
    const digest = createHmac('sha256', SECRET).update(`${user}\0`).update(password).digest();
    const proven = this.#proven.get(hash);
    if (proven !== undefined && timingSafeEqual(proven, digest)) {
      done(true);
      return () => {};
    }
    const check = this.#under(hash, digest) ?? this.#enqueue({ hash, password, digest, waiting: new Set() });
    if (check === undefined) return undefined;
    const waiting: Done = (isRight) => done(isRight);
    check.waiting.add(waiting);
    this.#next();
    return () => {
      check.waiting.delete(waiting);
      const at = this.#queue.indexOf(check);
      if (check.waiting.size === 0 && at >= 0) this.#queue.splice(at, 1);
    };
  }

  /** The check of this very password that is under way. */
  #under(hash: PasswordHash, digest: Buffer): Check | undefined {
    const isSame = (check: Check): boolean => check.hash === hash && timingSafeEqual(check.digest, digest);
    return this.#running !== undefined && isSame(this.#running) ? this.#running : this.#queue.find(isSame);
  }

  #enqueue(check: Check): Check | undefined {
    if (this.#queue.length >= CHECKS_MAX) return undefined;
    this.#queue.push(check);
    return check;
  }

  #next(): void {
    if (this.#running !== undefined) return;
    const check = this.#queue.shift();
    if (check === undefined) return;
    this.#running = check;
    tryPassword(check.password, check.hash, (isRight) => {
      this.#running = undefined;
      if (isRight) this.#proven.set(check.hash, check.digest);
      this.#next();
      for (const done of check.waiting) done(isRight);
    });
  }
}
