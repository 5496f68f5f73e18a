import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseMessaging } from '../../../messaging/config.ts';
import { rootTable } from '../../../messaging/config/table.ts';
import {
  NO_DELIVERY_LIMIT,
  RETRY_MAX_LENGTH,
  type Declaration,
  declarations,
} from '../../../messaging/topology/declarations.ts';
import type { PublishFailure } from '../../../messaging/publisher/errors.ts';
import { queueDifferences, type PlanItem } from '../../../messaging/topology/plan.ts';
import { headText, planText } from '../../../messaging/topology/text.ts';
import { messagingTables, SCHEMA_FILE, schemaText } from '../../support/docs/messaging.ts';

const document = readFileSync(new URL('../../../docs/messaging.md', import.meta.url), 'utf8');
const block = (language: string): string =>
  new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, 'm').exec(document)?.[1] ?? '';

describe('docs/messaging.md', () => {
  const config = parseMessaging('messaging.yaml', block('yaml'), {});
  const version = { major: 4, minor: 3, patch: 6 };

  it('has a file that loads without a warning', () => {
    expect(config.exchanges.flatMap(({ queues }) => queues.map(({ name }) => name))).toEqual([
      'shop.mail',
      'shop.orders',
    ]);
    expect(config.warnings).toEqual([]);
  });

  it('shows what plan says of that file where a queue has another limit', () => {
    const items = declarations(config, version).map((declaration: Declaration): PlanItem => {
      const isMail = declaration.kind === 'queue' && declaration.name === 'shop.mail';
      if (!isMail) return { declaration, status: 'same', differences: [] };
      const have = { type: 'quorum', durable: true, autoDelete: false, exclusive: false } as const;
      const table = { ...declaration.arguments, 'x-delivery-limit': 20 };
      const differences =
        queueDifferences(declaration, { ...have, name: 'shop.mail', arguments: table }) ?? [];
      return { declaration, status: 'conflict', differences };
    });
    const connection = { ...config.connection, host: '127.0.0.1' };
    const plan = { version, items, note: undefined, extras: undefined };
    expect(block('text')).toBe(headText(plan, connection) + planText(items));
  });

  it('says what every failure of a publish means', () => {
    const failures: Record<PublishFailure, true> = {
      returned: true,
      nacked: true,
      refused: true,
      'timed-out': true,
      closed: true,
      overflow: true,
      invalid: true,
    };
    const table = /^\| failure \| meaning \|\n([^]*?)\n\n/m.exec(document)?.[1] ?? '';
    const rows = [...table.matchAll(/^\| `(.+?)` \|/gm)].map(([, name]) => name);
    expect(rows).toEqual(Object.keys(failures));
  });

  it('has a table of every mapping, and the numbers that no key has', () => {
    const names = [...document.matchAll(/^<!-- made: (.+) -->$/gm)].map(([, name]) => name);
    const keys = names.filter((name) => name!.startsWith('keys of '));
    expect(keys).toEqual(messagingTables().map(([name]) => name));
    expect(document).toContain(`is a limit of ${NO_DELIVERY_LIMIT}.`);
    expect(document).toContain(`at most ${RETRY_MAX_LENGTH} messages`);
  });
});

describe('messaging/schema.json', () => {
  it('is as the table of keys makes it: npm run docs', () => {
    expect(readFileSync(SCHEMA_FILE, 'utf8')).toBe(schemaText());
  });

  it('knows every key, with defaults as a file has them', () => {
    const { $defs } = JSON.parse(schemaText()) as {
      $defs: { messaging: { properties: Record<string, { default?: unknown }> } };
    };
    const { properties } = $defs.messaging;
    expect(Object.keys(properties)).toEqual(
      expect.arrayContaining(Object.values(rootTable).map(({ name }) => name)),
    );
    expect(properties['connect_timeout']?.default).toBe('30s');
    expect(properties['publisher_confirm']?.default).toBe(true);
  });
});
