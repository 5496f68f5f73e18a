import type { Operation } from 'fast-json-patch';
import type { KubeObject } from '../common/kube/types.ts';
import type { Reason } from './reasons.ts';

/** A RabbitMq resource, rabbitmq.openstack.org/v1beta1. Its spec and status are read leniently. */
export type RabbitMq = KubeObject;

/** What is known of the RabbitMq that stands behind the object. */
export type OwnerFacts =
  | { state: 'found'; rabbitmq: RabbitMq }
  /** There is none, the CRD is not installed, or there is no cluster to ask: the object alone decides. */
  | { state: 'absent' }
  /** It could not be read (forbidden, timeout); `why` is one line for people. */
  | { state: 'unknown'; why: string };

/** Whether a native sidecar in an object of this kind would reach the kubelet as one. */
export type NativeFacts =
  | { state: 'supported' }
  /** `why` is the check that failed, one clause for people. */
  | { state: 'unsupported'; why: string }
  /** The cluster could not be asked (forbidden, timeout); `why` is one line for people. */
  | { state: 'unknown'; why: string };

/** The webhook's or the command's defaults for what annotations do not say. */
export interface InjectionSettings {
  /** Image of the amqp-proxy container; neither an annotation nor an earlier injection names another. */
  image: string;
}

export interface MutateInput {
  object: KubeObject;
  /** The stored object, on UPDATE. */
  oldObject?: KubeObject;
  owner: OwnerFacts;
  /** What the cluster can do; absent when there is none to ask, or the object does not want to know. */
  native?: NativeFacts;
  /** The object's namespace, where it is known: its labels may forbid injection. */
  namespace?: KubeObject;
  settings: InjectionSettings;
}

/** yes: it has to carry the proxy. no: it must not. keep: it stays as it is. */
export interface Decision {
  inject: 'yes' | 'no' | 'keep';
  reason: Reason;
  /** One sentence for people. */
  message: string;
}

export type MutateResult =
  | {
      allowed: true;
      decision: Decision;
      /** RFC 6902; empty when there is nothing to change. */
      patch: Operation[];
      /** The object with the patch applied. */
      object: KubeObject;
      warnings: string[];
    }
  | {
      allowed: false;
      decision: Decision;
      /** As an HTTP status: 409 foreign container, 422 what the object says can't be proxied, 503 ask again. */
      code: number;
      message: string;
      /** Where in the object the trouble is, as a list of keys and indexes; absent when it is nowhere in particular. */
      path?: (string | number)[];
      warnings: string[];
    };
