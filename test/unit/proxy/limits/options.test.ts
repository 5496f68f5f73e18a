import { describe, expect, it } from 'vitest';
import { resolveOptions } from '../../../../common/resolve.ts';
import { readAccess, readLimits } from '../../../../proxy/limits/options.ts';
import { proxyOptions } from '../../../../proxy/options.ts';

function resolved(flags: Record<string, string | string[]>) {
  return resolveOptions(proxyOptions, { flags: { backend: '127.0.0.1:5673', ...flags }, env: {} }).values;
}

describe('limits', () => {
  it('are none, unless they are given', () => {
    expect(readLimits(resolved({}))).toEqual({
      enforce: true,
      perUser: 0,
      perVirtualHost: 0,
      perAddress: 0,
      channels: 0,
      handshakes: 0,
      publishes: 0,
    });
  });

  it.each([
    ['maxConnectionsPerUser', '-1'],
    ['maxChannelsPerClient', '65535'],
    ['publishRate', '1.5'],
    ['limits', 'off'],
    ['allow', ['10.0.0.1/8']],
    ['userVhosts', ['nova']],
  ])('are not --%s=%s', (option, value) => {
    expect(() => resolved({ [option]: value })).toThrow('expected');
  });
});

describe('guest is kept to loopback', () => {
  it.each([
    ['where RabbitMQ is beside the proxy and takes all clients for local ones', {}, true],
    ['by whatever name that is', { backend: 'localhost:5673' }, true],
    ['and by v6', { backend: '[::1]:5673' }, true],
    ['and not where RabbitMQ is told who comes', { backendProxyProtocol: 'v2' }, false],
    ['but where clients share what it is told', { backendProxyProtocol: 'v2', mode: 'pool' }, true],
    ['and not where RabbitMQ sees a proxy from elsewhere', { backend: 'rabbitmq.example:5672' }, false],
    ['nor by its address', { backend: '10.0.0.7:5672' }, false],
    ['unless that is asked for', { backend: '10.0.0.7:5672', guestLoopbackOnly: 'true' }, true],
    ['and not where that is asked for', { guestLoopbackOnly: 'false' }, false],
  ])('%s', (_name, flags, expected) => {
    expect(readAccess(resolved(flags)).guestLoopbackOnly).toBe(expected);
  });
});

it('is written to the log as it was given', () => {
  const { allow, userVhosts } = resolved({ allow: ['10.0.0.0/8', '::1'], userVhosts: ['nova=a*'] });
  expect(JSON.stringify({ allow, userVhosts })).toBe(
    '{"allow":["10.0.0.0/8","::1"],"userVhosts":[{"user":"nova","virtualHost":"a*"}]}',
  );
});
