import { describe, expect, expectTypeOf, it } from 'vitest';
import { parseConfig } from '../../../common/config-file.ts';
import { UsageError } from '../../../common/errors.ts';
import { type HostPort, type OptionTable, flag, hostPort, integer, text } from '../../../common/options.ts';
import { type OptionSources, resolveOptions } from '../../../common/resolve.ts';

const base = { description: 'An option.' };
const table = {
  backend: { ...base, name: 'backend', argument: 'HOST:PORT', env: 'T_BACKEND', parse: hostPort() },
  maxConnections: {
    ...base,
    name: 'max-connections',
    argument: 'N',
    env: 'T_MAX',
    default: 100,
    parse: integer({ min: 1 }),
  },
  backendTls: { ...base, name: 'backend-tls', env: 'T_BACKEND_TLS', parse: flag() },
  dnsName: {
    ...base,
    name: 'dns-name',
    argument: 'NAME',
    env: 'T_DNS_NAME',
    repeatable: true,
    parse: text(),
  },
  password: {
    ...base,
    name: 'password',
    argument: 'TEXT',
    env: 'T_PASSWORD',
    secret: true,
    parse: (given: string) => {
      if (given.length < 8) throw new Error('expected at least 8 characters');
      return given;
    },
  },
} satisfies OptionTable;

function resolve(
  sources: Partial<OptionSources> & { yaml?: string },
): ReturnType<typeof resolveOptions<typeof table>> {
  const { yaml, ...rest } = sources;
  return resolveOptions(table, {
    flags: {},
    env: {},
    ...rest,
    ...(yaml === undefined ? {} : { file: parseConfig('q.yaml', yaml) }),
  });
}

function problem(sources: Parameters<typeof resolve>[0]): string {
  try {
    resolve(sources);
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('resolveOptions', () => {
  it('takes flag before environment before file before default, and says which', () => {
    const flags = { maxConnections: '1' };
    const env = { T_MAX: '2' };
    const yaml = 'max-connections: 3';
    const seen = [{ flags, env, yaml }, { env, yaml }, { yaml }, {}].map((sources) => {
      const { values, origins } = resolve(sources);
      return [values.maxConnections, origins.maxConnections];
    });
    expect(seen).toEqual([
      [1, 'flag'],
      [2, 'environment'],
      [3, 'file'],
      [100, 'default'],
    ]);
  });

  it('leaves undefined, false or empty what nobody gave and has no default', () => {
    expect(resolve({}).values).toEqual({
      backend: undefined,
      maxConnections: 100,
      backendTls: false,
      dnsName: [],
      password: undefined,
    });
  });

  it('knows the types of its values', () => {
    const { values } = resolve({});
    expectTypeOf(values.backend).toEqualTypeOf<HostPort | undefined>();
    expectTypeOf(values.maxConnections).toEqualTypeOf<number>();
    expectTypeOf(values.backendTls).toEqualTypeOf<boolean>();
    expectTypeOf(values.dnsName).toEqualTypeOf<readonly string[]>();
  });

  it('reads a repeatable option from many flags, a comma list in the environment, and a list or one value in the file', () => {
    expect(resolve({ flags: { dnsName: ['a', 'b'] } }).values.dnsName).toEqual(['a', 'b']);
    expect(resolve({ env: { T_DNS_NAME: 'a, b' } }).values.dnsName).toEqual(['a', 'b']);
    expect(resolve({ yaml: 'dns-name: [a, b]' }).values.dnsName).toEqual(['a', 'b']);
    expect(resolve({ yaml: 'dns-name: a' }).values.dnsName).toEqual(['a']);
  });

  it('lets the last of several flags win where one value is meant', () => {
    expect(resolve({ flags: { maxConnections: ['1', '2'] } }).values.maxConnections).toBe(2);
  });

  it('reads a boolean from a bare flag, the environment and the file, and lets a flag say false', () => {
    expect(resolve({ flags: { backendTls: true } }).values.backendTls).toBe(true);
    expect(resolve({ env: { T_BACKEND_TLS: '1' } }).values.backendTls).toBe(true);
    expect(resolve({ yaml: 'backend-tls: true' }).values.backendTls).toBe(true);
    expect(resolve({ flags: { backendTls: 'false' }, yaml: 'backend-tls: true' }).values.backendTls).toBe(
      false,
    );
  });

  it('counts an empty environment variable and a null in the file as not given', () => {
    const { values, origins } = resolve({ env: { T_MAX: '' }, yaml: 'max-connections:' });
    expect([values.maxConnections, origins.maxConnections]).toEqual([100, 'default']);
  });

  it('names source, value and expectation of what is not valid', () => {
    const expected = '"0" is not valid: expected a whole number of at least 1';
    expect(problem({ flags: { maxConnections: '0' } })).toBe(`option --max-connections: ${expected}`);
    expect(problem({ env: { T_MAX: '0' } })).toBe(`environment variable T_MAX: ${expected}`);
    expect(problem({ yaml: '# top\nmax-connections: 0' })).toBe(
      `key "max-connections" of q.yaml:2:1: ${expected}`,
    );
  });

  it('never repeats a secret', () => {
    expect(problem({ env: { T_PASSWORD: 'hunter2' } })).toBe(
      'environment variable T_PASSWORD: the value is not valid: expected at least 8 characters',
    );
  });

  it('reports everything that is wrong at once', () => {
    const lines = problem({ flags: { backend: 'x' }, env: { T_MAX: 'x' }, yaml: 'dns-names: x' }).split('\n');
    expect(lines).toEqual([
      'key "dns-names" of q.yaml:1:1: no such option; known keys are backend, backend-tls, dns-name, max-connections, password',
      'option --backend: "x" is not valid: expected HOST:PORT, with an IPv6 address in brackets as in [::1]:5672',
      'environment variable T_MAX: "x" is not valid: expected a whole number of at least 1',
    ]);
  });

  it('refuses a list where one value is meant and a mapping anywhere', () => {
    expect(problem({ yaml: 'max-connections: [1]' })).toContain('expected one value, not a list');
    expect(problem({ yaml: 'max-connections: { a: 1 }' })).toContain('expected a plain value');
    expect(problem({ yaml: 'dns-name: [a, [b]]' })).toContain('expected a list of plain values');
  });

  it('says all three ways to give a required option', () => {
    const required = { backend: { ...table.backend, required: true } } satisfies OptionTable;
    expect(() => resolveOptions(required, { flags: {}, env: {} })).toThrow(
      'option --backend is required: give --backend=HOST:PORT, the environment variable T_BACKEND or the key "backend" in the configuration file',
    );
  });
});
