/**
 * Why an object is or isn't given the proxy. The keys are stable: they go to logs, a metric's label, an audit
 * annotation and `quorumbridge inject --explain`. docs/injection.md lists them, and a test holds it to that.
 */
export const REASONS = {
  deleting: { inject: 'keep', text: 'the object is being deleted' },
  'other-kind': { inject: 'keep', text: 'only RabbitmqClusters and StatefulSets can carry the proxy' },
  'governed-by-rabbitmqcluster': {
    inject: 'keep',
    text: 'a RabbitmqCluster controls this StatefulSet and carries the decision',
  },
  'inject-false': { inject: 'no', text: 'the annotation quorumbridge.io/inject is "false"' },
  'namespace-disabled': {
    inject: 'no',
    text: 'the namespace has the label quorumbridge.io/injection=disabled',
  },
  'clients-reconfigured': {
    inject: 'no',
    text: 'the annotation rabbitmq.openstack.org/clients-reconfigured is "true"',
  },
  'enable-proxy': { inject: 'yes', text: 'the annotation rabbitmq.openstack.org/enable-proxy is "true"' },
  'inject-true': { inject: 'yes', text: 'the annotation quorumbridge.io/inject is "true"' },
  'proxy-required': { inject: 'yes', text: 'the status of the RabbitMq says proxyRequired' },
  'upgrade-to-quorum': {
    inject: 'yes',
    text: 'the RabbitMq is being upgraded from 3.x to 4.x or later with quorum queues',
  },
  'not-required': { inject: 'no', text: 'nothing asks for the proxy' },
  'owner-unknown': { inject: 'keep', text: 'the RabbitMq behind the object could not be read' },
} as const satisfies Record<string, { inject: 'yes' | 'no' | 'keep'; text: string }>;

/** A key of `REASONS`. */
export type Reason = keyof typeof REASONS;
