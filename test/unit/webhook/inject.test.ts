import { readFileSync } from 'node:fs';
import { Readable, Writable } from 'node:stream';
import { parse, parseAllDocuments } from 'yaml';
import { describe, expect, it } from 'vitest';
import { parseRules } from '../../../proxy/policy/rules-file.ts';
import { injectManifests } from '../../../webhook/inject.ts';
import { textAt, valueAt } from '../../../common/kube/json.ts';
import type { KubeObject } from '../../../common/kube/types.ts';
import { CLUSTER_TEMPLATE, IMAGE, allowed, containersOf, proxyOf } from './objects.ts';

const SAMPLE = readFileSync(
  new URL('../../../manifests/samples/rabbitmqcluster.yaml', import.meta.url),
  'utf8',
);
const STATEFUL_SET = readFileSync(
  new URL('../../../manifests/samples/statefulset.yaml', import.meta.url),
  'utf8',
);
const RULES = readFileSync(
  new URL('../../../manifests/samples/rabbitmqcluster-rules.yaml', import.meta.url),
  'utf8',
);

async function run(...texts: string[]) {
  const files = texts.map((text, index) => ({ name: `${index + 1}.yaml`, text }));
  return injectManifests(files, { image: IMAGE });
}

async function failure(...texts: string[]): Promise<string> {
  return run(...texts).then(
    () => 'no failure',
    (error: Error) => `${error.name}: ${error.message}`,
  );
}

function cluster(indent = ''): string {
  const lines = [
    'apiVersion: rabbitmq.com/v1beta1',
    'kind: RabbitmqCluster',
    'metadata:',
    '  name: mq',
    '  annotations: {quorumbridge.io/inject: "true"}',
  ];
  return lines.map((line) => `${indent}${line}\n`).join('');
}

/** Each line says the one before twice. */
const ALIAS_BOMB = `apiVersion: v1
kind: X
a0: &a0 [x, x]
${Array.from({ length: 16 }, (_, index) => `a${index + 1}: &a${index + 1} [*a${index}, *a${index}]\n`).join('')}`;

