import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { adaptConfig, followConfig } from '../../../reconciler/brokerconf.ts';

const RELAXED = 'quorum_queue.property_equivalence.relaxed_checks_on_redeclaration';
const RECONCILED = 'quorum_queue.continuous_membership_reconciliation.enabled';
const ALONE = { version: '4.2', isProxied: false, isReplicated: false };

const MIRRORED = `default_policies.operator.a.queue_pattern = ^x
default_policies.operator.a.classic_queues.ha_mode = exactly
default_policies.operator.a.classic_queues.ha_params = 2
`;

describe('rabbitmq.conf on the way to RabbitMQ 4', () => {
  it('gets relaxed checks with the proxy, and members for late queues with several nodes', () => {
    const both = { version: '4.0', isProxied: true, isReplicated: true };
    expect(adaptConfig('', both)).toEqual({ text: `${RELAXED} = true\n${RECONCILED} = true\n`, notes: [] });
    expect(adaptConfig('a = 1', { ...both, isReplicated: false }).text).toBe(`a = 1\n${RELAXED} = true\n`);
    expect(adaptConfig('a = 1\n', { ...both, isProxied: false }).text).toBe(`a = 1\n${RECONCILED} = true\n`);
    expect(adaptConfig('a = 1\n', ALONE).text).toBe('a = 1\n');
  });

  it.each(['3.9', '3.13.7', 'unknown'])('stays as it is for %s, which may not start with them', (version) => {
    const text = `amqp1_0.default_user = x\n${MIRRORED}`;
    expect(adaptConfig(text, { version, isProxied: true, isReplicated: true })).toEqual({ text, notes: [] });
    expect(followConfig(text, `${RELAXED} = true`, version)).toBe(text);
  });

  it.each([`${RELAXED} = false`, `  ${RELAXED}=false # mine`, `${RELAXED}: false`])(
    'leaves the user’s own value: %s',
    (line) => {
      expect(adaptConfig(line, { ...ALONE, isProxied: true }).text).toBe(line);
    },
  );

  it('does not take a comment for a setting', () => {
    const text = `# ${RELAXED} = false\n; amqp1_0.default_user = x\n`;
    expect(adaptConfig(text, { ...ALONE, isProxied: true })).toEqual({
      text: `${text}${RELAXED} = true\n`,
      notes: [],
    });
  });

  it.each([
    'amqp1_0.default_user = guest',
    'amqp1_0.protocol_strict_mode = false',
    'cluster_formation.randomized_startup_delay_range.min = 5',
    'cluster_formation.randomized_startup_delay_range.max: 60',
    'management.enable_uaa = true',
    'mqtt.default_user = guest',
    'mqtt.default_pass = s3cret',
    'mqtt.subscription_ttl = 86400000',
    'classic_queue.default_version = 1 # old',
  ])('loses %s, and says so without its value', (line) => {
    const { text, notes } = adaptConfig(`heartbeat = 20\n${line}\n# end\n`, ALONE);
    expect(text).toBe('heartbeat = 20\n# end\n');
    const key = /^[^ :]+/.exec(line)![0];
    expect(notes).toEqual([
      expect.stringMatching(
        / was taken out of spec\.rabbitmq\.additionalConfig, for RabbitMQ 4\.2 does not start with it: /,
      ),
    ]);
    expect(notes[0]).toMatch(new RegExp(`^${key} `));
    expect(notes[0]).not.toContain('s3cret');
  });

  it('loses an operator policy that only mirrors, and keeps what else one limits', () => {
    expect(adaptConfig(MIRRORED, ALONE)).toMatchObject({ text: '', notes: { length: 3 } });
    const limit = 'default_policies.operator.a.delivery_limit = 5\n';
    expect(adaptConfig(MIRRORED + limit, ALONE).text).toBe(
      `default_policies.operator.a.queue_pattern = ^x\n${limit}`,
    );
    const other = 'default_policies.operator.b.queue_pattern = ^y\n';
    expect(adaptConfig(MIRRORED + other, ALONE).text).toBe(other);
  });

  it.each([
    'classic_queue.default_version = 2',
    'queue_master_locator = min-masters',
    'mirroring_sync_batch_size = 4096',
    'cluster_partition_handling = pause_minority',
    'deprecated_features.permit.classic_queue_mirroring = true',
  ])('keeps %s, with which RabbitMQ 4 starts', (line) => {
    expect(adaptConfig(line, ALONE)).toEqual({ text: line, notes: [] });
  });

  const lines = fc.array(
    fc.oneof(
      fc.string(),
      fc.constantFrom(
        'amqp1_0.default_user = x',
        `${RELAXED} = false`,
        'a.b = 1',
        '# c',
        '',
        ...MIRRORED.split('\n'),
      ),
    ),
  );

  it('needs nothing done twice, and follows to the same text', () => {
    fc.assert(
      fc.property(lines, fc.boolean(), fc.boolean(), (list, isProxied, isReplicated) => {
        const needs = { version: '4.2', isProxied, isReplicated };
        const once = adaptConfig(list.join('\n'), needs);
        expect(adaptConfig(once.text, needs)).toEqual({ text: once.text, notes: [] });
        expect(followConfig(list.join('\n'), once.text, '4.2')).toBe(once.text);
      }),
    );
  });
});
