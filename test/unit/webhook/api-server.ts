import { once } from 'node:events';
import { mkdtempDisposable, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { makeCa, makeServingCertificate } from '../../../certs/certificates.ts';

/** What is answered to requests of one path: an object, a status alone, raw text, or nothing at all. */
export type Played = { object: unknown } | { status: number } | { raw: string } | 'hang' | 'hang in the body';

export interface PlayedApiServer extends AsyncDisposable {
  readonly url: string;
  readonly kubeconfig: string;
  /** A folder for the test's own files. */
  readonly folder: string;
  /**
   * Answers by path, with its query or without; what is not listed is 404, as where the CRD is not installed. A path that
   * ends with "?watch" answers watches; where it is not listed they stay open.
   */
  readonly answers: Map<string, Played>;
  /** Watches that are open. */
  readonly watches: Watching[];
  /** Every body that was posted. */
  readonly posted: { path: string; body: unknown }[];
  /** Every request: path and headers. */
  readonly requests: { path: string; headers: IncomingMessage['headers'] }[];
  /** TLS connections so far. */
  readonly connections: number;
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

function failure(code: number) {
  return { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, message: `${code}`, metadata: {} };
}

function play(played: Played | undefined, response: ServerResponse): void {
  if (played === 'hang') return;
  response.setHeader('content-type', 'application/json');
  if (played === 'hang in the body') {
    response.write('{"kind": ');
    return;
  }
  if (played !== undefined && 'raw' in played) {
    response.end(played.raw);
    return;
  }
  const code = played === undefined ? 404 : 'status' in played ? played.status : 200;
  response.statusCode = code;
  response.end(JSON.stringify(played !== undefined && 'object' in played ? played.object : failure(code)));
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
  const posted: PlayedApiServer['posted'] = [];
  const server = createServer({ ...tls }, async (request, response) => {
    const path = request.url ?? '';
    const url = new URL(path, 'https://server');
    requests.push({ path, headers: request.headers });
    if (request.method === 'POST') posted.push({ path, body: JSON.parse(await text(request)) });
    if (url.searchParams.has('watch')) {
      const played = answers.get(`${url.pathname}?watch`);
      if (played === undefined) open(url, response, watches);
      else play(played, response);
      return;
    }
    play(answers.get(path) ?? answers.get(url.pathname), response);
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
    posted,
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
