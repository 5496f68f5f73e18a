import { Writable } from 'node:stream';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { runCommandLine } from '../../../cli/run.ts';
import { ANNOTATION } from '../../../common/contract.ts';
import { mutate } from '../../../webhook/mutate.ts';
import type { KubeObject } from '../../../common/kube/types.ts';
import { type PlayedApiServer, apiPath, playApiServer } from '../../support/api-server.ts';

const ASKING = { [ANNOTATION.enableProxy]: 'true' };

function cluster(annotations: Record<string, string> = {}, name = 'rabbit'): KubeObject {
  const metadata = { name, namespace: 'openstack', uid: `uid-of-${name}`, annotations };
  return { apiVersion: 'rabbitmq.com/v1beta1', kind: 'RabbitmqCluster', metadata, spec: { replicas: 3 } };
}

function injected(annotations: Record<string, string> = {}): KubeObject {
  const object = cluster({ ...ASKING, ...annotations });
  const result = mutate({ object, owner: { state: 'absent' }, settings: { image: 'proxy:1' } });
  return (result as { object: KubeObject }).object;
}

let server: PlayedApiServer;
beforeAll(async () => {
  server = await playApiServer();
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(() => {
  server.answers.clear();
  server.answers.set('/api/v1/namespaces/openstack', {
    object: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'openstack' } },
  });
});

const play = (object: KubeObject): void => {
  const plural = object.kind === 'RabbitMq' ? 'rabbitmqs' : 'rabbitmqclusters';
  const group = object.apiVersion.split('/')[0];
  server.answers.set(apiPath('rabbit', plural, group), { object });
};

/** Runs `quorumbridge explain` against the played API server. */
async function explain(...args: string[]) {
  let [out, err] = ['', ''];
  const sink = (take: (text: string) => void): Writable =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        take(chunk.toString());
        done();
      },
    });
  const code = await runCommandLine(
    ['explain', ...args],
    { explain: () => import('../../../cli/explain.ts') },
    {
      stdin: process.stdin,
      stdout: sink((text) => (out += text)),
      stderr: sink((text) => (err += text)),
      env: { KUBECONFIG: server.kubeconfig },
    },
  );
  return { code, out, err };
}

