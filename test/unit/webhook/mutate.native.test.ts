// What the annotation sidecar-mode makes of the proxy's place in the pod.
import { describe, expect, it } from 'vitest';
import { named, objectsAt, textAt, valueAt } from '../../../common/kube/json.ts';
import type { JsonObject, KubeObject } from '../../../common/kube/types.ts';
import type { MutateInput, NativeFacts } from '../../../webhook/types.ts';
import {
  CLUSTER_TEMPLATE,
  ENABLE,
  RECONFIGURED,
  allowed,
  annotated,
  cluster,
  containersOf,
  denied,
  initContainersOf,
  proxyOf,
  rabbitmq,
  statefulSet,
} from './objects.ts';

const KEY = 'quorumbridge.io/sidecar-mode';
const NATIVE = { ...ENABLE, [KEY]: 'native' };
const AUTO = { ...ENABLE, [KEY]: 'auto' };
const YES: NativeFacts = { state: 'supported' };
const NO: NativeFacts = { state: 'unsupported', why: 'it is too old' };
const UNKNOWN: NativeFacts = { state: 'unknown', why: 'it does not answer' };

function templateOf(object: KubeObject): string[] {
  return object.kind === 'StatefulSet' ? ['spec', 'template'] : CLUSTER_TEMPLATE;
}

function podSpecOf(object: KubeObject): JsonObject {
  return valueAt(object, ...templateOf(object), 'spec') as JsonObject;
}

function statusOf(object: KubeObject): JsonObject {
  const path = [...templateOf(object), 'metadata', 'annotations', 'quorumbridge.io/status'];
  return JSON.parse(textAt(object, ...path) ?? '{}') as JsonObject;
}

function namesOf(list: JsonObject[]): string[] {
  return list.map((container) => textAt(container, 'name') ?? '');
}

function nativeProxyOf(object: KubeObject): JsonObject {
  const proxy = named(initContainersOf(object), 'amqp-proxy');
  if (proxy === undefined) throw new Error('there is no native amqp-proxy');
  return proxy;
}

/** The sidecar's form, and what was said about it. */
function formOf(object: KubeObject, more: Partial<MutateInput>): [string, string[]] {
  const result = allowed(object, more);
  const lists = [initContainersOf, containersOf].filter(
    (list) => named(list(result.object), 'amqp-proxy') !== undefined,
  );
  expect(lists).toHaveLength(1);
  const form = lists[0] === initContainersOf ? 'native' : 'plain';
  return [form, result.warnings.filter((warning) => warning.includes(KEY))];
}

const KINDS: [string, KubeObject][] = [
  ['a RabbitmqCluster', cluster()],
  ['a StatefulSet', statefulSet()],
];

