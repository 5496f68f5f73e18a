import { existsSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeCluster } from '../support/describe-cluster.ts';
import { KubeError, eventually } from '../support/kube-api.ts';
import type { KubeObject } from '../support/kube-api.ts';
import { startCluster } from '../support/kube.ts';
import type { Cluster } from '../support/kube.ts';
import type { Pod, PodFate } from '../support/kubelet.ts';
import { Child } from '../support/processes.ts';

interface StatefulSet extends KubeObject {
  status?: { replicas?: number; readyReplicas?: number };
}

function pod(namespace: string, name: string, securityContext: Record<string, unknown>): KubeObject {
  const containers = [{ name: 'main', image: 'registry.invalid/main', securityContext }];
  return { apiVersion: 'v1', kind: 'Pod', metadata: { namespace, name }, spec: { containers } };
}

function statefulSet(namespace: string, name: string, replicas: number): StatefulSet {
  const labels = { app: name };
  const containers = [{ name: 'main', image: 'registry.invalid/main' }];
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { namespace, name },
    spec: {
      replicas,
      serviceName: name,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers } },
    },
  };
}

const restrictedContext = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ['ALL'] },
  runAsNonRoot: true,
  runAsUser: 1000,
  seccompProfile: { type: 'RuntimeDefault' },
};

await describeCluster('a control plane', {}, ({ lacks }) => {
  const noPodSecurity = lacks('podSecurity');
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await startCluster({ controllers: false });
  });
  afterAll(() => cluster.stop());

  it('answers with the version of what was built', async () => {
    expect(cluster.version).toBe(cluster.tools.controlPlane.version);
    const { serverVersion } = JSON.parse(await cluster.kubectl(['version', '-o', 'json'])) as {
      serverVersion: { gitVersion: string };
    };
    expect(serverVersion.gitVersion).toBe(cluster.version);
  });

  it('keeps matchConditions of webhooks where it has them', async () => {
    const matchConditions = [{ name: 'living', expression: '!has(object.metadata.deletionTimestamp)' }];
    const webhook = {
      name: 'test.quorumbridge.io',
      clientConfig: { url: 'https://127.0.0.1:1/' },
      sideEffects: 'None',
      admissionReviewVersions: ['v1'],
      matchConditions,
    };
    const object = {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'MutatingWebhookConfiguration',
      metadata: { name: 'test' },
      webhooks: [webhook],
    };
    const stored = await cluster.api.create(object, { dryRun: 'All' });
    expect(stored.webhooks[0]?.matchConditions).toEqual(
      cluster.hasMatchConditions ? matchConditions : undefined,
    );
  });

  it('keeps the restartPolicy of an init container where it has native sidecars', async () => {
    const object = pod('default', 'sidecar', restrictedContext);
    const initContainers = [{ name: 'proxy', image: 'registry.invalid/proxy', restartPolicy: 'Always' }];
    const spec = { ...(object['spec'] as Record<string, unknown>), initContainers };
    const stored = await cluster.api.create({ ...object, spec }, { dryRun: 'All' });
    const policy = stored.spec.initContainers[0]?.restartPolicy;
    expect(policy).toBe(cluster.hasNativeSidecars ? 'Always' : undefined);
  });

  it.skipIf(noPodSecurity !== '')(
    `rejects a root pod where pod security enforces restricted, admits one that obeys, and root elsewhere${noPodSecurity}`,
    async () => {
      await cluster.createNamespace('strict', { 'pod-security.kubernetes.io/enforce': 'restricted' });
      const root = { runAsUser: 0 };
      const refused = cluster.api.create(pod('strict', 'root', root));
      await expect(refused).rejects.toThrow(/403 .* violates PodSecurity "restricted:latest".*runAsUser=0/);
      await expect(refused).rejects.toBeInstanceOf(KubeError);
      await cluster.api.create(pod('strict', 'obedient', restrictedContext));
      await cluster.api.create(pod('default', 'root', root));
      const kept = await cluster.api.list('v1', 'Pod', 'strict');
      expect(kept.map(({ metadata }) => metadata.name)).toEqual(['obedient']);
    },
  );

  it('holds accounts to their roles', async () => {
    const account = 'system:serviceaccount:default:nobody';
    const other = cluster.api.as(account, ['system:serviceaccounts']);
    await expect(other.list('v1', 'Secret', 'default')).rejects.toThrow(
      `403 secrets is forbidden: User "${account}" cannot list resource "secrets"`,
    );
  });

  it('keeps its objects when the API server is killed and started again', async () => {
    const kept: KubeObject = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { namespace: 'default', name: 'kept' },
    };
    const { metadata } = await cluster.api.create(kept);
    await cluster.kill('kube-apiserver');
    await expect(cluster.api.read(kept)).rejects.toThrow(/ECONNREFUSED|socket hang up|ECONNRESET/);
    await cluster.restart('kube-apiserver');
    expect((await cluster.api.read(kept)).metadata.uid).toBe(metadata.uid);
  });

  it('is gone, with its files, when the process that started it is killed', async () => {
    const program = `
      import { startCluster } from './test/support/kube.ts';
      const { folder, url } = await startCluster({ controllers: false });
      console.log(JSON.stringify({ folder, url }));
      setInterval(() => {}, 1000);`;
    const starter = new Child(
      'starter',
      process.execPath,
      ['--input-type=module-typescript', '--eval', program],
      {
        env: { NODE_NO_WARNINGS: '1' },
      },
    );
    const line = await starter.waitFor('line of its cluster', 100_000, (lines) =>
      lines.find((one) => one.startsWith('{"folder"')),
    );
    const { folder, url } = JSON.parse(line) as { folder: string; url: string };
    expect(existsSync(folder)).toBe(true);
    starter.kill('SIGKILL');
    await eventually(`end of ${folder}`, async () => !existsSync(folder));
    const answer = () =>
      fetch(url).then(
        () => 'an answer',
        (error: Error) => (error.cause as NodeJS.ErrnoException).code,
      );
    await expect.poll(answer, { timeout: 10_000 }).toBe('ECONNREFUSED');
  });
});

