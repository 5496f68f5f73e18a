import { describe, expect, it } from 'vitest';
import { resolveOptions } from '../../../../common/resolve.ts';
import { type PoolOptions, poolOptions, readPoolOptions } from '../../../../proxy/pool/options.ts';

function settings(flags: Record<string, string | true>, mode: 'pool' | 'observe' | 'transparent' = 'pool') {
  return readPoolOptions(mode, resolveOptions(poolOptions, { flags, env: {} }).values);
}

/** Each option that takes a value, with one that is valid. */
const VALUES = Object.entries(poolOptions)
  .filter(([property]) => property !== 'resume')
  .map(([property, { name }]) => [name, property, /size|backlog/.test(name) ? '1MiB' : '7'] as const);

describe('the options of pool mode', () => {
  it('are complete without being given, as their documentation says', () => {
    expect(settings({})).toEqual({
      maxUpstreamConnections: 100,
      maxChannelsPerConnection: 200,
      idleTimeout: 60_000,
      waitTimeout: 10_000,
      heartbeat: 30,
      resume: false,
      resumeTimeout: 60_000,
      maxMessageSize: 16_777_216,
      clientBacklog: 16_777_216,
    } satisfies PoolOptions);
    const shown = Object.entries(poolOptions).flatMap(([property, spec]) =>
      'hiddenDefault' in spec ? [[property, spec.hiddenDefault]] : [],
    );
    const said = Object.fromEntries(shown) as Record<string, string>;
    expect(settings({ ...said, resume: true })).toEqual({ ...settings({}), resume: true });
  });

  it('are taken as given: times in seconds, sizes with their unit', () => {
    expect(
      settings({
        maxUpstreamConnections: '3',
        maxChannelsPerConnection: '1',
        poolIdleTimeout: '500ms',
        poolWaitTimeout: '1m',
        upstreamHeartbeat: '0',
        resume: true,
        resumeTimeout: '2m',
        maxMessageSize: '128MiB',
        clientBacklog: '65536',
      }),
    ).toEqual({
      maxUpstreamConnections: 3,
      maxChannelsPerConnection: 1,
      idleTimeout: 500,
      waitTimeout: 60_000,
      heartbeat: 0,
      resume: true,
      resumeTimeout: 120_000,
      maxMessageSize: 134_217_728,
      clientBacklog: 65_536,
    } satisfies PoolOptions);
  });

  it.each(VALUES)('--%s is refused in the other modes, also with its default', (name, property, value) => {
    const shown = Object.entries(poolOptions).find(([key]) => key === property)![1];
    const text = `option --${name} needs --mode=pool`;
    expect(() => settings({ [property]: value }, 'transparent')).toThrow(text);
    expect(() => settings({ [property]: value }, 'observe')).toThrow(text);
    expect(() =>
      settings({ [property]: (shown as { hiddenDefault: string }).hiddenDefault }, 'observe'),
    ).toThrow(text);
  });

  it('--resume is refused in the other modes, and --resume=false is not', () => {
    expect(() => settings({ resume: true }, 'transparent')).toThrow('option --resume needs --mode=pool');
    expect(settings({ resume: 'false' }, 'transparent')).toBeUndefined();
    expect(settings({}, 'observe')).toBeUndefined();
  });

  it('--resume-timeout needs --resume', () => {
    expect(() => settings({ resumeTimeout: '7' })).toThrow('option --resume-timeout needs --resume');
    expect(() => settings({ resumeTimeout: '7', resume: 'false' })).toThrow('needs --resume');
  });

  it.each([
    ['maxUpstreamConnections', '0', 'a whole number from 1 to 100000'],
    ['maxUpstreamConnections', '100001', 'a whole number from 1 to 100000'],
    ['maxChannelsPerConnection', '0', 'a whole number from 1 to 65535'],
    ['maxChannelsPerConnection', '65536', 'a whole number from 1 to 65535'],
    ['poolIdleTimeout', '0', 'a duration from 0.1 to 86400 seconds'],
    ['poolIdleTimeout', '25h', 'a duration from 0.1 to 86400 seconds'],
    ['poolWaitTimeout', '0', 'a duration from 0.1 to 3600 seconds'],
    ['poolWaitTimeout', '2h', 'a duration from 0.1 to 3600 seconds'],
    ['upstreamHeartbeat', '500ms', 'whole seconds'],
    ['upstreamHeartbeat', '2h', 'a duration from 0 to 3600 seconds'],
    ['resumeTimeout', '0', 'a duration from 0.1 to 86400 seconds'],
    ['maxMessageSize', '1023', 'a size from 1024 to 536870912 octets'],
    ['maxMessageSize', '1GiB', 'a size from 1024 to 536870912 octets'],
    ['clientBacklog', '65535', 'a size from 65536 to 1073741824 octets'],
    ['clientBacklog', '2GiB', 'a size from 65536 to 1073741824 octets'],
  ])('%s is refused as %s', (property, value, expected) => {
    expect(() => settings({ [property]: value, resume: true })).toThrow(`expected ${expected}`);
  });
});