describe.each(KINDS)('the proxy of %s as a native sidecar', (_kind, plain) => {
  it('is the plain container as an init container that goes on running, and the status says so', () => {
    const { object } = allowed(annotated(plain, NATIVE), { native: YES });
    const { restartPolicy, ...rest } = nativeProxyOf(object);
    expect(restartPolicy).toBe('Always');
    expect(rest).toEqual(proxyOf(allowed(plain).object));
    expect(namesOf(containersOf(object))).toEqual(['rabbitmq']);
    expect(statusOf(object)['form']).toBe('native');
    expect(statusOf(allowed(plain).object)).not.toHaveProperty('form');
    expect(statusOf(object)['sidecar']).not.toBe(statusOf(allowed(plain).object)['sidecar']);
  });

  it('has a startup probe that does not wait for RabbitMQ, which is not started before it succeeds', () => {
    const { object } = allowed(annotated(plain, NATIVE), { native: YES });
    expect(valueAt(nativeProxyOf(object), 'startupProbe', 'httpGet', 'path')).toBe('/livez');
    expect(valueAt(nativeProxyOf(object), 'readinessProbe', 'httpGet', 'path')).toBe('/readyz');
  });

  it('leaves nothing behind when it becomes plain, and the other way round', () => {
    const asPlain = allowed(plain).object;
    const asNative = allowed(annotated(plain, NATIVE), { native: YES }).object;
    const there = allowed(annotated(asPlain, NATIVE), { oldObject: asPlain, native: YES });
    expect(there.object).toEqual(asNative);
    expect(there.warnings).toEqual([]);
    const back = allowed(annotated(asNative, ENABLE), { oldObject: asNative });
    expect(back.object).toEqual(asPlain);
    expect(back.warnings).toEqual([]);
  });

  it('goes with the proxy', () => {
    const stored = allowed(annotated(plain, NATIVE), { native: YES }).object;
    const { object } = allowed(annotated(stored, RECONFIGURED), { oldObject: stored });
    expect(initContainersOf(object)).toEqual([]);
    expect(JSON.stringify(object)).not.toContain('setup-container');
  });

  it('stays as it is while the RabbitMq can not be read, also when an operator drops it', () => {
    const quiet = annotated(plain, { [KEY]: 'native' });
    const required = { state: 'found', rabbitmq: rabbitmq({ proxyRequired: true }) } as const;
    const stored = allowed(quiet, { owner: required, native: YES }).object;
    const owner = { state: 'unknown', why: 'timeout' } as const;
    for (const object of [quiet, stored]) {
      expect(allowed(object, { oldObject: stored, owner, native: UNKNOWN }).object).toEqual(stored);
    }
  });

  it.each<[string, (podSpec: JsonObject) => void, RegExp]>([
    [
      'taken out',
      (podSpec) => (podSpec['initContainers'] = []),
      /container amqp-proxy was taken out by hand and is put back/,
    ],
    [
      'without its restartPolicy',
      (podSpec) => delete objectsAt(podSpec, 'initContainers').at(-1)!['restartPolicy'],
      /container amqp-proxy: restartPolicy was edited by hand and is put back: use the annotation quorumbridge.io\/sidecar-mode/,
    ],
    [
      'moved to the other containers',
      (podSpec) => {
        const list = podSpec['initContainers'] as JsonObject[];
        (podSpec['containers'] as JsonObject[]).push(list.pop()!);
      },
      /container amqp-proxy was moved to containers by hand and is put back: use the annotation quorumbridge.io\/sidecar-mode/,
    ],
  ])('is put back when it is %s by hand, with a warning', (_edit, edit, warning) => {
    const stored = allowed(annotated(plain, NATIVE), { native: YES }).object;
    const broken = structuredClone(stored);
    edit(podSpecOf(broken));
    const result = allowed(broken, { oldObject: stored, native: YES });
    expect(result.object).toEqual(stored);
    expect(result.warnings.join('\n')).toMatch(warning);
  });

  it('is there once where somebody copied it into the other list', () => {
    const stored = allowed(annotated(plain, NATIVE), { native: YES }).object;
    const doubled = structuredClone(stored);
    (podSpecOf(doubled)['containers'] as JsonObject[]).push(nativeProxyOf(stored));
    expect(allowed(doubled, { oldObject: stored, native: YES }).object).toEqual(stored);

    const asPlain = allowed(plain).object;
    const other = structuredClone(asPlain);
    podSpecOf(other)['initContainers'] = [{ ...proxyOf(asPlain), restartPolicy: 'Always' }];
    const repaired = allowed(other, { oldObject: asPlain }).object;
    expect(initContainersOf(repaired)).toEqual([]);
    expect(containersOf(repaired)).toEqual(containersOf(asPlain));
  });

  it('is denied beside an init container of its name that was not injected', () => {
    const object = structuredClone(plain);
    const holder = object.kind === 'StatefulSet' ? object : cluster({ override: OVERRIDE });
    podSpecOf(holder)['initContainers'] = [{ name: 'amqp-proxy', image: 'mine' }];
    const result = denied(holder);
    expect(result.code).toBe(409);
    expect(result.path).toEqual([...templateOf(holder), 'spec', 'initContainers']);
  });

  it('is told by what the cluster can do, when it is asked for by auto', () => {
    const auto = annotated(plain, AUTO);
    expect(formOf(auto, { native: YES })).toEqual(['native', []]);
    const says = (text: string, why: string) => [`annotation ${KEY}: "auto" ${text} (${why})`];
    const asPlain = 'means a plain container here';
    expect(formOf(auto, { native: NO })).toEqual(['plain', says(asPlain, 'it is too old')]);
    expect(formOf(auto, { native: UNKNOWN })).toEqual(['plain', says(asPlain, 'it does not answer')]);
    expect(formOf(auto, {})).toEqual(['plain', says(asPlain, 'there is no cluster to ask')]);
  });

  it('stays as auto made it while the cluster does not answer, and goes when the cluster can not have it any more', () => {
    const stored = allowed(annotated(plain, AUTO), { native: YES }).object;
    const [form, warnings] = formOf(stored, { oldObject: stored, native: UNKNOWN });
    expect(form).toBe('native');
    expect(warnings).toEqual([`annotation ${KEY}: "auto" keeps the native sidecar (it does not answer)`]);
    expect(allowed(stored, { oldObject: stored, native: UNKNOWN }).patch).toEqual([]);
    // An operator that writes its own object over it changes nothing about that.
    expect(formOf(annotated(plain, AUTO), { oldObject: stored, native: UNKNOWN })[0]).toBe('native');
    expect(formOf(stored, { oldObject: stored, native: NO })[0]).toBe('plain');
  });

  it('is denied with the reason where it is asked for and can not be had', () => {
    const native = annotated(plain, NATIVE);
    expect(denied(native, { native: NO })).toMatchObject({
      code: 422,
      path: ['metadata', 'annotations', KEY],
      message: `metadata.annotations[${KEY}]: "native" is not possible here, for it is too old: use "plain" or "auto"`,
    });
    expect(denied(native, { native: UNKNOWN })).toMatchObject({
      code: 503,
      message: expect.stringContaining(
        'is not known (it does not answer): try again, or use "plain"',
      ) as string,
    });
    const stored = allowed(native, { native: YES }).object;
    expect(formOf(stored, { oldObject: stored, native: UNKNOWN })[0]).toBe('native');
    expect(denied(stored, { oldObject: stored, native: NO }).code).toBe(422);
  });

  it('is taken at its word where there is no cluster to ask, with a warning', () => {
    expect(formOf(annotated(plain, NATIVE), {})).toEqual([
      'native',
      [`annotation ${KEY}: "native" is taken at its word (there is no cluster to ask)`],
    ]);
  });

  it('is denied another value', () => {
    expect(denied(annotated(plain, { ...ENABLE, [KEY]: 'Native' })).message).toContain(
      '"Native" is not known, expected "plain" or "native" or "auto"',
    );
  });
});

