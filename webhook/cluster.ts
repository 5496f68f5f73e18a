import {
  ANNOTATION,
  KIND,
  PROXY_CONTAINER,
  RABBITMQ_CONTAINER,
  SETUP_CONTAINER,
} from '../common/contract.ts';
import { clientVerification, readBrokerConfig } from './brokerconfig.ts';
import { dropNamed, isObject, named, objectsAt, same, textAt, valueAt } from '../common/kube/json.ts';
import { OverlayError, hasOverlay, spliceOverlay, stripOverlay } from './overlay.ts';
import { Parents, pruneParents } from './parents.ts';
import { hasOurProbe, moveProbes, restoreProbes } from './probes.ts';
import { Refusal } from './refusal.ts';
import { RULES_VOLUME, addRulesVolume } from './rules.ts';
import type { SidecarTls } from './sidecar.ts';
import type { Originals } from './status.ts';
import type { Broker, Injection, Owned, Target } from './target.ts';
import { isGuaranteed, resourcesOf } from './tuning.ts';
import type { Json, JsonObject, KubeObject } from '../common/kube/types.ts';

/**
 * RabbitmqCluster, rabbitmq.com/v1beta1: the sidecar goes to the StatefulSet override, the listeners to
 * spec.rabbitmq.advancedConfig. The cluster operator's volume `rabbitmq-tls` holds the TLS files.
 */
const TEMPLATE = ['spec', 'override', 'statefulSet', 'spec', 'template'];
const ANNOTATIONS = [...TEMPLATE, 'metadata', 'annotations'];
const CONTAINERS = [...TEMPLATE, 'spec', 'containers'];
const INIT_CONTAINERS = [...TEMPLATE, 'spec', 'initContainers'];
const VOLUMES = [...TEMPLATE, 'spec', 'volumes'];
const ADVANCED = ['spec', 'rabbitmq', 'advancedConfig'];

export const clusterTarget: Target = {
  kind: KIND.cluster.kind,
  tombstone: true,
  template: TEMPLATE,
  configOf(object) {
    const text = textAt(object, ...ADVANCED) ?? '';
    return hasOverlay(text) ? readable(() => stripOverlay(text).overlay) : undefined;
  },
  strip,
  inspect,
  add,
};

function readable<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof OverlayError) throw new Refusal(ADVANCED, error.message);
    throw error;
  }
}

function strip(object: KubeObject, original: Originals | undefined, owned: Owned): void {
  stripContainers(object, original, owned.container);
  if (owned.native) stripInitContainers(object, original);
  const annotations = valueAt(object, ...ANNOTATIONS);
  if (isObject(annotations)) delete annotations[ANNOTATION.status];
  const config = valueAt(object, 'spec', 'rabbitmq');
  const text = textAt(config, 'advancedConfig') ?? '';
  if (isObject(config) && hasOverlay(text)) {
    const rest = readable(() => stripOverlay(text).text);
    if (rest === '' && original === undefined) delete config['advancedConfig'];
    else config['advancedConfig'] = rest;
  }
  const created = original?.parents ?? {};
  const podSpec = valueAt(object, ...CONTAINERS.slice(0, -1));
  const hadContainers = isObject(podSpec) && Object.hasOwn(podSpec, 'containers');
  if (owned.rules && isObject(podSpec)) dropNamed(podSpec, 'volumes', RULES_VOLUME);
  const more = [...(owned.rules ? [VOLUMES] : []), ...(owned.native ? [INIT_CONTAINERS] : [])];
  pruneParents(object, created, [ANNOTATIONS, CONTAINERS, ADVANCED, ...more]);
  // A pod spec that somebody filled meanwhile stays, and the resource's schema wants the list in it.
  const isLeft =
    valueAt(object, ...CONTAINERS.slice(0, -1)) === podSpec && !(CONTAINERS.join('.') in created);
  if (hadContainers && isLeft) podSpec['containers'] ??= [];
}

function stripContainers(object: KubeObject, original: Originals | undefined, ownContainer: boolean): void {
  const podSpec = valueAt(object, ...TEMPLATE, 'spec');
  if (!isObject(podSpec) || !Array.isArray(podSpec['containers'])) return;
  let containers: Json[] = podSpec['containers'];
  if (ownContainer) {
    containers = containers.filter((entry) => !isObject(entry) || entry['name'] !== PROXY_CONTAINER);
  }
  const at = containers.findIndex((entry) => isObject(entry) && entry['name'] === RABBITMQ_CONTAINER);
  const rabbitmq = containers[at];
  if (isObject(rabbitmq) && hasOurProbe(rabbitmq)) {
    restoreProbes(rabbitmq, original?.probes);
    containers.splice(at, 1);
    const isStub = original?.stub ?? true;
    if (!isStub || !isBare(rabbitmq)) containers.splice(at === 0 ? (original?.index ?? 0) : at, 0, rabbitmq);
  }
  podSpec['containers'] = containers;
}

function stripInitContainers(object: KubeObject, original: Originals | undefined): void {
  const podSpec = valueAt(object, ...TEMPLATE, 'spec');
  if (!isObject(podSpec)) return;
  dropNamed(podSpec, 'initContainers', PROXY_CONTAINER);
  const stub = named(objectsAt(podSpec, 'initContainers'), SETUP_CONTAINER);
  if (original?.setupStub && stub !== undefined && isBare(stub))
    dropNamed(podSpec, 'initContainers', SETUP_CONTAINER);
}

