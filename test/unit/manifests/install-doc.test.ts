import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { RABBITMQ_CRD } from '../../../common/crd.ts';
import packageJson from '../../../package.json' with { type: 'json' };
import { MANIFESTS } from '../../support/manifests.ts';
import { HOME } from '../../support/processes.ts';
import { objectsIn } from './sources.ts';

const doc = readFileSync(join(HOME, 'docs/install.md'), 'utf8');

interface ValueSchema {
  description?: string;
  enum?: string[];
  properties?: Record<string, ValueSchema>;
}

const schema = JSON.parse(readFileSync(join(MANIFESTS, 'chart/values.schema.json'), 'utf8')) as ValueSchema;
const values = objectsIn('chart/values.yaml')[0] as unknown as Record<string, unknown>;

/** The values that are described, by their path; what has a description is one value, whatever it holds. */
function leaves({ properties = {} }: ValueSchema, path: string[] = []): [string[], ValueSchema][] {
  return Object.entries(properties).flatMap(([key, one]) =>
    one.description === undefined ? leaves(one, [...path, key]) : [[[...path, key], one]],
  );
}

const described = leaves(schema).filter(([path]) => path[0] !== 'global');

function defaultOf(path: readonly string[]): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], values);
}

function shown(value: unknown): string {
  if (value === '') return 'none';
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
}

/** The rows of the table with this head, as written. */
function rows(head: string): string[] {
  const lines = doc.split('\n');
  const start = lines.indexOf(head);
  expect(start).toBeGreaterThan(0);
  const rest = lines.slice(start + 2);
  return rest.slice(
    0,
    rest.findIndex((line) => !line.startsWith('|')),
  );
}

/** What the first column names, in alphabetical order. */
function namesIn(head: string): string[] {
  return rows(head)
    .map((row) => row.split('`')[1] ?? '')
    .sort();
}

describe('docs/install.md', () => {
  it('has exactly the values of the chart, with default and meaning', () => {
    const expected = described.map(([path, { description, enum: choices }]) => {
      const among = choices === undefined ? '' : ` ${choices.map((one) => `\`${one}\``).join(', ')}.`;
      return `| \`${path.join('.')}\` | ${shown(defaultOf(path))} | ${description}${among} |`;
    });
    expect(rows('| value | default | meaning |')).toEqual(expected);
  });

  it('has the columns of kubectl get', () => {
    const columns = RABBITMQ_CRD.spec.versions[0].additionalPrinterColumns.slice(0, -1);
    const found = rows('| column | field |').map((row) => row.split(/[|`]/).map((cell) => cell.trim()));
    expect(found.map(([, name, , field]) => [name, field])).toEqual(
      columns.map(({ name, jsonPath }) => [name, jsonPath.slice(1)]),
    );
  });

  it('names every overlay and every component', () => {
    const overlays = globSync('overlays/*', { cwd: MANIFESTS }).sort();
    expect(namesIn('| overlay | certificates | replicas |')).toEqual(
      overlays.map((path) => `manifests/${path}`),
    );
    const components = globSync('*', { cwd: join(MANIFESTS, 'components') }).sort();
    expect(namesIn('| component | what it adds |')).toEqual(components);
  });

  it('names files and images that there are', () => {
    const paths = [...doc.matchAll(/(?<!quorumbridge\/)\bmanifests\/[\w./-]*\w/g)].map(([path]) => path);
    expect(paths.length).toBeGreaterThan(7);
    expect(paths.filter((path) => !existsSync(join(HOME, path)))).toEqual([]);
    for (const name of ['control', 'proxy'])
      expect(doc).toContain(`quorumbridge/${name}:${packageJson.version}`);
    expect(packageJson.scripts).toHaveProperty('manifests');
  });

  it('deletes the webhook configurations before all else', () => {
    const commands = [...doc.split('## Uninstallation')[1]!.matchAll(/^ *kubectl delete (\S+)/gm)];
    expect(commands.map(([, what]) => what)[0]).toBe(
      'mutatingwebhookconfigurations,validatingwebhookconfigurations',
    );
    expect(commands.at(-1)?.[1]).toBe('crd');
  });
});

describe("the chart's values", () => {
  it('are all in the schema, and the schema has no others', () => {
    const paths = described.map(([path]) => path.join('.'));
    const present = (value: unknown, path: string[]): string[] => {
      if (paths.includes(path.join('.')) || typeof value !== 'object' || value === null)
        return [path.join('.')];
      return Object.entries(value).flatMap(([key, one]) => present(one, [...path, key]));
    };
    expect(present(values, []).sort()).toEqual(paths.sort());
  });

  it('have no default that the schema would refuse', () => {
    const wrong = described.filter(
      ([path, { enum: choices }]) => choices !== undefined && !choices.includes(String(defaultOf(path))),
    );
    expect(wrong).toEqual([]);
  });
});
