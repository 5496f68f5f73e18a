import { ANNOTATION, PORT } from '../common/contract.ts';
import { objectsAt, textAt } from '../common/kube/json.ts';
import { wholeAdvancedConfig } from './overlay.ts';
import { Refusal } from './refusal.ts';
import type { Injection } from './target.ts';
import type { JsonObject } from '../common/kube/types.ts';

/**
 * The file through which a StatefulSet's RabbitMQ is told to listen on the loopback address. Its text is an annotation
 * of the pod template and reaches the container by a downward API volume, so that no other object has to be made.
 */
export interface ConfigFile {
  annotation: string;
  /** Path in RabbitMQ's container. */
  path: string;
  /** Name in the volume. */
  name: string;
}

const ADVANCED: ConfigFile = {
  annotation: ANNOTATION.advancedConfig,
  path: '/etc/rabbitmq/advanced.config',
  name: 'advanced.config',
};

/** Read after all other files of conf.d, in the order of their names; a later key beats an earlier one. */
const CONF: ConfigFile = {
  annotation: ANNOTATION.conf,
  path: '/etc/rabbitmq/conf.d/99-amqp-proxy.conf',
  name: '99-amqp-proxy.conf',
};

const FOLDERS = ['/etc/rabbitmq', '/etc/rabbitmq/conf.d'] as const;
const CONF_FILES = [undefined, FOLDERS[1], `${FOLDERS[1]}/`, `${FOLDERS[1]}/*.conf`];

/**
 * The file for this container: advanced.config, which wins whatever rabbitmq.conf says, unless the container has one
 * already, which nobody can read here. Throws Refusal where neither can be mounted.
 * @param at the container's place in the object, for messages.
 * @param volumes the pod's volumes.
 */
export function chooseConfigFile(
  rabbitmq: JsonObject,
  volumes: JsonObject[],
  at: (string | number)[],
): ConfigFile {
  if (mountAt(rabbitmq, FOLDERS[0]) !== undefined) {
    throw new Refusal(
      [...at, 'volumeMounts'],
      `the whole folder ${FOLDERS[0]} is a volume, into which no file can be mounted: mount its files one by one (subPath)`,
    );
  }
  const hasAdvanced =
    mountAt(rabbitmq, ADVANCED.path) !== undefined ||
    environment(rabbitmq, 'RABBITMQ_ADVANCED_CONFIG_FILE') !== undefined;
  if (!hasAdvanced) return ADVANCED;

  const folder = mountAt(rabbitmq, FOLDERS[1]);
  const volume = folder && volumes.find((each) => each['name'] === folder['name']);
  if (folder !== undefined && volume?.['emptyDir'] === undefined) {
    throw new Refusal(
      [...at, 'volumeMounts'],
      `it mounts an ${ADVANCED.name} of its own and the whole folder ${FOLDERS[1]}, so that there is no place for the ` +
        "proxy's listeners: mount the files of the folder one by one (subPath)",
    );
  }
  if (!CONF_FILES.includes(environment(rabbitmq, 'RABBITMQ_CONFIG_FILES'))) {
    throw new Refusal(
      [...at, 'env'],
      `it has an ${ADVANCED.name} of its own and reads no ${FOLDERS[1]} (RABBITMQ_CONFIG_FILES): set it to ${FOLDERS[1]}`,
    );
  }
  return CONF;
}

/** True for the file that only adds to rabbitmq.conf. */
export function isConf(file: ConfigFile): boolean {
  return file === CONF;
}

/** The file's text. */
export function configText(file: ConfigFile, injection: Injection): string {
  if (!isConf(file)) return wholeAdvancedConfig(injection);
  // An IPv6 address stands without brackets here: RabbitMQ takes the last colon for the port's.
  const address = `${injection.host}:${PORT.backend}`;
  // `listeners.tcp = none` in another file beats every other listeners.tcp key, so the TLS variant does not fight it.
  const listeners = injection.backendTls
    ? `listeners.ssl.default = ${address}\n`
    : `listeners.tcp.default = ${address}\nlisteners.ssl = none\n`;
  return `${listeners}proxy_protocol = ${injection.proxyProtocol}\n`;
}

function environment(container: JsonObject, name: string): string | undefined {
  const entry = objectsAt(container, 'env').find((each) => each['name'] === name);
  return entry && (textAt(entry, 'value') ?? 'set from elsewhere');
}

function trimmed(path: string | undefined): string | undefined {
  return path !== undefined && path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;
}

/** The mount of `path` in a container, with or without a slash at its end. */
export function mountAt(container: JsonObject, path: string): JsonObject | undefined {
  return objectsAt(container, 'volumeMounts').find((mount) => trimmed(textAt(mount, 'mountPath')) === path);
}
