import type { AdminAnswer, AdminRoute, AdminStream } from '../../common/admin-route.ts';
import { BadRequest, describeParameter, type Parameter, readQuery, type Values } from './parameters.ts';
import type { Schema } from './schema.ts';

/** What an answer of status 200 or 202 holds. */
interface Content {
  readonly type: string;
  /** The name of a schema. */
  readonly schema?: string;
  readonly description: string;
}

/** What is said about one thing that the API does. */
export interface Description extends Pick<AdminRoute, 'method' | 'path' | 'open'> {
  readonly summary: string;
  readonly status: 200 | 202;
  readonly content: Content;
  /** Parameters in the path, by name: what they are. */
  readonly inPath: Readonly<Record<string, string>>;
  readonly parameters: readonly Parameter[];
  /** Statuses besides 400, 401, 403 and 405, and when they come. */
  readonly refusals: Readonly<Record<number, string>>;
}

export type Operation = Description & AdminRoute;

interface OperationSettings<T extends readonly Parameter[]> {
  readonly method: Operation['method'];
  readonly path: string;
  readonly open?: boolean;
  readonly summary: string;
  readonly status?: 200 | 202;
  readonly content: Content;
  readonly inPath?: Readonly<Record<string, string>>;
  readonly parameters: T;
  readonly refusals?: Readonly<Record<number, string>>;
  /** @throws BadRequest */
  readonly answer: (asked: {
    readonly params: Readonly<Record<string, string>>;
    readonly values: Values<T>;
    readonly signal: AbortSignal;
  }) => string | AdminAnswer | AdminStream | object | Promise<string | AdminAnswer>;
}

/** A refusal, as plain text. */
export function refusal(status: number, text: string): AdminAnswer {
  return { status, body: `${text}\n` };
}

function isAnswer(value: object): value is AdminAnswer | AdminStream {
  return 'stream' in value || ('status' in value && 'body' in value);
}

/**
 * Makes an operation. Its answer is text of its content type, an object for JSON, or a whole answer; a query that it
 * doesn't take is answered 400.
 */
export function operation<const T extends readonly Parameter[]>(settings: OperationSettings<T>): Operation {
  const { status = 200, content, parameters, inPath = {}, refusals = {}, answer, ...rest } = settings;
  return {
    ...rest,
    status,
    content,
    parameters,
    inPath,
    refusals,
    async handle({ params, query, signal }) {
      let found;
      try {
        found = await answer({ params, values: readQuery(parameters, query), signal });
      } catch (error) {
        if (error instanceof BadRequest) return refusal(400, error.message);
        throw error;
      }
      if (typeof found === 'object' && isAnswer(found)) return found;
      const body = typeof found === 'string' ? found : `${JSON.stringify(found)}\n`;
      return { status, body, type: content.type };
    },
  };
}

/** The operation in an OpenAPI document. */
function describeOperation(one: Description): object {
  const { summary, status, content, inPath, parameters, refusals, open } = one;
  const named = Object.entries(inPath).map(([name, description]) => ({
    name,
    in: 'path',
    description,
    required: true,
    schema: { type: 'string' },
  }));
  const plain = (description: string): object => ({
    description,
    content: { 'text/plain': { schema: { type: 'string' } } },
  });
  const schema =
    content.schema === undefined ? undefined : { $ref: `#/components/schemas/${content.schema}` };
  const closed: Record<string, object> =
    open === true
      ? {}
      : { 401: plain('no bearer token, or a wrong one'), 403: plain('not from here: the answer says why') };
  return {
    summary,
    parameters: [...named, ...parameters.map(describeParameter)],
    security: open === true ? [] : [{ token: [] }],
    responses: {
      [status]: {
        description: content.description,
        content: { [content.type]: schema === undefined ? {} : { schema } },
      },
      ...(parameters.length + named.length > 0
        ? { 400: plain('names the parameter, its value and what is expected') }
        : {}),
      ...closed,
      ...Object.fromEntries(Object.entries(refusals).map(([code, text]) => [code, plain(text)])),
    },
  };
}

/** The OpenAPI document of operations. */
export function describeApi(
  operations: readonly Description[],
  schemas: Readonly<Record<string, Schema>>,
): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const one of operations) (paths[one.path] ??= {})[one.method.toLowerCase()] = describeOperation(one);
  return {
    openapi: '3.1.0',
    info: {
      title: 'Quorumbridge proxy: admin API',
      version: '1',
      description: 'Documents gain fields in later versions; none is renamed or removed.',
    },
    paths,
    components: {
      schemas,
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'the text in --admin-token-file' },
      },
    },
  };
}
