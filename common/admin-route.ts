import type { ServerResponse } from 'node:http';

export interface AdminRequest {
  /** What stands in the path for the names in braces, decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  /** Aborted when the answer is sent, or nobody waits for it any more. */
  readonly signal: AbortSignal;
}

export interface AdminAnswer {
  readonly status: number;
  readonly body: string;
  /** Default: plain text. */
  readonly type?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer that goes on until one of both ends it. */
export interface AdminStream {
  readonly type: string;
  readonly stream: (response: ServerResponse) => void;
}

export interface AdminRoute {
  /** GET is HEAD too. */
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** Such as `/connections/{id}`; a name in braces stands for one segment. */
  readonly path: string;
  /** Everybody may use it, without a token. */
  readonly open?: boolean;
  /** What is said, in the log and in an answer of 500, when it throws. */
  readonly failure?: string;
  handle(request: AdminRequest): AdminAnswer | AdminStream | Promise<AdminAnswer | AdminStream>;
}

export interface FoundRoute {
  readonly route: AdminRoute;
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
}

export function isStream(answer: AdminAnswer | AdminStream): answer is AdminStream {
  return 'stream' in answer;
}

/** The names and values in a path, if it is one of the pattern's; values are still percent-encoded. */
function match(pattern: string, path: string): [string, string][] | undefined {
  const [wanted, given] = [pattern.split('/'), path.split('/')];
  if (wanted.length !== given.length) return undefined;
  const params: [string, string][] = [];
  for (const [at, segment] of wanted.entries()) {
    if (segment.startsWith('{')) params.push([segment.slice(1, -1), given[at]!]);
    else if (segment !== given[at]) return undefined;
  }
  return params;
}

/** Finds the route of a request, or the answer that there is none. @param url path and query as they are in the request */
export function findRoute(
  routes: readonly AdminRoute[],
  method: string,
  url: string,
): FoundRoute | AdminAnswer {
  const [path = '/', ...rest] = url.split('?');
  const asked = method === 'HEAD' ? 'GET' : method;
  const allowed: string[] = [];
  for (const route of routes) {
    const encoded = match(route.path, path);
    if (encoded === undefined) continue;
    allowed.push(...(route.method === 'GET' ? ['GET', 'HEAD'] : [route.method]));
    if (route.method !== asked) continue;
    try {
      const params = Object.fromEntries(
        encoded.map(([name, value]) => [name, decodeURIComponent(value)] as const),
      );
      return { route, params, query: new URLSearchParams(rest.join('?')) };
    } catch {
      return { status: 400, body: `${path}: not percent-encoded UTF-8\n` };
    }
  }
  if (allowed.length > 0) {
    const body = `only ${allowed.join(' and ')}\n`;
    return { status: 405, body, headers: { allow: allowed.join(', ') } };
  }
  const paths = [...new Set(routes.map((route) => route.path))];
  return { status: 404, body: `not found: there are ${paths.slice(0, -1).join(', ')} and ${paths.at(-1)}\n` };
}
