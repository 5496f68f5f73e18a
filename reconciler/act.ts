// Carries out the steps of a plan: each is one write, or can be done again from the start.
import { SKIP_PRESTOP_LABEL } from '../common/contract.ts';
import type { Api } from '../common/kube/api.ts';
import { textAt } from '../common/kube/json.ts';
import { CLUSTER, MIRROR_POLICIES, POD, RABBITMQ, SECRET } from '../common/kube/resources.ts';
import type { JsonObject, KubeObject } from '../common/kube/types.ts';
import type { Broker } from './broker/access.ts';
import { readSaved, writeBackup } from './backup.ts';
import { desiredCluster } from './cluster.ts';
import { condition, seconds } from './conditions.ts';
import { targetImage } from './gates.ts';
import { mirrorPolicyName } from './observe.ts';
import type { ConditionNow, Observed, Step, Telling, UpgradeRecord } from './types.ts';
import { writeReport } from './upgrade-report.ts';
import { telling } from './tellings.ts';
import { declareStep } from './topology.ts';

/** What steps are carried out with. */
export interface Hands {
  readonly api: Api;
  readonly broker: Broker;
  readonly now: () => Date;
}

/** What came of a step. */
export interface Done {
  /** False: everything was so already, and looking again at once would lead to the same step. */
  readonly hasChanged: boolean;
  readonly tell?: readonly Telling[];
  /** More status to write, behind the step. */
  readonly status?: JsonObject;
  readonly conditions?: readonly ConditionNow[];
}

const CHANGED: Done = { hasChanged: true };

/** Steps that are more than a write of the RabbitMq's status, which comes with its conditions. */
export type Deed = Exclude<Step, { do: 'wait' } | { do: 'write status' }>;

/** Rejects when the step could not be carried out; what it has done by then is no obstacle to the next try. */
export async function act(step: Deed, observed: Observed, hands: Hands, signal: AbortSignal): Promise<Done> {
  const { api } = hands;
  const { namespace, name, resourceVersion } = observed.rabbitmq;
  switch (step.do) {
    case 'write RabbitMq': {
      const stored = await api.patch(RABBITMQ, { namespace, name }, step.patch, {}, signal);
      return {
        hasChanged: textAt(stored, 'metadata', 'resourceVersion') !== resourceVersion,
        tell: step.tell,
      };
    }
    case 'save':
      return save(step.record, observed, hands, signal);
    case 'delete mirror policy':
      for (const resource of MIRROR_POLICIES) {
        await api.remove(resource, { namespace, name: mirrorPolicyName(name) }, {}, signal);
      }
      return CHANGED;
    case 'label pods':
      for (const pod of step.pods) await labelPod(api, namespace, pod, signal);
      return CHANGED;
    case 'delete cluster':
      await api.remove(CLUSTER, { namespace, name }, { uid: step.uid }, signal);
      return CHANGED;
    case 'restore credentials':
      return restoreCredentials(step.record, observed, api, signal);
    case 'create cluster':
      return createCluster(step, observed, hands, signal);
    case 'patch cluster': {
      const patch = { ...step.patch, metadata: { ...asObject(step.patch['metadata']), uid: step.uid } };
      const before = textAt(observed.cluster?.object, 'metadata', 'resourceVersion');
      const stored = await api.patch(CLUSTER, { namespace, name }, patch, {}, signal);
      return { hasChanged: textAt(stored, 'metadata', 'resourceVersion') !== before, tell: step.tell };
    }
    case 'import definitions':
      return importDefinitions(step.record, observed, hands, signal);
    default:
      return declareStep(step.topology, observed, hands, signal);
  }
}

function asObject(value: JsonObject[string]): JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {};
}

