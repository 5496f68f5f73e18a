// What the annotations log-level, backend-host and tls-port make of the proxy and of RabbitMQ behind it.
import { describe, expect, it } from 'vitest';
import { LOG_LEVELS } from '../../../common/contract.ts';
import { named, objectsAt, textAt, valueAt } from '../../../common/kube/json.ts';
import type { JsonObject, KubeObject } from '../../../common/kube/types.ts';
import {
  ENABLE,
  RECONFIGURED,
  advancedOf,
  allowed,
  annotated,
  cluster,
  containersOf,
  denied,
  proxyOf,
  rabbitmq,
  statefulSet,
} from './objects.ts';

const LOG_LEVEL = 'quorumbridge.io/log-level';
const BACKEND_HOST = 'quorumbridge.io/backend-host';
const TLS_PORT = 'quorumbridge.io/tls-port';
const PROXY_ARGS = 'quorumbridge.io/proxy-args';
const IPV6 = { ...ENABLE, [BACKEND_HOST]: '::1' };
const PROBE = ['/bin/bash', '-c', 'exec 3<>/dev/tcp/::1/5673'];

function argsOf(object: KubeObject): string[] {
  return proxyOf(object)['args'] as string[];
}

function listensOf(object: KubeObject): string[] {
  return argsOf(object).filter((arg) => /^--(?:admin-)?listen=/.test(arg));
}

function portsOf(object: KubeObject): unknown[] {
  return objectsAt(proxyOf(object), 'ports').map(({ name, containerPort }) => [name, containerPort]);
}

function rabbitmqOf(object: KubeObject): JsonObject {
  return named(containersOf(object), 'rabbitmq')!;
}

describe('the annotation log-level', () => {
  it.each([...LOG_LEVELS])('sets what the proxy logs: %s', (level) => {
    for (const object of [cluster(), statefulSet()]) {
      const args = argsOf(allowed(annotated(object, { ...ENABLE, [LOG_LEVEL]: level })).object);
      expect(args.filter((arg) => arg.startsWith('--log-level'))).toEqual([`--log-level=${level}`]);
      expect(args).toEqual(argsOf(allowed(object).object).map((arg) => arg.replace('=info', `=${level}`)));
    }
  });

  it('is denied another value, and beside the same flag among the arguments', () => {
    expect(denied(cluster({}, { ...ENABLE, [LOG_LEVEL]: 'DEBUG' })).message).toContain(
      `metadata.annotations[${LOG_LEVEL}]: "DEBUG" is not known, expected "trace" or "debug" or "info"`,
    );
    const both = { ...ENABLE, [LOG_LEVEL]: 'warn', [PROXY_ARGS]: '["--log-level=debug"]' };
    expect(denied(cluster({}, both)).message).toBe(
      `metadata.annotations[${PROXY_ARGS}]: [0]: --log-level is given by the annotation ${LOG_LEVEL} too, take one of them out`,
    );
  });
});

