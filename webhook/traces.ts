import { PROXY_CONTAINER } from '../common/contract.ts';
import { LIST_OF } from './form.ts';
import type { Form } from './form.ts';
import { named, objectsAt, valueAt } from '../common/kube/json.ts';
import { isRulesVolume, rulesVolumeIn } from './rules.ts';
import { readStatus } from './status.ts';
import type { Injected, Originals } from './status.ts';
import type { Owned, Target } from './target.ts';
import type { Json, JsonObject, KubeObject } from '../common/kube/types.ts';

/** What an earlier injection left in the object. */
export interface Traces {
  /** The status of the object, or of the stored one where another's write took it away. */
  status: Injected | undefined;
  /** The status that the object itself carries. */
  ownStatus: Injected | undefined;
  /** A tombstone has to stay: the pods' template still has the status. */
  buried: boolean;
  container: JsonObject | undefined;
  /** The form that the container is found in; the status's where it is in both lists. */
  form: Form | undefined;
  /** There is one among the init containers. */
  native: boolean;
  /** The volume of the name that the one with rules has, whoever put it there. */
  rules: JsonObject | undefined;
}

/** Of an object that can't carry the proxy. */
export const NO_TRACES: Traces = {
  status: undefined,
  ownStatus: undefined,
  buried: false,
  container: undefined,
  form: undefined,
  native: false,
  rules: undefined,
};

/** Looks for an earlier injection in the object and in the stored one. */
export function tracesOf(target: Target, object: KubeObject, oldObject: KubeObject | undefined): Traces {
  const own = readStatus(valueAt(object, ...target.template));
  const old = readStatus(valueAt(oldObject, ...target.template));
  const ownStatus = own?.state === 'injected' ? own.injected : undefined;
  const oldStatus = old?.state === 'injected' ? old.injected : undefined;
  const status = ownStatus ?? oldStatus;
  const found = proxyOf(target, object, status);
  return {
    status,
    ownStatus,
    buried: ownStatus !== undefined || oldStatus !== undefined || own?.state === 'removed',
    container: found?.container,
    form: found?.form,
    native: inList(target, object, 'native') !== undefined,
    rules: rulesVolumeIn(podSpecOf(target, object)),
  };
}

function podSpecOf(target: Target, object: KubeObject | undefined): Json | undefined {
  return valueAt(object, ...target.template, 'spec');
}

function inList(target: Target, object: KubeObject | undefined, form: Form): JsonObject | undefined {
  return named(objectsAt(podSpecOf(target, object), LIST_OF[form]), PROXY_CONTAINER);
}

/** The container, and the form that it has by the list it is in. */
function proxyOf(
  target: Target,
  object: KubeObject | undefined,
  status: Injected | undefined,
): { container: JsonObject; form: Form } | undefined {
  const forms: Form[] = status?.form === 'native' ? ['native', 'plain'] : ['plain', 'native'];
  for (const form of forms) {
    const container = inList(target, object, form);
    if (container !== undefined) return { container, form };
  }
  return undefined;
}

/** What of the injection's names is the injection's. */
export function ownedOf({ status, native, rules }: Traces): Owned {
  const isOurs = status?.rules !== undefined || (rules !== undefined && isRulesVolume(rules));
  return {
    container: status !== undefined,
    native: status !== undefined && (status.form === 'native' || native),
    rules: status !== undefined && isOurs,
  };
}

/** The container and its volume as an object carries them, to be kept as they are. */
export interface Kept {
  container: JsonObject;
  form: Form;
  rules: JsonObject | undefined;
}

/** What the object carries or, where another's write took it away, the stored one; undefined when neither does. */
export function keptOf(
  target: Target,
  traces: Traces,
  object: KubeObject,
  oldObject: KubeObject | undefined,
): Kept | undefined {
  const carriers = traces.ownStatus === undefined ? [oldObject] : [object, oldObject];
  const found = carriers
    .map((each) => proxyOf(target, each, traces.status))
    .find((each) => each !== undefined);
  const rules = carriers
    .map((each) => rulesVolumeIn(podSpecOf(target, each)))
    .find((each) => each !== undefined);
  return found && { ...found, rules: traces.status?.rules === undefined ? undefined : rules };
}

/** What was there before counts only for an object that still shows the injection; another's write may have replaced it all. */
export function originalOf(traces: Traces): Originals | undefined {
  return traces.ownStatus !== undefined || traces.container !== undefined
    ? traces.status?.original
    : undefined;
}
