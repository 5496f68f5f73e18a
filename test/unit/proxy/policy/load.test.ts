import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { PRESETS } from '../../../../common/contract.ts';
import { UsageError } from '../../../../common/errors.ts';
import { loadRules } from '../../../../proxy/policy/load.ts';
import { RulePolicies } from '../../../../proxy/policy/policies.ts';
import type { Policy } from '../../../../proxy/policy/policy.ts';
import { parseRules } from '../../../../proxy/policy/rules-file.ts';
import { NEWEST } from '../../../../proxy/version.ts';
import { startTestProxy } from '../../../support/peers.ts';

const SCOPE = { virtualHost: '/', user: 'guest', broker: NEWEST };

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'quorumbridge-rules-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The path of a file with this text. */
function file(text: string): string {
  const path = join(folder, 'rules.yaml');
  writeFileSync(path, text);
  return path;
}

describe('rules', () => {
  it('are those of the file, then those of the preset that it names', () => {
    const rules = file('preset: openstack\nrules:\n- {match: {queue: reply_1}, action: leave}\n');
    const loaded = loadRules({ preset: undefined, rules });
    expect(loaded).toMatchObject({ preset: 'openstack', count: 3 });
    const policy = loaded.policies.for(SCOPE);
    expect(policy.queue('reply_1')).toMatchObject({ where: `${rules}:3:3`, action: 'leave' });
    expect(policy.queue('reply_2')).toMatchObject({ where: 'preset openstack', expires: 1_800_000 });
  });

  it('are those of the file, then those of the option', () => {
    const rules = file('rules:\n- {match: {queue: celeryev.1}, action: quorum}\n');
    const { policies, preset, count } = loadRules({ preset: 'celery', rules });
    expect([preset, count]).toEqual(['celery', 4]);
    expect(policies.for(SCOPE).queue('celeryev.1').action).toBe('quorum');
    expect(policies.for(SCOPE).queue('celeryev.2').action).toBe('classic-durable');
  });

  it('are none where nothing is given', () => {
    expect(loadRules({ preset: undefined, rules: undefined })).toMatchObject({ preset: 'generic', count: 0 });
  });

  it('may name one preset twice, but not two', () => {
    const rules = file('preset: celery\n');
    expect(loadRules({ preset: 'celery', rules }).preset).toBe('celery');
    expect(() => loadRules({ preset: 'openstack', rules })).toThrow(
      `option --preset is openstack, but ${rules} has the preset celery: leave one of them out`,
    );
  });

  it('name a file that can not be read', () => {
    const load = () => loadRules({ preset: undefined, rules: join(folder, 'missing') });
    expect(load).toThrow(UsageError);
    expect(load).toThrow(/^option --rules: .*missing cannot be read: ENOENT/);
  });

  it('are kept for each user, virtual host and version, and for a bounded number of them', () => {
    const { rules } = parseRules('f', 'rules: [{match: {user: "u*"}, action: leave}]');
    const policies = new RulePolicies(rules);
    const first = policies.for(SCOPE);
    expect(policies.for({ ...SCOPE })).toBe(first);
    for (const other of [
      { user: 'u' },
      { user: undefined },
      { virtualHost: 'v' },
      { broker: { major: 4, minor: 0 } },
    ])
      expect(policies.for({ ...SCOPE, ...other })).not.toBe(first);
    // Where names are put together, no user may be taken for another one with another virtual host.
    expect(policies.for({ ...SCOPE, user: 'u', virtualHost: '","' }).queue('q').action).toBe('leave');
    expect(policies.for({ ...SCOPE, user: '","', virtualHost: 'u' }).queue('q').action).toBe('quorum');
    for (let i = 0; i < 1000; i++) policies.for({ ...SCOPE, user: `user-${i}` });
    expect(policies.for(SCOPE)).not.toBe(first);
    expect(policies.for(SCOPE).queue('q').action).toBe('quorum');
  });
});

describe('the preset', () => {
  const preset = (name: (typeof PRESETS)[number]): Policy =>
    loadRules({ preset: name, rules: undefined }).policies.for(SCOPE);
  const HEX = '0123456789abcdef0123456789abcdef';
  const UUID = '5f2b1c1e-0d6a-3c55-9b7e-0f4a3c2d1e0f';

  it('generic makes what there is without rules of everything', () => {
    for (const name of ['', 'reply_1', `${UUID}.reply.celery.pidbox`])
      expect(preset('generic').queue(name)).toMatchObject({ rule: 'default', action: 'quorum' });
  });

  it.each([
    `reply_${HEX}`,
    `compute_fanout_${HEX}`,
    `q-agent-notifier-port-update_fanout_${HEX}`,
    'reply_host:nova-compute:3',
    'scheduler_fanout_host:nova-scheduler:12',
  ])('openstack gives the reply or fanout queue %s an expiry', (name) => {
    expect(preset('openstack').queue(name)).toMatchObject({ action: 'quorum', expires: 1_800_000 });
  });

  it.each(['compute', 'compute.host1', 'notifications.info', 'compute_fanout', 'my_reply_queue', ''])(
    'openstack has no rule for the queue %j',
    (name) => {
      expect(preset('openstack').queue(name).rule).toBe('default');
    },
  );

  it.each([
    'celery@host.celery.pidbox',
    `${UUID}.reply.celery.pidbox`,
    'worker1@host.example.org.other.pidbox',
    `celeryev.${UUID}`,
    UUID,
  ])('celery makes %s a classic queue', (name) => {
    expect(preset('celery').queue(name).action).toBe('classic-durable');
  });

  it.each(['celery', 'default', 'priority.high', HEX, 'celeryev', 'pidbox', `${UUID}0`, ''])(
    'celery has no rule for the queue %j',
    (name) => {
      expect(preset('celery').queue(name).rule).toBe('default');
    },
  );

  it.each(PRESETS)('%s makes every exchange durable', (name) => {
    for (const exchange of ['celery.pidbox', 'openstack', 'celeryev'])
      expect(preset(name).exchange(exchange).action).toBe('durable');
  });
});

describe('a proxy with rules', () => {
  const running: AsyncDisposable[] = [];
  afterEach(async () => {
    for (const one of running.splice(0)) await one[Symbol.asyncDispose]();
  });

  it('logs where they come from and how many there are', async () => {
    const rules = file('preset: celery\nrules: [{match: {queue: a}, action: leave}]\n');
    const proxy = await startTestProxy({ backend: '127.0.0.1:1', rules });
    running.push(proxy);
    expect(proxy.log()).toContainEqual(
      expect.objectContaining({ msg: 'proxy is listening', preset: 'celery', rulesFile: rules, rules: 4 }),
    );
  });

  it('does not start with a file that has a mistake', async () => {
    const rules = file('rules: [{action: leaf}]\n');
    await expect(startTestProxy({ backend: '127.0.0.1:1', rules })).rejects.toThrow(
      new UsageError(
        `${rules}:1:18: "leaf" is not valid: expected one of quorum, classic-durable, leave, durable`,
      ),
    );
  });
});
