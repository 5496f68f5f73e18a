import { afterAll, beforeAll, expect, it } from 'vitest';
import { ANNOTATION, PROXY_CONTAINER, RABBITMQ_CONTAINER, SETUP_CONTAINER } from '../../common/contract.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import { eventually } from '../support/kube-api.ts';
import type { KubeObject } from '../support/kube-api.ts';
import { startCluster } from '../support/kube.ts';
import type { Cluster } from '../support/kube.ts';
import type { Pod, PodContainer } from '../support/kubelet.ts';
import { startWebhookProcess } from '../support/webhook-process.ts';
import type { WebhookProcess } from '../support/webhook-process.ts';

const NAMESPACE = 'openstack';
/** The namespace of a kubeconfig that names none. */
const OWN_NAMESPACE = 'default';
const ACCOUNT = 'webhook';
const CRD = 'rabbitmqclusters.rabbitmq.com';

interface PodSpec {
  containers: PodContainer[];
  initContainers?: PodContainer[];
}

interface StatefulSet extends KubeObject {
  spec: { template: { spec: PodSpec } };
}

type Mode = 'plain' | 'native' | 'auto';

function annotationsOf(mode: Mode): Record<string, string> {
  return { [ANNOTATION.inject]: 'true', [ANNOTATION.sidecarMode]: mode };
}

function statefulSet(name: string, mode: Mode): StatefulSet {
  const labels = { app: name };
  const containers = [{ name: RABBITMQ_CONTAINER, image: 'rabbitmq:4.3' }];
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { namespace: NAMESPACE, name, annotations: annotationsOf(mode) },
    spec: {
      replicas: 1,
      serviceName: name,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers } },
    },
  } as StatefulSet;
}

function rabbitmqCluster(name: string, mode: Mode, initContainers?: PodContainer[]): KubeObject {
  const spec = { containers: [], initContainers };
  const override = { statefulSet: { spec: { template: { spec } } } };
  return {
    apiVersion: 'rabbitmq.com/v1beta1',
    kind: 'RabbitmqCluster',
    metadata: { namespace: NAMESPACE, name, annotations: annotationsOf(mode) },
    spec: { replicas: 1, ...(initContainers === undefined ? {} : { override }) },
  };
}

function setOf({ metadata }: KubeObject): KubeObject {
  const name = `${metadata.name}-server`;
  return { apiVersion: 'apps/v1', kind: 'StatefulSet', metadata: { namespace: NAMESPACE, name } };
}

function namesOf(containers: PodContainer[] | undefined): string[] {
  return (containers ?? []).map(({ name }) => name);
}

function nativeIn({ initContainers }: PodSpec): PodContainer | undefined {
  return initContainers?.find(({ name }) => name === PROXY_CONTAINER);
}

function registration(webhook: WebhookProcess): KubeObject {
  const rule = (apiGroup: string, apiVersion: string, resource: string) => ({
    apiGroups: [apiGroup],
    apiVersions: [apiVersion],
    operations: ['CREATE', 'UPDATE'],
    resources: [resource],
  });
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: 'quorumbridge' },
    webhooks: [
      {
        name: 'native.quorumbridge.io',
        clientConfig: { url: webhook.url, caBundle: Buffer.from(webhook.ca).toString('base64') },
        rules: [rule('rabbitmq.com', 'v1beta1', 'rabbitmqclusters'), rule('apps', 'v1', 'statefulsets')],
        failurePolicy: 'Fail',
        sideEffects: 'None',
        timeoutSeconds: 5,
        admissionReviewVersions: ['v1'],
      },
    ],
  };
}