const OVERRIDE = { statefulSet: { spec: { template: { spec: { containers: [] } } } } };

function withInitContainers(...initContainers: JsonObject[]): KubeObject {
  const spec = { containers: [], initContainers };
  return cluster({ override: { statefulSet: { spec: { template: { spec } } } } }, NATIVE);
}

describe("a RabbitmqCluster's init containers", () => {
  it("name the operator's own before the proxy, which would be merged in front of it otherwise", () => {
    const { object } = allowed(cluster({}, NATIVE), { native: YES });
    expect(initContainersOf(object)[0]).toEqual({ name: 'setup-container' });
    expect(namesOf(initContainersOf(object))).toEqual(['setup-container', 'amqp-proxy']);
  });

  it("keep users' own where they run without the proxy: in front of the operator's", () => {
    const own = { name: 'wipe', image: 'wipe:1' };
    const { object } = allowed(withInitContainers(own), { native: YES });
    expect(namesOf(initContainersOf(object))).toEqual(['wipe', 'setup-container', 'amqp-proxy']);
    expect(initContainersOf(allowed(annotated(object, RECONFIGURED)).object)).toEqual([own]);
  });

  it("keep what users say about the operator's, also when it was said after the injection", () => {
    const setup = { name: 'setup-container', resources: { limits: { cpu: '1' } } };
    const later = { name: 'later', image: 'later:1' };
    const { object } = allowed(withInitContainers(setup, later), { native: YES });
    expect(namesOf(initContainersOf(object))).toEqual(['setup-container', 'later', 'amqp-proxy']);
    expect(initContainersOf(allowed(annotated(object, RECONFIGURED)).object)).toEqual([setup, later]);

    const stored = allowed(withInitContainers(), { native: YES }).object;
    const said = structuredClone(stored);
    initContainersOf(said)[0]!['resources'] = setup.resources;
    expect(initContainersOf(allowed(annotated(said, RECONFIGURED)).object)).toEqual([setup]);
  });
});

describe('resources of a native sidecar', () => {
  it('keep a pod of class Guaranteed what it is', () => {
    const resources = { limits: { cpu: '1', memory: '1Gi' } };
    const { object } = allowed(cluster({ resources }, NATIVE), { native: YES });
    const limits = { cpu: '500m', memory: '256Mi' };
    expect(nativeProxyOf(object)['resources']).toEqual({ requests: limits, limits });
    expect(allowed(object, { oldObject: object, native: YES }).patch).toEqual([]);
  });
});
