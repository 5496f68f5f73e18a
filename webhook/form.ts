import { ANNOTATION } from '../common/contract.ts';
import type { BACKEND_HOSTS, SIDECAR_MODES } from '../common/contract.ts';
import { annotationOf } from '../common/kube/facts.ts';
import { Refusal } from './refusal.ts';
import type { KubeObject } from '../common/kube/types.ts';
import type { NativeFacts } from './types.ts';

/**
 * plain: a container among the others. native: an init container that goes on running (restartPolicy Always), which
 * is started before RabbitMQ and stopped after it.
 */
export type Form = 'plain' | 'native';

export type SidecarMode = (typeof SIDECAR_MODES)[number];
export type BackendHost = (typeof BACKEND_HOSTS)[number];

/** The list of a pod's spec that the container of each form is in. */
export const LIST_OF = { plain: 'containers', native: 'initContainers' } as const satisfies Record<
  Form,
  string
>;

/** Whether what is injected depends on what the cluster can do: it has to be asked only then. */
export function needsNativeFacts(object: KubeObject): boolean {
  const mode = annotationOf(object, ANNOTATION.sidecarMode);
  return mode === 'native' || mode === 'auto';
}

/**
 * The form to inject. `before` is the form that the object has, which stays while nobody knows more.
 * Throws Refusal when native is asked for and the cluster can't have it, for its pods would never start: an API server
 * that drops restartPolicy leaves an init container that RabbitMQ waits for and that never ends.
 */
export function chooseForm(
  mode: SidecarMode,
  facts: NativeFacts | undefined,
  before: Form | undefined,
): { form: Form; warnings: string[] } {
  if (mode === 'plain' || facts?.state === 'supported') {
    return { form: mode === 'plain' ? 'plain' : 'native', warnings: [] };
  }
  const why = facts?.why ?? 'there is no cluster to ask';
  const kept = facts?.state === 'unknown' && before === 'native';
  const warn = (text: string): string[] => [
    `annotation ${ANNOTATION.sidecarMode}: "${mode}" ${text} (${why})`,
  ];
  if (mode === 'auto') {
    const text = kept ? 'keeps the native sidecar' : 'means a plain container here';
    return { form: kept ? 'native' : 'plain', warnings: warn(text) };
  }
  if (facts === undefined || kept) return { form: 'native', warnings: warn('is taken at its word') };
  const path = ['metadata', 'annotations', ANNOTATION.sidecarMode];
  if (facts.state === 'unsupported')
    throw new Refusal(path, `"native" is not possible here, for ${why}: use "plain" or "auto"`);
  throw new Refusal(
    path,
    `whether "native" is possible here is not known (${why}): try again, or use "plain"`,
    503,
  );
}
