import { describe, expect, it } from 'vitest';
import packageJson from '../../../package.json' with { type: 'json' };
import { INSTALL, PORT } from '../../../common/contract.ts';
import {
  CLAIM,
  CLUSTER,
  CONFIG_MAP,
  EVENT,
  LEASE,
  MIRROR_POLICIES,
  POD,
  RABBITMQ,
  SECRET,
  STATEFUL_SET,
  resourceName,
} from '../../../common/kube/resources.ts';
import { reconcilerOptions } from '../../../reconciler/options.ts';
import type { KubeObject } from '../../support/kube-api.ts';
import { type Deployment, objectsIn, rulesOf, verbsWithoutReason } from './sources.ts';

const [deployment] = objectsIn('base/reconciler/deployment.yaml') as [Deployment];
const pod = deployment.spec.template.spec;
const [container] = pod.containers;
const rbac = objectsIn('base/reconciler/rbac.yaml');

describe("the reconciler's Deployment", () => {
  it('starts it with options that there are, and with the Lease of its own namespace', () => {
    const [command, ...args] = container.args;
    expect(command).toBe('reconciler');
    expect(args).toEqual([`--${reconcilerOptions.lease.name}=$(POD_NAMESPACE)/${INSTALL.reconciler}`]);
    const ofDefault = `${INSTALL.namespace}/${INSTALL.reconciler}`;
    expect(reconcilerOptions.lease.parse(ofDefault)).toEqual(reconcilerOptions.lease.default);
    const known = new Set<string>(Object.values(reconcilerOptions).map(({ env }) => env));
    const given = container.env.map(({ name }) => name).filter((name) => name !== 'POD_NAMESPACE');
    expect(given.filter((name) => !known.has(name))).toEqual([]);
  });

  it('has the image of this version, and what its account, Service and budget select', () => {
    expect(container.image).toBe(`quorumbridge/control:${packageJson.version}`);
    expect(pod['serviceAccountName']).toBe(INSTALL.reconciler);
    const { matchLabels } = deployment.spec.selector;
    expect(deployment.spec.template.metadata.labels).toMatchObject(matchLabels);
    const [service, budget, policy] = objectsIn(
      'base/reconciler/service.yaml',
      'base/reconciler/pod-disruption-budget.yaml',
      'base/reconciler/network-policy.yaml',
    );
    expect(service?.['spec']).toMatchObject({ selector: matchLabels });
    expect(budget?.['spec']).toMatchObject({ maxUnavailable: 1, selector: { matchLabels } });
    expect(policy?.['spec']).toMatchObject({ podSelector: { matchLabels } });
    const all = [deployment, ...rbac, service!, budget!, policy!];
    expect(new Set(all.map(({ metadata }) => metadata.name))).toEqual(new Set([INSTALL.reconciler]));
  });

  it('is two replicas with probes at the admin port', () => {
    expect(deployment.spec.replicas).toBe(2);
    const { port } = reconcilerOptions.adminListen.default;
    expect(container.ports).toEqual([{ name: 'admin', containerPort: port, protocol: 'TCP' }]);
    const probe = (path: string) => ({ httpGet: { path, port: 'admin', scheme: 'HTTP' } });
    expect(container).toMatchObject({
      startupProbe: probe('/livez'),
      livenessProbe: probe('/livez'),
      readinessProbe: probe('/readyz'),
    });
  });

  it('gets as long to end as the command may take', () => {
    expect(pod['terminationGracePeriodSeconds']).toBeGreaterThan(25);
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

describe('the rights of the reconciler', () => {
  it('are what its code asks for, and nothing else', () => {
    const rights: [string, readonly string[]][] = [
      [resourceName(RABBITMQ), ['get', 'list', 'watch', 'patch']],
      [`rabbitmqs/status.${RABBITMQ.group}`, ['patch']],
      [`rabbitmqs/finalizers.${RABBITMQ.group}`, ['update']],
      [resourceName(CLUSTER), ['get', 'list', 'watch', 'create', 'patch', 'delete']],
      ...MIRROR_POLICIES.map((policy): [string, string[]] => [resourceName(policy), ['get', 'delete']]),
      [resourceName(STATEFUL_SET), ['get', 'list', 'watch']],
      [resourceName(POD), ['list', 'watch', 'patch']],
      [resourceName(CLAIM), ['list', 'watch']],
      [resourceName(SECRET), ['get', 'create', 'update', 'patch']],
      [resourceName(CONFIG_MAP), ['get', 'create', 'update']],
      [resourceName(EVENT), ['create']],
      [resourceName(LEASE), ['create']],
    ];
    const flat = rights.flatMap(([resource, verbs]) => verbs.map((verb) => `${verb} ${resource}`));
    const own = ['get', 'update'].map((verb) => `${verb} ${resourceName(LEASE)} ${INSTALL.reconciler}`);
    expect(rulesOf(rbac).sort()).toEqual([...flat, ...own].sort());
  });

  it('never include a wildcard, nor finding out which Secrets there are', () => {
    expect(JSON.stringify(rbac)).not.toContain('"*"');
    expect(
      rulesOf(rbac).filter((rule) => /^(?:list|watch|delete) (?:secrets|configmaps)/.test(rule)),
    ).toEqual([]);
    const clusterWide = rbac.filter(({ kind }) => kind === 'ClusterRole');
    expect(rulesOf(clusterWide).filter((rule) => rule.includes('leases'))).toEqual([]);
  });

  it('have a reason beside each verb, or above a rule with one verb', () => {
    expect(verbsWithoutReason('base/reconciler/rbac.yaml')).toEqual([]);
  });
});

describe("the reconciler's NetworkPolicy", () => {
  it('lets scrapes in, and out what goes to the API server, to brokers and to proxies', () => {
    const [policy] = objectsIn('base/reconciler/network-policy.yaml') as [
      KubeObject & { spec: Record<'ingress' | 'egress', { ports: { port: number }[] }[]> },
    ];
    const ports = (direction: 'ingress' | 'egress') =>
      policy.spec[direction].flatMap((rule) => rule.ports.map(({ port }) => port));
    expect(ports('ingress')).toEqual([reconcilerOptions.adminListen.default.port]);
    expect(ports('egress')).toEqual([443, 6443, 15_672, 15_671, PORT.admin]);
    expect(policy.spec).toMatchObject({ policyTypes: ['Ingress', 'Egress'] });
  });
});
