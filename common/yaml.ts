import { LineCounter, type Node, isMap, isScalar, isSeq, parseDocument } from 'yaml';
import { UsageError } from './errors.ts';

interface Placed {
  /** `line:column`, both from 1. */
  readonly at: string;
}

export interface YamlScalar extends Placed {
  readonly kind: 'scalar';
  /** Whole numbers are bigint, others number. */
  readonly value: string | bigint | number | boolean | null;
  /** As written, so that `0755` or `4.0` can be told from what they are as numbers; of a string its content. */
  readonly text: string;
}

export interface YamlList extends Placed {
  readonly kind: 'list';
  readonly items: readonly YamlNode[];
}

export interface YamlEntry extends Placed {
  readonly key: string;
  readonly value: YamlNode;
}

export interface YamlMap extends Placed {
  readonly kind: 'map';
  /** No key comes twice. `at` of an entry is its key's place. */
  readonly entries: readonly YamlEntry[];
}

/** A value with its place in the text. */
export type YamlNode = YamlScalar | YamlList | YamlMap;

/**
 * Parses one document of YAML 1.2 (or JSON, which is YAML) without aliases. An empty text is a scalar of null.
 * @param path names the text in errors
 * @throws UsageError with a line `path:line:column: what is wrong` for each thing that is no such document
 */
export function parseYaml(path: string, source: string): YamlNode {
  const lines = new LineCounter();
  const position = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${line}:${col}`;
  };
  const document = parseDocument(source, {
    lineCounter: lines,
    prettyErrors: false,
    intAsBigInt: true,
    resolveKnownTags: false,
  });
  const problems = [...document.errors, ...document.warnings].map(
    ({ pos, message }) => `${path}:${position(pos[0])}: ${message}`,
  );
  if (problems.length > 0) throw new UsageError(problems.join('\n'));

  const placed = (node: Node | null, otherwise: string): YamlNode => {
    const at = node?.range === undefined || node.range === null ? otherwise : position(node.range[0]);
    if (node === null) return { kind: 'scalar', at, value: null, text: '' };
    if (isScalar(node)) {
      const value = node.value as YamlScalar['value'];
      return { kind: 'scalar', at, value, text: typeof value === 'string' ? value : (node.source ?? '') };
    }
    if (isSeq<Node | null>(node))
      return { kind: 'list', at, items: node.items.map((item) => placed(item, at)) };
    if (!isMap<Node, Node | null>(node)) throw new UsageError(`${path}:${at}: aliases are not supported`);
    const entries = node.items.map(({ key, value }): YamlEntry => {
      const name = placed(key, at);
      if (name.kind !== 'scalar' || name.value === null)
        throw new UsageError(`${path}:${name.at}: expected a name as key`);
      return { key: name.text, at: name.at, value: placed(value, name.at) };
    });
    return { kind: 'map', at, entries };
  };
  return placed(document.contents, '1:1');
}
