// The file of spec.messagingTopology: read from its ConfigMap, and declared on the cluster.
import { createHash } from 'node:crypto';
import { UsageError, messageOf } from '../common/errors.ts';
import { type Api, ApiFailure } from '../common/kube/api.ts';
import { objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { CONFIG_MAP, SECRET } from '../common/kube/resources.ts';
import type { JsonObject, KubeObject } from '../common/kube/types.ts';
import { parseTopology } from '../messaging/config.ts';
import type { Done, Hands } from './act.ts';
import { condition, seconds } from './conditions.ts';
import { telling } from './tellings.ts';
import type { ConditionNow, ConditionType, Observed, ObservedTopology } from './types.ts';

/** The key of the ConfigMap where the RabbitMq names none. */
export const TOPOLOGY_KEY = 'messaging.yaml';
/** Thousands of queues take minutes: what is there by then is not made again by the next try. */
const DECLARE_MAX_MS = 120_000;

/** Reads the file that a RabbitMq names. Rejects with ApiFailure where the API server doesn't answer. */
export async function readTopology(
  api: Pick<Api, 'get'>,
  rabbitmq: KubeObject,
  signal: AbortSignal,
): Promise<ObservedTopology> {
  const reference = valueAt(rabbitmq, 'spec', 'messagingTopology', 'configMapRef');
  const name = textAt(reference, 'name') ?? '';
  if (name === '') return { state: 'not wanted' };
  const namespace = textAt(rabbitmq, 'metadata', 'namespace') ?? '';
  let object: KubeObject | undefined;
  try {
    object = await api.get(CONFIG_MAP, namespace, name, signal);
  } catch (error) {
    // A reader without the right, or a name that is none, must not keep an upgrade from going on.
    if (!(error instanceof ApiFailure) || error.code === undefined || error.code >= 500) throw error;
    return { state: 'missing', why: `ConfigMap ${name} can't be read: ${error.message}` };
  }
  if (object === undefined) return { state: 'missing', why: `there is no ConfigMap ${name}` };
  const key = textAt(reference, 'key') || TOPOLOGY_KEY;
  const text = textAt(object, 'data', key);
  if (text === undefined)
    return { state: 'missing', why: `ConfigMap ${name} has no text under the key ${key}` };
  const sha256 = createHash('sha256').update(text).digest('hex');
  return { state: 'found', file: `${name}/${key}`, text, sha256 };
}

/**
 * Declares the file once, and notes that. Whatever is wrong with it or with the broker is no failure of the step: it is said,
 * and tried again later. Rejects where the API server doesn't answer, and when the signal ends.
 */
export async function declareStep(
  topology: ObservedTopology & { readonly state: 'found' },
  { rabbitmq, cluster, pods }: Observed,
  { api, broker, now }: Pick<Hands, 'api' | 'broker' | 'now'>,
  signal: AbortSignal,
): Promise<Done> {
  const { namespace, name, object } = rabbitmq;
  if (cluster === undefined) return { hasChanged: false };
  const secret = await api.get(SECRET, namespace, `${name}-default-user`, signal);
  const limited = AbortSignal.any([signal, AbortSignal.timeout(DECLARE_MAX_MS)]);
  const { file, text, sha256 } = topology;
  let said: ConditionNow;
  try {
    const config = parseTopology(file, text);
    if (secret === undefined) throw new Error(`Secret ${name}-default-user is not there`);
    const outcome = await broker.declare(
      { cluster: cluster.object, pods, secret, topology: config },
      limited,
    );
    if (outcome.result === 'declared') {
      const { created, total } = outcome;
      said = applied(`${file} is declared: ${created} of ${total} exchanges, queues and bindings were made`);
    } else if (outcome.result === 'conflict')
      said = notApplied({ reason: 'Conflict', message: `${file}: nothing was declared: ${outcome.why}` });
    else said = notApplied({ reason: 'Refused', message: `${file}: ${outcome.why}` });
  } catch (error) {
    if (signal.aborted) throw error;
    said =
      error instanceof UsageError
        ? notApplied({ reason: 'InvalidFile', message: error.message })
        : notApplied({ reason: 'BrokerUnreachable', message: `${file}: ${messageOf(error)}` });
  }
  const isDeclared = said.status === 'True';
  const record = { sha256, clusterUid: cluster.uid, isDeclared, triedAt: seconds(now()) };
  return {
    hasChanged: true,
    status: { messagingTopology: record },
    conditions: [said],
    tell: isNews(object, said)
      ? [telling(isDeclared ? 'TopologyApplied' : 'TopologyNotApplied', said.message)]
      : [],
  };
}

function applied(message: string): ConditionNow {
  return condition('TopologyApplied', true, 'Applied', message);
}

function notApplied(why: {
  readonly reason: 'Conflict' | 'Refused' | 'InvalidFile' | 'BrokerUnreachable';
  readonly message: string;
}): ConditionNow {
  return condition('TopologyApplied', false, why.reason, why.message);
}

/** Whether the RabbitMq's status does not say the same already. */
export function isNews(rabbitmq: KubeObject, { type, reason, message }: ConditionNow): boolean {
  const before = conditionOf(rabbitmq, type);
  return textAt(before, 'reason') !== reason || textAt(before, 'message') !== message;
}

/** The reason of a condition as the status has it; empty where it has none. */
export function conditionReason(rabbitmq: KubeObject, type: ConditionType): string {
  return textAt(conditionOf(rabbitmq, type), 'reason') ?? '';
}

function conditionOf(rabbitmq: KubeObject, type: ConditionType): JsonObject | undefined {
  return objectsAt(rabbitmq, 'status', 'conditions').find((each) => each['type'] === type);
}
