// Pods as the API server has them, as far as the test kubelet runs them.
import type { KubeMetadata, KubeObject } from '../kube-api.ts';

export interface PodObject extends KubeObject {
  metadata: KubeMetadata & {
    name: string;
    namespace: string;
    uid: string;
    deletionGracePeriodSeconds?: number;
  };
  spec: PodSpec;
  status?: { phase?: string; podIP?: string; conditions?: Condition[] };
}

export interface PodSpec {
  nodeName?: string;
  hostname?: string;
  subdomain?: string;
  serviceAccountName?: string;
  enableServiceLinks?: boolean;
  restartPolicy?: string;
  securityContext?: SecurityContext & { fsGroup?: number; supplementalGroups?: number[] };
  volumes?: Volume[];
  initContainers?: ContainerSpec[];
  containers: ContainerSpec[];
}

export interface SecurityContext {
  runAsUser?: number;
  runAsGroup?: number;
  readOnlyRootFilesystem?: boolean;
}

export interface ContainerSpec {
  name: string;
  image: string;
  command?: string[];
  args?: string[];
  workingDir?: string;
  env?: EnvVar[];
  envFrom?: EnvSource[];
  ports?: { name?: string; containerPort: number }[];
  volumeMounts?: VolumeMount[];
  readinessProbe?: Probe;
  livenessProbe?: Probe;
  startupProbe?: Probe;
  lifecycle?: { postStart?: Handler; preStop?: Handler };
  restartPolicy?: string;
  securityContext?: SecurityContext;
}

export interface EnvVar {
  name: string;
  value?: string;
  valueFrom?: {
    fieldRef?: { fieldPath: string };
    secretKeyRef?: KeyRef;
    configMapKeyRef?: KeyRef;
    resourceFieldRef?: { resource: string };
  };
}

export interface KeyRef {
  name: string;
  key: string;
  optional?: boolean;
}

export interface EnvSource {
  prefix?: string;
  secretRef?: { name: string; optional?: boolean };
  configMapRef?: { name: string; optional?: boolean };
}

export interface VolumeMount {
  name: string;
  mountPath: string;
  subPath?: string;
  readOnly?: boolean;
}

export interface FileItem {
  key: string;
  path: string;
  mode?: number;
}

export interface FieldItem {
  path: string;
  mode?: number;
  fieldRef?: { fieldPath: string };
}

/** One source of a projected volume; the volumes of the same names are sources too. */
export interface FileSource {
  configMap?: { name: string; items?: FileItem[]; optional?: boolean };
  secret?: { name?: string; secretName?: string; items?: FileItem[]; optional?: boolean };
  downwardAPI?: { items?: FieldItem[] };
  serviceAccountToken?: { path: string; audience?: string; expirationSeconds?: number };
}

export interface Volume extends FileSource {
  name: string;
  emptyDir?: object;
  persistentVolumeClaim?: { claimName: string; readOnly?: boolean };
  projected?: { sources?: FileSource[]; defaultMode?: number };
  configMap?: FileSource['configMap'] & { defaultMode?: number };
  secret?: FileSource['secret'] & { defaultMode?: number };
  downwardAPI?: FileSource['downwardAPI'] & { defaultMode?: number };
}

export interface Handler {
  exec?: { command: string[] };
  httpGet?: {
    path?: string;
    port: number | string;
    host?: string;
    scheme?: string;
    httpHeaders?: { name: string; value: string }[];
  };
  tcpSocket?: { port: number | string; host?: string };
  sleep?: { seconds: number };
}

export interface Probe extends Handler {
  initialDelaySeconds?: number;
  periodSeconds?: number;
  timeoutSeconds?: number;
  successThreshold?: number;
  failureThreshold?: number;
}

export interface Condition {
  type: string;
  status: 'True' | 'False';
  lastTransitionTime: string;
}

export interface Terminated {
  exitCode: number;
  signal?: number;
  reason: string;
  message?: string;
  startedAt: string;
  finishedAt: string;
}

export interface ContainerState {
  waiting?: { reason: string; message?: string };
  running?: { startedAt: string };
  terminated?: Terminated;
}

/** Kubernetes wants seconds without a fraction. */
export function timestamp(at = new Date()): string {
  return at.toISOString().replace(/\.\d+Z$/, 'Z');
}

/** The value of a field of a pod, by the paths that the downward API knows. */
export function fieldOf(pod: PodObject, path: string, podIP: string): string {
  const entry = /^metadata\.(labels|annotations)\['(.*)'\]$/.exec(path);
  if (entry !== null) return pod.metadata[entry[1] as 'labels' | 'annotations']?.[entry[2]!] ?? '';
  switch (path) {
    case 'metadata.name':
    case 'metadata.namespace':
    case 'metadata.uid':
      return pod.metadata[path.slice(9) as 'name'];
    case 'metadata.labels':
    case 'metadata.annotations':
      return Object.entries(pod.metadata[path.slice(9) as 'labels'] ?? {})
        .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
        .join('\n');
    case 'spec.nodeName':
      return pod.spec.nodeName ?? '';
    case 'spec.serviceAccountName':
      return pod.spec.serviceAccountName ?? '';
    case 'status.podIP':
    case 'status.podIPs':
      return podIP;
    case 'status.hostIP':
      return NODE_ADDRESS;
    default:
      throw new Error(`fieldRef "${path}" is none that test pods know`);
  }
}

export const NODE = 'node-1';
/** The bridge's, see enter.sh. */
export const NODE_ADDRESS = '10.244.0.1';