describe('quorumbridge explain', () => {
  it('says why an object carries the proxy, with what, and that its next write changes nothing', async () => {
    play(
      injected({ [ANNOTATION.mode]: 'observe', [ANNOTATION.preset]: 'celery', [ANNOTATION.rules]: 'mine' }),
    );
    const { code, out } = await explain('rabbitmqcluster', 'rabbit', '-n', 'openstack');
    expect(out).toBe(
      [
        'RabbitmqCluster openstack/rabbit: has the proxy',
        '  decision:   yes: the annotation rabbitmq.openstack.org/enable-proxy is "true" [enable-proxy]',
        '  owner:      no RabbitMq',
        '  image:      proxy:1',
        '  settings:   mode observe, preset celery, rules ConfigMap mine, key rules.yaml, log level info, plain',
        '  next write: would change nothing',
        '',
      ].join('\n'),
    );
    expect(code).toBe(0);
  });

  it('says what the next write would inject, because of which RabbitMq', async () => {
    play(cluster());
    play({
      apiVersion: 'rabbitmq.openstack.org/v1beta1',
      kind: 'RabbitMq',
      metadata: {
        name: 'rabbit',
        namespace: 'openstack',
        annotations: { [ANNOTATION.targetVersion]: '4.2' },
      },
      spec: { queueType: 'Quorum' },
      status: { currentVersion: '3.9', upgradePhase: 'WaitingForPods' },
    });
    const { code, out } = await explain('rmq', 'rabbit', '--namespace=openstack');
    expect(out).toContain('RabbitmqCluster openstack/rabbit: no proxy\n');
    expect(out).toContain('[upgrade-to-quorum]');
    expect(out).toContain(
      'RabbitMq rabbit: version 3.9, target 4.2, queue type Quorum, phase WaitingForPods, proxy required -',
    );
    expect(out).toMatch(/would inject the proxy, in\n {14}spec\.override\n {14}spec\.rabbitmq\n/);
    expect(code).toBe(1);
  });

  it('says what is drifted: what somebody edited, and would be put back', async () => {
    const object = injected();
    const text = JSON.stringify(object).replace(
      '--backend-proxy-protocol=v2',
      '--backend-proxy-protocol=off',
    );
    play(JSON.parse(text) as KubeObject);
    const { code, out } = await explain('RabbitmqCluster', 'rabbit', '-n', 'openstack');
    expect(out).toMatch(/would change the proxy, in\n.*containers\[1\]\.args\[1\]/);
    expect(out).toContain('warning:    container amqp-proxy: args was edited by hand');
    expect(code).toBe(1);
  });

  it('says what would be taken out, denied, or forbidden by the namespace', async () => {
    play(injected());
    server.answers.set('/api/v1/namespaces/openstack', {
      object: {
        apiVersion: 'v1',
        kind: 'Namespace',
        metadata: { name: 'openstack', labels: { 'quorumbridge.io/injection': 'disabled' } },
      },
    });
    const forbidden = await explain('rabbitmqcluster', 'rabbit', '-n', 'openstack');
    expect(forbidden.out).toContain('[namespace-disabled]');
    expect(forbidden.out).toContain('would take the proxy out');
    play(cluster({ ...ASKING, [ANNOTATION.proxyArgs]: 'x' }));
    server.answers.set('/api/v1/namespaces/openstack', { status: 403 });
    const denied = await explain('rabbitmqcluster', 'rabbit', '-n', 'openstack');
    expect(denied.out).toMatch(
      /next write: would be denied \(422\): metadata\.annotations\[quorumbridge\.io\/proxy-args\]/,
    );
    expect(denied.out).toMatch(/warning: .*namespace forbids injection is not known: .*403/);
    expect(denied.code).toBe(1);
  });

  it('says that the owner is not known, and that the proxy stays', async () => {
    play(injected());
    server.answers.set(apiPath('rabbit'), { status: 403 });
    const { code, out } = await explain('rabbitmqcluster', 'rabbit', '-n', 'openstack');
    expect(out).toMatch(/owner: {6}not known: the API server answered 403/);
    expect(out).toContain('decision:   keep');
    expect(out).toContain('would change nothing');
    expect(code).toBe(0);
  });

  it('explains a RabbitMq: its state, what is wrong with it, and its cluster', async () => {
    const rabbitmq = (spec: KubeObject['metadata'], status: KubeObject['metadata']): KubeObject => ({
      apiVersion: 'rabbitmq.openstack.org/v1beta1',
      kind: 'RabbitMq',
      metadata: { name: 'rabbit', namespace: 'openstack' },
      spec,
      status,
    });
    play(
      rabbitmq(
        { queueType: 'Mirrored', targetVersion: '4.0' },
        { currentVersion: '3.9', proxyRequired: false },
      ),
    );
    const wrong = await explain('rabbitmq', 'rabbit', '-n', 'openstack');
    expect(wrong.out).toBe(
      [
        'RabbitMq openstack/rabbit',
        '  state:      version 3.9, target 4.0, queue type Mirrored, phase -, proxy required false',
        '  problem:    spec.queueType: "Mirrored" is not possible, for "4.0" is the target, and RabbitMQ 4 has neither mirrored queues nor their policies: write "Quorum"',
        '  next write: would set spec.queueType to Quorum',
        '  cluster:    there is no RabbitmqCluster of this name',
        '',
      ].join('\n'),
    );
    expect(wrong.code).toBe(1);
    play(rabbitmq({ queueType: 'Quorum' }, { currentVersion: '4.0' }));
    play(cluster());
    const right = await explain('rabbitmq', 'rabbit', '-n', 'openstack');
    expect(right.out).toMatch(
      /^RabbitMq openstack\/rabbit\n.*\n\nRabbitmqCluster openstack\/rabbit: no proxy\n/,
    );
    expect(right.code).toBe(0);
  });

  it('writes JSON for programs', async () => {
    play(injected());
    const { code, out } = await explain('rabbitmqcluster', 'rabbit', '-n', 'openstack', '--json');
    expect(JSON.parse(out)).toEqual({
      objects: [
        {
          kind: 'RabbitmqCluster',
          namespace: 'openstack',
          name: 'rabbit',
          owner: { state: 'absent' },
          decision: { inject: 'yes', reason: 'enable-proxy', message: expect.any(String) },
          proxy: {
            image: 'proxy:1',
            mode: 'transparent',
            preset: 'generic',
            logLevel: 'info',
            form: 'plain',
            isOurs: true,
          },
          admission: { would: 'change nothing' },
          warnings: [],
        },
      ],
    });
    expect(code).toBe(0);
  });

  it.each<[string, string[], RegExp]>([
    [
      'an object that is not there',
      ['rmq', 'other', '-n', 'openstack'],
      /there is no RabbitmqCluster openstack\/other.*--namespace/,
    ],
    [
      'a kind that has nothing to do with it',
      ['pod', 'x'],
      /--kind: "pod" is none.*RabbitmqCluster, StatefulSet or RabbitMq/,
    ],
    ['no name', ['rmq'], /option --name is required/],
    ['one argument too many', ['rmq', 'a', 'b'], /too many arguments/],
    [
      'no kubeconfig',
      ['rmq', 'a', '--kubeconfig=/nowhere'],
      /--kubeconfig: \/nowhere cannot be read: name a kubeconfig$/m,
    ],
  ])('ends with code 2 for %s', async (_what, args, message) => {
    const { code, out, err } = await explain(...args);
    expect(err).toMatch(message);
    expect(out).toBe('');
    expect(code).toBe(2);
  });

  it('takes the namespace of the kubeconfig, and what may not be read ends with code 2', async () => {
    server.answers.set('/apis/rabbitmq.com/v1beta1/namespaces/default/rabbitmqclusters/rabbit', {
      status: 403,
    });
    const { code, err } = await explain('rabbitmqclusters', 'rabbit');
    expect(err).toMatch(
      /403 to GET rabbitmqclusters\.rabbitmq\.com default\/rabbit: grant this account "get"/,
    );
    expect(code).toBe(2);
  });
});