/** An entry that says nothing but its name. The cluster operator, as programs in Go do, writes `resources: {}` into each. */
function isBare({ name: _name, resources = {}, ...rest }: JsonObject): boolean {
  return Object.keys(rest).length === 0 && same(resources, {});
}

function inspect(object: KubeObject): Broker {
  const config = readBrokerConfig(textAt(object, 'spec', 'rabbitmq', 'additionalConfig') ?? '');
  const advanced = textAt(object, ...ADVANCED) ?? '';
  const found = readable(() => clientVerification(config, advanced, isSet(object, 'caSecretName')));
  const plugins = valueAt(object, 'spec', 'rabbitmq', 'additionalPlugins');
  if (Array.isArray(plugins) && plugins.includes('rabbitmq_auth_mechanism_ssl')) {
    found.warnings.push(
      'the plugin rabbitmq_auth_mechanism_ssl is on: clients that log in by certificate (EXTERNAL) can not do so through the proxy',
    );
  }
  return {
    tls: tlsOf(object, found.auth),
    backendTls: undefined,
    guaranteed: isPodGuaranteed(object),
    warnings: found.warnings,
  };
}

function isSet(object: KubeObject, key: string): boolean {
  return (textAt(object, 'spec', 'tls', key) ?? '') !== '';
}

function tlsOf(object: KubeObject, auth: 'request' | 'require' | undefined): SidecarTls | undefined {
  if (!isSet(object, 'secretName')) {
    const vault = ['spec', 'secretBackend', 'vault', 'tls'];
    if ((textAt(object, ...vault, 'pkiIssuerPath') ?? '') === '') return undefined;
    throw new Refusal(
      vault,
      'the TLS files come from the Vault agent, which writes them into no volume that the proxy could mount: ' +
        `set spec.tls.secretName, or the annotation ${ANNOTATION.inject}: "false" to go without the proxy`,
    );
  }
  return {
    volume: { name: 'rabbitmq-tls' },
    only: valueAt(object, 'spec', 'tls', 'disableNonTLSListeners') === true,
    client: auth && { ca: 'same-volume', auth },
  };
}

/** The operator's own init container has requests that equal its limits; its Vault helper has not. */
function isPodGuaranteed(object: KubeObject): boolean {
  if (isObject(valueAt(object, 'spec', 'secretBackend', 'vault'))) return false;
  const podSpec = valueAt(object, ...TEMPLATE, 'spec');
  const override = named(objectsAt(podSpec, 'containers'), RABBITMQ_CONTAINER)?.['resources'];
  const resources = valueAt(object, 'spec', 'resources');
  const merged = Object.fromEntries(
    ['requests', 'limits'].map((field) => [
      field,
      { ...fieldOf(resources, field), ...fieldOf(override, field) },
    ]),
  );
  const others = resourcesOf(podSpec, [PROXY_CONTAINER, RABBITMQ_CONTAINER]);
  return isGuaranteed([merged, ...others]);
}

function fieldOf(resources: Json | undefined, field: string): JsonObject {
  const amounts = valueAt(resources, field);
  return isObject(amounts) ? amounts : {};
}

/**
 * The operator applies the override and then takes containers[0] for RabbitMQ's own: an entry for it has to come
 * first, the proxy last (cluster-operator internal/resource/statefulset.go, patchPodSpec).
 */
function add(
  object: KubeObject,
  injection: Injection,
  before: readonly (KubeObject | undefined)[],
): { original: Originals; config: string } {
  const parents = new Parents(object);
  parents.object(ANNOTATIONS);
  const containers = parents.list(CONTAINERS);
  const index = containers.findIndex((entry) => entry['name'] === RABBITMQ_CONTAINER);
  const rabbitmq =
    index < 0 ? stubOf(RABBITMQ_CONTAINER, 'containers', before) : containers.splice(index, 1)[0]!;
  const probes = moveProbes(rabbitmq, injection.host);
  containers.unshift(rabbitmq);
  const setupStub = injection.form === 'native' && addNative(parents, injection.container, before);
  if (injection.form === 'plain') containers.push(injection.container);
  if (injection.rules !== undefined) addRulesVolume(parents, VOLUMES, injection.rules);

  const own = parents.text(ADVANCED);
  const { text, overlay } = readable(() => spliceOverlay(own, injection));
  parents.object(['spec', 'rabbitmq'])['advancedConfig'] = text;
  const place = index < 0 ? { stub: true } : { stub: false, index };
  const stubs = { ...place, ...(setupStub ? { setupStub } : {}) };
  return { original: { parents: parents.created, probes, ...stubs }, config: overlay };
}

/**
 * The operator's own init container has to be named before the proxy: what the override alone names is merged to the
 * front. What users name stays in front of it, where it would be without the proxy. True when the entry is ours.
 */
function addNative(
  parents: Parents,
  container: JsonObject,
  before: readonly (KubeObject | undefined)[],
): boolean {
  const list = parents.list(INIT_CONTAINERS);
  const isStub = named(list, SETUP_CONTAINER) === undefined;
  if (isStub) list.push(stubOf(SETUP_CONTAINER, 'initContainers', before));
  list.push(container);
  return isStub;
}

/** An entry for a container of the operator's; what the operator wrote into the one that was there stays. */
function stubOf(name: string, list: string, before: readonly (KubeObject | undefined)[]): JsonObject {
  const entries = before.map((object) => named(objectsAt(object, ...TEMPLATE, 'spec', list), name));
  const isFilled = entries.some((entry) => same(entry?.['resources'], {}));
  return isFilled ? { name, resources: {} } : { name };
}
