import {
  ANNOTATION,
  KIND,
  PORT,
  PREFIX,
  PROXY_CONTAINER,
  RABBITMQ_CONTAINER,
  TLS_CA_FOLDER,
  TLS_FOLDER,
} from '../common/contract.ts';
import { chooseConfigFile, configText, isConf, mountAt } from './configfile.ts';
import type { ConfigFile } from './configfile.ts';
import { dropNamed, isObject, named, objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { Parents, pruneParents } from './parents.ts';
import { moveProbes, restoreProbes } from './probes.ts';
import { Refusal } from './refusal.ts';
import { RULES_VOLUME, addRulesVolume } from './rules.ts';
import type { SidecarTls, VolumeSource } from './sidecar.ts';
import type { Originals } from './status.ts';
import type { Broker, Injection, Owned, Target } from './target.ts';
import { isGuaranteed, resourcesOf } from './tuning.ts';
import type { Json, JsonObject, KubeObject } from '../common/kube/types.ts';

/**
 * StatefulSet, apps/v1, where no RabbitmqCluster stands behind it: all that is ours goes to the pod template, and an
 * operator that writes its own template again finds it added again, byte for byte.
 */
const TEMPLATE = ['spec', 'template'];
const POD_SPEC = [...TEMPLATE, 'spec'];
const ANNOTATIONS = [...TEMPLATE, 'metadata', 'annotations'];
const VOLUMES = [...POD_SPEC, 'volumes'];
const CONTAINERS = [...POD_SPEC, 'containers'];
const INIT_CONTAINERS = [...POD_SPEC, 'initContainers'];

/** Name of the volume that carries the configuration file. */
const VOLUME = 'amqp-proxy-config';

export const statefulSetTarget: Target = {
  kind: KIND.statefulSet.kind,
  tombstone: false,
  template: TEMPLATE,
  configOf(object) {
    const annotations = valueAt(object, ...ANNOTATIONS);
    return textAt(annotations, ANNOTATION.advancedConfig) ?? textAt(annotations, ANNOTATION.conf);
  },
  strip,
  inspect,
  add,
};

function strip(object: KubeObject, original: Originals | undefined, owned: Owned): void {
  const podSpec = valueAt(object, ...POD_SPEC);
  const rabbitmq = named(objectsAt(podSpec, 'containers'), RABBITMQ_CONTAINER);
  if (isObject(podSpec)) {
    const isOurVolume = named(objectsAt(podSpec, 'volumes').filter(isOwnVolume), VOLUME) !== undefined;
    if (owned.container) dropNamed(podSpec, 'containers', PROXY_CONTAINER);
    if (owned.native) dropNamed(podSpec, 'initContainers', PROXY_CONTAINER);
    if (owned.rules) dropNamed(podSpec, 'volumes', RULES_VOLUME);
    if (isOurVolume || original !== undefined) {
      dropNamed(podSpec, 'volumes', VOLUME);
      if (rabbitmq !== undefined) dropNamed(rabbitmq, 'volumeMounts', VOLUME);
    }
  }
  const annotations = valueAt(object, ...ANNOTATIONS);
  if (isObject(annotations)) {
    for (const key of [ANNOTATION.status, ANNOTATION.advancedConfig, ANNOTATION.conf])
      delete annotations[key];
  }
  if (rabbitmq !== undefined) {
    restoreProbes(rabbitmq, original?.probes);
    pruneParents(rabbitmq, original?.parents ?? {}, [['volumeMounts']]);
  }
  const native = owned.native ? [INIT_CONTAINERS] : [];
  pruneParents(object, original?.parents ?? {}, [ANNOTATIONS, VOLUMES, ...native]);
}

function isOwnVolume(volume: JsonObject): boolean {
  const field = textAt(volume, 'downwardAPI', 'items', 0, 'fieldRef', 'fieldPath') ?? '';
  return field.startsWith(`metadata.annotations['${PREFIX}`);
}

/** The parts of the object that the rest reads. */
interface Pod {
  rabbitmq: JsonObject;
  at: (string | number)[];
  volumes: JsonObject[];
  file: ConfigFile;
}

function read(object: KubeObject): Pod {
  const containers = objectsAt(object, ...CONTAINERS);
  const index = containers.findIndex((container) => container['name'] === RABBITMQ_CONTAINER);
  const rabbitmq = containers[index];
  if (rabbitmq === undefined) {
    throw new Refusal(
      CONTAINERS,
      `none of them is named ${RABBITMQ_CONTAINER}: the proxy belongs beside RabbitMQ`,
    );
  }
  const at = [...CONTAINERS, index];
  const volumes = objectsAt(object, ...VOLUMES);
  if (named(volumes, VOLUME) !== undefined) {
    throw new Refusal(VOLUMES, `there is a volume named ${VOLUME} that was not injected: rename it`, 409);
  }
  return { rabbitmq, at, volumes, file: chooseConfigFile(rabbitmq, volumes, at) };
}

function inspect(object: KubeObject, owner: KubeObject | undefined): Broker {
  const pod = read(object);
  const tls = tlsOf(pod, owner);
  const warnings: string[] = [];
  let backendTls: Broker['backendTls'];
  if (isConf(pod.file)) {
    warnings.push(
      `RabbitMQ has an advanced.config of its own: make sure that it sets no listeners, and that rabbitmq.conf sets none but listeners.tcp.default and listeners.ssl.default`,
    );
    if (tls?.only === true) backendTls = backendTlsOf(object, owner, tls);
  }
  const guaranteed = isGuaranteed(resourcesOf(valueAt(object, ...POD_SPEC), [PROXY_CONTAINER]));
  return { tls, backendTls, guaranteed, warnings };
}

function tlsOf({ rabbitmq, volumes }: Pod, owner: KubeObject | undefined): SidecarTls | undefined {
  const mount = mountAt(rabbitmq, TLS_FOLDER);
  const name = mount === undefined ? 'rabbitmq-tls' : textAt(mount, 'name');
  const volume = volumes.find((each) => each['name'] === name);
  if (volume === undefined || name === undefined) return undefined;
  const caMount = mountAt(rabbitmq, TLS_CA_FOLDER);
  const ca = hasCa(volume, owner) ? 'same-volume' : caMount && sourceOf(caMount);
  return {
    volume: mount === undefined ? { name } : sourceOf(mount),
    only: isTlsOnly(rabbitmq, owner),
    client: ca && { ca, auth: 'request' },
  };
}

function sourceOf(mount: JsonObject): VolumeSource {
  const subPath = textAt(mount, 'subPath');
  return { name: textAt(mount, 'name') ?? '', ...(subPath === undefined ? {} : { subPath }) };
}

/** True when the volume has a ca.crt: it says so, or it is the whole Secret that its owner names as the CA's as well. */
function hasCa(volume: JsonObject, owner: KubeObject | undefined): boolean {
  const secrets = [
    ...objectsAt(volume, 'projected', 'sources').map((source) => source['secret']),
    volume['secret'],
  ].filter(isObject);
  return secrets.some((secret) => {
    if (Array.isArray(secret['items']))
      return objectsAt(secret, 'items').some((item) => item['path'] === 'ca.crt');
    const name = textAt(secret, 'secretName') ?? textAt(secret, 'name');
    return name !== undefined && name === textAt(owner, 'spec', 'tls', 'caSecretName');
  });
}

/** As the owner says, or, where it says nothing, as the container's ports show. */
function isTlsOnly(rabbitmq: JsonObject, owner: KubeObject | undefined): boolean {
  const said = valueAt(owner, 'spec', 'tls', 'disableNonTLSListeners');
  if (typeof said === 'boolean') return said;
  const ports = objectsAt(rabbitmq, 'ports').map((port) => port['containerPort']);
  return ports.includes(PORT.amqps) && !ports.includes(PORT.amqp);
}

/** RabbitMQ's certificate is checked for the name of its Service, as the infra operator has it issued. */
function backendTlsOf(
  object: KubeObject,
  owner: KubeObject | undefined,
  tls: SidecarTls,
): Broker['backendTls'] {
  const ca = tls.client?.ca;
  if (ca === undefined) {
    throw new Refusal(
      VOLUMES,
      'RabbitMQ has TLS listeners alone and an advanced.config of its own, and no CA is mounted that the proxy could ' +
        `verify it with: add ca.crt to the volume at ${TLS_FOLDER}, or mount it at ${TLS_CA_FOLDER}`,
    );
  }
  const name =
    textAt(owner, 'metadata', 'name') ?? (textAt(object, 'metadata', 'name') ?? '').replace(/-server$/, '');
  const namespace = textAt(object, 'metadata', 'namespace') ?? 'default';
  return {
    serverName: `${name}.${namespace}.svc`,
    ca: `${ca === 'same-volume' ? TLS_FOLDER : TLS_CA_FOLDER}/ca.crt`,
  };
}

function add(object: KubeObject, injection: Injection): { original: Originals; config: string } {
  const { rabbitmq, file } = read(object);
  const parents = new Parents(object);
  const text = configText(file, injection);
  parents.object(ANNOTATIONS)[file.annotation] = text;
  const list = injection.form === 'native' ? INIT_CONTAINERS : CONTAINERS;
  parents.list(list).push(injection.container);
  parents.list(VOLUMES).push(volumeOf(file));
  if (injection.rules !== undefined) addRulesVolume(parents, VOLUMES, injection.rules);
  const own = new Parents(rabbitmq);
  own.list(['volumeMounts']).push({ name: VOLUME, mountPath: file.path, subPath: file.name, readOnly: true });
  const probes = moveProbes(rabbitmq, injection.host);
  return { original: { parents: { ...parents.created, ...own.created }, probes }, config: text };
}

function volumeOf(file: ConfigFile): JsonObject {
  const fieldRef: Json = { apiVersion: 'v1', fieldPath: `metadata.annotations['${file.annotation}']` };
  return { name: VOLUME, downwardAPI: { defaultMode: 0o644, items: [{ path: file.name, fieldRef }] } };
}
