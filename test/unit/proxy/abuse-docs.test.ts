import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { type Abuse, FRAMES, LOGINS, NO_CLIENTS } from '../../support/abuses.ts';

/** What `lastWords` tells, as the document has it. */
const ANSWERS: Record<string, string> = {
  header: 'the header of AMQP 0-9-1, and the end',
  end: 'the end, by RabbitMQ',
  'let in': 'is let in',
  'close-ok': 'is taken',
};

/** A row for each pair of answers: those who get them, and what they get in the two modes. */
function rows(when: string, all: readonly Abuse[]): string[] {
  const groups = new Map<string, string[]>();
  for (const [name, , transparent, pool = transparent] of all) {
    const told = [transparent, pool]
      .map((answer) => ANSWERS[answer] ?? answer.replace('close ', ''))
      .join(' | ');
    groups.set(told, [...(groups.get(told) ?? []), name]);
  }
  return [...groups].map(([told, names]) => `| ${when} | ${names.join(', ')} | ${told} |`);
}

it('what clients get that misbehave is in the document, as the tests with a broker have it', () => {
  const document = readFileSync(new URL('../../../docs/proxy.md', import.meta.url), 'utf8');
  const table = [
    ...rows(
      'first',
      NO_CLIENTS.map(([name, octets]) => [name, octets, 'header']),
    ),
    ...rows('for its login', LOGINS),
    ...rows('on an open connection', FRAMES),
  ];
  const section = document.slice(
    document.indexOf('## Clients that misbehave'),
    document.indexOf('## Health and'),
  );
  expect(section.split('\n').filter((line) => /^\| (?:first|for its|on an)/.test(line))).toEqual(table);
});
