// Names in the pages that say what to do are names of the code; references and the commands' own pages have tests of their own.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import packageJson from '../../../package.json' with { type: 'json' };
import { REPLY_NAME } from '../../../amqp/constants.ts';
import { configOption } from '../../../cli/command.ts';
import { createMetrics } from '../../../common/metrics.ts';
import { PROXY_ERRORS } from '../../../proxy/errors.ts';
import { ask } from '../../support/admin-client.ts';
import { documents } from '../../support/docs.ts';
import { registeredMetrics } from '../../support/docs/metrics.ts';
import { COMMANDS } from '../../support/docs/options.ts';
import { startTestProxy, type TestProxy } from '../../support/peers.ts';
import { HOME } from '../../support/processes.ts';

const NAMES = ['runbooks', 'deployment', 'tuning', 'troubleshooting', 'architecture', 'metrics', 'errors'];
const pages = [...documents()].filter(([path]) => NAMES.some((name) => path === `docs/${name}.md`));

const own = Object.values(registeredMetrics())
  .flat()
  .flatMap(({ name, type }) => (type === 'histogram' ? [`${name}_bucket`, name] : [name]));
const ofNode = [...(await createMetrics().text()).matchAll(/^# TYPE (\w+) /gm)].map(([, name]) => name!);
const metrics = [...own, ...ofNode];

const options = new Set(
  [...COMMANDS.flatMap((spec) => Object.values(spec.options)), ...Object.values(configOption)].map(
    ({ name }) => name,
  ),
);
/** Of Node, npm scripts and kubectl. */
const OPTIONS_OF_OTHERS = [
  'max-old-space-size',
  'dry-run',
  'expose-gc',
  'max-semi-space-size',
  'no-concurrent-recompilation',
  'no-maglev',
  'invocation-count-for-maglev',
  'initial-old-space-size',
  'heap-growing-percent',
  'always-sparkplug',
  'single-threaded',
  'optimize-for-size',
  'lite-mode',
  'jitless',
];

/** What stands in a page as code, within a line, but for commands of others. */
const inlineCode = (text: string): string[] =>
  [...text.replaceAll(/^```[^]*?^```$/gm, '').matchAll(/`([^`]+)`/g)]
    .map(([, code]) => code!)
    .filter((code) => !/^(?:kubectl|rabbitmq|node|systemctl) /.test(code));

it('looks at every page that it is about', () => {
  expect(pages).toHaveLength(NAMES.length);
});

describe.each(pages)('%s', (_, text) => {
  it('names metrics that there are', () => {
    const named = [...text.matchAll(/\b(?:quorumbridge_(?:proxy|webhook|reconciler)|nodejs|process)_\w+/g)];
    const known = (name: string): boolean =>
      // `…_pool_` and the like is where several begin.
      name.endsWith('_') ? metrics.some((one) => one.startsWith(name)) : metrics.includes(name);
    const unknown = named.map(([name]) => name).filter((name) => !known(name));
    // A command that looks for a part of a name finds what contains it.
    expect(unknown.filter((name) => !metrics.some((one) => one.startsWith(`${name}_`)))).toEqual([]);
  });

  it('names options that there are', () => {
    const named = inlineCode(text).flatMap((code) => [...code.matchAll(/(?<![\w-])--([a-z][a-z-]+)/g)]);
    const unknown = named
      .map(([, name]) => name!)
      .filter((name) => !options.has(name) && !OPTIONS_OF_OTHERS.includes(name));
    expect(unknown).toEqual([]);
  });

  it('names error codes and reply codes that there are', () => {
    const known = new Set([...Object.keys(PROXY_ERRORS), ...Object.values(REPLY_NAME)]);
    const named = [
      ...text.matchAll(/\b(?:BACKEND|CLIENT|BREAKER|POOL|LOGIN|CHANNEL|CONNECTION|ACCESS)_[A-Z_]+\b/g),
    ];
    // `BACKEND_` and the like is where several begin.
    const whole = named.map(([name]) => name).filter((name) => !name.endsWith('_'));
    expect(whole.filter((name) => !known.has(name))).toEqual([]);
  });

  it('names scripts, benchmarks and files that there are', () => {
    const scripts = [...text.matchAll(/\bnpm run ([\w-]+)/g)].map(([, name]) => name!);
    expect(scripts.filter((name) => !Object.hasOwn(packageJson.scripts, name))).toEqual([]);
    const files = [
      ...text.matchAll(
        /(?<![\w./-])((?:bench|manifests|test|amqp|proxy|common|webhook|reconciler|cli)\/[\w./-]*\w)/g,
      ),
    ];
    expect(files.map(([, path]) => path!).filter((path) => !existsSync(join(HOME, path)))).toEqual([]);
  });
});

it('docs/architecture.md names the layers of the pool by their files', () => {
  const table = new Map(pages)
    .get('docs/architecture.md')!
    .split('| layer | what it is |')[1]!
    .split('\n\n')[0]!;
  const layers = [...table.matchAll(/^\| ([a-z, -]+) \|/gm)].flatMap(([, names]) => names!.split(', '));
  expect(layers.length).toBeGreaterThan(8);
  expect(layers.filter((name) => !existsSync(join(HOME, `proxy/pool/${name}.ts`)))).toEqual([]);
});

describe('the admin port, as the pages ask it', () => {
  let proxy: TestProxy;
  beforeAll(async () => {
    proxy = await startTestProxy({ backend: '127.0.0.1:1' });
  });
  afterAll(() => proxy[Symbol.asyncDispose]());

  it('has the paths that are asked for', async () => {
    const { paths } = (await ask(proxy, '/openapi.json')).json() as { paths: Record<string, unknown> };
    const asked = pages.flatMap(([, text]) => [...text.matchAll(/127\.0\.0\.1:15695(\/[\w/{}.-]*)/g)]);
    expect(asked.length).toBeGreaterThan(5);
    const unknown = asked.map(([, path]) => path!).filter((path) => !Object.hasOwn(paths, path));
    expect(unknown).toEqual([]);
  });
});
