import { describe, expect, it } from 'vitest';
import { named, objectsAt, valueAt } from '../../../common/kube/json.ts';
import type { JsonObject, KubeObject } from '../../../common/kube/types.ts';
import type { OwnerFacts } from '../../../webhook/types.ts';
import {
  ENABLE,
  RECONFIGURED,
  allowed,
  annotated,
  cluster,
  containersOf,
  denied,
  proxyOf,
  rabbitmq,
  statefulSet,
} from './objects.ts';

const TLS_MOUNT = { name: 'tls', mountPath: '/etc/rabbitmq-tls/', readOnly: true };
const ADVANCED_MOUNT = {
  name: 'conf',
  mountPath: '/etc/rabbitmq/advanced.config',
  subPath: 'advanced.config',
};
const TLS_VOLUME = { name: 'tls', secret: { secretName: 's' } };

function templateAnnotations(object: KubeObject): JsonObject {
  return valueAt(object, 'spec', 'template', 'metadata', 'annotations') as JsonObject;
}

function rabbitmqOf(object: KubeObject): JsonObject {
  return named(containersOf(object), 'rabbitmq')!;
}

function tlsOwner(tls: JsonObject): OwnerFacts {
  return { state: 'found', rabbitmq: rabbitmq({}, { tls }) };
}

describe('a StatefulSet with the proxy', () => {
  it('gets its listeners by an annotation that a downward API volume mounts as advanced.config', () => {
    const { object } = allowed(statefulSet());
    expect(templateAnnotations(object)['quorumbridge.io/rabbitmq-advanced-config']).toBe(
      '[{rabbit,[{tcp_listeners,[{"127.0.0.1",5673}]},{ssl_listeners,[]},{proxy_protocol,true}]}].\n',
    );
    expect(objectsAt(object, 'spec', 'template', 'spec', 'volumes')).toEqual([
      {
        name: 'amqp-proxy-config',
        downwardAPI: {
          defaultMode: 420,
          items: [
            {
              path: 'advanced.config',
              fieldRef: {
                apiVersion: 'v1',
                fieldPath: "metadata.annotations['quorumbridge.io/rabbitmq-advanced-config']",
              },
            },
          ],
        },
      },
    ]);
    expect(rabbitmqOf(object)['volumeMounts']).toEqual([
      {
        name: 'amqp-proxy-config',
        mountPath: '/etc/rabbitmq/advanced.config',
        subPath: 'advanced.config',
        readOnly: true,
      },
    ]);
  });

  it('keeps the order of its containers, the proxy last', () => {
    const object = statefulSet({}, { containers: [{ name: 'one' }, { name: 'rabbitmq' }, { name: 'two' }] });
    expect(containersOf(allowed(object).object).map((each) => each['name'])).toEqual([
      'one',
      'rabbitmq',
      'two',
      'amqp-proxy',
    ]);
  });

  it("moves every probe of AMQP's ports, with its timing, and no other", () => {
    const { object } = allowed(
      statefulSet({
        ports: [{ name: 'bus', containerPort: 5672 }],
        readinessProbe: { tcpSocket: { port: 'bus' }, periodSeconds: 3 },
        livenessProbe: { tcpSocket: { port: 5671 }, failureThreshold: 9 },
        startupProbe: { httpGet: { path: '/', port: 15_672 } },
      }),
    );
    const exec = { command: ['/bin/bash', '-c', 'exec 3<>/dev/tcp/127.0.0.1/5673'] };
    expect(rabbitmqOf(object)).toMatchObject({
      readinessProbe: { exec, periodSeconds: 3 },
      livenessProbe: { exec, failureThreshold: 9 },
      startupProbe: { httpGet: { path: '/', port: 15_672 } },
    });
  });

  it.each<[string, JsonObject[], JsonObject[], OwnerFacts, string[]]>([
    ['a Secret without a CA', [TLS_MOUNT], [TLS_VOLUME], { state: 'absent' }, []],
    [
      'a Secret whose CA the RabbitMq names',
      [TLS_MOUNT],
      [TLS_VOLUME],
      tlsOwner({ caSecretName: 's' }),
      ['--tls-ca=/etc/rabbitmq-tls/ca.crt', '--tls-client-auth=request'],
    ],
    [
      'a volume with ca.crt',
      [TLS_MOUNT],
      [
        {
          name: 'tls',
          projected: { sources: [{ secret: { name: 's', items: [{ key: 'x', path: 'ca.crt' }] } }] },
        },
      ],
      { state: 'absent' },
      ['--tls-ca=/etc/rabbitmq-tls/ca.crt', '--tls-client-auth=request'],
    ],
    [
      'a CA of its own',
      [TLS_MOUNT, { name: 'ca', mountPath: '/etc/rabbitmq-tls-ca' }],
      [TLS_VOLUME, { name: 'ca', secret: { secretName: 'ca' } }],
      { state: 'absent' },
      ['--tls-ca=/etc/rabbitmq-tls-ca/ca.crt', '--tls-client-auth=request'],
    ],
  ])('takes TLS from %s', (_name, volumeMounts, volumes, owner, args) => {
    const proxy = proxyOf(allowed(statefulSet({ volumeMounts }, { volumes }), { owner }).object);
    expect((proxy['args'] as string[]).filter((arg) => /^--tls-(?:ca|client-auth)=/.test(arg))).toEqual(args);
    const mounts = [
      { name: 'tls', mountPath: '/etc/rabbitmq-tls', readOnly: true },
      { name: 'ca', mountPath: '/etc/rabbitmq-tls-ca', readOnly: true },
    ];
    expect(proxy['volumeMounts']).toEqual(args[0]?.includes('-ca/') ? mounts : mounts.slice(0, 1));
  });

  it.each<[string, JsonObject[], OwnerFacts, boolean]>([
    ['the RabbitMq disables plain listeners', [], tlsOwner({ disableNonTLSListeners: true }), true],
    ['the container has the TLS port alone', [{ containerPort: 5671 }], { state: 'absent' }, true],
    [
      'the container has both ports',
      [{ containerPort: 5671 }, { containerPort: 5672 }],
      { state: 'absent' },
      false,
    ],
    [
      'the RabbitMq has plain listeners',
      [{ containerPort: 5671 }],
      tlsOwner({ disableNonTLSListeners: false }),
      false,
    ],
  ])('listens with TLS alone or not: %s', (_name, ports, owner, isOnly) => {
    const object = statefulSet({ ports, volumeMounts: [TLS_MOUNT] }, { volumes: [TLS_VOLUME] });
    const { args } = proxyOf(allowed(object, { owner }).object);
    expect((args as string[]).includes('--listen=amqp://0.0.0.0:5672')).toBe(!isOnly);
    expect(args).toContain('--listen=amqps://0.0.0.0:5671');
  });

  it('stays Guaranteed where all its containers are, init containers included', () => {
    const full = { resources: { limits: { cpu: '1', memory: '1Gi' } } };
    const requests = (pod: JsonObject): unknown =>
      (proxyOf(allowed(statefulSet(full, pod)).object)['resources'] as JsonObject)['requests'];
    expect(requests({ initContainers: [{ name: 'setup', ...full }] })).toEqual({
      cpu: '500m',
      memory: '256Mi',
    });
    expect(requests({ initContainers: [{ name: 'setup' }] })).toEqual({ cpu: '100m', memory: '128Mi' });
  });
});