describe('the annotation backend-host', () => {
  it('moves RabbitmqClusters to ::1, and the proxy listens at the addresses of both families', () => {
    const { object } = allowed(cluster({ tls: { secretName: 's' } }, IPV6));
    expect(advancedOf(object)).toContain('{tcp_listeners,[{"::1",5673}]},{ssl_listeners,[]}');
    expect(argsOf(object)).toContain('--backend=[::1]:5673');
    expect(listensOf(object)).toEqual([
      '--listen=amqp://[::]:5672',
      '--listen=amqps://[::]:5671',
      '--admin-listen=[::]:15695',
    ]);
    expect(valueAt(rabbitmqOf(object), 'readinessProbe', 'exec', 'command')).toEqual(PROBE);
  });

  it.each<[string, JsonObject, string, string]>([
    ['by advanced.config', {}, 'rabbitmq-advanced-config', '{tcp_listeners,[{"::1",5673}]}'],
    [
      'by rabbitmq.conf, where the address has no brackets',
      { volumeMounts: [{ name: 'own', mountPath: '/etc/rabbitmq/advanced.config' }] },
      'rabbitmq-conf',
      'listeners.tcp.default = ::1:5673\n',
    ],
  ])('moves StatefulSets %s', (_name, container, annotation, expected) => {
    const startupProbe = { tcpSocket: { port: 5672 }, periodSeconds: 7 };
    const { object } = allowed(statefulSet({ ...container, startupProbe }, {}, IPV6));
    const annotations = valueAt(object, 'spec', 'template', 'metadata', 'annotations');
    expect(textAt(annotations, `quorumbridge.io/${annotation}`)).toContain(expected);
    expect(rabbitmqOf(object)['startupProbe']).toEqual({ exec: { command: PROBE }, periodSeconds: 7 });
  });

  it.each([
    ['a RabbitmqCluster', cluster({ rabbitmq: { advancedConfig: '[{rabbit,[]}].' } })],
    ['a StatefulSet', statefulSet({ readinessProbe: { tcpSocket: { port: 'amqp' } } })],
  ])('of %s can be set, taken away and taken out, each time without a trace or a warning', (_kind, plain) => {
    const before = allowed(plain).object;
    const moved = allowed(annotated(before, IPV6), { oldObject: before });
    expect(moved.object).toEqual(allowed(annotated(plain, IPV6)).object);
    expect(moved.warnings).toEqual([]);
    const back = allowed(annotated(moved.object, ENABLE), { oldObject: moved.object });
    expect(back.object).toEqual(before);
    expect(back.warnings).toEqual([]);
    const removed = allowed(annotated(moved.object, RECONFIGURED)).object;
    expect(removed).toEqual(allowed(annotated(before, RECONFIGURED)).object);
  });

  it('holds while the RabbitMq can not be read and an operator writes its own object over it', () => {
    const required = { state: 'found', rabbitmq: rabbitmq({ proxyRequired: true }) } as const;
    const quiet = statefulSet({}, {}, { [BACKEND_HOST]: '::1' });
    const stored = allowed(quiet, { owner: required }).object;
    const owner = { state: 'unknown', why: 'timeout' } as const;
    expect(allowed(quiet, { oldObject: stored, owner }).object).toEqual(stored);
  });

  it.each(['localhost', '0.0.0.0', '[::1]', '::1:5673', ''])('is denied %j', (host) => {
    expect(denied(cluster({}, { ...ENABLE, [BACKEND_HOST]: host })).message).toContain(
      `is not known, expected "127.0.0.1" or "::1"`,
    );
  });
});

describe('the annotation tls-port', () => {
  const ON_5672 = { ...ENABLE, [TLS_PORT]: '5672' };

  it.each<[string, JsonObject]>([
    ['both kinds of listeners', { secretName: 's' }],
    ['TLS listeners alone', { secretName: 's', disableNonTLSListeners: true }],
  ])(
    'puts TLS in the place of the plain listener, and leaves it on 5671, where RabbitMQ had %s',
    (_name, tls) => {
      const { object } = allowed(cluster({ tls }, ON_5672));
      expect(listensOf(object).slice(0, 2)).toEqual([
        '--listen=amqps://0.0.0.0:5672',
        '--listen=amqps://0.0.0.0:5671',
      ]);
      expect(portsOf(object)).toEqual([
        ['amqp-proxy', 5672],
        ['amqp-proxy-tls', 5671],
        ['proxy-admin', 15_695],
      ]);
      expect(allowed(object).patch).toEqual([]);
    },
  );

  it('is the default by "5671"', () => {
    const spec = { tls: { secretName: 's' } };
    expect(proxyOf(allowed(cluster(spec, { ...ENABLE, [TLS_PORT]: '5671' })).object)).toEqual(
      proxyOf(allowed(cluster(spec)).object),
    );
  });

  it.each([
    ['a RabbitmqCluster', cluster({}, ON_5672)],
    ['a StatefulSet', statefulSet({}, {}, ON_5672)],
  ])('is denied to %s without TLS, whose clients would find nothing at 5672', (_kind, object) => {
    expect(denied(object)).toMatchObject({
      code: 422,
      path: ['metadata', 'annotations', TLS_PORT],
      message: expect.stringContaining('asks for TLS there, and RabbitMQ has no TLS files') as string,
    });
  });
});

describe('the container that kubectl takes when it is told none', () => {
  it.each([
    ['a RabbitmqCluster', cluster()],
    ['a StatefulSet', statefulSet()],
    [
      'a StatefulSet with another first',
      statefulSet({}, { containers: [{ name: 'a' }, { name: 'rabbitmq' }] }),
    ],
  ])(
    'is the same as before for %s: the first one is never the proxy, and no annotation says so',
    (_kind, plain) => {
      const { object } = allowed(plain);
      const before = containersOf(plain)[0]?.['name'] ?? 'rabbitmq';
      expect(containersOf(object)[0]!['name']).toBe(before);
      expect(JSON.stringify(object)).not.toContain('kubectl.kubernetes.io');
    },
  );
});
