import {
  ANNOTATION,
  BACKEND_HOSTS,
  LOG_LEVELS,
  MODES,
  PREFIX,
  PRESETS,
  SIDECAR_MODES,
  TLS_PORTS,
  UPGRADE_ANNOTATION,
} from '../common/contract.ts';
import { parseReference } from '../common/image.ts';
import { annotationOf } from '../common/kube/facts.ts';
import type { BackendHost, SidecarMode } from './form.ts';
import { isObject, objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { quantity } from '../common/kube/quantity.ts';
import { Refusal, quoted } from './refusal.ts';
import { parseRulesSource } from './rules.ts';
import type { RulesSource } from './rules.ts';
import type { Json, JsonObject, KubeObject } from '../common/kube/types.ts';

/** What the object's annotations say about its proxy; undefined where they say nothing. */
export interface Tuning {
  image: string | undefined;
  resources: JsonObject | undefined;
  /** Arguments that replace the injection's of the same flag, or follow them. */
  args: string[];
  /** PROXY protocol between the proxy and RabbitMQ. */
  proxyProtocol: boolean;
  mode: (typeof MODES)[number] | undefined;
  preset: (typeof PRESETS)[number] | undefined;
  /** The ConfigMap that the proxy's rules are in. */
  rules: RulesSource | undefined;
  logLevel: (typeof LOG_LEVELS)[number];
  sidecarMode: SidecarMode;
  backendHost: BackendHost;
  tlsPort: (typeof TLS_PORTS)[number];
}

/** Flags that the injection decides, for RabbitMQ's configuration, the ports, the mounts and the probes depend on them. */
const RESERVED = /^--(?:no-)?(?:listen|backend|tls|config|admin)(?:-|$)/;

/** Flags that have annotations of their own. Given in both, one of the two would be silently without effect. */
const ANNOTATED: Readonly<Record<string, string>> = {
  '--mode': ANNOTATION.mode,
  '--preset': ANNOTATION.preset,
  '--rules': ANNOTATION.rules,
  '--log-level': ANNOTATION.logLevel,
};

/** Reads the annotations of an object that gets the proxy. Throws Refusal for a value that can't be used. */
export function readTuning(object: KubeObject): Tuning {
  return {
    image: readImage(object),
    resources: readResources(object),
    args: readArgs(object),
    proxyProtocol: readProxyProtocol(object),
    mode: readChoice(object, ANNOTATION.mode, MODES),
    preset: readChoice(object, ANNOTATION.preset, PRESETS),
    rules: readRules(object),
    logLevel: readChoice(object, ANNOTATION.logLevel, LOG_LEVELS) ?? 'info',
    sidecarMode: readChoice(object, ANNOTATION.sidecarMode, SIDECAR_MODES) ?? 'plain',
    backendHost: readChoice(object, ANNOTATION.backendHost, BACKEND_HOSTS) ?? '127.0.0.1',
    tlsPort: readChoice(object, ANNOTATION.tlsPort, TLS_PORTS) ?? '5671',
  };
}

function refuse(key: string, problem: string): never {
  throw new Refusal(['metadata', 'annotations', key], problem);
}

function readImage(object: KubeObject): string | undefined {
  const image = annotationOf(object, ANNOTATION.proxyImage);
  if (image === undefined) return undefined;
  if (parseReference(image) === undefined)
    refuse(ANNOTATION.proxyImage, `${quoted(image)} is no image, expected [REGISTRY/]NAME[:TAG][@DIGEST]`);
  return image;
}

function parse(key: string, text: string, expected: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch (error) {
    return refuse(key, `${quoted(text)} is not JSON (${(error as Error).message}), expected ${expected}`);
  }
}

function readResources(object: KubeObject): JsonObject | undefined {
  const key = ANNOTATION.proxyResources;
  const text = annotationOf(object, key);
  if (text === undefined) return undefined;
  const expected = '{"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {…}}';
  const resources = parse(key, text, expected);
  if (!isObject(resources)) return refuse(key, `${quoted(text)} is not an object, expected ${expected}`);
  for (const [field, amounts] of Object.entries(resources)) {
    if (field !== 'requests' && field !== 'limits')
      refuse(key, `"${field}" is not known, expected ${expected}`);
    if (!isObject(amounts)) return refuse(key, `"${field}" is not an object, expected ${expected}`);
    for (const [resource, amount] of Object.entries(amounts)) {
      if (quantity(amount) === undefined) {
        refuse(
          key,
          `${field}.${resource} is ${quoted(JSON.stringify(amount))}, expected a quantity such as "500m" or "256Mi"`,
        );
      }
    }
  }
  for (const [resource, limit] of Object.entries((resources['limits'] ?? {}) as JsonObject)) {
    const request = valueAt(resources, 'requests', resource);
    if (request !== undefined && quantity(request)! > quantity(limit)!) {
      refuse(key, `requests.${resource} is above limits.${resource}: lower the one or raise the other`);
    }
  }
  return resources;
}

function readArgs(object: KubeObject): string[] {
  const key = ANNOTATION.proxyArgs;
  const text = annotationOf(object, key);
  if (text === undefined) return [];
  const expected = 'a list such as ["--log-level=debug", "--max-connections=2000"]';
  const args = parse(key, text, expected);
  if (!Array.isArray(args)) return refuse(key, `${quoted(text)} is not a list, expected ${expected}`);
  return args.map((arg, index) => {
    if (typeof arg !== 'string' || !/^--[a-z][a-z\d-]*(?:=[^]*)?$/.test(arg)) {
      return refuse(
        key,
        `[${index}] is ${quoted(JSON.stringify(arg))}, expected one text of the form --flag or --flag=value`,
      );
    }
    if (RESERVED.test(flagOf(arg))) {
      return refuse(key, `[${index}]: ${flagOf(arg)} is decided by the injection, take it out`);
    }
    const annotation = ANNOTATED[flagOf(arg)];
    if (annotation !== undefined && annotationOf(object, annotation) !== undefined) {
      refuse(
        key,
        `[${index}]: ${flagOf(arg)} is given by the annotation ${annotation} too, take one of them out`,
      );
    }
    return arg;
  });
}

/** `--flag` of `--flag=value`. */
export function flagOf(arg: string): string {
  return arg.split('=', 1)[0]!;
}

function readProxyProtocol(object: KubeObject): boolean {
  const value = annotationOf(object, ANNOTATION.proxyProtocol);
  if (value !== undefined && value !== 'v2' && value !== 'off') {
    refuse(ANNOTATION.proxyProtocol, `${quoted(value)} is not known, expected "v2" or "off"`);
  }
  return value !== 'off';
}

function readChoice<T extends string>(object: KubeObject, key: string, choices: readonly T[]): T | undefined {
  const value = annotationOf(object, key);
  const choice = choices.find((each) => each === value);
  if (value !== undefined && choice === undefined) {
    const expected = choices.map((each) => JSON.stringify(each)).join(' or ');
    refuse(key, `${quoted(value)} is not known, expected ${expected}`);
  }
  return choice;
}

function readRules(object: KubeObject): RulesSource | undefined {
  const text = annotationOf(object, ANNOTATION.rules);
  if (text === undefined) return undefined;
  try {
    return parseRulesSource(text);
  } catch (error) {
    return refuse(
      ANNOTATION.rules,
      `${quoted(text)} names no ConfigMap, expected NAME or NAME/KEY: ${(error as Error).message}`,
    );
  }
}

/** Warnings about annotations with Quorumbridge's prefix that this version does not know. */
export function unknownAnnotations(object: KubeObject): string[] {
  // The stamp is the reconciler's own, on every cluster that an upgrade made.
  const known = new Set<string>([...Object.values(ANNOTATION), UPGRADE_ANNOTATION.stamp]);
  const annotations = valueAt(object, 'metadata', 'annotations');
  return Object.keys(isObject(annotations) ? annotations : {})
    .filter((key) => key.startsWith(PREFIX) && !known.has(key))
    .map((key) => `annotation ${key} is not known and is ignored`);
}

/**
 * True when a pod of these containers has the QoS class Guaranteed: each has limits for CPU and memory, and its
 * requests, where there are any, equal them (k8s.io/kubernetes/pkg/apis/core/v1/helper/qos).
 */
export function isGuaranteed(resources: (Json | undefined)[]): boolean {
  return resources.every((each) =>
    ['cpu', 'memory'].every((resource) => {
      const limit = quantity(valueAt(each, 'limits', resource));
      const request = valueAt(each, 'requests', resource);
      return limit !== undefined && limit > 0 && (request === undefined || quantity(request) === limit);
    }),
  );
}

/** The resources of a pod template's containers, init containers included, but for those named in `except`. */
export function resourcesOf(podSpec: Json | undefined, except: string[]): (Json | undefined)[] {
  return [...objectsAt(podSpec, 'containers'), ...objectsAt(podSpec, 'initContainers')]
    .filter((container) => !except.includes(textAt(container, 'name') ?? ''))
    .map((container) => container['resources']);
}
