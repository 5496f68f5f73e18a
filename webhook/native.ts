import { KIND, PROXY_CONTAINER, RABBITMQ_CONTAINER } from '../common/contract.ts';
import { messageOf } from '../common/errors.ts';
import type { Api } from '../common/kube/api.ts';
import { needsNativeFacts } from './form.ts';
import { named, objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { CLUSTER, CRD, POD, resourceName } from '../common/kube/resources.ts';
import type { Json, KubeObject } from '../common/kube/types.ts';
import type { NativeFacts } from './types.ts';

/** Looks up whether native sidecars are possible in objects of a kind. */
export interface NativeLookup {
  /** Never rejects: what can't be found out within the time limit is `unknown`, and says why. */
  find(kind: string): Promise<NativeFacts>;
}

/** What is known of the cluster for an object; undefined when there is none to ask, or the object does not want to know. */
export async function nativeFactsFor(
  lookup: NativeLookup | undefined,
  object: KubeObject,
): Promise<NativeFacts | undefined> {
  return needsNativeFacts(object) ? lookup?.find(object.kind) : undefined;
}

/** From this minor on restartPolicy of init containers is on by default (feature gate SidecarContainers). */
const FIRST_MINOR = 29;

/** How long an answer is good for, in milliseconds: people correct what is wrong and ask again. */
const LIFETIME_MS = { supported: 300_000, unsupported: 30_000, unknown: 5_000 } as const;

type Check = (signal: AbortSignal) => Promise<NativeFacts>;

/** Remembers the last answer; those who ask meanwhile wait for the same request. Takes at most `timeoutMs`. */
function cached(check: Check, timeoutMs: number): () => Promise<NativeFacts> {
  let answer: Promise<NativeFacts> | undefined;
  let goodUntil = Infinity;
  return () => {
    if (answer !== undefined && performance.now() < goodUntil) return answer;
    goodUntil = Infinity;
    answer = inTime(check, timeoutMs).then((facts) => {
      goodUntil = performance.now() + LIFETIME_MS[facts.state];
      return facts;
    });
    return answer;
  };
}

async function inTime(check: Check, timeoutMs: number): Promise<NativeFacts> {
  const abort = new AbortController();
  const { promise, resolve } = Promise.withResolvers<NativeFacts>();
  const timer = setTimeout(() => {
    resolve({ state: 'unknown', why: `the API server did not answer within ${timeoutMs} ms` });
    abort.abort();
  }, timeoutMs);
  const asked = check(abort.signal).catch((error): NativeFacts => ({
    state: 'unknown',
    why: messageOf(error),
  }));
  try {
    return await Promise.race([asked, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** A managed API server's minor may end in "+". */
export function checkVersion(version: Json): NativeFacts {
  const [major, minor] = ['major', 'minor'].map((field) => textAt(version, field) ?? '');
  const number = /^(\d{1,6})\+?$/.exec(minor!)?.[1];
  if (major !== '1' || number === undefined)
    return {
      state: 'unknown',
      why: `the API server calls its version ${JSON.stringify(`${major}.${minor}`).slice(0, 40)}`,
    };
  if (Number(number) >= FIRST_MINOR) return { state: 'supported' };
  return {
    state: 'unsupported',
    why: `the API server is Kubernetes 1.${number}, and init containers can go on running from 1.${FIRST_MINOR} on`,
  };
}

/** Whether the CRD of RabbitmqClusters keeps restartPolicy of init containers in the override. */
export function checkSchema(crd: KubeObject | undefined): NativeFacts {
  const version = named(objectsAt(crd, 'spec', 'versions'), CLUSTER.version);
  const path = ['spec', 'override', 'statefulSet', 'spec', 'template', 'spec', 'initContainers'];
  const list = valueAt(version, 'schema', 'openAPIV3Schema', ...path.flatMap((step) => ['properties', step]));
  if (valueAt(list, 'items', 'properties', 'restartPolicy') !== undefined) return { state: 'supported' };
  return {
    state: 'unsupported',
    why: `the CRD ${resourceName(CLUSTER)} drops restartPolicy of init containers: the cluster operator is older than 2.7`,
  };
}

/** A Pod that namespaces which enforce the level restricted take too. It is never stored. */
function samplePod(namespace: string, image: string): KubeObject {
  const container = {
    image,
    resources: { requests: { cpu: '1m', memory: '1Mi' }, limits: { cpu: '1m', memory: '1Mi' } },
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    },
  };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, generateName: 'quorumbridge-native-check-' },
    spec: {
      automountServiceAccountToken: false,
      initContainers: [{ name: PROXY_CONTAINER, restartPolicy: 'Always', ...container }],
      containers: [{ name: RABBITMQ_CONTAINER, ...container }],
    },
  };
}

function checkPod(pod: KubeObject): NativeFacts {
  const proxy = named(objectsAt(pod, 'spec', 'initContainers'), PROXY_CONTAINER);
  if (textAt(proxy, 'restartPolicy') === 'Always') return { state: 'supported' };
  return { state: 'unsupported', why: 'the API server drops restartPolicy of the init container of a Pod' };
}

/**
 * Asks an API server, at the first need, and remembers at most three answers for a while.
 * @param sample the namespace and image of the Pod that is tried in a dry run.
 * @param timeoutMs how long an answer may take; the three questions are asked at the same time.
 */
export function createNativeLookup(
  api: Pick<Api, 'version' | 'get' | 'dryRun'>,
  sample: { namespace: string; image: string },
  timeoutMs: number,
): NativeLookup {
  const version = cached(async (signal) => checkVersion(await api.version(signal)), timeoutMs);
  const pod = cached(async (signal) => {
    return checkPod(await api.dryRun(POD, samplePod(sample.namespace, sample.image), signal));
  }, timeoutMs);
  const schema = cached(async (signal) => {
    return checkSchema(await api.get(CRD, undefined, resourceName(CLUSTER), signal));
  }, timeoutMs);
  return {
    async find(kind) {
      const checks = kind === KIND.cluster.kind ? [version, schema, pod] : [version, pod];
      const facts = await Promise.all(checks.map((check) => check()));
      return (
        facts.find(({ state }) => state === 'unsupported') ??
        facts.find(({ state }) => state === 'unknown') ?? { state: 'supported' }
      );
    },
  };
}
