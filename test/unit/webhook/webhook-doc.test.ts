import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { EVENTS } from '../../../webhook/events.ts';
import { DEFAULT_REASONS } from '../../../webhook/defaults.ts';
import {
  CLUSTER,
  ENDPOINT_SLICE,
  EVENT,
  RABBITMQ,
  STATEFUL_SET,
  resourceName,
} from '../../../common/kube/resources.ts';
import { RULES } from '../../../webhook/validate.ts';

const doc = readFileSync(new URL('../../../docs/webhook.md', import.meta.url), 'utf8');

/** The cells of each row of the tables under a heading. */
function rows(heading: string): string[][] {
  const section = doc.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('| `') || /^\| \d/.test(line))
    .map((line) => line.split('|').slice(1, -1))
    .map((cells) => cells.map((cell) => cell.replaceAll('`', '').trim()));
}

describe('docs/webhook.md', () => {
  it('lists every right that the account needs, and no other', () => {
    const listed = rows('Which cluster is asked').filter(([resource = '']) => resource.includes('.'));
    const needed = [RABBITMQ, CLUSTER, STATEFUL_SET, EVENT, ENDPOINT_SLICE].map(resourceName);
    expect(listed.map(([resource]) => resource)).toEqual(needed);
  });

  it('lists what is made of RabbitMqs, and the rules that they are held to with their codes', () => {
    const listed = rows('RabbitMqs').map(([key = '', code]) => [key, code]);
    const reasons = Object.keys(DEFAULT_REASONS);
    expect(listed.slice(0, reasons.length).map(([key]) => key)).toEqual(reasons);
    expect(Object.fromEntries(listed.slice(reasons.length))).toEqual(
      Object.fromEntries(Object.entries(RULES).map(([rule, code]) => [rule, String(code)])),
    );
  });

  it('lists every Event with its type', () => {
    expect(Object.fromEntries(rows('Events'))).toEqual(EVENTS);
  });
});
