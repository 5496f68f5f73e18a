import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Guard, isLoopback } from './admin-guard.ts';
import { type AdminAnswer, type AdminRoute, type AdminStream, findRoute, isStream } from './admin-route.ts';
import { messageOf } from './errors.ts';
import type { Logger } from './log.ts';
import type { Metrics } from './metrics.ts';
import { type HostPort, formatHostPort } from './options.ts';

/** The answer of a health check. `reasons` says, one each, what is wrong, or what is noteworthy when ok. */
export interface Check {
  readonly ok: boolean;
  readonly reasons: readonly string[];
}

type CheckNow = () => Check | Promise<Check>;

export interface AdminSettings {
  readonly listen: HostPort;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Is the process worth keeping? */
  readonly livez: CheckNow;
  /** Should it get traffic? */
  readonly readyz: CheckNow;
  /** Further paths, such as `/clients`, and what each answers as JSON at that moment. Everybody may ask. */
  readonly json?: Readonly<Record<string, () => unknown>>;
  /** What else can be asked for and done. */
  readonly routes?: readonly AdminRoute[];
  /** Who may use {@link routes} that aren't for everybody. It is needed where there are such routes. */
  readonly guard?: Guard;
}

export interface Admin {
  /** Where it listens, with the port that the system chose if 0 was asked for. */
  readonly address: HostPort;
  /** Stops listening and ends every connection; answers under way get a second to finish. */
  close(): Promise<void>;
}

/** Probes and scrapers are few: a flood of connections must not take the descriptors of the real work. */
const maxConnections = 64;
const closeGraceMs = 1000;

async function health(check: CheckNow): Promise<AdminAnswer> {
  try {
    const { ok, reasons } = await check();
    return { status: ok ? 200 : 503, body: [ok ? 'ok' : 'not ok', ...reasons].join('\n') + '\n' };
  } catch (error) {
    return { status: 503, body: `not ok\nthe check itself failed: ${messageOf(error)}\n` };
  }
}

/** All that is answered. */
export function routesOf({ metrics, livez, readyz, json = {}, routes = [] }: AdminSettings): AdminRoute[] {
  const open = (path: string, handle: AdminRoute['handle']): AdminRoute => ({
    method: 'GET',
    path,
    open: true,
    handle,
  });
  return [
    open('/livez', () => health(livez)),
    open('/readyz', () => health(readyz)),
    {
      ...open('/metrics', async () => ({
        status: 200,
        body: await metrics.text(),
        type: metrics.contentType,
      })),
      failure: 'metrics could not be collected',
    },
    ...Object.entries(json).map(([path, read]) =>
      open(path, async () => ({
        status: 200,
        body: `${JSON.stringify(await read())}\n`,
        type: 'application/json',
      })),
    ),
    ...routes,
  ];
}

function send(
  response: ServerResponse,
  { status, body, type, headers }: AdminAnswer,
  closing: boolean,
): void {
  response.writeHead(status, {
    'content-type': type ?? 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...headers,
    ...(closing ? { connection: 'close' } : {}),
  });
  response.end(body);
}

/** Begins an answer that goes on until one of both ends it. */
function begin(request: IncomingMessage, response: ServerResponse, { type, stream }: AdminStream): void {
  response.writeHead(200, {
    'content-type': type,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  response.flushHeaders();
  stream(response);
}

async function answer(
  { log, guard }: AdminSettings,
  routes: readonly AdminRoute[],
  address: string,
  request: IncomingMessage,
  signal: AbortSignal,
): Promise<AdminAnswer | AdminStream> {
  const found = findRoute(routes, request.method ?? 'GET', request.url ?? '/');
  if (!('route' in found)) return found;
  const { route, params, query } = found;
  try {
    const refusal = route.open === true ? undefined : guard?.(request, isLoopback(address));
    return refusal ?? (await route.handle({ params, query, signal }));
  } catch (error) {
    const failure = route.failure ?? `${route.path} could not be answered`;
    log.error({ err: error }, failure);
    return { status: 500, body: `${failure}; the log says why\n` };
  }
}

/**
 * Serves GET /livez, /readyz, /metrics, the JSON paths and the routes over plain HTTP. A check that is not ok, or throws,
 * answers 503 with its reasons, one a line.
 * @throws Error when it can't listen at the address.
 */
export async function startAdmin(settings: AdminSettings): Promise<Admin> {
  let closing = false;
  const routes = routesOf(settings);
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5000 }, (request, response) => {
    request.resume();
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    void answer(settings, routes, address, request, gone.signal).then((found) =>
      isStream(found) ? begin(request, response, found) : send(response, found, closing),
    );
  });
  server.maxConnections = maxConnections;
  server.listen(settings.listen);
  try {
    await once(server, 'listening');
  } catch (error) {
    throw new Error(`cannot listen on ${formatHostPort(settings.listen)} for health and metrics`, {
      cause: error,
    });
  }
  const { address, port } = server.address() as AddressInfo;
  return {
    address: { host: address, port },
    async close() {
      closing = true;
      const timer = setTimeout(() => server.closeAllConnections(), closeGraceMs);
      const closed = once(server, 'close');
      server.close();
      await closed;
      clearTimeout(timer);
    },
  };
}
