import { describe, expect, it } from 'vitest';
import { resolveOptions } from '../../../../common/resolve.ts';
import { readAccess, readLimits } from '../../../../proxy/limits/options.ts';
import { proxyOptions } from '../../../../proxy/options.ts';
import { readPoolOptions } from '../../../../proxy/pool/options.ts';

function resolved(flags: Record<string, string | string[]>) {
  return resolveOptions(proxyOptions, { flags: { backend: '127.0.0.1:5673', ...flags }, env: {} }).values;
}

describe('limits', () => {
  it('are none, unless they are given', () => {
    expect(readLimits(resolved({}), undefined)).toEqual({
      enforce: true,
      perUser: 0,
      perVirtualHost: 0,
      perAddress: 0,
      channels: 0,
      frameSize: 0,
      handshakes: 0,
      publishes: 0,
      bufferPerClient: 0,
      buffer: 0,
    });
  });

  it.each([
    ['maxConnectionsPerUser', '-1'],
    ['maxChannelsPerClient', '65535'],
    ['maxFrameSize', '4095'],
    ['maxFrameSize', '4GiB'],
    ['maxBufferPerClient', '3MiB'],
    ['maxBuffer', '1000KiB'],
    ['publishRate', '1.5'],
    ['limits', 'off'],
    ['allow', ['10.0.0.1/8']],
    ['userVhosts', ['nova']],
  ])('are not --%s=%s', (option, value) => {
    expect(() => resolved({ [option]: value })).toThrow('expected');
  });
});

describe('what is held of one client', () => {
  const MEBIBYTE = 1024 * 1024;
  const held = (flags: Record<string, string>): number => {
    const options = resolved({ mode: 'pool', ...flags });
    return readLimits(options, readPoolOptions('pool', options)).bufferPerClient;
  };

  it('is bounded in mode pool by itself, by what one that does nothing wrong may have', () => {
    expect(held({})).toBe(80 * MEBIBYTE);
    expect(held({ clientBacklog: '1MiB', maxMessageSize: '2MiB' })).toBe(9 * MEBIBYTE);
    expect(held({ maxBufferPerClient: '0' })).toBe(0);
    expect(held({ maxBufferPerClient: '32MiB' })).toBe(32 * MEBIBYTE);
  });

  it('is not less than a client needs that does nothing wrong', () => {
    expect(() => held({ maxBufferPerClient: '31MiB' })).toThrow(
      'option --max-buffer-per-client: 32505856 octets are less than --client-backlog and --max-message-size together, which are 33554432: make these smaller, or it larger',
    );
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