await describeCluster(
  'native sidecars on a real API server',
  { operator: true, since: 'nativeSidecars' },
  () => {
    let cluster: Cluster;
    let kubeconfig: string;
    let webhook: WebhookProcess;
    const rbac = 'rbac.authorization.k8s.io/v1';
    const subjects = [{ kind: 'ServiceAccount', namespace: OWN_NAMESPACE, name: ACCOUNT }];
    const tried = async (mode: Mode) => {
      const { body, warnings } = await cluster.api.createVerbosely(statefulSet('tried', mode), {
        dryRun: 'All',
      });
      return { native: nativeIn(body.spec.template.spec), warnings };
    };

    beforeAll(async () => {
      cluster = await startCluster({ operator: true });
      await cluster.createNamespace(NAMESPACE);
      const metadata = { namespace: OWN_NAMESPACE, name: ACCOUNT };
      await cluster.api.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata });
      const read = ['get', 'list', 'watch'];
      await cluster.api.create({
        apiVersion: rbac,
        kind: 'ClusterRole',
        metadata: { name: ACCOUNT },
        rules: [
          { apiGroups: ['rabbitmq.openstack.org'], resources: ['rabbitmqs'], verbs: read },
          { apiGroups: ['rabbitmq.com'], resources: ['rabbitmqclusters'], verbs: read },
          {
            apiGroups: ['apiextensions.k8s.io'],
            resources: ['customresourcedefinitions'],
            resourceNames: [CRD],
            verbs: ['get'],
          },
        ],
      });
      await cluster.api.create({
        apiVersion: rbac,
        kind: 'ClusterRoleBinding',
        metadata: { name: ACCOUNT },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: ACCOUNT },
        subjects,
      });
      kubeconfig = await cluster.writeKubeconfig(ACCOUNT, await cluster.tokenOf(OWN_NAMESPACE, ACCOUNT));
      webhook = await startWebhookProcess(kubeconfig, ['--no-events']);
      await cluster.api.create(registration(webhook));
      // API servers notice new registrations after a moment.
      await eventually('the first injection', async () => {
        const answer = await cluster.api.create(statefulSet('first', 'plain'), { dryRun: 'All' });
        return answer.spec.template.spec.containers.length === 2;
      });
    });
    afterAll(async () => {
      await cluster?.stop();
      await webhook?.stop();
    });

    it('are left out by auto, and denied, while the webhook may not try a Pod: the answer says what to grant', async () => {
      const { native, warnings } = await tried('auto');
      expect(native).toBeUndefined();
      expect(warnings.join()).toMatch(/means a plain container here .*grant this account "create" on pods/);
      await expect(tried('native')).rejects.toThrow(/503 .*whether "native" is possible here is not known/);
    });

    it('are chosen by auto once it may, in its own namespace alone', async () => {
      const metadata = { namespace: OWN_NAMESPACE, name: ACCOUNT };
      await cluster.api.create({
        apiVersion: rbac,
        kind: 'Role',
        metadata,
        rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['create'] }],
      });
      await cluster.api.create({
        apiVersion: rbac,
        kind: 'RoleBinding',
        metadata,
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: ACCOUNT },
        subjects,
      });
      const native = await eventually('a native sidecar', async () => (await tried('auto')).native);
      expect(native.restartPolicy).toBe('Always');
      expect(await cluster.api.list('v1', 'Pod', OWN_NAMESPACE)).toEqual([]);
    });

    it.each<Mode>(['auto', 'native'])('are kept by a StatefulSet and its pods: %s', async (mode) => {
      const object = statefulSet(`kept-${mode}`, mode);
      const { body, warnings } = await cluster.api.createVerbosely(object);
      expect(warnings.filter((warning) => warning.includes(ANNOTATION.sidecarMode))).toEqual([]);
      expect(nativeIn(body.spec.template.spec)?.restartPolicy).toBe('Always');
      const metadata = { namespace: NAMESPACE, name: `kept-${mode}-0` };
      const pod = await eventually('its pod, running', async () => {
        const made = await cluster.api.find<Pod>({ apiVersion: 'v1', kind: 'Pod', metadata });
        return made?.status?.phase === 'Running' && made;
      });
      expect(nativeIn(pod.spec)?.restartPolicy).toBe('Always');
      expect(namesOf(pod.spec.containers)).toEqual([RABBITMQ_CONTAINER]);

      // The owner writes the same again, as operators do: nothing is rolled.
      const again = await cluster.api.apply(object, 'operator');
      expect(again.metadata.generation).toBe(body.metadata.generation);
    });

    it('become plain containers and native ones again, and leave nothing behind', async () => {
      const stored = await cluster.api.create(statefulSet('switched', 'native'));
      const turn = async (mode: Mode) => {
        const metadata = { annotations: annotationsOf(mode) };
        return (await cluster.api.patch<StatefulSet>(stored, { metadata })).spec.template.spec;
      };
      const plain = await turn('plain');
      expect(namesOf(plain.initContainers)).toEqual([]);
      expect(namesOf(plain.containers)).toEqual([RABBITMQ_CONTAINER, PROXY_CONTAINER]);
      expect(await turn('native')).toEqual(stored.spec.template.spec);
      const gone = await cluster.api.patch<StatefulSet>(stored, {
        metadata: { annotations: { [ANNOTATION.inject]: 'false' } },
      });
      expect(gone.spec.template.spec).not.toHaveProperty('initContainers');
      expect(namesOf(gone.spec.template.spec.containers)).toEqual([RABBITMQ_CONTAINER]);
    });

    it.each<[string, PodContainer[] | undefined, string[]]>([
      ['the cluster operator’s own', undefined, [SETUP_CONTAINER]],
      [
        'those of the override, in front of it',
        [{ name: 'wipe', image: 'wipe:1' }],
        ['wipe', SETUP_CONTAINER],
      ],
    ])('come behind %s in the StatefulSet that it makes', async (_name, initContainers, before) => {
      const object = rabbitmqCluster(`mq-${before.length}`, 'native', initContainers);
      const without = rabbitmqCluster(`bare-${before.length}`, 'plain', initContainers);
      without.metadata.annotations = {};
      await Promise.all([cluster.api.create(object), cluster.api.create(without)]);
      const templateOf = async (owner: KubeObject) => {
        const set = await eventually('its StatefulSet', () => cluster.api.find<StatefulSet>(setOf(owner)));
        return set.spec.template.spec;
      };
      const [made, bare] = [await templateOf(object), await templateOf(without)];
      expect(namesOf(bare.initContainers)).toEqual(before);
      expect(namesOf(made.initContainers)).toEqual([...before, PROXY_CONTAINER]);
      expect(nativeIn(made)?.restartPolicy).toBe('Always');
      // The entry that holds the place of the operator's own changed nothing about it.
      const setup = (spec: PodSpec) => spec.initContainers!.find(({ name }) => name === SETUP_CONTAINER)!;
      expect(setup(made)['image']).toBe(setup(bare)['image']);
      expect(setup(made)['resources']).toEqual(setup(bare)['resources']);

      await cluster.api.patch(object, { metadata: { annotations: { [ANNOTATION.inject]: 'false' } } });
      const after = await eventually('the StatefulSet without it', async () => {
        const now = await templateOf(object);
        return nativeIn(now) === undefined && now;
      });
      expect(namesOf(after.initContainers)).toEqual(before);
    });

    it('are denied to RabbitmqClusters whose CRD would drop the field, and not chosen by auto', async () => {
      const steps = ['spec', 'override', 'statefulSet', 'spec', 'template', 'spec', 'initContainers'];
      const path = steps.map((step) => `properties/${step}`).join('/');
      const schema = `/spec/versions/0/schema/openAPIV3Schema/${path}/items/properties/restartPolicy`;
      const crd = await cluster.api.path({
        apiVersion: 'apiextensions.k8s.io/v1',
        kind: 'CustomResourceDefinition',
        metadata: { name: CRD },
      });
      const body = [{ op: 'remove', path: schema }];
      await cluster.api.call('PATCH', crd, { body, type: 'application/json-patch+json' });
      // Another process: a yes is remembered for five minutes.
      const before = webhook;
      webhook = await startWebhookProcess(kubeconfig, ['--no-events']);
      await cluster.api.patch(registration(webhook), { webhooks: registration(webhook)['webhooks'] });
      await before.stop();
      await eventually('a denial', async () => {
        const denied = await cluster.api
          .create(rabbitmqCluster('old', 'native'))
          .catch((error: unknown) => error);
        return /"native" is not possible here, for the CRD .* drops restartPolicy/.test(String(denied));
      });
      const auto = await cluster.api.createVerbosely(rabbitmqCluster('old', 'auto'), { dryRun: 'All' });
      expect(auto.warnings.join()).toContain('means a plain container here (the CRD');
      expect(JSON.stringify(auto.body)).not.toContain('initContainers');
      expect((await tried('auto')).native?.restartPolicy).toBe('Always');
    });
  },
);
