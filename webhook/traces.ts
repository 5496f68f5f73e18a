import { PROXY_CONTAINER } from '../common/contract.ts';
import { named, objectsAt, valueAt } from './json.ts';
import { readStatus } from './status.ts';
import type { Injected, Originals } from './status.ts';
import type { Target } from './target.ts';
import type { JsonObject, KubeObject } from './types.ts';

/** What an earlier injection left in the object. */
export interface Traces {
  /** The status of the object, or of the stored one where another's write took it away. */
  status: Injected | undefined;
  /** The status that the object itself carries. */
  ownStatus: Injected | undefined;
  /** A tombstone has to stay: the pods' template still has the status. */
  buried: boolean;
  container: JsonObject | undefined;
}

/** Of an object that can't carry the proxy. */
export const NO_TRACES: Traces = {
  status: undefined,
  ownStatus: undefined,
  buried: false,
  container: undefined,
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
  };
}

/** The object's container of the proxy's name, whoever put it there. */
export function proxyOf(target: Target, object: KubeObject | undefined): JsonObject | undefined {
  return named(objectsAt(object, ...target.template, 'spec', 'containers'), PROXY_CONTAINER);
}

/** What was there before counts only for an object that still shows the injection; another's write may have replaced it all. */
export function originalOf(traces: Traces): Originals | undefined {
  return traces.ownStatus !== undefined || traces.container !== undefined
    ? traces.status?.original
    : undefined;
}
