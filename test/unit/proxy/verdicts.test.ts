import { describe, expect, it } from 'vitest';
import { USAGES, type Usage } from '../../../proxy/usage.ts';
import {
  type Effect,
  fixOf,
  REFUSED,
  type Target,
  targetOf,
  TARGETS,
  titleOf,
  verdictOn,
} from '../../../proxy/verdicts.ts';

/** What the brokers did, by their versions: 4.0.5 and 4.3.6 measured; 4.1 and 4.2 from release notes. */
const EFFECTS: Readonly<Record<Usage, readonly [v40: Effect, v41: Effect, v42: Effect, v43: Effect]>> = {
  'transient-queue': ['changes', 'changes', 'changes', 'breaks'],
  'transient-queue-server-named': ['changes', 'changes', 'changes', 'breaks'],
  'auto-delete-queue': ['changes', 'changes', 'changes', 'changes'],
  'durable-classic-queue': ['changes', 'changes', 'changes', 'changes'],
  'exclusive-named-queue': ['changes', 'changes', 'changes', 'changes'],
  'quorum-refused': ['breaks', 'breaks', 'breaks', 'breaks'],
  'quorum-without-delivery-limit': ['changes', 'changes', 'changes', 'changes'],
  'negative-delivery-limit': ['changes', 'changes', 'changes', 'changes'],
  'empty-queue-type': ['breaks', 'breaks', 'breaks', 'fine'],
  'queue-master-locator': ['fine', 'fine', 'fine', 'breaks'],
  'queue-version-1': ['fine', 'fine', 'fine', 'breaks'],
  'queue-mode': ['fine', 'fine', 'fine', 'changes'],
  'ha-policy-argument': ['fine', 'fine', 'fine', 'fine'],
  'max-priority': ['fine', 'fine', 'fine', 'fine'],
  'overflow-reject-publish-dlx': ['fine', 'fine', 'fine', 'fine'],
  'consumer-timeout': ['fine', 'fine', 'fine', 'changes'],
  'consumer-timeout-refused': ['fine', 'fine', 'fine', 'breaks'],
  'transient-exchange': ['fine', 'fine', 'changes', 'changes'],
  'global-qos': ['fine', 'fine', 'fine', 'changes'],
  'exclusive-consumer': ['fine', 'fine', 'fine', 'fine'],
  'cancel-on-ha-failover': ['fine', 'fine', 'fine', 'fine'],
  'conditional-delete': ['fine', 'fine', 'fine', 'fine'],
  'small-frame-max': ['fine', 'breaks', 'breaks', 'breaks'],
};

describe('the verdicts', () => {
  it.each(USAGES)('on %s are as the brokers answered', (usage) => {
    expect(TARGETS.map((target) => verdictOn(usage, target).effect)).toEqual(EFFECTS[usage]);
  });

  it.each(USAGES)('on %s come with words and a fix', (usage) => {
    for (const target of TARGETS) {
      expect(verdictOn(usage, target).what).toMatch(/^[a-z].*[^.]$/);
    }
    expect(titleOf(usage)).toMatch(/^[a-z].*[^.]$/);
    expect(fixOf(usage)).toMatch(/^[a-z].*[^.]$/);
  });

  it.each<[Target, boolean]>([
    ['4.0', true],
    ['4.1', false],
    ['4.2', false],
    ['4.3', true],
  ])('on %s say whether they were measured', (target, measured) => {
    const sources = USAGES.map((usage) => verdictOn(usage, target).source === 'measured');
    expect(sources.every((source) => source === measured)).toBe(true);
  });

  it('name the reply code of every refusal on 4.3, except where the broker gives none', () => {
    const refusals = USAGES.filter((usage) => verdictOn(usage, '4.3').effect === 'breaks');
    const mute = refusals.filter((usage) => !/\b(?:406|541)\b/.test(verdictOn(usage, '4.3').what));
    expect(mute).toEqual(['small-frame-max']);
  });

  it('know what no client of RabbitMQ 4 may use without the proxy', () => {
    expect([...REFUSED]).toEqual(USAGES.filter((usage) => EFFECTS[usage].includes('breaks')));
  });
});

describe('a target', () => {
  it.each([
    ['4.0', '4.0'],
    ['4.3', '4.3'],
    ['4.3.6', '4.3'],
    ['4.4', undefined],
    ['3.13', undefined],
    ['4', undefined],
    ['', undefined],
  ])('is read from %j: %j', (text, target) => {
    expect(targetOf(text)).toBe(target);
  });
});
