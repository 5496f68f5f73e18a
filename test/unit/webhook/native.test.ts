// What the API server is asked before a native sidecar is injected.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ApiFailure, connectApi } from '../../../common/kube/api.ts';
import { textAt, valueAt } from '../../../common/kube/json.ts';
import { openCluster } from '../../../common/kube/open.ts';
import { checkSchema, checkVersion, createNativeLookup, nativeFactsFor } from '../../../webhook/native.ts';
import type { Json, JsonObject, KubeObject } from '../../../common/kube/types.ts';
import { playApiServer } from '../../support/api-server.ts';
import { ENABLE, cluster, statefulSet } from './objects.ts';

const SAMPLE = { namespace: 'quorumbridge-system', image: 'proxy:1' };

/** The CRD of RabbitmqClusters, whose init containers have these properties. */
function crd(properties: JsonObject, version = 'v1beta1'): KubeObject {
  const steps = ['spec', 'override', 'statefulSet', 'spec', 'template', 'spec', 'initContainers'];
  const list: JsonObject = { type: 'array', items: { type: 'object', properties } };
  const openAPIV3Schema = steps.reduceRight<JsonObject>(
    (inner, step) => ({ type: 'object', properties: { [step]: inner } }),
    list,
  );
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: 'rabbitmqclusters.rabbitmq.com' },
    spec: { versions: [{ name: version, schema: { openAPIV3Schema } }] },
  };
}

const MODERN = crd({ name: {}, restartPolicy: { type: 'string' } });

/** An API server of Kubernetes 1.34 that keeps what it is given, but for what `more` says. */
function apiServer(
  more: { version?: Json | Error; crd?: KubeObject | undefined; pod?: (pod: KubeObject) => KubeObject } = {},
) {
  return {
    version: vi.fn<(signal: AbortSignal) => Promise<Json>>(async () => {
      const version = more.version ?? { major: '1', minor: '34' };
      if (version instanceof Error) throw version;
      return version;
    }),
    get: vi.fn(async (..._asked: unknown[]) => ('crd' in more ? more.crd : MODERN)),
    dryRun: vi.fn(async (_resource: unknown, pod: KubeObject) => more.pod?.(pod) ?? pod),
  };
}

describe('the version of an API server', () => {
  it.each<[string, Json, string]>([
    ['of 1.29', { major: '1', minor: '29' }, 'supported'],
    ['of a managed one', { major: '1', minor: '33+' }, 'supported'],
    ['of 1.28', { major: '1', minor: '28' }, 'unsupported'],
    ['of a managed 1.9', { major: '1', minor: '9+' }, 'unsupported'],
    ['of another major', { major: '2', minor: '30' }, 'unknown'],
    ['without a number', { major: '1', minor: 'main' }, 'unknown'],
    ['of another shape', ['1.34'], 'unknown'],
  ])('%s is %o: %s', (_name, version, state) => {
    expect(checkVersion(version).state).toBe(state);
  });
});

describe("a CRD's schema", () => {
  it('counts where restartPolicy of init containers is in it', () => {
    expect(checkSchema(MODERN)).toEqual({ state: 'supported' });
    const old = { state: 'unsupported', why: expect.stringContaining('older than 2.7') as string };
    expect(checkSchema(crd({ name: {} }))).toEqual(old);
    expect(checkSchema(crd({ restartPolicy: {} }, 'v1alpha1'))).toEqual(old);
    expect(checkSchema(undefined)).toEqual(old);
  });
});

