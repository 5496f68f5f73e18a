import { beforeEach, describe, expect, it } from 'vitest';
import type { PasswordLogin } from '../../../../amqp/sasl.ts';
import { CHECKS_MAX, PasswordChecks } from '../../../../proxy/access/password-checks.ts';
import { parsePasswordHash, type PasswordHash } from '../../../../proxy/access/password-hash.ts';
import { cheapHash } from '../../../support/credentials.ts';

let checks: PasswordChecks;
let hash: PasswordHash;
/** The answers, in the order in which they came. */
let answers: string[];

beforeEach(() => {
  checks = new PasswordChecks();
  hash = parsePasswordHash(cheapHash('right'));
  answers = [];
});

function login(password: string, user = 'nova'): PasswordLogin {
  return { user, password: Buffer.from(password) };
}

/** Tries a password; tells whether there was room for it. */
function check(password: string, name = password, of = hash, user = 'nova'): boolean {
  const cancel = checks.check(of, login(password, user), (isRight) => answers.push(`${name} ${isRight}`));
  return cancel !== undefined;
}

async function answered(count: number): Promise<void> {
  await expect.poll(() => answers.length, { timeout: 20_000 }).toBe(count);
}

describe('checks of passwords', () => {
  it('answer in their order, later than they are asked', async () => {
    for (const password of ['wrong', 'right', 'also wrong']) expect(check(password)).toBe(true);
    expect(answers).toEqual([]);
    await answered(3);
    expect(answers).toEqual(['wrong false', 'right true', 'also wrong false']);
  });

  it('answer at once for a password that was right before, and for no other', async () => {
    check('right');
    await answered(1);
    check('right', 'again');
    expect(answers).toEqual(['right true', 'again true']);
    check('wrong');
    check('right', 'of another', parsePasswordHash(cheapHash('other')));
    expect(answers).toHaveLength(2);
    await answered(4);
    expect(answers.slice(2)).toEqual(['wrong false', 'of another false']);
  });

  it('are bounded, but for passwords that are being tried or known', async () => {
    check('right');
    await answered(1);
    // The first one is under way, and waits no more.
    const taken = Array.from({ length: CHECKS_MAX + 1 }, (_, at) => check(`wrong ${at}`));
    expect(taken).not.toContain(false);
    expect(check('one too many')).toBe(false);
    for (const at of [0, 1, CHECKS_MAX]) expect(check(`wrong ${at}`, `same ${at}`)).toBe(true);
    expect(check('right', 'known')).toBe(true);
    expect(answers).toEqual(['right true', 'known true']);
    await answered(2 + CHECKS_MAX + 1 + 3);
    expect(answers).toContain('same 1 false');
    expect(check('room again')).toBe(true);
    await answered(2 + CHECKS_MAX + 1 + 3 + 1);
  });

  it('are of one user each, since users without a hash of their own have the same', async () => {
    for (let at = 0; at <= CHECKS_MAX; at++) check('wrong', 'one', hash, `nobody ${at}`);
    expect(check('wrong', 'too many', hash, 'somebody')).toBe(false);
    await answered(CHECKS_MAX + 1);
  });

  it('that nobody waits for make room', async () => {
    check('first');
    const cancels = Array.from({ length: CHECKS_MAX }, (_, at) =>
      checks.check(hash, login(`gone ${at}`), () => answers.push(`gone ${at}`)),
    );
    expect(check('one too many')).toBe(false);
    for (const cancel of cancels) cancel!();
    expect(check('right')).toBe(true);
    await answered(2);
    expect(answers).toEqual(['first false', 'right true']);
  });

  it('that several wait for go on when one of them goes', async () => {
    check('first');
    const cancel = checks.check(hash, login('right'), () => answers.push('gone'));
    check('right', 'stays');
    cancel!();
    await answered(2);
    expect(answers).toEqual(['first false', 'stays true']);
  });
});
