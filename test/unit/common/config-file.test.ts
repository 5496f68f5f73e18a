import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseConfig, readConfig } from '../../../common/config-file.ts';
import { UsageError } from '../../../common/errors.ts';

describe('parseConfig', () => {
  it('keeps plain values as they were written, with the position of their keys', () => {
    const { entries } = parseConfig('f', 'a: 0755\nb: "x: y"\n\nc: [1, true]\nd:\n  - q\n');
    expect([...entries]).toEqual([
      ['a', { value: ['0755'], list: false, position: '1:1' }],
      ['b', { value: ['x: y'], list: false, position: '2:1' }],
      ['c', { value: ['1', 'true'], list: true, position: '4:1' }],
      ['d', { value: ['q'], list: true, position: '5:1' }],
    ]);
  });

  it('reads JSON', () => {
    const { entries } = parseConfig('f', '{\n  "log-level": "debug",\n  "max-connections": 10\n}');
    expect([...entries].map(([name, { value }]) => [name, value])).toEqual([
      ['log-level', ['debug']],
      ['max-connections', ['10']],
    ]);
  });

  it.each(['', '# only a comment\n', 'null', '---\n'])(
    'takes %j as a configuration without options',
    (source) => {
      expect(parseConfig('f', source).entries.size).toBe(0);
    },
  );

  it.each([
    ['not YAML', 'a: "x\nb: 1', /^f:\d+:\d+: /],
    ['a key given twice', 'a: 1\na: 2', /^f:2:1: Map keys must be unique/],
    ['a list', '- a', /^f:1:1: expected a mapping/],
    ['a bare word', 'word', /^f:1:1: expected a mapping/],
    ['a key that is no name', '? [a]\n: 1', /^f:1:3: expected a name as key/],
    ['two documents', 'a: 1\n---\nb: 2', /^f:2:1: /],
  ])('refuses %s and says where', (_, source, message) => {
    expect(() => parseConfig('f', source)).toThrow(UsageError);
    expect(() => parseConfig('f', source)).toThrow(message);
  });
});

describe('readConfig', () => {
  it('reads a file, and names one that cannot be read', () => {
    const folder = mkdtempSync(join(tmpdir(), 'qb-config-'));
    try {
      const path = join(folder, 'q.yaml');
      writeFileSync(path, 'listen: [a, b]\n');
      expect(readConfig(path).entries.get('listen')?.value).toEqual(['a', 'b']);
      expect(() => readConfig(`${path}.not`)).toThrow(
        `configuration file ${path}.not cannot be read: ENOENT`,
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
