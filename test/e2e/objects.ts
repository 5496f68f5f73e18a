// Small pure helpers of the scenario.
import type { Cluster } from './admission.ts';

const STATUS = 'quorumbridge.io/status';

/** The object with one more annotation. */
export function withAnnotation(object: Cluster, key: string, value: string): Cluster {
  const annotations = { ...object.metadata.annotations, [key]: value };
  return { ...object, metadata: { ...object.metadata, annotations } };
}

/** The object without the status annotation on the pod template, and without the parents that carry nothing else. */
export function withoutTombstone(object: Cluster): Cluster {
  const copy = structuredClone(object) as unknown as Record<string, unknown>;
  const path = ['spec', 'override', 'statefulSet', 'spec', 'template', 'metadata', 'annotations', STATUS];
  const parents: Record<string, unknown>[] = [copy];
  for (const key of path.slice(0, -1)) {
    const next = parents.at(-1)![key];
    if (typeof next !== 'object' || next === null) return object;
    parents.push(next as Record<string, unknown>);
  }
  for (let depth = path.length - 1; depth > 0; depth -= 1) {
    const parent = parents[depth]!;
    delete parent[path[depth]!];
    if (Object.keys(parent).length > 0) break;
  }
  return copy as unknown as Cluster;
}

/** An argument with every injected address and path replaced by the one of this machine. */
export function mapped(arg: string, places: [injected: string, here: string][]): string {
  return places.reduce((text, [injected, here]) => text.replace(injected, here), arg);
}

/** `--flag` of `--flag=value`. */
export function flagOf(arg: string): string {
  return arg.split('=')[0] ?? arg;
}

/** Names of one process end in 32 random hexadecimal digits. */
export function shorten(name: string): string {
  return name.replace(/[0-9a-f]{24}$/, '...');
}
