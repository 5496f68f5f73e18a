import type { Form } from './form.ts';
import type { Listening } from './overlay.ts';
import type { SidecarTls } from './sidecar.ts';
import type { Originals } from './status.ts';
import type { JsonObject, KubeObject } from '../common/kube/types.ts';

/** What an object says about the broker behind the proxy. */
export interface Broker {
  tls: SidecarTls | undefined;
  backendTls: { serverName: string; ca: string | undefined } | undefined;
  /** Whether the other containers of the pod make it one of QoS class Guaranteed. */
  guaranteed: boolean;
  warnings: string[];
}

/** What is put into an object. */
export interface Injection extends Listening {
  container: JsonObject;
  form: Form;
  /** The pod's volume with the proxy's rules. */
  rules: JsonObject | undefined;
  backendTls: boolean;
}

/** What an object carries under the injection's names and the injection put there. */
export interface Owned {
  container: boolean;
  /** It is, or was, among the init containers. */
  native: boolean;
  /** The volume with the proxy's rules. */
  rules: boolean;
}

/**
 * One kind of object that can carry the proxy. `strip` and `add` change the object that they are given, which is the
 * caller's own copy; add(strip(x)) is x for an x that carries the same injection.
 */
export interface Target {
  /** The kind, as the status names it. */
  readonly kind: string;
  /** Whether a removal leaves a tombstone. */
  readonly tombstone: boolean;
  /** Where the pod template stands in the object. */
  readonly template: readonly string[];
  /** The text of the injected configuration, where there is some; undefined when there is none. */
  configOf(object: KubeObject): string | undefined;
  /** Takes out all that is ours. Throws Refusal when that can't be told. */
  strip(object: KubeObject, original: Originals | undefined, owned: Owned): void;
  /** Reads an object without injection. Throws Refusal when it can't be proxied. */
  inspect(object: KubeObject, rabbitmq: KubeObject | undefined): Broker;
  /**
   * Puts the injection in and says what was there. Throws Refusal when there is no place for it.
   * @param before the object and the stored one as they came, injected or not.
   */
  add(
    object: KubeObject,
    injection: Injection,
    before: readonly (KubeObject | undefined)[],
  ): { original: Originals; config: string };
}
