import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  ANNOTATION,
  BACKEND_HOSTS,
  LOG_LEVELS,
  MODES,
  NAMESPACE_LABEL,
  PORT,
  PRESETS,
  RULES_FILE,
  RULES_FOLDER,
  SETUP_CONTAINER,
  SIDECAR_MODES,
  TLS_CA_FOLDER,
  TLS_FOLDER,
  TLS_PORTS,
} from '../../../common/contract.ts';
import { REASONS } from '../../../webhook/reasons.ts';
import { RULES_VOLUME } from '../../../webhook/rules.ts';

const DOC = readFileSync(new URL('../../../docs/injection.md', import.meta.url), 'utf8');

/** The rows of the table below a heading, as lists of cells. */
function tableUnder(heading: string): string[][] {
  const section = DOC.split(/^#+ /m).find((part) => part.startsWith(`${heading}\n`));
  const rows = (section ?? '').split('\n').filter((line) => line.startsWith('| `'));
  return rows.map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

describe('docs/injection.md', () => {
  it('lists every reason with its effect and its words, and no other', () => {
    const expected = Object.entries(REASONS).map(([reason, { inject, text }]) => [
      `\`${reason}\``,
      inject,
      text,
    ]);
    expect(tableUnder('Reasons')).toEqual(expected);
  });

  it('lists every annotation, and no other', () => {
    const listed = tableUnder('Annotations').map(([key]) => key);
    expect(listed).toEqual(Object.values(ANNOTATION).map((key) => `\`${key}\``));
  });

  it.each([
    ['mode', MODES],
    ['preset', PRESETS],
  ] as const)('lists the values of the annotation %s, the default first', (name, values) => {
    const row = tableUnder('Annotations').find(([key]) => key === `\`${ANNOTATION[name]}\``);
    expect([...row![2]!.matchAll(/`"(\w+)"`/g)].map(([, value]) => value)).toEqual(values);
    expect(row![2]).toMatch(new RegExp(`"${values[0]}"\` \\(the proxy's default\\)`));
  });

  it.each([
    ['logLevel', LOG_LEVELS, 'info'],
    ['sidecarMode', SIDECAR_MODES, 'plain'],
    ['backendHost', BACKEND_HOSTS, '127.0.0.1'],
    ['tlsPort', TLS_PORTS, '5671'],
  ] as const)(
    'lists the values of the annotation %s, and says which is the default',
    (name, values, normal) => {
      const row = tableUnder('Annotations').find(([key]) => key === `\`${ANNOTATION[name]}\``)![2]!;
      expect([...row.matchAll(/`"([^"]+)"`/g)].map(([, value]) => value)).toEqual(values);
      expect(row.match(/`"[^"]+"` \(the default\)/g)).toEqual([`\`"${normal}"\` (the default)`]);
    },
  );

  it('names the ports, folders, volumes and the label', () => {
    for (const fact of [
      ...Object.values(PORT).map(String),
      TLS_FOLDER,
      TLS_CA_FOLDER,
      `${RULES_FOLDER}/${RULES_FILE}`,
      RULES_VOLUME,
      SETUP_CONTAINER,
      `${NAMESPACE_LABEL.key}=${NAMESPACE_LABEL.disabled}`,
    ]) {
      expect(DOC).toContain(fact);
    }
  });
});
