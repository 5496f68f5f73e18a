// The keys of a messaging configuration, and its JSON Schema.
import { fileURLToPath } from 'node:url';
import type { Key, KeyTable } from '../../../messaging/config/keys.ts';
import { messagingSchema } from '../../../messaging/config/schema.ts';
import { rootTable } from '../../../messaging/config/table.ts';
import { code, table } from './table.ts';

export const SCHEMA_FILE = fileURLToPath(new URL('../../../messaging/schema.json', import.meta.url));

/** The content of that file. */
export function schemaText(): string {
  return `${JSON.stringify(messagingSchema(), null, 2)}\n`;
}

/** A table of each mapping of the file. */
export function messagingTables(): [name: string, table: string][] {
  return tablesOf('the file', rootTable);
}

function tablesOf(name: string, keys: KeyTable): [string, string][] {
  const rows = Object.values(keys).map((key) => [
    [key.name, ...(key.aliases ?? [])].map(code).join(', '),
    key.kind.label,
    shownDefault(key),
    key.env === undefined ? '' : code(key.env),
    key.description,
  ]);
  const below = Object.values(keys).flatMap(({ name, kind }) =>
    kind.below === undefined ? [] : tablesOf(name, kind.below),
  );
  return [
    [`keys of ${name}`, table(['key', 'value', 'default', 'overridden by', 'meaning'], rows)],
    ...below,
  ];
}

function shownDefault({ default: value, defaultText, required, kind }: Key<unknown>): string {
  if (required === true) return 'required';
  if (defaultText !== undefined) return defaultText;
  if (kind.below !== undefined || value === undefined || Array.isArray(value)) return 'none';
  return kind.write?.(value) ?? (typeof value === 'string' ? value : JSON.stringify(value));
}
