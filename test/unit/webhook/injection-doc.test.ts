import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ANNOTATION, NAMESPACE_LABEL, PORT, TLS_CA_FOLDER, TLS_FOLDER } from '../../../common/contract.ts';
import { REASONS } from '../../../webhook/reasons.ts';

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

  it('names the ports, folders and the label', () => {
    for (const fact of [
      ...Object.values(PORT).map(String),
      TLS_FOLDER,
      TLS_CA_FOLDER,
      `${NAMESPACE_LABEL.key}=${NAMESPACE_LABEL.disabled}`,
    ]) {
      expect(DOC).toContain(fact);
    }
  });
});