describe('injecting manifests', () => {
  it.each([
    ['rabbitmqcluster.yaml', SAMPLE],
    ['statefulset.yaml', STATEFUL_SET],
  ])('gives the object that the webhook makes, and two passes are one: %s', async (_name, text) => {
    const once = await run(text);
    expect(parse(once.text)).toEqual(allowed(parse(text) as KubeObject).object);
    expect((await run(once.text)).text).toBe(once.text);
  });

  it('adds the rules beside the ConfigMap that has them, and takes them out again', async () => {
    const { text } = await run(RULES);
    const [configMap, injected] = parseAllDocuments(text).map((document) => document.toJS() as KubeObject);
    expect(text.startsWith(RULES.split('---\n')[0]!)).toBe(true);
    const rules = textAt(configMap, 'data', 'rules.yaml') ?? '';
    expect(parseRules('rules.yaml', rules).rules).toHaveLength(2);
    expect(proxyOf(injected!)['args']).toEqual(
      expect.arrayContaining(['--preset=openstack', '--rules=/etc/quorumbridge/rules.yaml']),
    );
    expect(valueAt(injected, ...CLUSTER_TEMPLATE, 'spec', 'volumes', 0, 'configMap', 'name')).toBe(
      configMap!.metadata['name'],
    );
    expect((await run(text)).text).toBe(text);
    const left = (await run(text.replace('enable-proxy', 'clients-reconfigured'))).text;
    expect(left).not.toMatch(/volumes|amqp-proxy/);
  });

  it('keeps the comments, and every line that is not part of the change', async () => {
    const lines = (await run(SAMPLE)).text.split('\n');
    const gone = SAMPLE.split('\n').filter((line) => !lines.includes(line));
    expect(gone).toEqual([]);
  });

  it('gives every other document back character by character', async () => {
    const others = [
      '# head\nkind:   ConfigMap # odd   spacing\napiVersion: v1\ndata: {a: "1",   b: [x,y]}\n',
      '---\n',
      '---\n# only a comment\n',
      '--- # third\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\n...\n',
      '---\napiVersion: v1\nkind: Service\nmetadata:\n    name: wide',
    ];
    expect((await run(others.join(''))).text).toBe(others.join(''));
    const mixed = [others[0]!, '---\n', cluster(), others[3]!, others[4]!];
    const { text } = await run(mixed.join(''));
    expect(text.startsWith(`${others[0]!}---\n`)).toBe(true);
    expect(text.endsWith(others[3]! + others[4]!)).toBe(true);
    expect(parseAllDocuments(text)).toHaveLength(4);
  });

  it('keeps directives, document ends and the way lists are indented', async () => {
    const text = `%YAML 1.2\n---\n${cluster()}spec:\n  tolerations:\n  - key: a\n...\n---\nkind: X\napiVersion: v1\n`;
    const result = (await run(text)).text;
    expect(result).toContain('%YAML 1.2\n---\n');
    expect(result).toContain('  tolerations:\n  - key: a\n');
    expect(result).toMatch(/\n\.\.\.\n---\nkind: X\napiVersion: v1\n$/);
    expect(parseAllDocuments(result)).toHaveLength(2);
  });

  it('goes through the items of a List', async () => {
    const text = `apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1 # mine\n  kind: Secret\n- ${cluster('  ').trimStart()}`;
    const result = await run(text);
    const { items } = parse(result.text) as { items: KubeObject[] };
    expect(proxyOf(items[1]!)['image']).toBe(IMAGE);
    expect(result.text).toContain('- apiVersion: v1 # mine\n  kind: Secret\n');
    expect(result.explanations.map((each) => each.object)).toEqual([
      'Secret (no name)',
      'RabbitmqCluster mq',
    ]);
  });

  it('takes JSON and gives JSON', async () => {
    const text = JSON.stringify(parse(SAMPLE), null, 4);
    const result = await run(text);
    expect(JSON.parse(result.text)).toEqual(parse((await run(SAMPLE)).text));
    expect(result.text).toContain('\n    "apiVersion"');
  });

  it('follows anchors, aliases and merge keys', async () => {
    const text = `${cluster()}spec:\n  base: &base {replicas: 1}\n  override:\n    statefulSet: &set\n      <<: *base\n  other: *set\n`;
    const result = await run(text);
    const before = parse(text, { merge: true }) as KubeObject;
    expect(parse(result.text, { merge: true })).toEqual(allowed(before).object);
  });

  it('joins several files into one stream', async () => {
    const { text, explanations } = await run(cluster().trimEnd(), SAMPLE, '---\napiVersion: v1\nkind: Pod\n');
    const objects = parseAllDocuments(text).map((document) => document.toJS() as KubeObject);
    expect(objects.map((object) => object.kind)).toEqual(['RabbitmqCluster', 'RabbitmqCluster', 'Pod']);
    expect(explanations.map((each) => `${each.file} ${each.document}`)).toEqual([
      '1.yaml 1',
      '2.yaml 1',
      '3.yaml 1',
    ]);
  });

  it('looks at the RabbitMqs and Namespaces among the manifests', async () => {
    const plain = cluster().replace(/ {2}annotations.*\n/, '');
    const owner =
      'apiVersion: rabbitmq.openstack.org/v1beta1\nkind: RabbitMq\nmetadata: {name: mq}\nstatus: {proxyRequired: "True"}\n';
    const namespace =
      'apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {quorumbridge.io/injection: disabled}}\n';
    const reasonOf = async (...texts: string[]): Promise<string | undefined> =>
      (await run(...texts)).explanations.find((each) => each.object === 'RabbitmqCluster mq')?.decision
        .reason;
    expect(await reasonOf(plain)).toBe('not-required');
    expect(await reasonOf(plain, owner)).toBe('proxy-required');
    expect(await reasonOf(plain, owner, namespace)).toBe('namespace-disabled');
  });

  it('takes the proxy out again, down to the text', async () => {
    const injected = (await run(STATEFUL_SET)).text.replace('enable-proxy', 'clients-reconfigured');
    const before = STATEFUL_SET.replace('enable-proxy', 'clients-reconfigured');
    expect(parse((await run(injected)).text)).toEqual(parse(before));
    expect(containersOf(parse((await run(injected)).text) as KubeObject)).toHaveLength(1);
  });
});

