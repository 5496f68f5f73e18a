import { describe, expect, it } from 'vitest';
import { UsageError } from '../../../common/errors.ts';
import { type YamlNode, parseYaml } from '../../../common/yaml.ts';

/** A tree as plain values, each with its place. */
function placed(node: YamlNode): unknown {
  if (node.kind === 'scalar') return [node.at, node.value, node.text];
  if (node.kind === 'list') return [node.at, node.items.map(placed)];
  return [node.at, Object.fromEntries(node.entries.map(({ key, at, value }) => [key, [at, placed(value)]]))];
}

describe('parseYaml', () => {
  it('gives every value its place, and numbers also as they were written', () => {
    expect(placed(parseYaml('f', 'a: 4.10\nb:\n  - 0x10\n  - "x: y"\nc:\n'))).toEqual([
      '1:1',
      {
        a: ['1:1', ['1:4', 4.1, '4.10']],
        b: [
          '2:1',
          [
            '3:3',
            [
              ['3:5', 16n, '0x10'],
              ['4:5', 'x: y', 'x: y'],
            ],
          ],
        ],
        c: ['5:1', ['5:3', null, '']],
      },
    ]);
  });

  it('reads JSON, with whole numbers of any size', () => {
    expect(placed(parseYaml('f', '{"a": [true,\n 9223372036854775807]}'))).toEqual([
      '1:1',
      {
        a: [
          '1:2',
          [
            '1:7',
            [
              ['1:8', true, 'true'],
              ['2:2', 9223372036854775807n, '9223372036854775807'],
            ],
          ],
        ],
      },
    ]);
  });

  it.each([
    ['', null],
    ['# only a comment\n', null],
    ['word', 'word'],
  ])('takes %j', (source, value) => {
    expect(parseYaml('f', source)).toMatchObject({ kind: 'scalar', value });
  });

  it.each([
    ['a key twice', 'a: 1\na: 2', /^f:2:1: Map keys must be unique$/],
    ['an alias', 'a: &x [1]\nb: *x', /^f:2:4: aliases are not supported$/],
    ['a tag', 'a: !secret b', /^f:1:4: Unresolved tag: !secret$/],
    ["a tag of YAML's own", 'a: !!binary aGk=', /^f:1:4: Unresolved tag/],
    ['a key that is no name', '? [a]\n: 1', /^f:1:3: expected a name as key$/],
    ['a key that is empty', '? \n: 1', /^f:1:3: expected a name as key$/],
    ['two documents', 'a: 1\n---\nb: 2', /^f:2:1: /],
    ['two troubles', 'a: !x 1\nb: !y 2', /^f:1:4: .*\nf:2:4: /],
  ])('refuses %s and says where', (_, source, message) => {
    expect(() => parseYaml('f', source)).toThrow(UsageError);
    expect(() => parseYaml('f', source)).toThrow(message);
  });
});