describe('a look at the cluster', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('finds native sidecars possible when version, schema and a tried Pod say so', async () => {
    const api = apiServer();
    const lookup = createNativeLookup(api, SAMPLE, 1000);
    expect(await lookup.find('RabbitmqCluster')).toEqual({ state: 'supported' });
    expect(api.get).toHaveBeenCalledWith(
      expect.objectContaining({ plural: 'customresourcedefinitions' }),
      undefined,
      'rabbitmqclusters.rabbitmq.com',
      expect.any(AbortSignal),
    );
    const pod = api.dryRun.mock.calls[0]![1];
    expect(pod.metadata['namespace']).toBe('quorumbridge-system');
    expect(valueAt(pod, 'spec', 'initContainers', 0)).toMatchObject({
      image: 'proxy:1',
      restartPolicy: 'Always',
    });
    expect(valueAt(pod, 'spec', 'containers', 0, 'securityContext')).toMatchObject({ runAsNonRoot: true });
  });

  it.each<[string, Parameters<typeof apiServer>[0], RegExp]>([
    [
      'an old API server',
      { version: { major: '1', minor: '27' } },
      /^the API server is Kubernetes 1\.27, and/,
    ],
    ['an old CRD', { crd: crd({}) }, /^the CRD rabbitmqclusters\.rabbitmq\.com drops restartPolicy/],
    [
      'a Pod that lost the field',
      {
        pod(pod) {
          const { restartPolicy: _, ...rest } = valueAt(pod, 'spec', 'initContainers', 0) as JsonObject;
          return { ...pod, spec: { initContainers: [rest] } };
        },
      },
      /^the API server drops restartPolicy/,
    ],
  ])('says which check failed: %s', async (_name, server, why) => {
    const facts = await createNativeLookup(apiServer(server), SAMPLE, 1000).find('RabbitmqCluster');
    expect(facts).toEqual({ state: 'unsupported', why: expect.stringMatching(why) as string });
  });

  it('does not ask for the schema of RabbitmqClusters because of a StatefulSet', async () => {
    const api = apiServer({ crd: crd({}) });
    expect(await createNativeLookup(api, SAMPLE, 1000).find('StatefulSet')).toEqual({ state: 'supported' });
    expect(api.get).not.toHaveBeenCalled();
  });

  it('does not know when a question is refused, and does when another check fails anyway', async () => {
    const refusal = new ApiFailure('the API server answered 403 to GET /version', 403);
    const unknown = createNativeLookup(apiServer({ version: refusal }), SAMPLE, 1000);
    expect(await unknown.find('StatefulSet')).toEqual({ state: 'unknown', why: refusal.message });
    const both = createNativeLookup(apiServer({ version: refusal, crd: crd({}) }), SAMPLE, 1000);
    expect(await both.find('RabbitmqCluster')).toMatchObject({ state: 'unsupported' });
  });

  it('does not know when there is no answer in time, whatever becomes of the request', async () => {
    const api = apiServer();
    let signal: AbortSignal | undefined;
    api.version.mockImplementation((given) => {
      signal = given;
      return new Promise(() => {});
    });
    const asked = createNativeLookup(api, SAMPLE, 1000).find('StatefulSet');
    await vi.advanceTimersByTimeAsync(1000);
    expect(await asked).toEqual({ state: 'unknown', why: 'the API server did not answer within 1000 ms' });
    expect(signal?.aborted).toBe(true);
  });

  it('remembers what it found, and asks again after a while', async () => {
    const api = apiServer();
    const lookup = createNativeLookup(api, SAMPLE, 1000);
    const kinds = ['RabbitmqCluster', 'StatefulSet', 'RabbitmqCluster'];
    await Promise.all(kinds.map((kind) => lookup.find(kind)));
    await vi.advanceTimersByTimeAsync(299_000);
    await lookup.find('RabbitmqCluster');
    expect([api.version, api.get, api.dryRun].map((asked) => asked.mock.calls.length)).toEqual([1, 1, 1]);
    await vi.advanceTimersByTimeAsync(2_000);
    await lookup.find('RabbitmqCluster');
    expect([api.version, api.get, api.dryRun].map((asked) => asked.mock.calls.length)).toEqual([2, 2, 2]);
  });

  it('notices sooner that what was missing is there', async () => {
    const server: Parameters<typeof apiServer>[0] = { crd: crd({}) };
    const lookup = createNativeLookup(apiServer(server), SAMPLE, 1000);
    expect((await lookup.find('RabbitmqCluster')).state).toBe('unsupported');
    server.crd = MODERN;
    expect((await lookup.find('RabbitmqCluster')).state).toBe('unsupported');
    await vi.advanceTimersByTimeAsync(31_000);
    expect((await lookup.find('RabbitmqCluster')).state).toBe('supported');
  });

  it('is taken for objects alone that ask for a native sidecar', async () => {
    const api = apiServer();
    const lookup = createNativeLookup(api, SAMPLE, 1000);
    const asking = (mode: string) => statefulSet({}, {}, { ...ENABLE, 'quorumbridge.io/sidecar-mode': mode });
    for (const object of [cluster(), asking('plain'), asking('other')]) {
      expect(await nativeFactsFor(lookup, object)).toBeUndefined();
    }
    expect(api.version).not.toHaveBeenCalled();
    expect(await nativeFactsFor(undefined, asking('auto'))).toBeUndefined();
    expect(await nativeFactsFor(lookup, asking('auto'))).toEqual({ state: 'supported' });
    expect(textAt(api.dryRun.mock.calls[0]![1], 'kind')).toBe('Pod');
  });
});

describe('a look at a cluster over HTTPS', () => {
  it('asks three questions, of which only the Pod is a POST, in a dry run, and names what was refused', async () => {
    await using server = await playApiServer();
    const opened = await openCluster({ from: 'kubeconfig', files: [server.kubeconfig] });
    const crdPath = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/rabbitmqclusters.rabbitmq.com';
    const podPath = '/api/v1/namespaces/quorumbridge-system/pods?dryRun=All';
    server.answers.set('/version', { object: { major: '1', minor: '34', gitVersion: 'v1.34.4' } });
    server.answers.set(crdPath, { object: MODERN });
    server.answers.set(podPath, { status: 403 });
    try {
      const facts = await createNativeLookup(connectApi(opened), SAMPLE, 5000).find('RabbitmqCluster');
      expect(facts).toEqual({
        state: 'unknown',
        why: 'the API server answered 403 to POST pods quorumbridge-system: grant this account "create" on pods',
      });
      expect(server.requests.map(({ path }) => path).sort()).toEqual([podPath, crdPath, '/version'].sort());

      const pod = {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: {},
        spec: { initContainers: [{ name: 'amqp-proxy' }] },
      };
      server.answers.set(podPath, { object: pod });
      const again = createNativeLookup(connectApi(opened), SAMPLE, 5000);
      expect(await again.find('StatefulSet')).toMatchObject({ state: 'unsupported' });
    } finally {
      await opened.pool.destroy();
    }
  });
});
