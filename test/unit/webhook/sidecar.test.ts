import { describe, expect, it } from 'vitest';
import { resolveOptions } from '../../../common/resolve.ts';
import { proxyOptions } from '../../../proxy/options.ts';
import { readPoolOptions } from '../../../proxy/pool/options.ts';
import { DEFAULT_RESOURCES, renderSidecar, sidecarFingerprint } from '../../../webhook/sidecar.ts';
import type { Sidecar } from '../../../webhook/sidecar.ts';

const PLAIN: Sidecar = {
  form: 'plain',
  image: 'i',
  host: '127.0.0.1',
  tls: undefined,
  tlsOnAmqpPort: false,
  backendTls: undefined,
  proxyProtocol: true,
  resources: DEFAULT_RESOURCES,
  logLevel: 'info',
  mode: undefined,
  preset: undefined,
  rules: false,
  extraArgs: [],
};
const TLS = { volume: { name: 'tls' }, only: false, client: { ca: 'same-volume', auth: 'require' } } as const;

/** What the proxy makes of arguments as the container gives them. */
function accepted(sidecar: Sidecar) {
  const properties = new Map(
    Object.entries(proxyOptions).map(([property, { name }]) => [name as string, property]),
  );
  const flags: Record<string, string[]> = {};
  for (const arg of renderSidecar(sidecar)['args'] as string[]) {
    const [name = '', value = 'true'] = arg.slice(2).split(/=(.*)/s);
    (flags[properties.get(name) ?? `unknown ${name}`] ??= []).push(value);
  }
  expect(Object.keys(flags).filter((flag) => flag.startsWith('unknown'))).toEqual([]);
  return resolveOptions(proxyOptions, { flags, env: {} }).values;
}

describe("the container's arguments", () => {
  it('are options that the proxy has, with values that it takes', () => {
    expect(accepted(PLAIN)).toMatchObject({
      backend: { host: '127.0.0.1', port: 5673 },
      backendProxyProtocol: 'v2',
      statsInterval: 300,
    });
    expect(accepted({ ...PLAIN, tls: TLS, proxyProtocol: false })).toMatchObject({
      listen: [
        { scheme: 'amqp', port: 5672 },
        { scheme: 'amqps', port: 5671 },
      ],
      tlsCert: '/etc/rabbitmq-tls/tls.crt',
      tlsKey: '/etc/rabbitmq-tls/tls.key',
      tlsCa: '/etc/rabbitmq-tls/ca.crt',
      tlsClientAuth: 'require',
      backendProxyProtocol: 'off',
      adminListen: { host: '0.0.0.0', port: 15_695 },
    });
    const pool = accepted({ ...PLAIN, mode: 'pool', extraArgs: ['--resume', '--pool-wait-timeout=5'] });
    expect(pool).toMatchObject({ mode: 'pool', backendProxyProtocol: 'v2', resume: true });
    expect(readPoolOptions(pool.mode, pool)).toMatchObject({ resume: true, waitTimeout: 5000 });
    expect(accepted({ ...PLAIN, backendTls: { serverName: 'mq.ns.svc', ca: '/ca.crt' } })).toMatchObject({
      backendTls: true,
      backendTlsServerName: 'mq.ns.svc',
      backendTlsCa: '/ca.crt',
    });
    expect(accepted({ ...PLAIN, mode: 'observe', preset: 'celery', rules: true })).toMatchObject({
      mode: 'observe',
      preset: 'celery',
      rules: '/etc/quorumbridge/rules.yaml',
    });
    expect(accepted({ ...PLAIN, extraArgs: ['--log-level=debug'] })).toMatchObject({ logLevel: 'debug' });
    expect(accepted({ ...PLAIN, tls: TLS, host: '::1', logLevel: 'warn' })).toMatchObject({
      backend: { host: '::1', port: 5673 },
      listen: [
        { scheme: 'amqp', host: '::', port: 5672 },
        { scheme: 'amqps', host: '::', port: 5671 },
      ],
      adminListen: { host: '::', port: 15_695 },
      logLevel: 'warn',
    });
    expect(accepted({ ...PLAIN, tls: { ...TLS, only: true }, tlsOnAmqpPort: true })).toMatchObject({
      listen: [
        { scheme: 'amqps', port: 5672 },
        { scheme: 'amqps', port: 5671 },
      ],
    });
  });
});

describe("the container's fingerprint", () => {
  it('is blind to the order of keys and the spelling of quantities, and to nothing else', () => {
    const container = renderSidecar(PLAIN);
    const respelled = Object.fromEntries(
      Object.entries({
        ...container,
        resources: { limits: { memory: '0.25Gi', cpu: 0.5 }, requests: { cpu: '0.1', memory: '131072Ki' } },
      }).toReversed(),
    );
    expect(sidecarFingerprint(respelled)).toBe(sidecarFingerprint(container));
    for (const change of [{ image: 'j' }, { args: [] }, { env: [] }, { resources: {} }]) {
      expect(sidecarFingerprint({ ...container, ...change })).not.toBe(sidecarFingerprint(container));
    }
  });
});
