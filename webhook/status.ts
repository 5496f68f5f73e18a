import { ANNOTATION } from '../common/contract.ts';
import type { Form } from './form.ts';
import { canonical, isObject, textAt, valueAt } from '../common/kube/json.ts';
import type { CreatedParents } from './parents.ts';
import type { SavedProbes } from './probes.ts';
import type { Json, JsonObject } from '../common/kube/types.ts';

/** What the injection changed and removing it needs to know. It holds no text of RabbitMQ's configuration. */
export interface Originals {
  /** Places that the injection made. */
  parents: CreatedParents;
  probes: SavedProbes;
  /** RabbitmqCluster: whether the override's entry for RabbitMQ's container is ours, and where it stood if not. */
  stub?: boolean;
  index?: number;
  /** RabbitmqCluster: the override's entry for the operator's init container is ours. */
  setupStub?: boolean;
}

/** The value of the status annotation while the proxy is there. */
export interface Injected {
  /** The kind of resource that was patched. */
  by: string;
  image: string;
  /** Only where the proxy is a native sidecar. */
  form?: 'native';
  /** Fingerprints of the container and of RabbitMQ's configuration as they were written. */
  sidecar: string;
  config: string;
  /** Fingerprint of the volume with the proxy's rules; absent where there is none. */
  rules?: string;
  original: Originals;
}

/** The form that was injected. */
export function formOf(injected: Injected): Form {
  return injected.form ?? 'plain';
}

/** 'removed' is the tombstone: the cluster operator never removes an annotation from its StatefulSet's template. */
export type Status = { state: 'injected'; injected: Injected } | { state: 'removed' };

/** Format of the annotation's value; another number is not understood and treated as no status. */
const VERSION = 1;

/** Reads the status from a pod template. A value that is not ours reads as none. */
export function readStatus(template: Json | undefined): Status | undefined {
  const text = textAt(template, 'metadata', 'annotations', ANNOTATION.status);
  if (text === undefined) return undefined;
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
  if (!isObject(value) || value['version'] !== VERSION) return undefined;
  if (value['state'] === 'removed') return { state: 'removed' };
  const injected = injectedOf(value);
  return injected && { state: 'injected', injected };
}

function injectedOf(value: JsonObject): Injected | undefined {
  const [by, image, sidecar, config] = ['by', 'image', 'sidecar', 'config'].map((key) => textAt(value, key));
  if (value['state'] !== 'injected' || by === undefined || image === undefined) return undefined;
  const rules = textAt(value, 'rules');
  const stub = valueAt(value, 'original', 'stub');
  const index = valueAt(value, 'original', 'index');
  const isNative = value['form'] === 'native';
  return {
    by,
    image,
    ...(isNative ? { form: 'native' } : {}),
    sidecar: sidecar ?? '',
    config: config ?? '',
    ...(rules === undefined ? {} : { rules }),
    original: {
      parents: parentsOf(valueAt(value, 'original', 'parents')),
      probes: probesOf(valueAt(value, 'original', 'probes')),
      ...(typeof stub === 'boolean' ? { stub } : {}),
      ...(typeof index === 'number' ? { index } : {}),
      ...(valueAt(value, 'original', 'setupStub') === true ? { setupStub: true } : {}),
    },
  };
}

function parentsOf(value: Json | undefined): CreatedParents {
  const entries = Object.entries(isObject(value) ? value : {});
  return Object.fromEntries(
    entries.filter(
      (entry): entry is [string, 'absent' | 'null'] => entry[1] === 'absent' || entry[1] === 'null',
    ),
  );
}

function probesOf(value: Json | undefined): SavedProbes {
  const entries = Object.entries(isObject(value) ? value : {});
  return Object.fromEntries(
    entries.filter((entry): entry is [string, JsonObject | null] => entry[1] === null || isObject(entry[1])),
  );
}

/** The annotation's text, the same for the same status. */
export function statusText(injected: Injected): string {
  return canonical({ version: VERSION, state: 'injected', ...injected, original: { ...injected.original } });
}

/** The annotation's text after a removal. */
export const TOMBSTONE = canonical({ version: VERSION, state: 'removed' });
