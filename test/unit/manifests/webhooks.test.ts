import { describe, expect, it } from 'vitest';
import { INSTALL, KIND, NAMESPACE_LABEL } from '../../../common/contract.ts';
import { objectsIn } from './sources.ts';
import type { Configuration } from './sources.ts';

const [mutating, validating] = objectsIn('base/mutating-webhooks.yaml', 'base/validating-webhooks.yaml') as [
  Configuration,
  Configuration,
];
const mutatingHooks = mutating.webhooks.map((webhook) => ({ of: 'mutating', ...webhook }));
const validatingHooks = validating.webhooks.map((webhook) => ({ of: 'validating', ...webhook }));
const all = [...mutatingHooks, ...validatingHooks];

function named(name: string) {
  return mutatingHooks.find((webhook) => webhook.name === name)!;
}

describe('the webhook configurations', () => {
  it('have the names of the contract', () => {
    const { cluster, statefulSet, rabbitMq } = INSTALL.webhook;
    expect([mutating.kind, validating.kind]).toEqual([
      'MutatingWebhookConfiguration',
      'ValidatingWebhookConfiguration',
    ]);
    expect([mutating.metadata.name, validating.metadata.name]).toEqual(Array(2).fill(INSTALL.configuration));
    expect(mutatingHooks.map(({ name }) => name)).toEqual([cluster, statefulSet, rabbitMq]);
    expect(validatingHooks.map(({ name }) => name)).toEqual([rabbitMq]);
  });

  it.each(all)('$of $name calls the Service, and leaves caBundle to who makes the certificate', (webhook) => {
    const path = webhook.of === 'mutating' ? INSTALL.path.mutate : INSTALL.path.validate;
    expect(webhook.clientConfig).toEqual({
      service: { name: INSTALL.name, namespace: INSTALL.namespace, path, port: 443 },
    });
  });

  it.each(all)('$of $name has every field that an API server would fill in', (webhook) => {
    const fields = [
      'admissionReviewVersions',
      'clientConfig',
      'failurePolicy',
      'matchConditions',
      'matchPolicy',
      'name',
      'namespaceSelector',
      'objectSelector',
      'of',
      'rules',
      'sideEffects',
      'timeoutSeconds',
    ];
    const more = webhook.of === 'mutating' ? ['reinvocationPolicy'] : [];
    expect(Object.keys(webhook).sort()).toEqual([...fields, ...more].sort());
    expect(webhook.rules.map(({ scope }) => scope)).toEqual(['Namespaced']);
  });

  it.each(all)('$of $name fails closed, in time, without side effects', (webhook) => {
    expect(webhook).toMatchObject({
      failurePolicy: 'Fail',
      sideEffects: 'None',
      matchPolicy: 'Equivalent',
      admissionReviewVersions: ['v1'],
    });
    expect(webhook.timeoutSeconds).toBeLessThanOrEqual(5);
    expect(webhook.reinvocationPolicy).toBe(webhook.of === 'mutating' ? 'IfNeeded' : undefined);
  });

  it.each(all)('$of $name gets creations and updates of one kind, and no subresource', (webhook) => {
    expect(webhook.rules).toHaveLength(1);
    const [rule] = webhook.rules;
    expect(rule!.operations).toEqual(['CREATE', 'UPDATE']);
    expect(rule!.apiGroups).toHaveLength(1);
    expect(rule!.resources).toHaveLength(1);
    expect(rule!.resources.join()).toMatch(/^[a-z]+$/);
  });

  it('name the kinds that the webhook answers', () => {
    const groups = [KIND.cluster.group, KIND.statefulSet.group, KIND.rabbitMq.group];
    expect(mutatingHooks.flatMap(({ rules }) => rules[0]!.apiGroups)).toEqual(groups);
    expect(mutatingHooks.flatMap(({ rules }) => rules[0]!.resources)).toEqual([
      'rabbitmqclusters',
      'statefulsets',
      'rabbitmqs',
    ]);
    expect(validatingHooks[0]!.rules).toEqual(named(INSTALL.webhook.rabbitMq).rules);
  });

  it.each(all)('$of $name leaves opted-out namespaces, kube-system and its own alone', (webhook) => {
    expect(webhook.namespaceSelector.matchExpressions).toEqual([
      { key: NAMESPACE_LABEL.key, operator: 'NotIn', values: [NAMESPACE_LABEL.disabled] },
      {
        key: 'kubernetes.io/metadata.name',
        operator: 'NotIn',
        values: ['kube-system', INSTALL.namespace],
      },
    ]);
  });

  it.each(all)('$of $name never gets an object that is being deleted', ({ matchConditions }) => {
    expect(matchConditions[0]).toEqual({
      name: 'not-deleting',
      expression: '!has(object.metadata.deletionTimestamp)',
    });
  });

  it("selects of all StatefulSets RabbitMQ's, and among those the ones without a RabbitmqCluster", () => {
    const webhook = named(INSTALL.webhook.statefulSet);
    const [sample] = objectsIn('samples/statefulset.yaml');
    expect(webhook.objectSelector.matchLabels).toEqual({
      'app.kubernetes.io/component': 'rabbitmq',
      'app.kubernetes.io/part-of': 'rabbitmq',
    });
    expect(sample!.metadata.labels).toMatchObject(webhook.objectSelector.matchLabels!);
    expect(webhook.matchConditions.map(({ name }) => name)).toEqual([
      'not-deleting',
      'not-of-a-rabbitmqcluster',
    ]);
    expect(webhook.matchConditions[1]!.expression).toContain(`owner.kind == '${KIND.cluster.kind}'`);
    expect(webhook.matchConditions[1]!.expression).toContain(`startsWith('${KIND.cluster.group}/')`);
  });
});
