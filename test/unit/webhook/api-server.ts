import { once } from 'node:events';
import { mkdtempDisposable, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCa, makeServingCertificate } from '../../../certs/certificates.ts';

/** What is answered to GETs of one path: an object, a status alone, raw text, or nothing at all. */
export type Played = { object: unknown } | { status: number } | { raw: string } | 'hang' | 'hang in the body';

export interface PlayedApiServer extends AsyncDisposable {
  readonly url: string;
  readonly kubeconfig: string;
  /** A folder for the test's own files. */
  readonly folder: string;
  /** Answers by path; what is not listed is 404, as where the CRD is not installed. */
  readonly answers: Map<string, Played>;
  /** Every request: path and headers. */
  readonly requests: { path: string; headers: IncomingMessage['headers'] }[];
  /** TLS connections so far. */
  readonly connections: number;
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
  const server = createServer({ ...tls }, (request, response) => {
    const path = request.url ?? '';
    requests.push({ path, headers: request.headers });
    play(answers.get(path), response);
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
