import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PRESETS, RULES_FILE, RULES_FOLDER } from '../../../common/contract.ts';
import { PRESET_RULES } from '../../../proxy/policy/presets.ts';
import { ACTIONS, FILE_KEYS, MATCH_KEYS, parseRules, RULE_KEYS } from '../../../proxy/policy/rules-file.ts';
import { AUTO_DELETE_EXPIRES } from '../../../proxy/rules/queue-declare.ts';

const document = readFileSync(new URL('../../../docs/rules.md', import.meta.url), 'utf8');
const launcher = fileURLToPath(new URL('../../../cli/quorumbridge.mjs', import.meta.url));

/** The blocks of a language, in their order. */
function blocks(language: string): string[] {
  const found = document.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'));
  return [...found].map((block) => block[1]!);
}

const files = blocks('yaml');
const transcripts = blocks('console').map((block) => {
  const command = /^\$ ((?:.*\\\n)*.*)\n/.exec(block);
  return { command: command![1]!, output: block.slice(command![0].length) };
});

/** First cells of the table below a line. */
function firstCells(heading: string): string[] {
  const table = document.split(`${heading}\n`)[1]?.split('\n\n')[0] ?? '';
  return [...table.matchAll(/^\| `([^`]+)` \|/gm)].map((row) => row[1]!);
}

describe('docs/rules.md', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'qb-rules-doc-'));
    writeFileSync(join(folder, 'rules.yaml'), files[0]!);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('shows rules files that are valid', () => {
    expect(files.length).toBeGreaterThan(5);
    expect(files[0]).toMatch(/^# rules\.yaml\n/);
    for (const file of files) expect(() => parseRules('rules.yaml', file)).not.toThrow(Error);
  });

  it('shows the rules of every preset that has some', () => {
    for (const preset of PRESETS) {
      expect(document).toContain(`\`${preset}\``);
      const { rules } = parseRules(preset, PRESET_RULES[preset]);
      expect(files.includes(PRESET_RULES[preset])).toBe(rules.length > 0);
    }
  });

  it('has the keys that a rules file knows', () => {
    expect(firstCells('Keys of the file:')).toEqual(FILE_KEYS);
    expect(firstCells('Keys of a rule:')).toEqual(RULE_KEYS);
    expect(firstCells('Conditions in `match`:')).toEqual(MATCH_KEYS);
    expect(firstCells('Actions:')).toEqual(ACTIONS);
  });

  it('names the lifetime that auto-delete queues get, and where rules are mounted', () => {
    expect(AUTO_DELETE_EXPIRES).toBe(30 * 60_000);
    expect(document).toContain('get 30 minutes');
    expect(document).toContain(`--rules ${RULES_FOLDER}/${RULES_FILE}`);
  });

  it('shows commands', () => {
    expect(transcripts.length).toBeGreaterThan(4);
  });

  it.each(transcripts)('shows what this prints: $command', ({ command, output }) => {
    const shell = `quorumbridge() { "$NODE" "$LAUNCHER" "$@"; }\n${command.replaceAll('npx quorumbridge', 'quorumbridge')}`;
    const { status, stdout, stderr } = spawnSync('sh', ['-c', shell], {
      cwd: folder,
      env: { PATH: process.env['PATH'], NODE: process.execPath, LAUNCHER: launcher },
      encoding: 'utf8',
    });
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: output, stderr: '' });
  });
});
