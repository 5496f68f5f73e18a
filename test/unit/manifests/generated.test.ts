import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { UPGRADE_PHASES } from '../../../common/contract.ts';
import { RABBITMQ_CRD, type Schema } from '../../../common/crd.ts';
import { isProxyRequired } from '../../../common/kube/facts.ts';
import { MANIFESTS, generatedFiles } from '../../support/manifests.ts';
import { objectsIn } from './sources.ts';

const files = generatedFiles();
const [version] = RABBITMQ_CRD.spec.versions;
const root: Schema = version.schema.openAPIV3Schema;

function at(path: string): Schema | undefined {
  return path.split('.').reduce<Schema | undefined>((schema, key) => schema?.properties?.[key], root);
}

/** Every schema in a schema, with its path. */
function all(schema: Schema, path = ''): [string, Schema][] {
  const below = Object.entries(schema.properties ?? {}).flatMap(([key, one]) => all(one, `${path}.${key}`));
  return [[path, schema], ...below, ...(schema.items === undefined ? [] : all(schema.items, `${path}[]`))];
}

describe('the generated manifests', () => {
  it.each([...files.keys()])('%s is what `npm run manifests` makes', (path) => {
    const file = join(MANIFESTS, path);
    expect(existsSync(file)).toBe(true);
    expect(readFileSync(file, 'utf8')).toBe(files.get(path));
  });

  it('are all of the chart but the templates that values change most', () => {
    const present = globSync('chart/{crds,templates}/*', { cwd: MANIFESTS });
    const byHand = present.filter((path) => !files.has(path));
    expect(byHand.sort()).toEqual([
      'chart/templates/_helpers.tpl',
      'chart/templates/dashboard.yaml',
      'chart/templates/deployment.yaml',
    ]);
  });
});

describe('the CRD of RabbitMq', () => {
  it('has the columns Version, Target, Phase, Proxy, Clients and Age, each of a field that there is', () => {
    const columns = version.additionalPrinterColumns;
    expect(columns.map(({ name }) => name).join(' ')).toBe('Version Target Phase Proxy Clients Age');
    const types = columns.slice(0, -1).map(({ jsonPath, type }) => [at(jsonPath.slice(1))?.type, type]);
    expect(types).toEqual([
      ['string', 'string'],
      ['string', 'string'],
      ['string', 'string'],
      ['boolean', 'boolean'],
      ['integer', 'integer'],
    ]);
    expect(columns.at(-1)).toMatchObject({ type: 'date', jsonPath: '.metadata.creationTimestamp' });
  });

  it('is structural: every field has a type, lists say what they hold, and nothing that is unknown is lost', () => {
    const schemas = all(root);
    expect(schemas.length).toBeGreaterThan(25);
    expect(schemas.filter(([, { type }]) => type === undefined)).toEqual([]);
    expect(schemas.filter(([, { type, items }]) => (type === 'array') !== (items !== undefined))).toEqual([]);
    const lists = schemas.filter(([, { type }]) => type === 'array');
    expect(lists.filter(([, list]) => list['x-kubernetes-list-type'] === undefined)).toEqual([]);
    const foreign = ['spec', 'spec.override', 'spec.override.statefulSet', 'status', 'status.clients'];
    expect(foreign.filter((path) => at(path)?.['x-kubernetes-preserve-unknown-fields'] !== true)).toEqual([]);
  });

  it('has a status of its own, and the phases of an upgrade', () => {
    expect(version.subresources).toEqual({ status: {} });
    expect(at('status.upgradePhase')?.enum).toEqual(UPGRADE_PHASES);
  });

  it.each(['3.9', '4.2', '4.2.1', '10.0'])('takes the version %s', (text) => {
    expect(text).toMatch(new RegExp(at('spec.targetVersion')!.pattern!));
  });

  it.each(['4', 'v4.2', '4.2.', '4.2.1.0', '4.2-rc.1', ''])('takes no version %j', (text) => {
    expect(text).not.toMatch(new RegExp(at('spec.targetVersion')!.pattern!));
  });

  it('has proxyRequired as a boolean, while the text of the infra operator is understood when read', () => {
    expect(at('status.proxyRequired')?.type).toBe('boolean');
    const read = (proxyRequired: boolean | string): boolean =>
      isProxyRequired({ apiVersion: 'v1', kind: 'RabbitMq', metadata: {}, status: { proxyRequired } });
    expect([true, 'True', false, 'False'].map(read)).toEqual([true, true, false, false]);
  });

  it('is the kind and version of the sample', () => {
    const [sample] = objectsIn('samples/rabbitmq.yaml');
    const { group, names } = RABBITMQ_CRD.spec;
    expect([sample?.apiVersion, sample?.kind]).toEqual([`${group}/${version.name}`, names.kind]);
    const spec = sample?.['spec'] as Record<string, unknown>;
    expect(Object.keys(spec).filter((key) => at(`spec.${key}`) === undefined)).toEqual([]);
  });
});
