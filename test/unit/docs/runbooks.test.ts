import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { INSTALL, PORT, PROXY_CONTAINER } from '../../../common/contract.ts';
import { alertsByProgram } from '../../support/docs/alerts.ts';
import { documents } from '../../support/docs.ts';
import { HOME } from '../../support/processes.ts';
import { objectsIn } from '../manifests/sources.ts';

const document = documents().get('docs/runbooks.md')!;
const alerts = [...alertsByProgram().values()].flat();

/** The runbooks: their texts by their headings. */
const runbooks = new Map(
  document
    .split(/^(?=##+ )/m)
    .map((section): [string, string] => [/^##+ (.+)/.exec(section)?.[1] ?? '', section])
    .filter(([heading]) => heading.startsWith('Quorumbridge')),
);

describe('docs/runbooks.md', () => {
  it('has a runbook for each alert, and for nothing else', () => {
    expect([...runbooks.keys()].sort()).toEqual(alerts.map(({ alert }) => alert).sort());
  });

  it.each(alerts)('$alert points to its runbook, which has all its parts', ({ alert, annotations }) => {
    expect(annotations.runbook).toBe(`docs/runbooks.md#${alert.toLowerCase()}`);
    const parts = [...runbooks.get(alert)!.matchAll(/^\*\*([A-Z][a-z ]+?):?\*\*/gm)].map(([, part]) => part);
    expect(parts.filter((part) => part !== 'What to do')).toEqual([
      'Users',
      'See more',
      'Causes',
      'Wake somebody',
    ]);
  });

  it.each(alerts)('$alert is looked at by commands', ({ alert }) => {
    const text = runbooks.get(alert)!;
    const commands = [...text.matchAll(/^```sh\n([^]*?)^```$/gm)].flatMap(([, block]) =>
      block!.trim().split('\n'),
    );
    expect(commands.length).toBeGreaterThan(0);
    expect(commands.filter((line) => !/^(?:kubectl|curl|openssl) /.test(line))).toEqual([]);
  });

  it('looks into logs for what the programs log', () => {
    const sources = globSync('{proxy,webhook,reconciler,common,cli}/**/*.ts', { cwd: HOME });
    const source = sources.map((path) => readFileSync(join(HOME, path), 'utf8')).join('\n');
    const own = document.split('\n').filter((line) => / logs /.test(line) && !/-c rabbitmq /.test(line));
    const patterns = own.flatMap((line) =>
      [...line.matchAll(/(?:grep|-e) (?:-i )?(?:'([^']+)'|([A-Za-z]+))/g)].map(
        ([, quoted, word]) => quoted ?? word!,
      ),
    );
    expect(patterns.length).toBeGreaterThan(10);
    // Codes are looked at with all other names; NAME is to be replaced.
    const texts = patterns.filter((pattern) => !/^"(?:code|level)":|^NAME$/.test(pattern));
    expect(texts.filter((text) => !source.includes(text))).toEqual([]);
  });

  it('names containers, ports and objects of the installation', () => {
    const containers = new Set([...document.matchAll(/ -c ([\w-]+)/g)].map(([, name]) => name));
    expect(containers).toEqual(new Set([PROXY_CONTAINER, 'rabbitmq']));
    const ports = new Set([...document.matchAll(/127\.0\.0\.1:(\d+)\//g)].map(([, port]) => Number(port)));
    const [webhook] = objectsIn('base/service.yaml') as unknown as [
      { spec: { ports: { name: string; port: number }[] } },
    ];
    const control = webhook.spec.ports.find(({ name }) => name === 'admin')!.port;
    expect(ports).toEqual(new Set([PORT.admin, control]));
    const names = new Set([...document.matchAll(/quorumbridge-(?:system|webhook|reconciler)[\w-]*/g)].flat());
    expect([...names].sort()).toEqual(
      [INSTALL.reconciler, INSTALL.namespace, INSTALL.name, INSTALL.secret].sort(),
    );
  });
});
