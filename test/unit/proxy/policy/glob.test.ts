import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileGlob } from '../../../../proxy/policy/glob.ts';

/** What a pattern means, without a thought for time. */
function naive(pattern: readonly string[], text: readonly string[]): boolean {
  const [part, ...parts] = pattern;
  if (part === undefined) return text.length === 0;
  if (part === '*') return naive(parts, text) || (text.length > 0 && naive(pattern, text.slice(1)));
  if (text.length === 0) return false;
  return (part === '?' || part === text[0]) && naive(parts, text.slice(1));
}

describe('a pattern', () => {
  it.each([
    ['reply_*', ['reply_', 'reply_1', 'reply_a_b'], ['reply', 'xreply_1', 'REPLY_1']],
    ['*_fanout_*', ['a_fanout_b', '_fanout_', 'a_fanout_fanout_b'], ['a_fanout', 'fanout_b']],
    ['a?c', ['abc', 'a😀c', 'a?c'], ['ac', 'abbc']],
    ['*', ['', 'anything', 'with\nlines'], []],
    ['', [''], ['a']],
    ['a.b[c]+(d)|e\\', ['a.b[c]+(d)|e\\'], ['axb[c]+(d)|e\\', 'a.bc']],
    ['??', ['ab', '😀😀'], ['a', '😀', 'abc']],
    ['*😀?', ['😀a', 'x😀😀'], ['😀']],
    ['a*b*c', ['abc', 'axbxbxc', 'abcbc'], ['acb', 'ab', 'bc']],
    ['celery@*.pidbox', ['celery@host.celery.pidbox'], ['celery@.celery.pidbox.x']],
  ])('%j fits whole names and nothing else', (pattern, fitting, others) => {
    const glob = compileGlob(pattern);
    expect(fitting.filter((name) => !glob(name))).toEqual([]);
    expect(others.filter((name) => glob(name))).toEqual([]);
  });

  it('means what the definition says, for any pattern and text', () => {
    const of = (...letters: string[]): fc.Arbitrary<string> =>
      fc.string({ unit: fc.constantFrom(...letters), maxLength: 8 });
    fc.assert(
      fc.property(of('a', 'b', '😀', '*', '*', '?'), of('a', 'b', '😀', '*'), (pattern, text) => {
        expect(compileGlob(pattern)(text)).toBe(naive(Array.from(pattern), Array.from(text)));
      }),
      { numRuns: 5000 },
    );
  });

  it('takes its time for names that are made to take long, and no more', () => {
    // 120 runs that each fit almost anywhere: a matcher that tries all ways would not end
    const glob = compileGlob(`${'*a'.repeat(120)}*b`);
    const name = 'a'.repeat(255);
    const began = performance.now();
    for (let i = 0; i < 100; i++) expect(glob(name)).toBe(false);
    expect(glob(`${name}b`)).toBe(true);
    expect(performance.now() - began).toBeLessThan(5000);
  });
});
