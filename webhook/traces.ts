import { PROXY_CONTAINER } from '../common/contract.ts';
import { named, objectsAt, valueAt } from './json.ts';
import { isRulesVolume, rulesVolumeIn } from './rules.ts';
import { readStatus } from './status.ts';
import type { Injected, Originals } from './status.ts';
import type { Owned, Target } from './target.ts';
import type { Json, JsonObject, KubeObject } from './types.ts';

/** What an earlier injection left in the object. */
export interface Traces {
  /** The status of the object, or of the stored one where another's write took it away. */
  status: Injected | undefined;
  /** The status that the object itself carries. */
  ownStatus: Injected | undefined;
  /** A tombstone has to stay: the pods' template still has the status. */
  buried: boolean;
  container: JsonObject | undefined;
  /** The volume of the name that the one with rules has, whoever put it there. */
  rules: JsonObject | undefined;
}

/** Of an object that can't carry the proxy. */
export const NO_TRACES: Traces = {
  status: undefined,
  ownStatus: undefined,
  buried: false,
  container: undefined,
  rules: undefined,
};

/** Looks for an earlier injection in the object and in the stored one. */
export function tracesOf(target: Target, object: KubeObject, oldObject: KubeObject | undefined): Traces {
  const own = readStatus(valueAt(object, ...target.template));
  const old = readStatus(valueAt(oldObject, ...target.template));
  const ownStatus = own?.state === 'injected' ? own.injected : undefined;
  const oldStatus = old?.state === 'injected' ? old.injected : undefined;
  return {
    status: ownStatus ?? oldStatus,
    ownStatus,
    buried: ownStatus !== undefined || oldStatus !== undefined || own?.state === 'removed',
    container: proxyOf(target, object),
    rules: rulesVolumeIn(podSpecOf(target, object)),
  };
}

function podSpecOf(target: Target, object: KubeObject | undefined): Json | undefined {
  return valueAt(object, ...target.template, 'spec');
}

function proxyOf(target: Target, object: KubeObject | undefined): JsonObject | undefined {
  return named(objectsAt(podSpecOf(target, object), 'containers'), PROXY_CONTAINER);
}

/** What of the injection's names is the injection's. */
export function ownedOf({ status, rules }: Traces): Owned {
  const isOurs = status?.rules !== undefined || (rules !== undefined && isRulesVolume(rules));
  return { container: status !== undefined, rules: status !== undefined && isOurs };
}

/** The container and its volume as an object carries them, to be kept as they are. */
export interface Kept {
  container: JsonObject;
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
  const container = carriers.map((each) => proxyOf(target, each)).find((each) => each !== undefined);
  const rules = carriers
    .map((each) => rulesVolumeIn(podSpecOf(target, each)))
    .find((each) => each !== undefined);
  return container && { container, rules: traces.status?.rules === undefined ? undefined : rules };
}

/** What was there before counts only for an object that still shows the injection; another's write may have replaced it all. */
export function originalOf(traces: Traces): Originals | undefined {
  return traces.ownStatus !== undefined || traces.container !== undefined
    ? traces.status?.original
    : undefined;
}
