import { BACKEND_HOSTS, PORT } from '../common/contract.ts';
import type { BackendHost } from './form.ts';
import { isObject, objectsAt, same, valueAt } from '../common/kube/json.ts';
import type { Json, JsonObject } from '../common/kube/types.ts';

/**
 * Kubelets open TCP probes at the pod's address, where 5672 and 5671 are the proxy's now: left alone they would report
 * the proxy's state as RabbitMQ's. RabbitMQ listens on the loopback address, which only a command in its container
 * can reach. bash is there: the cluster operator's preStop hook uses it as well.
 */
function exec(host: BackendHost): JsonObject {
  return { command: ['/bin/bash', '-c', `exec 3<>/dev/tcp/${host}/${PORT.backend}`] };
}

/** The cluster operator's own timing of its TCP readiness probe. */
const READINESS_TIMING = {
  initialDelaySeconds: 10,
  timeoutSeconds: 5,
  periodSeconds: 10,
  successThreshold: 1,
  failureThreshold: 3,
};

const PROBES = ['readinessProbe', 'livenessProbe', 'startupProbe'] as const;
const HANDLERS: readonly string[] = ['exec', 'tcpSocket', 'httpGet', 'grpc'];

/** The probes that were there before, by name; null where there was none. */
export type SavedProbes = Record<string, JsonObject | null>;

function isOurs(probe: Json | undefined): boolean {
  return BACKEND_HOSTS.some((host) => same(valueAt(probe, 'exec'), exec(host)));
}

/** True when one of the container's probes is the injection's. */
export function hasOurProbe(container: JsonObject): boolean {
  return PROBES.some((name) => isOurs(container[name]));
}

/** Puts back what `moveProbes` took; a probe that someone wrote since is left as it is. */
export function restoreProbes(container: JsonObject, saved: SavedProbes | undefined): void {
  for (const name of PROBES) {
    if (!isOurs(container[name])) continue;
    const before = saved?.[name];
    if (isObject(before)) container[name] = before;
    else delete container[name];
  }
}

/** Gives the container a readiness probe for the moved listener and moves its other probes of AMQP's ports; returns what was there. */
export function moveProbes(container: JsonObject, host: BackendHost): SavedProbes {
  const saved: SavedProbes = {};
  for (const name of PROBES) {
    const probe = container[name];
    const before = isObject(probe) ? probe : null;
    const onAmqp = before !== null && isOnAmqpPort(before, container);
    if (!onAmqp && name !== 'readinessProbe') continue;
    container[name] = {
      exec: exec(host),
      ...(onAmqp ? timingOf(before) : READINESS_TIMING),
    };
    saved[name] = before;
  }
  return saved;
}

function timingOf(probe: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(probe).filter(([key]) => !HANDLERS.includes(key)));
}

/** True for a TCP probe of 5672 or 5671, given as a number or by the name of a port of the container. */
function isOnAmqpPort(probe: JsonObject, container: JsonObject): boolean {
  const port = valueAt(probe, 'tcpSocket', 'port');
  const declared = objectsAt(container, 'ports').find((each) => each['name'] === port)?.['containerPort'];
  const conventional = port === 'amqp' || port === 'amqps';
  return conventional || [port, declared].some((each) => each === PORT.amqp || each === PORT.amqps);
}
