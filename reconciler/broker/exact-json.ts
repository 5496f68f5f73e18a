import type { Json } from '../../common/kube/types.ts';

/** What the language has and TypeScript's library does not know yet. */
interface ExactJson {
  parse(text: string, reviver: (key: string, value: Json, context: { source?: string }) => unknown): unknown;
  rawJSON(text: string): unknown;
}

const exact = JSON as unknown as ExactJson;

/**
 * Reads JSON so that writing it again gives every number as it was: 1.0 stays a floating-point number and
 * 9007199254740993 loses nothing, which RabbitMQ compares when a client declares again. Such numbers are values that
 * only JSON.stringify understands.
 * @throws SyntaxError, which quotes the text
 */
export function parseExact(text: string): Json {
  return exact.parse(text, (_key, value, { source }) =>
    typeof value === 'number' && source !== undefined && String(value) !== source
      ? exact.rawJSON(source)
      : value,
  ) as Json;
}
