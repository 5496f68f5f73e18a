import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KubeObject } from '../../support/kube-api.ts';
import { MANIFESTS, objectsOf } from '../../support/manifests.ts';

/** The objects of files below manifests/. */
export function objectsIn(...files: string[]): KubeObject[] {
  return files.flatMap((file) => objectsOf(readFileSync(join(MANIFESTS, file), 'utf8')));
}

/** One webhook of a registration. */
export interface Webhook {
  name: string;
  clientConfig: {
    service?: { name: string; namespace: string; path: string; port: number };
    caBundle?: string;
  };
  rules: {
    apiGroups: string[];
    apiVersions: string[];
    operations: string[];
    resources: string[];
    scope: string;
  }[];
  matchConditions: { name: string; expression: string }[];
  objectSelector: { matchLabels?: Record<string, string> };
  namespaceSelector: { matchExpressions: { key: string; operator: string; values: string[] }[] };
  failurePolicy: string;
  sideEffects: string;
  timeoutSeconds: number;
  matchPolicy: string;
  reinvocationPolicy?: string;
  admissionReviewVersions: string[];
}

export interface Configuration extends KubeObject {
  webhooks: Webhook[];
}

export interface Rule {
  apiGroups: string[];
  resources: string[];
  resourceNames?: string[];
  verbs: string[];
}

export interface Role extends KubeObject {
  rules: Rule[];
}

export interface Container {
  name: string;
  image: string;
  args: string[];
  env: { name: string; value?: string }[];
  ports: { name: string; containerPort: number }[];
  [key: string]: unknown;
}

export interface Deployment extends KubeObject {
  spec: {
    replicas: number;
    selector: { matchLabels: Record<string, string> };
    template: {
      metadata: { labels: Record<string, string> };
      spec: { containers: [Container]; [key: string]: unknown };
    };
    [key: string]: unknown;
  };
}
