import { describe, expect, it } from 'vitest';
import { named, valueAt } from '../../../common/kube/json.ts';
import type { JsonObject, KubeObject } from '../../../common/kube/types.ts';
import {
  CLUSTER_TEMPLATE,
  ENABLE,
  IMAGE,
  RECONFIGURED,
  advancedOf,
  allowed,
  annotated,
  cluster,
  containersOf,
  denied,
  initContainersOf,
  proxyOf,
  rabbitmq,
} from './objects.ts';

const STATUS = 'quorumbridge.io/status';

function statusOf(object: KubeObject): JsonObject {
  return JSON.parse(
    valueAt(object, ...CLUSTER_TEMPLATE, 'metadata', 'annotations', STATUS) as string,
  ) as JsonObject;
}

/** The object with something changed in a copy. */
function edited(object: KubeObject, edit: (copy: KubeObject) => void): KubeObject {
  const copy = structuredClone(object);
  edit(copy);
  return copy;
}

function withContainers(...containers: JsonObject[]): KubeObject {
  return cluster({ override: { statefulSet: { spec: { template: { spec: { containers } } } } } });
}

describe('a RabbitmqCluster with the proxy', () => {
  it('without TLS listens on 5672 alone and mounts nothing', () => {
    const proxy = proxyOf(allowed(cluster()).object);
    expect(proxy['image']).toBe(IMAGE);
    expect(proxy['args']).toEqual([
      '--backend=127.0.0.1:5673',
      '--backend-proxy-protocol=v2',
      '--listen=amqp://0.0.0.0:5672',
      '--admin-listen=0.0.0.0:15695',
      '--stats-interval=300',
      '--log-level=info',
    ]);
    expect(proxy['ports']).toEqual([
      { name: 'amqp-proxy', containerPort: 5672, protocol: 'TCP' },
      { name: 'proxy-admin', containerPort: 15_695, protocol: 'TCP' },
    ]);
    expect(proxy).not.toHaveProperty('volumeMounts');
  });

  it("with TLS owns both ports and reads the operator's volume", () => {
    const proxy = proxyOf(allowed(cluster({ tls: { secretName: 's' } })).object);
    expect(proxy['args']).toEqual([
      '--backend=127.0.0.1:5673',
      '--backend-proxy-protocol=v2',
      '--listen=amqp://0.0.0.0:5672',
      '--listen=amqps://0.0.0.0:5671',
      '--tls-cert=/etc/rabbitmq-tls/tls.crt',
      '--tls-key=/etc/rabbitmq-tls/tls.key',
      '--admin-listen=0.0.0.0:15695',
      '--stats-interval=300',
      '--log-level=info',
    ]);
    expect(proxy['ports']).toMatchObject([
      { name: 'amqp-proxy', containerPort: 5672 },
      { name: 'amqp-proxy-tls', containerPort: 5671 },
      {},
    ]);
    expect(proxy['volumeMounts']).toEqual([
      { name: 'rabbitmq-tls', mountPath: '/etc/rabbitmq-tls', readOnly: true },
    ]);
  });

  it('owns 5671 alone where plain listeners are disabled, and leaves that setting as it is', () => {
    const { object } = allowed(cluster({ tls: { secretName: 's', disableNonTLSListeners: true } }));
    const proxy = proxyOf(object);
    expect(proxy['args']).toContain('--listen=amqps://0.0.0.0:5671');
    expect(proxy['args']).not.toContain('--listen=amqp://0.0.0.0:5672');
    expect(proxy['ports']).toMatchObject([
      { name: 'amqp-proxy', containerPort: 5671 },
      { containerPort: 15_695 },
    ]);
    expect(valueAt(object, 'spec', 'tls', 'disableNonTLSListeners')).toBe(true);
  });

  it.each<[string, JsonObject, string[]]>([
    [
      'asks for certificates where a CA is named',
      {},
      ['--tls-ca=/etc/rabbitmq-tls/ca.crt', '--tls-client-auth=request'],
    ],
    [
      'requires them where rabbitmq.conf does',
      { additionalConfig: 'ssl_options.fail_if_no_peer_cert = true' },
      ['--tls-ca=/etc/rabbitmq-tls/ca.crt', '--tls-client-auth=require'],
    ],
    [
      'requires them where advanced.config does',
      { advancedConfig: '[{rabbit,[{ssl_options,[{fail_if_no_peer_cert,true}]}]}].' },
      ['--tls-ca=/etc/rabbitmq-tls/ca.crt', '--tls-client-auth=require'],
    ],
    [
      'does not look at them where RabbitMQ would not',
      { additionalConfig: 'ssl_options.verify = verify_none # off' },
      [],
    ],
  ])('%s', (_name, config, args) => {
    const proxy = proxyOf(
      allowed(cluster({ tls: { secretName: 's', caSecretName: 'c' }, rabbitmq: config })).object,
    );
    expect((proxy['args'] as string[]).filter((arg) => /^--tls-c[al]/.test(arg))).toEqual(
      [...args].concat(['--tls-cert=/etc/rabbitmq-tls/tls.crt']).filter((arg) => /^--tls-c[al]/.test(arg)),
    );
  });

  it('runs with no more rights than it needs', () => {
    const proxy = proxyOf(allowed(cluster()).object);
    expect(proxy['securityContext']).toEqual({
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    expect(proxy['resources']).toEqual({
      requests: { cpu: '100m', memory: '128Mi' },
      limits: { cpu: '500m', memory: '256Mi' },
    });
    expect(proxy['startupProbe']).toMatchObject({ httpGet: { path: '/livez', port: 15_695 } });
    expect(proxy['livenessProbe']).toMatchObject({ httpGet: { path: '/livez', port: 15_695 } });
    expect(proxy['readinessProbe']).toMatchObject({ httpGet: { path: '/readyz', port: 15_695 } });
  });

  it.each<[JsonObject, boolean]>([
    [{ limits: { cpu: '2', memory: '2Gi' } }, true],
    [{ requests: { cpu: '2000m', memory: '2048Mi' }, limits: { cpu: 2, memory: '2Gi' } }, true],
    [{ requests: { cpu: '1', memory: '2Gi' }, limits: { cpu: '2', memory: '2Gi' } }, false],
    [{ limits: { memory: '2Gi' } }, false],
    [{}, false],
  ])('keeps a pod of QoS class Guaranteed one: %j', (resources, isGuaranteed) => {
    const own = proxyOf(allowed(cluster({ resources })).object)['resources'] as JsonObject;
    expect(JSON.stringify(own['requests']) === JSON.stringify(own['limits'])).toBe(isGuaranteed);
  });

  it("comes last, RabbitMQ's entry first with a probe that reaches the moved listener", () => {
    const { object } = allowed(
      withContainers({ name: 'one' }, { name: 'rabbitmq', env: [] }, { name: 'two' }),
    );
    expect(containersOf(object).map((container) => container['name'])).toEqual([
      'rabbitmq',
      'one',
      'two',
      'amqp-proxy',
    ]);
    expect(containersOf(object)[0]).toMatchObject({
      env: [],
      readinessProbe: { exec: { command: ['/bin/bash', '-c', 'exec 3<>/dev/tcp/127.0.0.1/5673'] } },
    });
  });

  it('moves RabbitMQ to the loopback address by an overlay, and copies no configuration into an annotation', () => {
    const { object } = allowed(
      cluster({ rabbitmq: { advancedConfig: '[{rabbit,[{default_pass,<<"geheim">>}]}].' } }),
    );
    expect(advancedOf(object)).toContain(
      '{tcp_listeners,[{"127.0.0.1",5673}]},{ssl_listeners,[]},{proxy_protocol,true}',
    );
    expect(JSON.stringify(statusOf(object))).not.toContain('geheim');
    expect(statusOf(object)).toMatchObject({ by: 'RabbitmqCluster', image: IMAGE, state: 'injected' });
  });

  it('switches the PROXY protocol off at both ends', () => {
    const { object } = allowed(cluster({}, { ...ENABLE, 'quorumbridge.io/proxy-protocol': 'off' }));
    expect(proxyOf(object)['args']).toContain('--backend-proxy-protocol=off');
    expect(advancedOf(object)).toContain('{proxy_protocol,false}');
  });
});

describe('annotations of a RabbitmqCluster', () => {
  const of = (key: string, value: string): KubeObject =>
    cluster({}, { ...ENABLE, [`quorumbridge.io/${key}`]: value });

  it('choose image, resources and further arguments', () => {
    const proxy = proxyOf(
      allowed(
        cluster(
          {},
          {
            ...ENABLE,
            'quorumbridge.io/proxy-image': 'mirror.example:5000/amqp-proxy:2@sha256:' + 'a'.repeat(64),
            'quorumbridge.io/proxy-resources': '{"limits": {"memory": "1Gi"}}',
            'quorumbridge.io/proxy-args': '["--log-level=debug", "--max-connections=9"]',
          },
        ),
      ).object,
    );
    expect(proxy['image']).toContain('mirror.example');
    expect(proxy['resources']).toEqual({ limits: { memory: '1Gi' } });
    expect(proxy['args']).toContain('--max-connections=9');
    expect((proxy['args'] as string[]).filter((arg) => arg.startsWith('--log-level'))).toEqual([
      '--log-level=debug',
    ]);
  });

  it.each([
    ['proxy-image', 'not an image'],
    ['proxy-image', ''],
    ['proxy-resources', '{'],
    ['proxy-resources', '[]'],
    ['proxy-resources', '{"request": {}}'],
    ['proxy-resources', '{"limits": 1}'],
    ['proxy-resources', '{"limits": {"cpu": "half"}}'],
    ['proxy-resources', '{"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}'],
    ['proxy-args', '--log-level=debug'],
    ['proxy-args', '"--log-level=debug"'],
    ['proxy-args', '[1]'],
    ['proxy-args', '["debug"]'],
    ['proxy-args', '["--max-connections", "5"]'],
    ['proxy-args', '["--listen=amqp://0.0.0.0:1"]'],
    ['proxy-args', '["--backend-tls"]'],
    ['proxy-args', '["--no-backend-tls"]'],
    ['proxy-args', '["--tls-min-version=1.3"]'],
    ['proxy-args', '["--config=/x"]'],
    ['proxy-protocol', 'v1'],
  ])('are denied with the key and the reason: %s %j', (key, value) => {
    const result = denied(of(key, value));
    expect(result.code).toBe(422);
    expect(result.message).toContain(`metadata.annotations[quorumbridge.io/${key}]: `);
    expect(result.message.length).toBeGreaterThan(60);
    expect(result.path).toEqual(['metadata', 'annotations', `quorumbridge.io/${key}`]);
  });

  it('with an unknown name are warned about', () => {
    expect(allowed(of('proxy-imagee', 'x')).warnings).toEqual([
      'annotation quorumbridge.io/proxy-imagee is not known and is ignored',
    ]);
    expect(allowed(of('upgrade', '1')).warnings).toEqual([]);
  });
});

describe('a RabbitmqCluster that can not be proxied', () => {
  it.each<[string, KubeObject, number, RegExp]>([
    [
      'a container of that name is there',
      withContainers({ name: 'amqp-proxy', image: 'mine' }),
      409,
      /was not injected: rename it/,
    ],
    [
      'TLS files come from Vault',
      cluster({ secretBackend: { vault: { tls: { pkiIssuerPath: 'pki' } } } }),
      422,
      /spec.secretBackend.vault.tls: .*Vault agent/,
    ],
    [
      'clients can log in by certificate alone',
      cluster({ rabbitmq: { additionalConfig: 'auth_mechanisms.1 = EXTERNAL\n' } }),
      422,
      /allows EXTERNAL alone/,
    ],
    [
      'the same in advanced.config',
      cluster({ rabbitmq: { advancedConfig: "[{rabbit,[{auth_mechanisms,['EXTERNAL']}]}]." } }),
      422,
      /spec.rabbitmq.advancedConfig: .*EXTERNAL/,
    ],
    [
      'client certificates are required and the CA is not known',
      cluster({
        tls: { secretName: 's' },
        rabbitmq: {
          additionalConfig: 'ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true',
        },
      }),
      422,
      /spec.tls.caSecretName/,
    ],
    [
      'advancedConfig can not be read',
      cluster({ rabbitmq: { advancedConfig: '[{rabbit,\n [}].' } }),
      422,
      /spec.rabbitmq.advancedConfig: .*line 2, column 3/,
    ],
    [
      'advancedConfig gets too long',
      cluster({ rabbitmq: { advancedConfig: `[].${' '.repeat(99_980)}` } }),
      422,
      /at most 100000/,
    ],
    [
      'advancedConfig is no text',
      cluster({ rabbitmq: { advancedConfig: 7 } }),
      422,
      /spec.rabbitmq.advancedConfig: is not a text/,
    ],
    ['the override is no object', cluster({ override: [] }), 422, /spec.override: is not an object/],
  ])('is denied: %s', (_name, object, code, message) => {
    const result = denied(object);
    expect([result.code, result.decision.inject]).toEqual([code, 'yes']);
    expect(result.message).toMatch(message);
    // Nobody is bothered who did not ask for the proxy.
    expect(allowed(annotated(object, {})).patch).toEqual([]);
  });

  it('is warned about where some clients will not get through', () => {
    const mixed = 'auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\nproxy_protocol = true\n';
    const { warnings } = allowed(
      cluster({ rabbitmq: { additionalConfig: mixed, additionalPlugins: ['rabbitmq_auth_mechanism_ssl'] } }),
    );
    expect(warnings.join('\n')).toMatch(/EXTERNAL[^]*rabbitmq_auth_mechanism_ssl|PROXY[^]*EXTERNAL/);
    expect(warnings).toHaveLength(3);
  });
});

describe('an injected RabbitmqCluster', () => {
  const injected = allowed(cluster({ tls: { secretName: 's' } })).object;
  const proxyIndex = 1;

  function editedProxy(edit: (proxy: JsonObject) => void): KubeObject {
    return edited(injected, (copy) => edit(containersOf(copy)[proxyIndex]!));
  }

  it('keeps its image when the webhook is upgraded, also where an operator dropped the sidecar', () => {
    const settings = { image: 'newer:2' };
    expect(allowed(injected, { settings }).patch).toEqual([]);
    const dropped = allowed(cluster({ tls: { secretName: 's' } }), { oldObject: injected, settings });
    expect(dropped.object).toEqual(injected);
  });

  it('takes the image of the annotation', () => {
    const { object } = allowed(annotated(injected, { ...ENABLE, 'quorumbridge.io/proxy-image': 'other:3' }));
    expect(proxyOf(object)['image']).toBe('other:3');
  });

  it('has what was edited by hand put back, with a warning that names the field and the annotation for it', () => {
    const result = allowed(
      editedProxy((proxy) => {
        proxy['image'] = 'mine:1';
        proxy['env'] = [{ name: 'A', value: 'b' }];
      }),
    );
    expect(result.object).toEqual(injected);
    expect(result.warnings).toEqual([
      'container amqp-proxy: env was edited by hand and is put back',
      'container amqp-proxy: image was edited by hand and is put back: use the annotation quorumbridge.io/proxy-image',
    ]);
  });

  it('is repaired where a part of the injection is gone', () => {
    const noContainer = edited(injected, (copy) => void containersOf(copy));
    (valueAt(noContainer, ...CLUSTER_TEMPLATE, 'spec') as JsonObject)['containers'] = [
      containersOf(noContainer)[0]!,
    ];
    expect(allowed(noContainer)).toMatchObject({
      object: injected,
      warnings: [expect.stringContaining('taken out by hand')],
    });

    const noConfig = edited(
      injected,
      (copy) => void ((valueAt(copy, 'spec', 'rabbitmq') as JsonObject)['advancedConfig'] = ''),
    );
    expect(advancedOf(allowed(noConfig).object)).toBe(advancedOf(injected));

    const noStatus = edited(
      injected,
      (copy) =>
        void delete (valueAt(copy, ...CLUSTER_TEMPLATE, 'metadata', 'annotations') as JsonObject)[STATUS],
    );
    expect(allowed(noStatus, { oldObject: injected }).object).toEqual(injected);
  });

  it('has edited listeners put back, with a warning', () => {
    const result = allowed(
      edited(injected, (copy) => {
        const config = valueAt(copy, 'spec', 'rabbitmq') as JsonObject;
        config['advancedConfig'] = advancedOf(copy).replace('5673', '5674');
      }),
    );
    expect(result.object).toEqual(injected);
    expect(result.warnings).toEqual(["RabbitMQ's injected listeners were edited by hand and are put back"]);
  });

  it('is not touched for what the API server spells differently', () => {
    const guaranteed = allowed(
      cluster({}, { ...ENABLE, 'quorumbridge.io/proxy-resources': '{"limits":{"cpu":"1000m"}}' }),
    ).object;
    const stored = edited(guaranteed, (copy) => void (proxyOf(copy)['resources'] = { limits: { cpu: '1' } }));
    expect(allowed(stored)).toMatchObject({ patch: [], warnings: [] });
  });

  it('follows a change of its TLS settings without a warning', () => {
    const result = allowed(edited(injected, (copy) => void ((copy['spec'] as JsonObject)['tls'] = {})));
    expect(proxyOf(result.object)['args']).not.toContain('--listen=amqps://0.0.0.0:5671');
    expect(result.warnings).toEqual([]);
  });

  it('remembers the probe that a user gives RabbitMQ meanwhile, and gives it back', () => {
    const own = { exec: { command: ['true'] } };
    const withOwn = edited(injected, (copy) => void (containersOf(copy)[0]!['readinessProbe'] = own));
    const again = allowed(withOwn).object;
    expect(containersOf(again)[0]).toMatchObject({
      readinessProbe: { exec: { command: ['/bin/bash', '-c', expect.any(String)] } },
    });
    const gone = allowed(annotated(again, RECONFIGURED)).object;
    expect(containersOf(gone)).toEqual([{ name: 'rabbitmq', readinessProbe: own }]);
  });

  it('loses nothing of what a user added beside the injection when it is removed', () => {
    const grown = edited(injected, (copy) => {
      const podSpec = valueAt(copy, ...CLUSTER_TEMPLATE, 'spec') as JsonObject;
      podSpec['containers'] = [...containersOf(copy), { name: 'metrics' }];
      podSpec['volumes'] = [{ name: 'v', emptyDir: {} }];
      (valueAt(copy, 'spec', 'override') as JsonObject)['service'] = {};
    });
    expect(proxyOf(allowed(grown).object)).toEqual(proxyOf(injected));
    const { object } = allowed(annotated(grown, RECONFIGURED));
    expect(valueAt(object, ...CLUSTER_TEMPLATE, 'spec')).toEqual({
      containers: [{ name: 'metrics' }],
      volumes: [{ name: 'v', emptyDir: {} }],
    });
    expect(valueAt(object, 'spec', 'override', 'service')).toEqual({});
    expect(named(containersOf(object), 'amqp-proxy')).toBeUndefined();
  });

  it("leaves an empty list where a pod spec stays, for the resource's schema wants one", () => {
    const grown = edited(injected, (copy) => {
      (valueAt(copy, ...CLUSTER_TEMPLATE, 'spec') as JsonObject)['volumes'] = [];
    });
    const { object } = allowed(annotated(grown, RECONFIGURED));
    expect(valueAt(object, ...CLUSTER_TEMPLATE, 'spec')).toEqual({ containers: [], volumes: [] });
  });

  it.each(['plain', 'native'])(
    'is not touched for the empty resources that the operator writes, and leaves no entry of its own: %s',
    (mode) => {
      const asking = { ...ENABLE, 'quorumbridge.io/sidecar-mode': mode };
      const native = { state: 'supported' } as const;
      const marshalled = edited(allowed(cluster({}, asking), { native }).object, (copy) => {
        for (const entry of [...containersOf(copy), ...initContainersOf(copy)]) entry['resources'] ??= {};
      });
      expect(allowed(marshalled, { native }).patch).toEqual([]);
      const { object } = allowed(annotated(marshalled, RECONFIGURED));
      expect(valueAt(object, ...CLUSTER_TEMPLATE)).toEqual({ metadata: { annotations: expect.any(Object) } });
    },
  );

  it('leaves a tombstone also when an operator writes its own object while the decision is no', () => {
    const plain = cluster({ tls: { secretName: 's' } }, RECONFIGURED);
    const { object } = allowed(plain, { oldObject: injected });
    expect(statusOf(object)).toEqual({ state: 'removed', version: 1 });
    expect(allowed(plain, { oldObject: object }).patch).toEqual([]);
  });

  it('is denied a removal that can not be exact', () => {
    const broken = edited(injected, (copy) => {
      (valueAt(copy, 'spec', 'rabbitmq') as JsonObject)['advancedConfig'] = advancedOf(copy).replace(
        '%% amqp-proxy:end',
        '%% end',
      );
    });
    expect(denied(annotated(broken, RECONFIGURED)).message).toMatch(
      /spec.rabbitmq.advancedConfig: the lines/,
    );
  });

  it('stays untouched while it is deleted', () => {
    const deleting = editedProxy((proxy) => void (proxy['image'] = 'mine:1'));
    deleting.metadata['deletionTimestamp'] = '2026-01-01T00:00:00Z';
    expect(allowed(deleting)).toMatchObject({ patch: [], decision: { reason: 'deleting' } });
  });
});

describe('while the RabbitMq can not be read', () => {
  const owner = { state: 'unknown', why: 'forbidden' } as const;
  const required = { state: 'found', rabbitmq: rabbitmq({ proxyRequired: true }) } as const;

  it('a new object that does not say itself what it wants is to be sent again', () => {
    expect(denied(cluster({}, {}), { owner })).toMatchObject({
      code: 503,
      message: expect.stringContaining('forbidden') as string,
    });
    expect(proxyOf(allowed(cluster(), { owner }).object)['image']).toBe(IMAGE);
  });

  it('a stored injection stays exactly as it is, also when an operator drops it', () => {
    const plain = cluster({ tls: { secretName: 's' } }, {});
    const stored = allowed(plain, { owner: required }).object;
    for (const object of [plain, stored]) {
      const result = allowed(object, { oldObject: stored, owner, settings: { image: 'newer:2' } });
      expect(result.object).toEqual(stored);
      expect(result.warnings.join()).toContain('forbidden');
    }
  });

  it('a stored object without injection stays without', () => {
    const plain = cluster({}, ENABLE);
    expect(allowed(plain, { oldObject: plain, owner }).patch).toEqual([]);
  });
});
