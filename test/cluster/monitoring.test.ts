import { writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { installCrds } from '../support/cluster-addons.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import type { KubeObject } from '../support/kube-api.ts';
import { startCluster } from '../support/kube.ts';
import type { Cluster } from '../support/kube.ts';
import { MANIFESTS, objectsOf } from '../support/manifests.ts';

const STRICT = { dryRun: 'All', fieldValidation: 'Strict' };

const NEEDS = { since: 'fieldValidation', addon: 'monitoring' } as const;

await describeCluster('the component for the Prometheus operator', NEEDS, () => {
  let cluster: Cluster;
  let all: KubeObject[];
  let objects: KubeObject[];

  beforeAll(async () => {
    cluster = await startCluster({ controllers: false });
    await installCrds(cluster, 'monitoring');
    const manifests = relative(cluster.folder, MANIFESTS);
    const kustomization = {
      apiVersion: 'kustomize.config.k8s.io/v1beta1',
      kind: 'Kustomization',
      resources: [`${manifests}/base`],
      components: [`${manifests}/components/monitoring`],
    };
    await writeFile(join(cluster.folder, 'kustomization.yaml'), JSON.stringify(kustomization));
    all = objectsOf(await cluster.kubectl(['kustomize', cluster.folder]));
    objects = all.filter(({ apiVersion }) => apiVersion === 'monitoring.coreos.com/v1');
    await cluster.createNamespace(objects[0]!.metadata.namespace!);
  });
  afterAll(() => cluster?.stop());

  it('has no field that its CRDs do not know, and gets none by default', async () => {
    expect(new Set(objects.map(({ kind }) => kind))).toEqual(
      new Set(['PodMonitor', 'PrometheusRule', 'ServiceMonitor']),
    );
    for (const object of objects) {
      const { body, warnings } = await cluster.api.createVerbosely(object, STRICT);
      expect(warnings).toEqual([]);
      expect(body['spec']).toEqual(object['spec']);
    }
  });

  it('has a dashboard with the label that Grafana looks for', async () => {
    const dashboard = all.find(({ metadata }) => metadata.labels?.['grafana_dashboard'] === '1')!;
    const { body } = await cluster.api.createVerbosely(dashboard, STRICT);
    const { data } = body as KubeObject & { data: Record<string, string> };
    expect(Object.keys(data)).toEqual(['quorumbridge-proxy.json']);
    expect(JSON.parse(data['quorumbridge-proxy.json']!)).toMatchObject({ uid: 'quorumbridge-proxy' });
  });

  it('is taken as it is for proxies that are not injected, by kubectl apply', async () => {
    const file = join(MANIFESTS, 'components/monitoring/proxy.yaml');
    await cluster.createNamespace('openstack');
    const said = await cluster.kubectl(['apply', '--namespace', 'openstack', '--dry-run=server', '-f', file]);
    expect(said).toContain('podmonitor.monitoring.coreos.com/quorumbridge-proxy created');
    const sample = await cluster.kubectl([
      'apply',
      '--dry-run=server',
      '--validate=strict',
      '-f',
      join(MANIFESTS, 'samples/proxy-deployment.yaml'),
    ]);
    expect(sample.trim().split('\n')).toHaveLength(5);
  });

  it.each(['ServiceMonitor', 'PodMonitor', 'PrometheusRule'])(
    'would be refused for a mistake in the %s',
    async (kind) => {
      const object = objects.find((one) => one.kind === kind)!;
      const wrong = { ...object, spec: { ...(object['spec'] as object), intervall: '30s' } };
      await expect(cluster.api.create(wrong, STRICT)).rejects.toThrow('unknown field "spec.intervall"');
    },
  );
});
