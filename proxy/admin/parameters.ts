/** One value in a query. The same table reads queries and is in the OpenAPI document. */
export type Parameter = { readonly name: string; readonly description: string } & (
  | {
      readonly type: 'integer';
      readonly minimum: number;
      readonly maximum: number;
      readonly default?: number;
    }
  | { readonly type: 'string' }
  | { readonly type: 'choice'; readonly choices: readonly string[]; readonly default: string }
);

type ValueOf<P> = P extends { readonly type: 'integer'; readonly default: number }
  ? number
  : P extends { readonly type: 'integer' }
    ? number | undefined
    : P extends { readonly type: 'choice'; readonly choices: readonly (infer C)[] }
      ? C
      : string | undefined;

export type Values<T extends readonly Parameter[]> = {
  readonly [P in T[number] as P['name']]: ValueOf<P>;
};

/** A request that can't be answered as it is; the message names the parameter, its value and the way out. */
export class BadRequest extends Error {
  override name = 'BadRequest';
}

function valueOf(parameter: Parameter, text: string | undefined): string | number | undefined {
  const bad = (expected: string): BadRequest =>
    new BadRequest(`parameter ${parameter.name}=${text}: expected ${expected}`);
  switch (parameter.type) {
    case 'integer': {
      if (text === undefined) return parameter.default;
      const { minimum, maximum } = parameter;
      const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
      if (value >= minimum && value <= maximum) return value;
      throw bad(`a whole number from ${minimum} to ${maximum}`);
    }
    case 'choice':
      if (text === undefined) return parameter.default;
      if (parameter.choices.includes(text)) return text;
      throw bad(`one of ${parameter.choices.join(', ')}`);
    default:
      if (text === '') throw bad('a text that is not empty; leave the parameter out to ask for all');
      return text;
  }
}

/** Reads a query. @throws BadRequest where it has what isn't known, something twice, or a value that isn't taken */
export function readQuery<const T extends readonly Parameter[]>(table: T, query: URLSearchParams): Values<T> {
  for (const [name, value] of query) {
    if (query.getAll(name).length > 1)
      throw new BadRequest(`parameter ${name}=${value}: it is given more than once`);
    if (table.some((parameter) => parameter.name === name)) continue;
    const names = table.map((parameter) => parameter.name).join(', ');
    const known = names === '' ? 'this path has none' : `there are ${names}`;
    throw new BadRequest(`parameter ${name}=${value}: unknown; ${known}`);
  }
  const values = table.map(
    (parameter) => [parameter.name, valueOf(parameter, query.get(parameter.name) ?? undefined)] as const,
  );
  return Object.fromEntries(values) as Values<T>;
}

/** A parameter as OpenAPI has it. */
export function describeParameter(parameter: Parameter): object {
  const { name, description, type } = parameter;
  const schema =
    type === 'integer'
      ? {
          type,
          minimum: parameter.minimum,
          maximum: parameter.maximum,
          ...(parameter.default === undefined ? {} : { default: parameter.default }),
        }
      : type === 'choice'
        ? { enum: parameter.choices, default: parameter.default }
        : { type, minLength: 1 };
  return { name, in: 'query', description, required: false, schema };
}
