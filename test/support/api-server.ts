// Stands in for an API server where a test is about what it is asked and what it answers.
import { once } from 'node:events';
import { mkdtempDisposable, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { makeCa, makeServingCertificate } from '../../certs/certificates.ts';

/** What is answered to requests of one path: an object, a status with what it says, raw text, or nothing at all. */
export type Played =
  | { object: unknown; status?: number }
  | { status: number; refusal?: Record<string, unknown> }
  | { raw: string }
  | 'hang'
  | 'hang in the body';

export interface PlayedApiServer extends AsyncDisposable {
  readonly url: string;
  readonly kubeconfig: string;
  /** A folder for the test's own files. */
  readonly folder: string;
  /**
   * Answers by path, with its query or without, and with the method before it or without: the longest that is listed.
   * What is not listed is 404, as where the CRD is not installed. A path that ends with "?watch" answers watches; where
   * it is not listed they stay open.
   */
  readonly answers: Map<string, Played>;
  /** Watches that are open. */
  readonly watches: Watching[];
  /** Every request. */
  readonly requests: PlayedRequest[];
  /** TLS connections so far. */
  readonly connections: number;
}

export interface PlayedRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  /** As JSON, once it is there. */
  body?: unknown;
}

/** A watch that is open. */
export interface Watching {
  readonly path: string;
  readonly resourceVersion: string | null;
  /** Sends an event; its object gets the resourceVersion that is told. */
  send(type: string, object: Record<string, unknown>): void;
  /** Ends it in good order, or breaks the connection. */
  end(how?: 'broken'): void;
}

export const TOKEN = 'the-webhooks-own-token';

const VERBS: Readonly<Record<string, string>> = {
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};

/** As the API server words what an authorizer has refused (responsewriters.Forbidden). */
function forbidden(method: string, url: URL): string {
  const path = /^\/apis?(?:\/([^/]+\.[^/]+|apps))?\/[^/]+(?:\/namespaces\/[^/]+(?=\/))?\/([^/]+)(\/[^/]+)?/;
  const [, group = '', plural = '', name] = path.exec(url.pathname) ?? [];
  const read = name === undefined ? (url.searchParams.has('watch') ? 'watch' : 'list') : 'get';
  const what = `cannot ${VERBS[method] ?? read} resource "${plural}" in API group "${group}"`;
  return `${plural} is forbidden: User "the-webhook" ${what} at the cluster scope`;
}

function failure(code: number, method: string, url: URL) {
  const message = code === 403 ? forbidden(method, url) : `${code}`;
  return { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, message, metadata: {} };
}

function play(played: Played | undefined, { method = '' }: IncomingMessage, url: URL, to: ServerResponse) {
  if (played === 'hang') return;
  to.setHeader('content-type', 'application/json');
  if (played === 'hang in the body') {
    to.write('{"kind": ');
    return;
  }
  if (played !== undefined && 'raw' in played) {
    to.end(played.raw);
    return;
  }
  to.statusCode = played?.status ?? (played === undefined ? 404 : 200);
  const refusal = played !== undefined && 'refusal' in played ? played.refusal : {};
  const object = played !== undefined && 'object' in played ? played.object : undefined;
  to.end(JSON.stringify(object ?? { ...failure(to.statusCode, method, url), ...refusal }));
}

function open(url: URL, response: ServerResponse, watches: Watching[]): void {
  response.setHeader('content-type', 'application/json');
  response.flushHeaders();
  const watching: Watching = {
    path: url.pathname,
    resourceVersion: url.searchParams.get('resourceVersion'),
    send: (type, object) => void response.write(`${JSON.stringify({ type, object })}\n`),
    end: (how) => void (how === 'broken' ? response.destroy() : response.end()),
  };
  watches.push(watching);
  response.on('close', () => watches.splice(watches.indexOf(watching), 1));
}

/** The path of a RabbitMq (or, with the other names, of any custom resource) in the API. */
export function apiPath(name: string, plural = 'rabbitmqs', group = 'rabbitmq.openstack.org'): string {
  return `/apis/${group}/v1beta1/namespaces/openstack/${plural}/${name}`;
}

/** Starts an HTTPS server that answers as an API server does, with a kubeconfig for it. */
export async function playApiServer(): Promise<PlayedApiServer> {
  const folder = await mkdtempDisposable(join(tmpdir(), 'api-server-'));
  const ca = await makeCa({ commonName: 'cluster', days: 1 });
  const tls = await makeServingCertificate({ ca, dnsNames: [], ips: ['127.0.0.1'], days: 1 });
  const answers = new Map<string, Played>();
  const requests: PlayedApiServer['requests'] = [];
  let connections = 0;
  const watches: Watching[] = [];
  const server = createServer({ ...tls }, async (request, response) => {
    const path = request.url ?? '';
    const url = new URL(path, 'https://server');
    const { method = '' } = request;
    const noted: PlayedRequest = { method, path, headers: request.headers };
    requests.push(noted);
    const sent = await text(request);
    if (sent !== '') noted.body = JSON.parse(sent);
    if (url.searchParams.has('watch')) {
      const played = answers.get(`${url.pathname}?watch`);
      if (played === undefined) open(url, response, watches);
      else play(played, request, url, response);
      return;
    }
    const keys = [`${method} ${path}`, path, `${method} ${url.pathname}`, url.pathname];
    const key = keys.find((one) => answers.has(one));
    play(key === undefined ? undefined : answers.get(key), request, url, response);
  });
  server.on('secureConnection', () => connections++);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const kubeconfig = join(folder.path, 'kubeconfig');
  await writeFile(
    kubeconfig,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: 'c',
          cluster: { server: url, 'certificate-authority-data': Buffer.from(ca.cert).toString('base64') },
        },
      ],
      users: [{ name: 'u', user: { token: TOKEN } }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    }),
  );
  return {
    url,
    kubeconfig,
    folder: folder.path,
    answers,
    requests,
    watches,
    get connections() {
      return connections;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await folder.remove();
    },
  };
}
