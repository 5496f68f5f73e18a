/** A value as JSON carries it. */
export type Json = null | boolean | number | string | Json[] | JsonObject;

/** A JSON object. A missing key reads as undefined. */
export interface JsonObject {
  [key: string]: Json | undefined;
}

/**
 * A Kubernetes object as the API server sends it. Everything below these three keys is read with care, for whoever
 * admits objects sees them before their schema is validated.
 */
export interface KubeObject extends JsonObject {
  apiVersion: string;
  kind: string;
  metadata: JsonObject;
}
