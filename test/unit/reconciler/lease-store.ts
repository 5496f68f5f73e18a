// An API server that keeps Leases alone, as far as electors use it: get, create, replace by resourceVersion.
import { setTimeout as delay } from 'node:timers/promises';
import { type Api, ApiFailure } from '../../../common/kube/api.ts';
import { textAt } from '../../../common/kube/json.ts';
import type { KubeObject } from '../../../common/kube/types.ts';

/** What becomes of requests: answered, refused, hanging until their signal ends, or carried out without an answer. */
export type Mood = 'well' | 'refusing' | 'hanging' | 'mute';

export class LeaseStore {
  lease: KubeObject | undefined;
  /** Of single replicas, by the name in their Api. */
  readonly moods = new Map<string, Mood>();
  readonly writes: { by: string; holder: string; at: number }[] = [];
  #version = 0;

  /** The Api of one replica. */
  api(replica: string): Api {
    const api: Pick<Api, 'get' | 'create' | 'replace'> = {
      get: (_resource, _namespace, _name, signal) => this.#answer(replica, signal, () => this.lease),
      create: (_resource, object, signal) =>
        this.#answer(replica, signal, () => {
          if (this.lease !== undefined) return 'exists';
          this.#write(replica, object);
          return 'created';
        }),
      replace: (_resource, object, signal) =>
        this.#answer(replica, signal, () => {
          if (this.lease === undefined) throw new ApiFailure('not found', 404);
          const isSame =
            textAt(object, 'metadata', 'resourceVersion') ===
            textAt(this.lease, 'metadata', 'resourceVersion');
          if (!isSame) throw new ApiFailure('somebody was faster', 409, 'Conflict');
          return this.#write(replica, object);
        }),
    };
    return api as Api;
  }

  get holder(): string {
    return textAt(this.lease, 'spec', 'holderIdentity') ?? '';
  }

  #write(by: string, object: KubeObject): KubeObject {
    const metadata = { ...object.metadata, resourceVersion: `${++this.#version}` };
    this.lease = structuredClone({ ...object, metadata });
    this.writes.push({ by, holder: this.holder, at: performance.now() });
    return structuredClone(this.lease);
  }

  async #answer<T>(replica: string, signal: AbortSignal, work: () => T): Promise<T> {
    const mood = this.moods.get(replica) ?? 'well';
    // As a network: nothing is answered in the same turn.
    await delay(1, undefined, { signal });
    if (mood === 'refusing') throw new ApiFailure('connect ECONNREFUSED');
    if (mood === 'hanging') return await delay(2 ** 30, undefined as never, { signal });
    const result = work();
    if (mood === 'mute') return await delay(2 ** 30, undefined as never, { signal });
    return structuredClone(result);
  }
}
