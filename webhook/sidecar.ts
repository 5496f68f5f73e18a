import {
  PORT,
  PROXY_CONTAINER,
  RULES_FILE,
  RULES_FOLDER,
  TLS_CA_FOLDER,
  TLS_FOLDER,
} from '../common/contract.ts';
import { formatHostPort } from '../common/options.ts';
import type { BackendHost, Form } from './form.ts';
import { canonical, fingerprint, isObject } from '../common/kube/json.ts';
import { quantity } from '../common/kube/quantity.ts';
import { rulesMount } from './rules.ts';
import { flagOf } from './tuning.ts';
import type { Json, JsonObject } from '../common/kube/types.ts';

/** TLS for clients, where RabbitMQ itself offered it. */
export interface SidecarTls {
  /** The pod's volume that holds tls.crt and tls.key, and the path in it when it is mounted with one. */
  volume: VolumeSource;
  /** No plain listener: RabbitMQ had none either. */
  only: boolean;
  /** The CA that clients' certificates are verified against; undefined when the broker would not have looked at them. */
  client: { ca: 'same-volume' | VolumeSource; auth: 'request' | 'require' } | undefined;
}

/** A volume of the pod and, where the other container mounts but a part of it, that part. */
export interface VolumeSource {
  name: string;
  subPath?: string;
}

/** All that the container depends on. */
export interface Sidecar {
  form: Form;
  image: string;
  /** Where RabbitMQ listens; ::1 means that the pod has IPv6, and the proxy listens at both families' addresses. */
  host: BackendHost;
  tls: SidecarTls | undefined;
  /** TLS on 5672 too, where the plain listener would be. */
  tlsOnAmqpPort: boolean;
  /** RabbitMQ itself speaks TLS at the backend port: certificates are checked for this name. */
  backendTls: { serverName: string; ca: string | undefined } | undefined;
  proxyProtocol: boolean;
  resources: JsonObject;
  /** Value of --log-level. */
  logLevel: string;
  /** Values of --mode and --preset; undefined leaves them to the proxy. */
  mode: string | undefined;
  preset: string | undefined;
  /** The pod has the volume with rules. */
  rules: boolean;
  extraArgs: string[];
}

/** The proxy's resources where nothing else is asked for. */
export const DEFAULT_RESOURCES = {
  requests: { cpu: '100m', memory: '128Mi' },
  limits: { cpu: '500m', memory: '256Mi' },
};

/** The same limits as requests, so that a pod of class Guaranteed stays one. */
export const GUARANTEED_RESOURCES = {
  requests: { cpu: '500m', memory: '256Mi' },
  limits: { cpu: '500m', memory: '256Mi' },
};

/**
 * The container, the same value for the same input. What the API server would add by default is written out, so that
 * the stored object equals what the next admission computes. It sets no user: it inherits the pod's.
 */
export function renderSidecar(sidecar: Sidecar): JsonObject {
  const mounts = [...volumeMounts(sidecar.tls), ...(sidecar.rules ? [rulesMount()] : [])];
  return {
    name: PROXY_CONTAINER,
    image: sidecar.image,
    ...(sidecar.form === 'native' ? { restartPolicy: 'Always' } : {}),
    imagePullPolicy: 'IfNotPresent',
    args: args(sidecar),
    ports: ports(sidecar),
    startupProbe: probe('/livez', { periodSeconds: 1, failureThreshold: 60 }),
    readinessProbe: probe('/readyz', { periodSeconds: 5, failureThreshold: 3 }),
    livenessProbe: probe('/livez', { periodSeconds: 10, failureThreshold: 3 }),
    resources: sidecar.resources,
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
    ...(mounts.length === 0 ? {} : { volumeMounts: mounts }),
  };
}

/** The argument that says where RabbitMQ listens. */
export function backendArg(host: BackendHost): string {
  return `--backend=${formatHostPort({ host, port: PORT.backend })}`;
}