await describeCluster('a control plane with controllers', { controllers: true }, () => {
  let cluster: Cluster;
  const fates = new Map<string, PodFate>();
  let gone = true;
  beforeAll(async () => {
    cluster = await startCluster({
      kubelet: { fate: ({ metadata }) => fates.get(metadata.name) ?? 'ready', gone: () => gone },
    });
    await cluster.createNamespace('sets');
  });
  afterAll(() => cluster.stop());

  const readPod = (name: string) =>
    cluster.api.find<Pod>({ apiVersion: 'v1', kind: 'Pod', metadata: { namespace: 'sets', name } });
  const readyReplicas = async (set: StatefulSet) =>
    (await cluster.api.read<StatefulSet>(set)).status?.readyReplicas ?? 0;

  it('makes a pod of a StatefulSet of one replica, which the stand-in for the kubelet makes ready', async () => {
    const set = await cluster.api.create(statefulSet('sets', 'one', 1));
    await eventually('a ready replica', async () => (await readyReplicas(set)) === 1);
    const made = (await readPod('one-0'))!;
    expect(made.metadata.ownerReferences).toMatchObject([
      { kind: 'StatefulSet', name: 'one', controller: true },
    ]);
    expect(made.spec.nodeName).toBe('node-1');
    expect(made.status).toMatchObject({
      phase: 'Running',
      podIP: expect.stringMatching(/^10\.244\./) as string,
    });
    expect(await cluster.kubectl(['get', 'pods', '-n', 'sets', '--no-headers'])).toMatch(
      /^one-0 +1\/1 +Running/,
    );
  });

  it('keeps pods pending or unready while told so', async () => {
    fates.set('two-0', 'pending');
    const set = await cluster.api.create(statefulSet('sets', 'two', 2));
    await eventually('the node of two-0', async () => (await readPod('two-0'))?.spec.nodeName !== undefined);
    expect((await readPod('two-0'))?.status?.phase).toBe('Pending');
    fates.set('two-0', 'unready');
    await eventually('running two-0', async () => (await readPod('two-0'))?.status?.phase === 'Running');
    expect(await readyReplicas(set)).toBe(0);
    // The set's controller makes them in order: the second comes when the first is ready.
    expect(await readPod('two-1')).toBeUndefined();
    fates.delete('two-0');
    await eventually('two ready replicas', async () => (await readyReplicas(set)) === 2);
  });

  it('keeps pods terminating while told so, and collects what belonged to a deleted owner', async () => {
    gone = false;
    await cluster.api.remove(statefulSet('sets', 'one', 1), { propagationPolicy: 'Background' });
    await eventually(
      'terminating one-0',
      async () => (await readPod('one-0'))?.metadata.deletionTimestamp !== undefined,
    );
    // Longer than the stand-in's round and the pod's status is.
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await readPod('one-0')).toBeDefined();
    gone = true;
    await eventually('end of one-0', async () => (await readPod('one-0')) === undefined);
  });
});
