// What an API server is asked, and what is said where it does not do it.
import { messageOf } from '../errors.ts';
import { isObject, objectsAt, textAt } from './json.ts';
import { type Resource, resourceName } from './resources.ts';
import type { Json } from './types.ts';

/** Why a request has no result; the message is fit for users and logs. */
export class ApiFailure extends Error {
  override readonly name = 'ApiFailure';
  /** The HTTP status that was answered; undefined when there was no answer that could be read. */
  readonly code: number | undefined;
  /** The API server's word for it, such as AlreadyExists or Conflict, where it gave one. */
  readonly reason: string | undefined;

  constructor(message: string, code?: number, reason?: string) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

/** A right that the account has not. */
export interface MissingRight {
  /** As RBAC calls it. */
  readonly verb: string;
  /** With its group and subresource, as in the rules of a role: `rabbitmqs.rabbitmq.openstack.org/status`. */
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
}

/** What is to be done about a right that is missing, as the end of a sentence. */
export type Advise = (missing: MissingRight) => string;

export const GRANT: Advise = ({ verb, resource }) => `grant this account "${verb}" on ${resource}`;

/** One request. */
export interface Asked {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** As RBAC calls it. */
  readonly verb: string;
  readonly resource: Resource;
  readonly namespace?: string | undefined;
  readonly name?: string;
  readonly subresource?: string | undefined;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: Json;
  /** Of the body; default application/json. */
  readonly type?: string;
  /** In place of the resource's, for what is none. */
  readonly path?: string;
}

/** Of what an API server says when it refuses, which may be long; in characters. */
const MESSAGE_MAX = 500;
/** How any authorizer's no is worded (apiserver, responsewriters.Forbidden); other 403s are admission's. */
const MISSING_RIGHT = /\bcannot (\S+) (?:resource|path) "/;

/** The object's name is in the path of a request, or in the body of one that creates it. */
function nameIn({ name, body }: Asked): string | undefined {
  return name ?? textAt(body, 'metadata', 'name');
}

/** The request in a few words: `GET rabbitmqs.rabbitmq.openstack.org openstack/rabbit`. */
export function describe(asked: Asked): string {
  const { method, resource, namespace, path } = asked;
  if (path !== undefined) return `${method} ${path}`;
  const place = [namespace, nameIn(asked)].filter((part) => part !== undefined).join('/');
  return `${method} ${resourceName(resource)}${place === '' ? '' : ` ${place}`}`;
}

/** For a request without an answer that can be used. */
export function failed(asked: Asked, error: unknown): ApiFailure {
  if (error instanceof ApiFailure) return error;
  // The parser quotes what it could not read.
  const why = error instanceof SyntaxError ? 'the answer is not valid JSON' : messageOf(error);
  return new ApiFailure(`${describe(asked)} failed: ${why}`);
}

function statusOf(answer: string): Json {
  try {
    return JSON.parse(answer) as Json;
  } catch {
    return null;
  }
}

/** What the API server says of it. It may quote the object, so that of a Secret only the fields are named. */
function saidOf(asked: Asked, status: Json): string {
  if (asked.resource.plural !== 'secrets') return textAt(status, 'message')?.slice(0, MESSAGE_MAX) ?? '';
  const reason = textAt(status, 'reason') ?? '';
  const causes = objectsAt(status, 'details', 'causes').flatMap((cause) => textAt(cause, 'field') ?? []);
  const fields = causes.length === 0 ? '' : ` (${causes.join(', ').slice(0, MESSAGE_MAX)})`;
  return `${reason}${fields}`;
}

function waysOut(asked: Asked, code: number, status: Json, advise: Advise): string {
  const { resource, subresource, namespace } = asked;
  if (code === 401) return "this account's token or certificate is not accepted: renew it";
  const message = textAt(status, 'message');
  const missing = message === undefined ? null : MISSING_RIGHT.exec(message);
  if (code === 403 && (message === undefined || missing !== null)) {
    const full = `${resourceName(resource)}${subresource === undefined ? '' : `/${subresource}`}`;
    // A patch that makes an object takes the right to create it, too.
    const verb = missing?.[1] ?? asked.verb;
    return advise({ verb, resource: full, namespace, name: nameIn(asked) });
  }
  return saidOf(asked, status);
}

/** For a request that was refused with this HTTP status and body. */
export function refused(asked: Asked, code: number, answer: string, advise: Advise): ApiFailure {
  const status = statusOf(answer);
  const more = waysOut(asked, code, status, advise);
  const reason = isObject(status) ? textAt(status, 'reason') : undefined;
  const what = `the API server answered ${code} to ${describe(asked)}`;
  return new ApiFailure(more === '' ? what : `${what}: ${more}`, code, reason);
}
