import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { asText } from '../../../cli/upgrade/text.ts';
import type { JsonObject } from '../../../common/kube/types.ts';
import { translateDefinitions } from '../../../reconciler/broker/translate.ts';
import { exampleUpgrade } from './upgrade-example.ts';

const document = readFileSync(new URL('../../../docs/upgrade-definitions.md', import.meta.url), 'utf8');

/** One object for each thing that a translation does. */
const EVERYTHING: JsonObject = {
  global_parameters: [{ name: 'internal_cluster_id', value: 'x' }],
  policies: [
    { vhost: '/', name: 'a', definition: { 'ha-mode': 'all' } },
    {
      vhost: '/',
      name: 'b',
      definition: { 'ha-mode': 'all', 'queue-master-locator': 'random', overflow: 'reject-publish-dlx' },
    },
  ],
  queues: [
    { vhost: '/', name: 'amq.gen-1', durable: true, auto_delete: false, arguments: {} },
    {
      vhost: '/',
      name: 'q',
      durable: false,
      auto_delete: true,
      arguments: {
        'x-max-priority': 1,
        'x-queue-mode': 'lazy',
        'x-queue-version': 2,
        'x-consumer-timeout': 1,
        'x-queue-master-locator': 'random',
        'x-overflow': 'reject-publish-dlx',
        'x-delivery-limit': 1,
        'x-quorum-initial-group-size': 1,
        'x-max-in-memory-length': 1,
        'x-max-in-memory-bytes': 1,
      },
    },
    {
      vhost: '/',
      name: 'u',
      durable: true,
      auto_delete: false,
      arguments: { u: 'Not UTF-8, base64 is: /w==' },
    },
  ],
  exchanges: [
    { vhost: '/', name: 'amq.rabbitmq.log', type: 'topic', durable: true },
    { vhost: '/', name: 'x', type: 'topic', durable: false },
  ],
  bindings: [
    { vhost: '/', source: 'x', destination_type: 'queue', destination: 'amq.gen-1', routing_key: '' },
  ],
};

describe('docs/upgrade-definitions.md', () => {
  const outcomes = (['quorum', 'classic'] as const).flatMap(
    (form) => translateDefinitions(EVERYTHING, { form, target: { major: 4, minor: 3, patch: 0 } }).outcomes,
  );

  it('has each reason for which something is changed, with the field', () => {
    const changes = outcomes.flatMap((outcome) => outcome.changes);
    expect(new Set(changes.map(({ field }) => field)).size).toBe(18);
    const rows = document.split('\n').filter((line) => line.startsWith('| '));
    const missing = changes.filter(({ field, why }) => {
      const key = field.replace(/^(?:arguments|definition)\./, '').replace(/^ha-.*/, 'ha-*');
      return !rows.some((row) => row.includes(`\`${key}`) && row.endsWith(`| ${why} |`));
    });
    expect(missing).toEqual([]);
  });

  it('has each reason for which something is dropped', () => {
    const whys = new Set(
      outcomes.filter(({ result }) => result === 'dropped').map(({ why }) => why.split(';')[0]!),
    );
    expect(whys.size).toBe(6);
    const rows = document.split('\n').filter((line) => line.startsWith('| '));
    expect([...whys].filter((why) => !rows.some((row) => row.includes(`| ${why}`)))).toEqual([]);
  });

  it('shows the report as it is written', () => {
    const shown = /```console\n\$ quorumbridge upgrade report rabbitmq -n openstack\n([^`]*)```/.exec(
      document,
    )?.[1];
    expect(shown).toBe(asText(exampleUpgrade()));
  });
});
