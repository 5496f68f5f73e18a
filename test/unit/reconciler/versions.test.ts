import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type VersionPath,
  isFourOrLater,
  isThreeToFour,
  sameTarget,
  versionPath,
} from '../../../reconciler/versions.ts';

function whyNot(path: VersionPath): string {
  return path.ok ? '' : path.why;
}

describe('the way from one version to another', () => {
  it.each<[string, string, string]>([
    ['3.9', '4.2', 'wipe'],
    ['3.9', '3.13', 'wipe'],
    ['3.9.0', '4.0.0', 'wipe'],
    ['4.0', '4.2', 'wipe'],
    ['4.2', '5.0', 'wipe'],
    ['3.8', '4.3.6', 'wipe'],
    ['3.9', '3.10', 'wipe'],
    ['3.9.0', '3.9.1', 'patch'],
    ['4.2', '4.2.1', 'patch'],
    ['4.2.9', '4.2.10', 'patch'],
    ['4.2', '4.2', 'same'],
    ['4.2.1', '4.2.1', 'same'],
    ['4.2.1', '4.2', 'same'],
  ])('from %s to %s is %s', (from, to, kind) => {
    expect(versionPath(from, to)).toEqual({ ok: true, kind });
  });

  it.each<[string, string, RegExp]>([
    [
      '4.2',
      '3.13',
      /^RabbitMQ 3\.13 is older than 4\.2, which runs.*: set the target to 4\.2 or a later one$/,
    ],
    ['4.2', '4.0', /older than 4\.2, which runs/],
    ['4.2.3', '4.2.1', /older than 4\.2\.3, which runs/],
    ['3.7', '4.2', /^RabbitMQ 3\.7 is older than 3\.8/],
    ['3.9', '3.7', /^RabbitMQ 3\.7 is older than 3\.8/],
    ['', '4.2', /^the version that runs is "", .*remove status\.currentVersion/],
    ['3.9', '', /^the target is "", expected a version such as 4\.2/],
    ['3.9', `4.2\n; rm -rf /`, /^the target is "4\.2\\n; rm -rf \/", expected/],
    ['3.9', '4.'.repeat(500), /^the target is "[4.]{40}…", expected/],
  ])('from %j to %j is refused, with the way out', (from, to, why) => {
    expect(whyNot(versionPath(from, to))).toMatch(why);
  });

  it.each(['3', 'v3.9', '3.9.', '3.9.1.2', '3.x', ' 3.9', '3.9-rc', '-3.9', 'latest'])(
    'is refused for %j, which is no version, on either side',
    (text) => {
      expect([versionPath(text, '4.2').ok, versionPath('3.9', text).ok]).toEqual([false, false]);
    },
  );

  const versions = fc
    .tuple(
      fc.integer({ min: 3, max: 12 }),
      fc.integer({ min: 8, max: 30 }),
      fc.option(fc.integer({ min: 0, max: 40 }), { nil: undefined }),
    )
    .map((numbers) => numbers.filter((each) => each !== undefined).join('.'));

  it('is never open in both directions, unless there is nothing to do in one', () => {
    fc.assert(
      fc.property(versions, versions, (a, b) => {
        const ways = [versionPath(a, b), versionPath(b, a)];
        const isOpen = ways.filter((way) => way.ok && way.kind !== 'same').length;
        expect(isOpen).toBeLessThanOrEqual(1);
        // Exactly where major or minor differ, one of the two wipes.
        const isWiped = ways.some((way) => way.ok && way.kind === 'wipe');
        expect(isWiped).toBe(a.split('.').slice(0, 2).join('.') !== b.split('.').slice(0, 2).join('.'));
      }),
    );
  });
});

describe('3.x to 4.x', () => {
  it.each<[string, string, boolean]>([
    ['3.9', '4.2', true],
    ['3.13.7', '4.0.1', true],
    ['3.9', '5.0', true],
    ['3.9', '10.0', true],
    ['3.9', '3.13', false],
    ['4.0', '4.2', false],
    ['4.2', '5.0', false],
    ['3.x', '4.2', false],
    ['3.9', 'four', false],
  ])('from %s to %s: %s', (from, to, is) => {
    expect(isThreeToFour(from, to)).toBe(is);
  });

  it.each<[string, boolean]>([
    ['4.0', true],
    ['4.0.0', true],
    ['4.2', true],
    ['5.0', true],
    ['10.1', true],
    ['3.13', false],
    ['3.99.99', false],
    ['4', false],
    ['', false],
  ])('%s is 4.0 or later: %s', (text, is) => {
    expect(isFourOrLater(text)).toBe(is);
  });
});

describe('a target', () => {
  it.each<[string, string, boolean]>([
    ['4.2', '4.2', true],
    ['4.2.1', '4.2.1', true],
    ['04.2', '4.2', true],
    ['4.2', '4.2.1', false],
    ['4.2.1', '4.2.2', false],
    ['4.2', '4.3', false],
    ['x', 'x', true],
    ['x', '4.2', false],
  ])('%s and %s are the same: %s', (a, b, is) => {
    expect([sameTarget(a, b), sameTarget(b, a)]).toEqual([is, is]);
  });
});
