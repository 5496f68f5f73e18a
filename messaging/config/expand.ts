import type { YamlScalar } from '../../common/yaml.ts';

/** The environment by name; an empty variable counts as not set. */
export type Environment = Readonly<Record<string, string | undefined>>;

export interface Expanded {
  readonly text: string;
  /** True where a variable gave a part of the text: it may be a secret that the file itself doesn't show. */
  readonly isFromEnvironment: boolean;
}

const reference = /\$(?<escape>\$)?\{(?<body>[^}]*)(?<end>\})?/g;
const named = /^(?<name>[A-Za-z_]\w*)(?::-(?<otherwise>.*))?$/s;

/**
 * Puts variables in the place of `${NAME}` and `${NAME:-default}`; `$${` stands for `${` itself. What a variable holds is
 * not expanded again.
 * @throws Error for a variable that is not set and has no default, and for what is no reference to a variable
 */
export function expand({ text }: Pick<YamlScalar, 'text'>, env: Environment): Expanded {
  let isFromEnvironment = false;
  const expanded = text.replaceAll(reference, (...match) => {
    const groups = match.at(-1) as Record<'escape' | 'body' | 'end', string | undefined>;
    const { escape, body = '', end } = groups;
    if (escape !== undefined) return `\${${body}${end ?? ''}`;
    const { name, otherwise } = (end === undefined ? undefined : named.exec(body)?.groups) ?? {};
    if (name === undefined) {
      throw new Error(
        `"\${${body}${end ?? ''}" is no reference to a variable: write \${NAME} or \${NAME:-default}, and $\${ for the characters themselves`,
      );
    }
    if (otherwise?.includes('${') === true)
      throw new Error(`the default of \${${name}} has a reference itself: give it as a text`);
    const value = env[name];
    if (value !== undefined && value !== '') {
      isFromEnvironment = true;
      return value;
    }
    if (otherwise === undefined) {
      throw new Error(
        `the environment variable ${name} is not set: set it, or give a default as in \${${name}:-default}`,
      );
    }
    return otherwise;
  });
  return { text: expanded, isFromEnvironment };
}
