// The demo's voice: plain lines, coloured where the terminal wants it (NO_COLOR and pipes are honoured by styleText).
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { styleText } from 'node:util';

export interface Narrator {
  /** Something under way, such as a download. */
  progress(line: string): void;
  step(id: string, title: string): void;
  say(line: string): void;
  /** A unified diff of two texts. */
  diff(before: string, after: string, names: [before: string, after: string]): void;
}

export type Result = 'shown' | 'skipped' | 'FAILED';
export interface Row {
  id: string;
  title: string;
  result: Result;
  detail: string;
}

const RESULT_STYLE = { shown: 'green', skipped: 'yellow', FAILED: 'red' } as const;

/** Prints on stdout. */
export function createNarrator(): Narrator {
  const began = Date.now();
  const print = (line: string) => process.stdout.write(`${line}\n`);
  return {
    progress: (line) => {
      const seconds = ((Date.now() - began) / 1000).toFixed(1).padStart(5);
      print(styleText('dim', `${seconds} s  ${line}`));
    },
    step: (id, title) => print(`\n${styleText('bold', `${id}. ${title}`)}`),
    say: (line) => print(`   ${line}`),
    diff: (before, after, names) => {
      for (const line of unifiedDiff(before, after, names)) print(`   ${colour(line)}`);
    },
  };
}

/** The closing table. */
export function table(rows: Row[]): string {
  const width = Math.max(...rows.map((row) => row.title.length));
  const lines = rows.map((row) => {
    const result = styleText(RESULT_STYLE[row.result], row.result.padEnd(7));
    return `  ${row.id}  ${row.title.padEnd(width)}  ${result}  ${row.detail}`;
  });
  return `\n${styleText('bold', 'What was shown')}\n${lines.join('\n')}\n`;
}

/** By diff(1), which every Debian and macOS has. */
function unifiedDiff(before: string, after: string, names: [before: string, after: string]): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-diff-'));
  try {
    writeFileSync(join(folder, 'before'), before);
    writeFileSync(join(folder, 'after'), after);
    const labels = names.flatMap((name) => ['--label', name]);
    const result = spawnSync('diff', ['-U', '2', ...labels, 'before', 'after'], {
      cwd: folder,
      encoding: 'utf8',
    });
    if (result.error !== undefined || (result.status ?? 2) > 1) {
      throw new Error(`diff(1) failed: ${result.error?.message ?? result.stderr}`);
    }
    return result.stdout.trimEnd().split('\n');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function colour(line: string): string {
  if (line.startsWith('+++') || line.startsWith('---')) return styleText('bold', line);
  if (line.startsWith('+')) return styleText('green', line);
  if (line.startsWith('-')) return styleText('red', line);
  if (line.startsWith('@@')) return styleText('cyan', line);
  return line;
}
