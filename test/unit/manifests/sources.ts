import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Alert } from '../../support/docs/alerts.ts';
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

export interface PrometheusRule extends KubeObject {
  spec: { groups: { name: string; rules: Alert[] }[] };
}

/** What the roles among these objects allow: verb, resource and the names it is bound to, one of each a line. */
export function rulesOf(objects: KubeObject[]): string[] {
  const roles = objects.filter(({ kind }) => kind === 'Role' || kind === 'ClusterRole') as Role[];
  return roles.flatMap(({ rules }) =>
    rules.flatMap(({ apiGroups, resources, verbs, resourceNames = [] }) =>
      resources.flatMap((resource) =>
        verbs.map((verb) => {
          const group = apiGroups[0] === '' ? '' : `.${apiGroups[0]}`;
          return [verb, `${resource}${group}`, ...resourceNames].join(' ');
        }),
      ),
    ),
  );
}

/** Lines of a file below manifests/ with a verb that has no comment: beside it, or above a rule with that verb alone. */
export function verbsWithoutReason(file: string): string[] {
  const lines = readFileSync(join(MANIFESTS, file), 'utf8').split('\n');
  const bare: string[] = [];
  for (const [index, line] of lines.entries()) {
    if (!/^ {6}- (?:get|list|watch|create|update|patch|delete)\b/.test(line) || line.includes('#')) continue;
    const start = lines.slice(0, index).findLastIndex((one) => one.startsWith('  - apiGroups:'));
    const only = lines[index - 1] === '    verbs:' && !/^ {6}- /.test(lines[index + 1] ?? '');
    if (!only || !lines[start - 1]!.startsWith('  #')) bare.push(`${file}:${index + 1}`);
  }
  return bare;
}