describe('manifests that can not be used', () => {
  it.each<[string, string, RegExp]>([
    [
      'broken YAML',
      `${SAMPLE}---\na: [1\nb: 2\n`,
      /^ManifestError: 1\.yaml: document 2, line \d+, column \d+: /,
    ],
    [
      'a key twice',
      'apiVersion: v1\nkind: A\nkind: B\n',
      /1\.yaml: document 1, line 3, column 1: Map keys must be unique/,
    ],
    ['a list', '- a\n', /1\.yaml: document 1, line 1, column 1: it is no Kubernetes object/],
    ['a template', 'kind: {{ .Values.kind }}\n', /1\.yaml: document 1, line 1/],
    ['no kind', 'apiVersion: v1\n', /1\.yaml: document 1, line 1, column 1: kind: missing/],
    [
      'an item without apiVersion',
      'apiVersion: v1\nkind: List\nitems:\n- kind: X\n',
      /line 4, column 3: items\[0\]\.apiVersion: missing/,
    ],
    [
      'items that are no list',
      'apiVersion: v1\nkind: List\nitems: 1\n',
      /line 3, column 8: items: it is no list/,
    ],
    ['metadata that is no mapping', 'apiVersion: v1\nkind: X\nmetadata: 1\n', /metadata: it is no mapping/],
    ['an alias bomb', ALIAS_BOMB, /1\.yaml: document 1.*alias/],
    ['an unknown anchor', 'kind: *x\napiVersion: v1\n', /1\.yaml: document 1, line 1, column 1: .*alias.*x/],
    [
      'a configuration that can not be read',
      `${cluster()}spec:\n  rabbitmq:\n    advancedConfig: "[{"\n`,
      /document 1, line 8, column 21: spec\.rabbitmq\.advancedConfig: RabbitmqCluster mq: .*line 1, column 3/,
    ],
  ])('are refused with file, document and place: %s', async (_name, text, message) => {
    expect(await failure(text)).toMatch(message);
  });

  it('are all named at once', async () => {
    const bad = `${cluster()}spec: {override: 1}\n---\n${cluster()}spec: {rabbitmq: 2}\n`;
    expect((await failure(bad)).split('\n')).toHaveLength(2);
    expect((await failure('a: [', '- x')).split('\n')).toHaveLength(2);
  });
});

describe('quorumbridge inject', () => {
  async function inject(text: string, explain: boolean): Promise<{ code: number; out: string; err: string }> {
    const { command } = await import('../../../cli/inject.ts');
    const written = { out: '', err: '' };
    const sink = (key: 'out' | 'err'): Writable =>
      new Writable({
        write(chunk: Buffer, _encoding, done) {
          written[key] += chunk.toString();
          done();
        },
      });
    const configuration = {
      table: command.options,
      file: undefined,
      read: () => expect.fail('it was read again'),
    };
    const io = {
      stdin: Readable.from([text]),
      stdout: sink('out'),
      stderr: sink('err'),
      origins: {},
      configuration,
    };
    const code = await command.run({ filename: ['-'], explain, image: IMAGE }, io);
    return { code, ...written };
  }

  it('writes manifests to standard output and explanations to standard error', async () => {
    const result = await inject(`${SAMPLE}---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\n`, true);
    expect(result.code).toBe(0);
    expect(parseAllDocuments(result.out)).toHaveLength(2);
    expect(result.err.split('\n')).toEqual([
      '-: document 1: RabbitmqCluster openstack/rabbitmq: injected: the annotation rabbitmq.openstack.org/enable-proxy is "true" [enable-proxy]',
      '-: document 2: Secret s: left alone: only RabbitmqClusters and StatefulSets can carry the proxy [other-kind]',
      '',
    ]);
    expect((await inject(result.out, true)).err).toContain('injected already');
    expect((await inject(result.out.replace('enable-proxy', 'clients-reconfigured'), true)).err).toContain(
      'proxy removed',
    );
  });

  it('says nothing without --explain but warnings', async () => {
    expect((await inject(SAMPLE, false)).err).toBe('');
    expect((await inject(SAMPLE.replace('"true"', '"yes"'), false)).err).toContain('warning: annotation');
  });

  it('ends with 2 and writes no manifest when the input is invalid', async () => {
    const result = await inject('- a\n', false);
    expect(result).toMatchObject({ code: 2, out: '' });
    expect(result.err).toMatch(/^quorumbridge inject: -: document 1, line 1, column 1: /);
  });
});
