import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  filePath,
  flag,
  formatHostPort,
  hostPort,
  integer,
  namespaceName,
  namespacedName,
  octets,
  oneOf,
  seconds,
  text,
} from '../../../common/options.ts';

describe('hostPort', () => {
  it.each([
    ['localhost:5672', { host: 'localhost', port: 5672 }],
    ['10.1.2.3:0', { host: '10.1.2.3', port: 0 }],
    ['[::1]:65535', { host: '::1', port: 65535 }],
    ['[fe80::1%eth0]:1', { host: 'fe80::1%eth0', port: 1 }],
  ])('reads %s', (written, address) => {
    expect(hostPort()(written)).toEqual(address);
  });

  it.each([
    '',
    'localhost',
    ':5672',
    '5672',
    '::1:5672',
    '[::1]',
    '[]:1',
    'a b:1',
    'amqp://a:1',
    'a:',
    'a:b',
    'u@h:1',
  ])('refuses %j', (written) => {
    expect(() => hostPort()(written)).toThrow('expected HOST:PORT');
  });

  it('refuses a port beyond 65535', () => {
    expect(() => hostPort()('a:65536')).toThrow('expected a port from 0 to 65535');
  });

  it('takes a bare port where there is a default host', () => {
    const parse = hostPort({ defaultHost: '0.0.0.0' });
    expect(parse('15695')).toEqual({ host: '0.0.0.0', port: 15695 });
    expect(parse(':15695')).toEqual({ host: '0.0.0.0', port: 15695 });
    expect(() => parse('')).toThrow('expected HOST:PORT');
  });

  it('reads back every address that formatHostPort writes', () => {
    const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
    fc.assert(
      fc.property(host, fc.nat(65535), (host, port) => {
        expect(hostPort()(formatHostPort({ host, port }))).toEqual({ host, port });
      }),
    );
  });
});

describe('integer', () => {
  it('reads whole numbers within its bounds, both included', () => {
    const parse = integer({ min: -1, max: 10 });
    expect(['-1', '0', '10'].map(parse)).toEqual([-1, 0, 10]);
    for (const written of ['-2', '11']) expect(() => parse(written)).toThrow('from -1 to 10');
  });

  it.each(['', ' 1', '1.5', '1e3', '0x10', '9007199254740993', 'one'])('refuses %j', (written) => {
    expect(() => integer()(written)).toThrow('expected a whole number');
  });

  it('says which bound there is', () => {
    expect(() => integer({ min: 1 })('0')).toThrow('a whole number of at least 1');
    expect(() => integer({ max: 1 })('2')).toThrow('a whole number of at most 1');
  });
});

describe('seconds', () => {
  it.each([
    ['30', 30],
    ['30s', 30],
    ['0.5', 0.5],
    ['500ms', 0.5],
    ['5m', 300],
    ['2h', 7200],
    ['0', 0],
  ])('reads %s as %d seconds', (written, value) => {
    expect(seconds()(written)).toBe(value);
  });

  it.each(['', '-1', '5 m', '1d', 'm', '1e3', 'Infinity', '.5'])('refuses %j', (written) => {
    expect(() => seconds()(written)).toThrow('such as 30, 30s, 500ms or 5m');
  });

  it('holds its bounds in seconds, whatever the unit', () => {
    const parse = seconds({ min: 1, max: 60 });
    expect(parse('1m')).toBe(60);
    for (const written of ['999ms', '61s']) expect(() => parse(written)).toThrow('from 1 to 60 seconds');
  });
});

describe('octets', () => {
  it.each([
    ['0', 0],
    ['65536', 65_536],
    ['64KiB', 65_536],
    ['16MiB', 16_777_216],
    ['1GiB', 1_073_741_824],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
  ])('reads %s as %d octets', (written, value) => {
    expect(octets()(written)).toBe(value);
  });

  it.each([
    '',
    '-1',
    '1.5MiB',
    '1 MiB',
    '1MB',
    '1kib',
    'MiB',
    '1e3',
    'Infinity',
    '9007199254740992',
    '9007199254740991GiB',
  ])('refuses %j', (written) => {
    expect(() => octets()(written)).toThrow('such as 65536, 64KiB or 16MiB');
  });

  it('holds its bounds in octets, whatever the unit', () => {
    const parse = octets({ min: 1024, max: 2_097_152 });
    expect(['1KiB', '2MiB'].map(parse)).toEqual([1024, 2_097_152]);
    for (const written of ['1023', '2049KiB', '1GiB'])
      expect(() => parse(written)).toThrow('from 1024 to 2097152 octets');
  });
});

describe('the other parsers', () => {
  it('oneOf takes its words only and lists them', () => {
    expect(oneOf('off', 'v2')('v2')).toBe('v2');
    expect(() => oneOf('off', 'v2')('V2')).toThrow('expected one of off, v2');
  });

  it('flag reads true, false, 1 and 0', () => {
    expect(['true', '1', 'false', '0'].map(flag())).toEqual([true, true, false, false]);
    expect(() => flag()('yes')).toThrow('expected true or false');
  });

  it('filePath and text refuse what is empty', () => {
    expect(filePath()('/a b/c')).toBe('/a b/c');
    expect(text()('x y')).toBe('x y');
    expect(() => filePath()('')).toThrow('expected the path of a file');
    expect(() => filePath()('a\0b')).toThrow('expected the path of a file');
    expect(() => text()('  ')).toThrow('expected a text that is not empty');
  });
});

describe('namespacedName and namespaceName', () => {
  it('read NAMESPACE/NAME and NAMESPACE', () => {
    expect(namespacedName()('a-b/c.d-1')).toEqual({ namespace: 'a-b', name: 'c.d-1' });
    expect(namespaceName()('a-b')).toBe('a-b');
  });

  it.each(['', 'a', '/a', 'a/', 'a/b/c', 'A/b', 'a.b/c', 'a/b_c', `${'a'.repeat(64)}/b`])(
    'take no %j',
    (written) => {
      expect(() => namespacedName()(written)).toThrow(/expected NAMESPACE\/NAME/);
    },
  );

  it.each(['', 'a.b', 'a/b', 'A', '-a', 'a'.repeat(64)])('take no namespace %j', (written) => {
    expect(() => namespaceName()(written)).toThrow(/expected the name of a namespace/);
  });
});