describe('a StatefulSet with an advanced.config of its own', () => {
  it('gets its listeners by a last file in conf.d, and a warning of what can not be seen', () => {
    const result = allowed(statefulSet({ volumeMounts: [ADVANCED_MOUNT] }));
    expect(templateAnnotations(result.object)['quorumbridge.io/rabbitmq-conf']).toBe(
      'listeners.tcp.default = 127.0.0.1:5673\nlisteners.ssl = none\nproxy_protocol = true\n',
    );
    expect(rabbitmqOf(result.object)['volumeMounts']).toContainEqual({
      name: 'amqp-proxy-config',
      mountPath: '/etc/rabbitmq/conf.d/99-amqp-proxy.conf',
      subPath: '99-amqp-proxy.conf',
      readOnly: true,
    });
    expect(result.warnings.join()).toContain('advanced.config of its own');
    expect(allowed(annotated(result.object, RECONFIGURED)).object).toEqual(
      statefulSet({ volumeMounts: [ADVANCED_MOUNT] }, {}, RECONFIGURED),
    );
  });

  it('is reached by TLS where RabbitMQ has no plain listener, for a plain one could not be made', () => {
    const object = statefulSet({ volumeMounts: [ADVANCED_MOUNT, TLS_MOUNT] }, { volumes: [TLS_VOLUME] });
    const result = allowed(object, { owner: tlsOwner({ caSecretName: 's', disableNonTLSListeners: true }) });
    expect(proxyOf(result.object)['args']).toEqual(
      expect.arrayContaining([
        '--backend-tls',
        '--backend-tls-server-name=mq.openstack.svc',
        '--backend-tls-ca=/etc/rabbitmq-tls/ca.crt',
      ]),
    );
    expect(templateAnnotations(result.object)['quorumbridge.io/rabbitmq-conf']).toBe(
      'listeners.ssl.default = 127.0.0.1:5673\nproxy_protocol = true\n',
    );
    expect(denied(object, { owner: tlsOwner({ disableNonTLSListeners: true }) }).message).toContain(
      'no CA is mounted',
    );
  });
});

