import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CONNECTION_PARAMETERS } from '../../../../proxy/admin/connections.ts';
import { DELAY_PARAMETERS, SEVER_PARAMETERS } from '../../../../proxy/faults/operations.ts';
import { ask } from '../../../support/admin-client.ts';
import { startTestProxy } from '../../../support/peers.ts';

const document = readFileSync(new URL('../../../../docs/admin.md', import.meta.url), 'utf8');

/** The cells of every row of the table under a heading, without its head. */
function rows(heading: string): string[][] {
  const section = document.split(`${heading}\n`)[1]!.split('\n##')[0]!;
  const lines = section.split('\n').filter((line) => line.startsWith('| '));
  return lines.slice(1).map((line) => line.slice(2, -2).replaceAll('`', '').split(' | '));
}

describe('docs/admin.md', () => {
  it('lists exactly what the API does, and what is open to everybody', async () => {
    await using proxy = await startTestProxy({ backend: '127.0.0.1:1' });
    const { paths } = (await ask(proxy, '/openapi.json')).json() as {
      paths: Record<string, Record<string, { summary: string; security: unknown[] }>>;
    };
    const operations = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, one]) => ({ path, method: method.toUpperCase(), ...one })),
    );
    const elsewhere = ['/livez', '/readyz', '/metrics', '/clients'];
    const described = operations
      .filter(({ path }) => !elsewhere.includes(path))
      .map(({ method, path, summary }) => [method, path, summary]);
    expect(new Set(rows('## Paths').map(String))).toEqual(new Set(described.map(String)));
    expect(rows('## Paths')).toHaveLength(described.length);
    const open = operations.filter(({ security }) => security.length === 0).map(({ path }) => path);
    expect(open.sort()).toEqual([...elsewhere, '/openapi.json', '/'].sort());
    for (const path of elsewhere.concat('/openapi.json')) expect(document).toContain(`\`${path}\``);
  });

  it.each([
    ['### Connections', CONNECTION_PARAMETERS],
    ['#### Severing', SEVER_PARAMETERS],
    ['#### Delaying', DELAY_PARAMETERS],
  ])('lists the parameters with their defaults: %s', (heading, table) => {
    const parameters = table.map((parameter) => [
      parameter.name,
      'default' in parameter ? String(parameter.default) : 'all',
      parameter.description,
    ]);
    expect(rows(heading)).toEqual(parameters);
  });
});
