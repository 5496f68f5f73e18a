// `npm run docs`: writes what docs/ says of options, metrics, events, error codes and alerts, as the code has it, and what
// README.md and docs/ say of cost, as the last whole `npm run bench` has it (bench/results.json). What is written stands
// between two lines, `<!-- made: NAME -->` and `<!-- end -->`; the text around them is everybody's own.
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { alertTables } from './docs/alerts.ts';
import { errorTables } from './docs/errors.ts';
import { eventTables } from './docs/messaging-events.ts';
import { SCHEMA_FILE, messagingTables, schemaText } from './docs/messaging.ts';
import { metricTables } from './docs/metrics.ts';
import { optionTables } from './docs/options.ts';
import { performanceTables } from './docs/performance.ts';
import { HOME } from './processes.ts';

const MADE = /^<!-- made: (.+) -->\n[^]*?^<!-- end -->$/gm;

/** All that is made: tables in Markdown by the name in their marker. */
export function tables(): Map<string, string> {
  return new Map([
    ...optionTables(),
    ...metricTables(),
    ...errorTables(),
    ...alertTables(),
    ...messagingTables(),
    ...eventTables(),
    ...performanceTables(),
  ]);
}

/** Names of what is made in a document, in its order. */
export function madeIn(document: string): string[] {
  return [...document.matchAll(MADE)].map(([, name]) => name!);
}

/** The document with what is between its markers made anew; throws Error for a name that is not among the tables. */
export function remade(document: string, made: ReadonlyMap<string, string>): string {
  return document.replaceAll(MADE, (_, name: string) => {
    const table = made.get(name);
    if (table === undefined)
      throw new Error(`nothing of the name ${name} is made: ${[...made.keys()].join(', ')}`);
    return `<!-- made: ${name} -->\n${table}\n<!-- end -->`;
  });
}

/** The documents: their texts by path. */
export function documents(): Map<string, string> {
  const paths = ['README.md', 'CONTRIBUTING.md', ...globSync('docs/*.md', { cwd: HOME }).sort()];
  return new Map(paths.map((path) => [path, readFileSync(join(HOME, path), 'utf8')]));
}

if (import.meta.main) {
  const made = tables();
  writeFileSync(SCHEMA_FILE, schemaText());
  for (const [path, text] of documents()) {
    const now = remade(text, made);
    if (now === text) continue;
    writeFileSync(join(HOME, path), now);
    process.stdout.write(`${path}: written\n`);
  }
}
