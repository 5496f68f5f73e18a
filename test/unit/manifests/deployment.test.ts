import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import packageJson from '../../../package.json' with { type: 'json' };
import { INSTALL, KIND, PORT } from '../../../common/contract.ts';
import { webhookOptions } from '../../../webhook/options.ts';
import {
  CLUSTER,
  CRD,
  ENDPOINT_SLICE,
  EVENT,
  POD,
  RABBITMQ,
  type Resource,
  STATEFUL_SET,
  resourceName,
} from '../../../common/kube/resources.ts';
import type { KubeObject } from '../../support/kube-api.ts';
import { MANIFESTS } from '../../support/manifests.ts';
import { objectsIn, rulesOf, verbsWithoutReason } from './sources.ts';
import type { Deployment } from './sources.ts';

const [deployment] = objectsIn('base/deployment.yaml') as [Deployment];
const pod = deployment.spec.template.spec;
const [container] = pod.containers;
const FIELDS = { POD_NAMESPACE: INSTALL.namespace };

/** The arguments that a component's JSON patch of the Deployment appends, with `$(POD_NAMESPACE)` put in. */
function addedArgs(component: string): string[] {
  const text = readFileSync(join(MANIFESTS, 'components', component, 'kustomization.yaml'), 'utf8');
  const found = [...text.matchAll(/path: \/spec\/template\/spec\/containers\/0\/args\/-\n +value: (.*)\n/g)];
  return found.map(([, value]) => value!.replaceAll('$(POD_NAMESPACE)', FIELDS.POD_NAMESPACE));
}