describe('a StatefulSet that can not be proxied', () => {
  it.each<[string, KubeObject, number, RegExp]>([
    [
      'no container is RabbitMQ',
      statefulSet({}, { containers: [{ name: 'web' }] }),
      422,
      /spec.template.spec.containers: none of them is named rabbitmq/,
    ],
    [
      'a container of that name is there',
      statefulSet({}, { containers: [{ name: 'rabbitmq' }, { name: 'amqp-proxy' }] }),
      409,
      /was not injected/,
    ],
    [
      'a volume of that name is there',
      statefulSet({}, { volumes: [{ name: 'amqp-proxy-config', emptyDir: {} }] }),
      409,
      /amqp-proxy-config that was not injected/,
    ],
    [
      'its configuration is one volume',
      statefulSet({ volumeMounts: [{ name: 'c', mountPath: '/etc/rabbitmq' }] }),
      422,
      /containers\[0\].volumeMounts: the whole folder/,
    ],
    [
      'there is no place in conf.d',
      statefulSet(
        { volumeMounts: [ADVANCED_MOUNT, { name: 'd', mountPath: '/etc/rabbitmq/conf.d/' }] },
        { volumes: [{ name: 'd', configMap: {} }] },
      ),
      422,
      /no place/,
    ],
    [
      'conf.d is not read',
      statefulSet({
        env: [
          { name: 'RABBITMQ_ADVANCED_CONFIG_FILE', value: '/x' },
          { name: 'RABBITMQ_CONFIG_FILES', value: '/y' },
        ],
      }),
      422,
      /RABBITMQ_CONFIG_FILES/,
    ],
  ])('is denied: %s', (_name, object, code, message) => {
    const result = denied(object);
    expect(result.code).toBe(code);
    expect(result.message).toMatch(message);
  });
});

describe('a StatefulSet behind a RabbitmqCluster', () => {
  it('keeps the sidecar that came through the override, whatever its annotations say', () => {
    const override = valueAt(
      allowed(cluster()).object,
      'spec',
      'override',
      'statefulSet',
      'spec',
      'template',
    ) as JsonObject;
    const annotations = { ...ENABLE, ...RECONFIGURED };
    const object = statefulSet({}, { containers: containersOf(allowed(cluster()).object) }, annotations);
    (valueAt(object, 'spec', 'template') as JsonObject)['metadata'] = override['metadata'];
    for (const references of [
      [],
      [
        {
          apiVersion: 'rabbitmq.com/v1beta1',
          kind: 'RabbitmqCluster',
          name: 'mq',
          uid: '1',
          controller: true,
        },
      ],
    ]) {
      object.metadata['ownerReferences'] = references;
      expect(allowed(object)).toMatchObject({
        patch: [],
        decision: { inject: 'keep', reason: 'governed-by-rabbitmqcluster' },
      });
    }
  });
});

describe('an injected StatefulSet', () => {
  it('is repaired when its volume, mount, configuration or probe is gone', () => {
    const injected = allowed(statefulSet()).object;
    for (const path of [
      ['metadata', 'annotations', 'quorumbridge.io/rabbitmq-advanced-config'],
      ['spec', 'volumes'],
      ['spec', 'containers', 0, 'volumeMounts'],
      ['spec', 'containers', 0, 'readinessProbe'],
    ]) {
      const broken = structuredClone(injected);
      const holder = valueAt(broken, 'spec', 'template', ...path.slice(0, -1)) as JsonObject;
      delete holder[path.at(-1)!];
      expect(allowed(broken).object).toEqual(injected);
    }
  });

  it('stays as it is while its RabbitMq can not be read', () => {
    const plain = statefulSet({ volumeMounts: [ADVANCED_MOUNT, TLS_MOUNT] }, { volumes: [TLS_VOLUME] });
    const stored = allowed(plain, {
      owner: tlsOwner({ caSecretName: 's', disableNonTLSListeners: true }),
    }).object;
    const owner: OwnerFacts = { state: 'unknown', why: 'timeout' };
    expect(allowed(plain, { oldObject: stored, owner, settings: { image: 'newer:2' } }).object).toEqual(
      stored,
    );
  });
});
