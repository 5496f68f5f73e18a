// The proxy as docs/deployment.md has it deployed by hand: what the samples tell it are options that there are, and times that fit.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { command as config } from '../../../cli/config.ts';
import { PORT } from '../../../common/contract.ts';
import { readConfig } from '../../../common/config-file.ts';
import { formatHostPort } from '../../../common/options.ts';
import { resolveOptions } from '../../../common/resolve.ts';
import packageJson from '../../../package.json' with { type: 'json' };
import { type ProxyOptions, proxyOptions } from '../../../proxy/options.ts';
import { PROXY_FLAGS } from '../../support/bundle.ts';
import { documents } from '../../support/docs.ts';
import type { KubeObject } from '../../support/kube-api.ts';
import { MANIFESTS } from '../../support/manifests.ts';
import { type Deployment, objectsIn } from './sources.ts';

interface PodSpec {
  terminationGracePeriodSeconds: number;
  volumes: { name: string; configMap?: { name: string }; secret?: { secretName: string } }[];
  containers: {
    image: string;
    args: string[];
    ports: { name: string; containerPort: number }[];
    volumeMounts: { name: string; mountPath: string }[];
  }[];
}

const objects = objectsIn('samples/proxy-deployment.yaml');
const of = (kind: string): KubeObject => objects.find((object) => object.kind === kind)!;
const deployment = of('Deployment') as Deployment;
const pod = deployment.spec.template.spec as unknown as PodSpec;
const container = pod.containers[0]!;
const labels = deployment.spec.template.metadata.labels;
const unit = readFileSync(join(MANIFESTS, 'samples/quorumbridge-proxy.service'), 'utf8');

/** The last value of a key of the unit. */
const inUnit = (key: string): string => [...unit.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].at(-1)![1]!;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'quorumbridge-samples-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The options of a configuration file of this text. */
function optionsOf(text: string): ProxyOptions {
  const path = join(folder, 'proxy.yaml');
  writeFileSync(path, text);
  return resolveOptions(proxyOptions, { flags: {}, env: {}, file: readConfig(path) }).values;
}

describe('samples/proxy-deployment.yaml', () => {
  const text = (): string => (of('ConfigMap')['data'] as Record<string, string>)['proxy.yaml']!;

  it('configures the proxy by options that there are, for the ports that the container has', () => {
    const { listen, adminListen } = optionsOf(text());
    const ports = [...listen, adminListen].map(({ port }) => port);
    expect(ports).toEqual([PORT.amqp, PORT.amqps, PORT.admin]);
    expect(container.ports.map(({ containerPort }) => containerPort)).toEqual(ports);
    expect(container.image).toBe(`quorumbridge/proxy:${packageJson.version}`);
  });

  it('mounts what the configuration names', () => {
    const { tlsCert, tlsKey } = optionsOf(text());
    const folders = container.volumeMounts.map(({ mountPath }) => mountPath);
    const files = [container.args[0]!.replace('--config=', ''), tlsCert!, tlsKey!];
    for (const file of files) expect(folders).toContain(file.slice(0, file.lastIndexOf('/')));
    expect(pod.volumes.map(({ configMap, secret }) => configMap?.name ?? secret?.secretName)).toEqual([
      of('ConfigMap').metadata.name,
      'amqp-proxy-tls',
    ]);
  });

  it('leaves the proxy the time that its drain takes', () => {
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(optionsOf(text()).drainTimeout + 5);
  });

  it('selects its pods everywhere, by the label that they have', () => {
    const selectors = objects.flatMap(({ spec }) => {
      const { selector, podSelector } = (spec ?? {}) as Record<string, { matchLabels?: object } | undefined>;
      const found = selector ?? podSelector;
      return found === undefined ? [] : [found.matchLabels ?? found];
    });
    expect(selectors).toHaveLength(4);
    expect(new Set(selectors.map((one) => JSON.stringify(one)))).toEqual(new Set([JSON.stringify(labels)]));
  });
});

describe('samples/quorumbridge-proxy.service', () => {
  const example = (): string =>
    /^# \/etc\/quorumbridge\/proxy\.yaml\n([^]*?)^```$/m.exec(documents().get('docs/deployment.md')!)![1]!;

  it('checks the configuration before it starts with it, by commands that there are', () => {
    const path = '/etc/quorumbridge/proxy.yaml';
    expect(inUnit('ExecStartPre')).toBe(
      `/usr/bin/node /opt/quorumbridge/proxy.cjs ${config.name} check ${path}`,
    );
    expect(inUnit('ExecStart')).toBe(
      `/usr/bin/node ${PROXY_FLAGS.join(' ')} /opt/quorumbridge/proxy.cjs proxy --config=${path}`,
    );
    expect(inUnit('ExecReload')).toBe('/bin/kill -HUP $MAINPID');
  });

  it('is given a configuration by the document that is valid, with its audit log where the unit lets it write', () => {
    const { backend, auditLog, adminListen } = optionsOf(example());
    expect(formatHostPort(backend)).toBe(`127.0.0.1:${PORT.backend}`);
    expect(formatHostPort(adminListen)).toBe(`127.0.0.1:${PORT.admin}`);
    expect(auditLog).toBe(`/var/log/${inUnit('LogsDirectory')}/audit.log`);
  });

  it('leaves the proxy the time that its drain takes, and the descriptors that its clients need', () => {
    const { drainTimeout, maxConnections } = optionsOf(example());
    expect(Number(inUnit('TimeoutStopSec'))).toBeGreaterThanOrEqual(drainTimeout + 15);
    expect(Number(inUnit('LimitNOFILE'))).toBeGreaterThan(2 * maxConnections + 100);
  });

  it('has a key once, but for what adds up', () => {
    const keys = [...unit.matchAll(/^(\w+)=/gm)].map(([, key]) => key!);
    expect(keys.filter((key, at) => keys.indexOf(key) !== at)).toEqual(['SystemCallFilter']);
  });
});

it('every example of a configuration in docs/deployment.md is YAML', () => {
  const text = documents().get('docs/deployment.md')!;
  const blocks = [...text.matchAll(/^```yaml\n([^]*?)^```$/gm)].map(([, block]) => parse(block!) as unknown);
  expect(blocks.length).toBeGreaterThan(0);
  for (const block of blocks) expect(block).toBeTypeOf('object');
});