describe('the Deployment', () => {
  it.each(['self-signed', 'cert-manager'])(
    'starts the webhook with options that there are (%s)',
    (component) => {
      const [command, ...args] = [...container.args, ...addedArgs(component)];
      expect(command).toBe('webhook');
      const env = Object.fromEntries(container.env.map(({ name, value }) => [name, value ?? '']));
      expect(Object.keys(env).filter((name) => !name.startsWith('QUORUMBRIDGE_'))).toEqual([]);
      const known = new Set<string>(Object.values(webhookOptions).map((option) => option.env));
      expect(Object.keys(env).filter((name) => !known.has(name))).toEqual([]);
      const flags = Object.fromEntries(args.map((arg) => arg.slice(2).split(/=(.*)/s)));
      const names = new Set<string>(Object.values(webhookOptions).map((option) => option.name));
      expect(Object.keys(flags).filter((name) => !names.has(name))).toEqual([]);
      expect(args.length).toBeGreaterThan(1);
      const options = Object.values(webhookOptions);
      for (const [name, value] of Object.entries(flags) as [string, string][]) {
        const option = options.find((one) => one.name === name)!;
        expect(() => option.parse(value), `${name}=${value}`).not.toThrow();
      }
    },
  );

  it("names the Secret, the configuration and the Service's name of the contract", () => {
    expect(addedArgs('self-signed')).toEqual([
      `--tls-secret=${INSTALL.namespace}/${INSTALL.secret}`,
      `--webhook-configuration=${INSTALL.configuration}`,
      `--dns-name=${INSTALL.name}.${INSTALL.namespace}.svc`,
    ]);
  });

  it('has the images of this version', () => {
    const { version } = packageJson;
    expect(container.image).toBe(`quorumbridge/control:${version}`);
    const proxy = container.env.find(({ name }) => name === webhookOptions.proxyImage.env);
    expect(proxy?.value).toBe(`quorumbridge/proxy:${version}`);
    expect(proxy?.value).toBe(webhookOptions.proxyImage.default);
    const chart = objectsIn('chart/Chart.yaml')[0] as unknown as Record<string, unknown>;
    expect([chart['version'], chart['appVersion']]).toEqual([version, version]);
  });

  it('exposes the ports that the options have by default, and probes the admin port', () => {
    const ports = Object.fromEntries(container.ports.map(({ name, containerPort }) => [name, containerPort]));
    expect(ports).toEqual({
      https: webhookOptions.listen.default.port,
      admin: webhookOptions.adminListen.default.port,
    });
    const probe = (path: string) => ({ httpGet: { path, port: 'admin', scheme: 'HTTP' } });
    expect(container).toMatchObject({
      startupProbe: probe('/livez'),
      livenessProbe: probe('/livez'),
      readinessProbe: probe('/readyz'),
    });
    const [service] = objectsIn('base/service.yaml');
    expect(service?.['spec']).toMatchObject({
      selector: deployment.spec.selector.matchLabels,
      ports: [
        { port: 443, targetPort: 'https' },
        { port: ports['admin'], targetPort: 'admin' },
      ],
    });
  });

  it('is two replicas, apart where possible, of which one stays', () => {
    expect(deployment.spec).toMatchObject({
      replicas: 2,
      strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
    });
    expect(pod).toHaveProperty('affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution');
    expect(pod).toHaveProperty('topologySpreadConstraints');
    const [budget] = objectsIn('base/pod-disruption-budget.yaml');
    expect(budget?.['spec']).toMatchObject({
      minAvailable: 1,
      selector: { matchLabels: deployment.spec.selector.matchLabels },
    });
  });

  it('gets as long to end as it may take', () => {
    const needed = webhookOptions.shutdownDelay.default + 10;
    expect(pod['terminationGracePeriodSeconds']).toBeGreaterThan(needed);
  });

  it('has all that pod security wants of a restricted pod, and a read-only root', () => {
    expect(pod['securityContext']).toEqual({
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    expect(container['securityContext']).toEqual({
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      readOnlyRootFilesystem: true,
    });
    expect(container['resources']).toMatchObject({
      requests: { cpu: expect.any(String), memory: expect.any(String) },
      limits: { memory: expect.any(String) },
    });
  });
});

describe('the rights of the webhook', () => {
  const base = objectsIn('base/rbac.yaml', 'base/native-sidecars.yaml');

  it('are what its code asks for, and nothing else', () => {
    const follow = (resource: Resource): string[] =>
      ['list', 'watch'].map((verb) => `${verb} ${resourceName(resource)}`);
    const rights = [
      ...[RABBITMQ, CLUSTER, STATEFUL_SET].flatMap(follow),
      ...[RABBITMQ, CLUSTER].map((resource) => `get ${resourceName(resource)}`),
      `list ${resourceName(ENDPOINT_SLICE)}`,
      `get ${resourceName(CRD)} ${resourceName(CLUSTER)}`,
      `create ${resourceName(EVENT)}`,
      `create ${resourceName(POD)}`,
    ];
    expect(rulesOf(base).sort()).toEqual(rights.sort());
  });

  it('never include a wildcard, and pods only in its own namespace', () => {
    expect(JSON.stringify(base)).not.toContain('"*"');
    const clusterWide = base.filter(({ kind }) => kind === 'ClusterRole');
    expect(rulesOf(clusterWide).filter((rule) => /pods|secrets/.test(rule))).toEqual([]);
  });

  it('are, for certificates, on one Secret and on the two configurations by name', () => {
    const patterns = ['mutating', 'validating'].map(
      (kind) => `${kind}webhookconfigurations.admissionregistration.k8s.io ${INSTALL.configuration}`,
    );
    expect(rulesOf(objectsIn('components/self-signed/rbac.yaml')).sort()).toEqual(
      [
        `get secrets ${INSTALL.secret}`,
        `update secrets ${INSTALL.secret}`,
        'create secrets',
        ...patterns.flatMap((resource) => [`get ${resource}`, `patch ${resource}`]),
      ].sort(),
    );
  });

  it.each(['base/rbac.yaml', 'base/native-sidecars.yaml', 'components/self-signed/rbac.yaml'])(
    'have a reason beside each verb, or above a rule with one verb (%s)',
    (file) => {
      expect(verbsWithoutReason(file)).toEqual([]);
    },
  );
});

describe('the NetworkPolicy', () => {
  const [policy] = objectsIn('base/network-policy.yaml') as [
    KubeObject & { spec: Record<'ingress' | 'egress', { ports: { port: number }[] }[]> },
  ];
  const ports = (direction: 'ingress' | 'egress') =>
    policy.spec[direction].flatMap((rule) => rule.ports.map(({ port }) => port));

  it('lets reviews and scrapes in, and out what goes to the API server and to proxies', () => {
    expect(ports('ingress')).toEqual(container.ports.map(({ containerPort }) => containerPort));
    expect(ports('egress')).toEqual([443, 6443, PORT.admin]);
    expect(policy.spec).toMatchObject({ policyTypes: ['Ingress', 'Egress'] });
  });
});

describe('the samples', () => {
  it('are one of each kind, and what the webhook can inject asks for it', () => {
    const samples = objectsIn(
      'samples/rabbitmq.yaml',
      'samples/rabbitmqcluster.yaml',
      'samples/statefulset.yaml',
    );
    expect(samples.map(({ kind }) => kind)).toEqual([
      KIND.rabbitMq.kind,
      KIND.cluster.kind,
      KIND.statefulSet.kind,
    ]);
  });
});
