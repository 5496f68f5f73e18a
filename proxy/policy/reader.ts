import { UsageError, messageOf } from '../../common/errors.ts';
import type { YamlEntry, YamlMap, YamlNode, YamlScalar } from '../../common/yaml.ts';

/** Collects what is wrong with a file, so that all of it is told at once. */
export class Reader {
  readonly path: string;
  readonly #isSecret: boolean;
  readonly #problems: { readonly place: readonly number[]; readonly text: string }[] = [];

  /** @param isSecret nothing of what the file holds is repeated */
  constructor(path: string, isSecret = false) {
    this.path = path;
    this.#isSecret = isSecret;
  }

  /** A text of the file in front of what is wrong with it. */
  #quoted(text: string): string {
    return this.#isSecret ? 'this' : JSON.stringify(text);
  }

  /** @param at `line:column` */
  problem(at: string, text: string): undefined {
    this.#problems.push({ place: at.split(':').map(Number), text: `${this.path}:${at}: ${text}` });
    return undefined;
  }

  /** @throws UsageError with a line for each problem, in their order in the file */
  finish(): void {
    if (this.#problems.length === 0) return;
    const sorted = this.#problems.toSorted(
      ({ place: [line = 0, column = 0] }, { place: [otherLine = 0, otherColumn = 0] }) =>
        line - otherLine || column - otherColumn,
    );
    throw new UsageError(sorted.map(({ text }) => text).join('\n'));
  }

  /** A mapping's entries by key; other keys than those known are problems. undefined when it is no mapping. */
  keys(node: YamlNode, what: string, known: readonly string[]): ReadonlyMap<string, YamlEntry> | undefined {
    const expected = `${what} is a mapping with the keys ${known.join(', ')}`;
    if (node.kind !== 'map') return this.problem(node.at, `expected a mapping: ${expected}`);
    for (const { key, at } of unknown(node, known))
      this.problem(at, `no such key${this.#isSecret ? '' : `: ${JSON.stringify(key)}`}; ${expected}`);
    return new Map(node.entries.map((entry) => [entry.key, entry]));
  }

  /** A plain value that is there. */
  scalar(node: YamlNode, expected: string): YamlScalar | undefined {
    if (node.kind === 'scalar' && node.value !== null) return node;
    return this.problem(node.at, `expected ${expected}`);
  }

  /** A plain value, as written, by the parser of options of its kind. */
  parsed<T>(node: YamlNode, expected: string, parse: (text: string) => T): T | undefined {
    const scalar = this.scalar(node, expected);
    if (scalar === undefined) return undefined;
    try {
      return parse(scalar.text);
    } catch (error) {
      return this.problem(node.at, `${this.#quoted(scalar.text)} is not valid: ${messageOf(error)}`);
    }
  }

  /** A plain value or a list of them, with what each of them is. */
  oneOrMore<T>(node: YamlNode, expected: string, parse: (text: string) => T): T[] {
    const items = node.kind === 'list' ? node.items : [node];
    if (items.length === 0) this.problem(node.at, `expected ${expected}, not an empty list`);
    const values = items.map((item) => this.parsed(item, expected, parse));
    return values.filter((value) => value !== undefined);
  }
}

function unknown({ entries }: YamlMap, known: readonly string[]): YamlEntry[] {
  return entries.filter(({ key }) => !known.includes(key));
}