function args(sidecar: Sidecar): string[] {
  const { tls, backendTls } = sidecar;
  const any = sidecar.host === '::1' ? '[::]' : '0.0.0.0';
  const own = [backendArg(sidecar.host), `--backend-proxy-protocol=${sidecar.proxyProtocol ? 'v2' : 'off'}`];
  if (backendTls !== undefined) {
    own.push('--backend-tls', `--backend-tls-server-name=${backendTls.serverName}`);
    if (backendTls.ca !== undefined) own.push(`--backend-tls-ca=${backendTls.ca}`);
  }
  if (sidecar.tlsOnAmqpPort) own.push(`--listen=amqps://${any}:${PORT.amqp}`);
  else if (!tls?.only) own.push(`--listen=amqp://${any}:${PORT.amqp}`);
  if (tls !== undefined) {
    own.push(
      `--listen=amqps://${any}:${PORT.amqps}`,
      `--tls-cert=${TLS_FOLDER}/tls.crt`,
      `--tls-key=${TLS_FOLDER}/tls.key`,
    );
    if (tls.client !== undefined) {
      const folder = tls.client.ca === 'same-volume' ? TLS_FOLDER : TLS_CA_FOLDER;
      own.push(`--tls-ca=${folder}/ca.crt`, `--tls-client-auth=${tls.client.auth}`);
    }
  }
  own.push(`--admin-listen=${any}:${PORT.admin}`, '--stats-interval=300', `--log-level=${sidecar.logLevel}`);
  if (sidecar.mode !== undefined) own.push(`--mode=${sidecar.mode}`);
  if (sidecar.preset !== undefined) own.push(`--preset=${sidecar.preset}`);
  if (sidecar.rules) own.push(`--rules=${RULES_FOLDER}/${RULES_FILE}`);
  const replaced = new Set(sidecar.extraArgs.map(flagOf));
  return [...own.filter((arg) => !replaced.has(flagOf(arg))), ...sidecar.extraArgs];
}

function ports({ tls, tlsOnAmqpPort }: Sidecar): JsonObject[] {
  const clients =
    tls === undefined
      ? [[PROXY_CONTAINER, PORT.amqp] as const]
      : tls.only && !tlsOnAmqpPort
        ? [[PROXY_CONTAINER, PORT.amqps] as const]
        : [[PROXY_CONTAINER, PORT.amqp] as const, [`${PROXY_CONTAINER}-tls`, PORT.amqps] as const];
  return [...clients, ['proxy-admin', PORT.admin] as const].map(([name, containerPort]) => ({
    name,
    containerPort,
    protocol: 'TCP',
  }));
}

/**
 * Startup and liveness look at the proxy alone; readiness also asks RabbitMQ behind it. RabbitMQ is not even started
 * before the startup probe of a native sidecar succeeds.
 */
function probe(path: string, timing: { periodSeconds: number; failureThreshold: number }): JsonObject {
  return {
    httpGet: { path, port: PORT.admin, scheme: 'HTTP' },
    timeoutSeconds: 5,
    successThreshold: 1,
    ...timing,
  };
}

function volumeMounts(tls: SidecarTls | undefined): JsonObject[] {
  if (tls === undefined) return [];
  const mounts: JsonObject[] = [{ ...tls.volume, mountPath: TLS_FOLDER, readOnly: true }];
  const ca = tls.client?.ca;
  if (ca !== undefined && ca !== 'same-volume')
    mounts.push({ ...ca, mountPath: TLS_CA_FOLDER, readOnly: true });
  return mounts;
}

/** Equal for containers that are the same to Kubernetes: the order of keys and the spelling of quantities don't matter. */
export function sidecarFingerprint(container: JsonObject): string {
  return fingerprint(canonical({ ...container, resources: amounts(container['resources']) }));
}

function amounts(resources: Json | undefined): Json {
  if (!isObject(resources)) return resources ?? null;
  return Object.fromEntries(
    Object.entries(resources).map(([field, each]) => [
      field,
      isObject(each)
        ? Object.fromEntries(
            Object.entries(each).map(([name, amount]) => [name, quantity(amount) ?? amount ?? null]),
          )
        : (each ?? null),
    ]),
  );
}
