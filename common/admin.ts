import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
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
  /** Further paths, such as `/clients`, and what each answers as JSON at that moment. */
  readonly json?: Readonly<Record<string, () => unknown>>;
}

export interface Admin {
  /** Where it listens, with the port that the system chose if 0 was asked for. */
  readonly address: HostPort;
  /** Stops listening and ends every connection; answers under way get a second to finish. */
  close(): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
}

/** Probes and scrapers are few: a flood of connections must not take the descriptors of the real work. */
const maxConnections = 64;
const closeGraceMs = 1000;

async function health(check: CheckNow): Promise<Answer> {
  try {
    const { ok, reasons } = await check();
    return { status: ok ? 200 : 503, body: [ok ? 'ok' : 'not ok', ...reasons].join('\n') + '\n' };
  } catch (error) {
    return { status: 503, body: `not ok\nthe check itself failed: ${messageOf(error)}\n` };
  }
}

type Routes = Readonly<Record<string, () => Promise<Answer>>>;

function routesOf({ log, metrics, livez, readyz, json = {} }: AdminSettings): Routes {
  const asJson = (path: string, read: () => unknown) => async (): Promise<Answer> => {
    try {
      return { status: 200, body: `${JSON.stringify(read())}\n`, type: 'application/json' };
    } catch (error) {
      log.error({ err: error }, `${path} could not be answered`);
      return { status: 500, body: `${path} could not be answered; the log says why\n` };
    }
  };
  return {
    '/livez': () => health(livez),
    '/readyz': () => health(readyz),
    '/metrics': async () => {
      try {
        return { status: 200, body: await metrics.text(), type: metrics.contentType };
      } catch (error) {
        log.error({ err: error }, 'metrics could not be collected');
        return { status: 500, body: 'metrics could not be collected; the log says why\n' };
      }
    },
    ...Object.fromEntries(Object.entries(json).map(([path, read]) => [path, asJson(path, read)])),
  };
}

async function answer(request: IncomingMessage, routes: Routes): Promise<Answer> {
  const path = (request.url ?? '/').split('?', 1)[0] ?? '/';
  const route = Object.hasOwn(routes, path) ? routes[path] : undefined;
  if (route === undefined) {
    const paths = Object.keys(routes);
    return {
      status: 404,
      body: `not found: there are ${paths.slice(0, -1).join(', ')} and ${paths.at(-1)}\n`,
    };
  }
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return { status: 405, body: 'only GET and HEAD\n' };
  return route();
}

function send(response: ServerResponse, { status, body, type }: Answer, last: boolean): void {
  response.writeHead(status, {
    'content-type': type ?? 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    ...(status === 405 ? { allow: 'GET, HEAD' } : {}),
    ...(last ? { connection: 'close' } : {}),
  });
  response.end(body);
}

/**
 * Serves GET /livez, /readyz, /metrics and the JSON paths over plain HTTP. A check that is not ok, or throws, answers 503
 * with its reasons, one a line.
 * @throws Error when it can't listen at the address.
 */
export async function startAdmin(settings: AdminSettings): Promise<Admin> {
  let closing = false;
  const routes = routesOf(settings);
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5000 }, (request, response) => {
    request.resume();
    void answer(request, routes).then((found) => send(response, found, closing));
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
