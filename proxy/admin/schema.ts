/**
 * The part of JSON Schema (2020-12) that the admin API's documents are written in. All properties are required, and there
 * are no others.
 */
export type Schema =
  | { readonly type: Scalar | readonly [Scalar, 'null']; readonly description?: string }
  | { readonly enum: readonly string[]; readonly description?: string }
  | { readonly type: 'array'; readonly items: Schema; readonly description?: string }
  | {
      readonly type: 'object';
      readonly properties: Readonly<Record<string, Schema>>;
      readonly required: readonly string[];
      readonly additionalProperties: false;
      readonly description?: string;
    }
  | { readonly type: 'object'; readonly additionalProperties: Schema; readonly description?: string }
  | { readonly anyOf: readonly [Schema, { readonly type: 'null' }]; readonly description?: string };

type Scalar = 'string' | 'integer' | 'number' | 'boolean';

interface Scalars {
  readonly string: string;
  readonly integer: number;
  readonly number: number;
  readonly boolean: boolean;
}

/** The type of what a schema describes: the documents' types are made of their schemas, so that they can't differ. */
export type Described<S> = S extends { readonly anyOf: readonly [infer T, unknown] }
  ? Described<T> | null
  : S extends { readonly enum: readonly (infer E)[] }
    ? E
    : S extends { readonly type: 'array'; readonly items: infer I }
      ? readonly Described<I>[]
      : S extends { readonly properties: infer P }
        ? { readonly [K in keyof P]: Described<P[K]> }
        : S extends { readonly additionalProperties: infer V }
          ? Readonly<Record<string, Described<V>>>
          : S extends { readonly type: readonly [infer T extends Scalar, 'null'] }
            ? Scalars[T] | null
            : S extends { readonly type: infer T extends Scalar }
              ? Scalars[T]
              : never;

interface ObjectSchema<P> {
  readonly type: 'object';
  readonly properties: P;
  readonly required: string[];
  readonly additionalProperties: false;
}

/** An object that has these properties. */
export function object<const P extends Readonly<Record<string, Schema>>>(properties: P): ObjectSchema<P> {
  return { type: 'object', properties, required: Object.keys(properties), additionalProperties: false };
}

/** A list. */
export function list<const I extends Schema>(items: I): { readonly type: 'array'; readonly items: I } {
  return { type: 'array', items };
}

/** What may be null. */
export function nullable<const S extends Schema>(
  schema: S,
): { readonly anyOf: readonly [S, { readonly type: 'null' }] } {
  return { anyOf: [schema, { type: 'null' }] };
}

/** Values by name, of names that aren't known beforehand. */
export function mapOf<const V extends Schema>(
  additionalProperties: V,
): { readonly type: 'object'; readonly additionalProperties: V } {
  return { type: 'object', additionalProperties };
}
