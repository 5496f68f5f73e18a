// What of a 3.x rabbitmq.conf RabbitMQ 4 does not start with, and that what the reconciler makes of it starts.
import { expect, it } from 'vitest';
import { adaptConfig } from '../../reconciler/brokerconf.ts';
import { startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';

const MQTT = ['rabbitmq_mqtt'];

/** Each alone keeps RabbitMQ 4 from starting; 3.10 starts with all of them. */
const REFUSED = [
  'amqp1_0.default_user = guest',
  'amqp1_0.default_vhost = /',
  'amqp1_0.protocol_strict_mode = false',
  'cluster_formation.randomized_startup_delay_range.min = 0',
  'cluster_formation.randomized_startup_delay_range.max = 2',
  'management.enable_uaa = false',
  'management.uaa_client_id = x',
  'management.uaa_location = http://127.0.0.1',
  'mqtt.default_user = guest',
  'mqtt.default_pass = guest',
  'mqtt.subscription_ttl = 86400000',
  'classic_queue.default_version = 1',
];

/** Not of 3.10: the operator policies of later 3.x versions. */
const POLICY = `default_policies.operator.a.queue_pattern = ^x
default_policies.operator.a.classic_queues.ha_mode = exactly
default_policies.operator.a.classic_queues.ha_params = 2`;

/** With these it starts, though nothing comes of most. */
const KEPT = [
  'queue_master_locator = min-masters',
  'cluster_partition_handling = pause_minority',
  'mirroring_sync_batch_size = 4096',
  'vm_memory_high_watermark_paging_ratio = 0.5',
  'queue_index_embed_msgs_below = 4kb',
  'log.mirroring.level = info',
  'hipe_compile = false',
  'channel_max = 100',
  'connection_max = 1000',
];

await describeBrokers(['4.0', '4.3'], (version) => {
  // A broker that gives up takes its time to end, in which it does nothing.
  it.concurrent.each([...REFUSED, POLICY, POLICY.split('\n')[0]!])(
    'does not start with %s',
    async (conf) => {
      const start = startBroker(version, { conf, plugins: MQTT });
      await expect(start).rejects.toThrow(/stopped while starting|ended before answer/);
    },
    120_000,
  );

  it('starts with what is made of all that, and has the settings of the upgrade', async () => {
    const text = [...REFUSED, POLICY, ...KEPT].join('\n');
    const needs = { version, isProxied: true, isReplicated: true };
    const { text: conf, notes } = adaptConfig(text, needs);
    expect(notes).toHaveLength(REFUSED.length + POLICY.split('\n').length);
    for (const line of KEPT) expect(conf).toContain(line);
    await using broker = await startBroker(version, { conf, plugins: MQTT });
    const asked =
      '{application:get_env(rabbit, quorum_relaxed_checks_on_redeclaration), ' +
      'application:get_env(rabbit, quorum_membership_reconciliation_enabled)}.';
    expect(await broker.ctl('eval', asked)).toBe('{{ok,true},{ok,true}}');
  });
});

await describeBrokers(['3.10'], (version) => {
  it('starts with what RabbitMQ 4 refuses, so that users may have it', async () => {
    await using broker = await startBroker(version, {
      conf: [...REFUSED, ...KEPT].join('\n'),
      plugins: [...MQTT, 'rabbitmq_amqp1_0'],
    });
    expect(await broker.ctl('eval', 'rabbit:is_running().')).toBe('true');
  });
});
