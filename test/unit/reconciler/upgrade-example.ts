// The upgrade that docs/upgrade-definitions.md shows the report of.
import type { Upgrade } from '../../../cli/upgrade/read.ts';
import type { JsonObject } from '../../../common/kube/types.ts';
import { reportOf, settledOutcomes } from '../../../reconciler/broker/report.ts';
import { translateDefinitions } from '../../../reconciler/broker/translate.ts';

function queue(name: string, args: JsonObject = {}, auto_delete = false): JsonObject {
  return { vhost: '/', name, durable: true, auto_delete, arguments: args };
}

const SAVED: JsonObject = {
  users: ['nova', 'neutron'].map((name) => ({ name, password_hash: 'h' })),
  vhosts: [{ name: '/' }],
  parameters: [{ vhost: '/', component: 'shovel', name: 'to-archive', value: {} }],
  policies: [
    { vhost: '/', name: 'ha-all', pattern: '.*', definition: { 'ha-mode': 'all' }, priority: 1 },
    { vhost: '/', name: 'limits', pattern: '^log', definition: { 'max-length': 1000 }, priority: 0 },
  ],
  queues: [
    queue('conductor'),
    queue('scheduler'),
    queue('events', {}, true),
    queue('jobs', { 'x-max-priority': 10 }),
    queue('audit', { 'x-queue-type': 'quorum' }),
  ],
};

/** As the reconciler makes it: RabbitMQ has no plugin for the shovel. */
export function exampleUpgrade(): Upgrade {
  const { outcomes } = translateDefinitions(SAVED, {
    form: 'quorum',
    target: { major: 4, minor: 0, patch: 5 },
  });
  const object = (SAVED['parameters'] as JsonObject[])[0]!;
  const definition = { kind: 'parameters', object } as const;
  const settled = settledOutcomes(outcomes, [{ definition, said: '' }], [{ definition, fields: undefined }]);
  const facts = { sequence: 1, from: '3.10.8', to: '4.0', reason: 'VersionUpgrade' };
  return {
    namespace: 'openstack',
    name: 'rabbitmq',
    ...facts,
    phase: '',
    why: null,
    timeline: [
      { at: '2026-11-21T12:00:00Z', what: 'began' },
      { at: '2026-11-21T12:00:07Z', what: 'credentials, cluster and definitions were saved' },
      { at: '2026-11-21T12:03:51Z', what: 'the definitions were brought back' },
      { at: '2026-11-21T12:03:52Z', what: 'finished' },
    ],
    report: {
      formatVersion: 1,
      ...facts,
      definitions: reportOf(settled),
      lost: { messages: 12, queues: 1, holding: [{ vhost: '/', name: 'audit', messages: 12 }] },
    },
  };
}