/** RabbitMQ's preStop hook waits for a quorum that never comes again, unless the pod says otherwise. */
async function labelPod(api: Api, namespace: string, name: string, signal: AbortSignal): Promise<void> {
  const patch = { metadata: { labels: { [SKIP_PRESTOP_LABEL]: 'true' } } };
  try {
    await api.patch(POD, { namespace, name }, patch, {}, signal);
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

function isGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 404;
}

async function save(
  record: UpgradeRecord,
  observed: Observed,
  { api, broker, now }: Hands,
  signal: AbortSignal,
): Promise<Done> {
  const { rabbitmq, cluster, pods } = observed;
  const secret = await api.get(SECRET, rabbitmq.namespace, `${rabbitmq.name}-default-user`, signal);
  if (cluster === undefined || secret === undefined) return { hasChanged: false };
  const exported = await broker.export(cluster.object, pods, secret, signal);
  await writeBackup(
    api,
    {
      rabbitmq: rabbitmq.object,
      cluster: cluster.object,
      defaultUser: secret,
      record,
      now: now(),
      ...exported,
    },
    signal,
  );
  return CHANGED;
}

/** The Secret that the new broker starts with. Nobody owns it: the cluster operator takes it over, and fills in the rest. */
async function restoreCredentials(
  { sequence }: UpgradeRecord,
  { rabbitmq, defaultUser }: Observed,
  api: Api,
  signal: AbortSignal,
): Promise<Done> {
  const { namespace, name, uid } = rabbitmq;
  const { defaultUser: saved } = await readSaved(api, { namespace, name, uid, sequence }, signal);
  // The operator fills in host, port and what else depends on the cluster.
  const kept = ['username', 'password', 'default_user.conf', 'provider', 'type'];
  const data = encoded(Object.fromEntries(Object.entries(saved).filter(([key]) => kept.includes(key))));
  const secret: KubeObject = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      namespace,
      name: `${name}-default-user`,
      labels: {
        'app.kubernetes.io/name': name,
        'app.kubernetes.io/component': 'rabbitmq',
        'app.kubernetes.io/part-of': 'rabbitmq',
      },
    },
    type: 'Opaque',
    data,
  };
  if (defaultUser.state !== 'absent')
    await api.patch(SECRET, { namespace, name: `${name}-default-user` }, { data }, {}, signal);
  else if ((await api.create(SECRET, secret, signal)) === 'exists') return { hasChanged: true };
  const note = `the credentials of the default user are in Secret ${name}-default-user again`;
  return { hasChanged: true, tell: [telling('CredentialsRestored', note)] };
}

function encoded(data: Readonly<Record<string, string>>): JsonObject {
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
  );
}

async function createCluster(
  { record, version }: Deed & { do: 'create cluster' },
  observed: Observed,
  { api }: Hands,
  signal: AbortSignal,
): Promise<Done> {
  const { rabbitmq } = observed;
  const { namespace, name } = rabbitmq;
  const snapshot =
    record?.backup === undefined
      ? undefined
      : (await readSaved(api, { namespace, name, uid: rabbitmq.uid, sequence: record.sequence }, signal))
          .cluster;
  const image = targetImage(observed, version, snapshot);
  if (!image.ok) throw new Error(image.why);
  const { object, notes } = desiredCluster({
    snapshot,
    rabbitmq: rabbitmq.object,
    version,
    image: image.image,
    queueType: rabbitmq.queueType ?? 'Quorum',
    record,
    proxyRequired: rabbitmq.status.proxyRequired,
  });
  const done = await api.create(CLUSTER, object, signal);
  const tell = notes.map((note): Telling => telling('ConfigurationChanged', note));
  return { hasChanged: true, tell: done === 'created' ? tell : [] };
}

async function importDefinitions(
  record: UpgradeRecord,
  { rabbitmq, cluster, pods }: Observed,
  { api, broker, now }: Hands,
  signal: AbortSignal,
): Promise<Done> {
  const { namespace, name } = rabbitmq;
  const secret = await api.get(SECRET, namespace, `${name}-default-user`, signal);
  if (cluster === undefined || secret === undefined) return { hasChanged: false };
  const saved = await readSaved(
    api,
    { namespace, name, uid: rabbitmq.uid, sequence: record.sequence },
    signal,
  );
  const queueType = rabbitmq.queueType ?? 'Quorum';
  const back = await broker.bringBack({ cluster: cluster.object, pods, secret, saved, queueType }, signal);
  await refuseLostCredentials({ ...secret, data: encoded(saved.defaultUser) });
  await writeReport(api, { rabbitmq: rabbitmq.object, record, report: back.report, saved }, signal);
  const { kept, changed, dropped, refused } = back.counts;
  const counts = `${kept} kept, ${changed} changed, ${dropped} dropped, ${refused} refused`;
  const report = `quorumbridge upgrade report ${name} -n ${namespace} has them all`;

  /** The old credentials came back with the other users, whatever the new cluster started with. */
  async function refuseLostCredentials(old: KubeObject): Promise<void> {
    const asked = await broker.observe(cluster!.object, pods, old, signal);
    if (asked.state === 'unknown')
      throw new Error(`the new cluster does not let the old credentials in: ${asked.why}`);
  }

  return {
    hasChanged: true,
    status: {
      upgrade: {
        importedAt: seconds(now()),
        definitions: { ...back.counts, differences: [...back.differences] },
      },
    },
    conditions: [
      condition('CredentialsPreserved', true, 'Restored'),
      refused === 0
        ? condition('DefinitionsPreserved', true, 'Restored', `definitions: ${counts}; ${report}`)
        : condition(
            'DefinitionsPreserved',
            false,
            'PartlyRestored',
            `definitions: ${counts} (${back.firstRefused}); ${report}`,
          ),
    ],
    tell: [
      telling(
        refused === 0 ? 'DefinitionsRestored' : 'DefinitionsRefused',
        `definitions: ${counts}; ${report}`,
      ),
    ],
  };
}
