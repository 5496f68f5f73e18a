import type { AddressInfo } from 'node:net';
import Fastify, { type FastifyError, type FastifyReply } from 'fastify';
import type { ServingCertificate } from '../common/certificate-watch.ts';
import { INSTALL } from '../common/contract.ts';
import type { HostPort } from '../common/options.ts';
import { type Admission, admit } from './admit.ts';
import { parseBody } from './body.ts';
import { RequestError, failureStatus } from './errors.ts';
import type { Json } from '../common/kube/types.ts';

/** Largest request body, in bytes: an API server accepts 3 MiB, and an UPDATE carries the object twice. */
export const BODY_LIMIT = 8 * 1024 * 1024;

export interface ServerSettings {
  readonly listen: HostPort;
  readonly certificate: ServingCertificate;
  readonly admission: Admission;
}

export interface WebhookServer {
  /** Where it listens, with the port that the system chose if 0 was asked for. */
  readonly address: HostPort;
  /** Serves new connections with another certificate; throws, and keeps the old one, when OpenSSL refuses it. */
  setCertificate(certificate: ServingCertificate): void;
  /** Asks clients to leave: from now on every answer ends its connection. */
  beginDrain(): void;
  /** Stops listening; requests under way are answered, idle connections are closed. */
  close(): Promise<void>;
}

function tlsOptions({ cert, key }: ServingCertificate): {
  cert: string | Buffer;
  key: string | Buffer;
  minVersion: 'TLSv1.2';
} {
  return { cert, key, minVersion: 'TLSv1.2' };
}

/** Maps what Fastify refuses by itself to this webhook's reasons; anything unknown is an error of ours. */
function toRequestError(error: unknown): RequestError | undefined {
  if (error instanceof RequestError) return error;
  const { code, statusCode = 500, message } = error as Partial<FastifyError>;
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new RequestError('RequestEntityTooLarge', `the body is larger than ${BODY_LIMIT} bytes`);
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new RequestError('UnsupportedMediaType', 'Content-Type must be application/json');
    default:
      if (statusCode < 400 || statusCode >= 500) return undefined;
      return new RequestError('BadRequest', message ?? 'the request cannot be read');
  }
}

const PATHS: readonly string[] = Object.values(INSTALL.path);

/**
 * Serves POST /mutate and POST /validate over HTTPS.
 * @throws Error when it can't listen at the address.
 */
export async function startServer({
  listen,
  certificate,
  admission,
}: ServerSettings): Promise<WebhookServer> {
  const { log, stats } = admission;
  let draining = false;
  const app = Fastify({
    https: tlsOptions(certificate),
    bodyLimit: BODY_LIMIT,
    // An API server keeps idle connections for 90 s: the side that ends them first must not be this one.
    keepAliveTimeout: 95_000,
    requestTimeout: 60_000,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    logger: false,
  });
  app.server.headersTimeout = 32_000;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer' },
    async (_request: unknown, body: Buffer) => parseBody(body),
  );

  const refuse = async (reply: FastifyReply, error: RequestError): Promise<FastifyReply> => {
    stats.badRequests.add({ reason: error.reason });
    log.warn({ reason: error.reason, why: error.message, remote: reply.request.ip }, 'bad request');
    return reply.code(error.status).send(failureStatus(error));
  };

  app.addHook('onRequest', async (request, reply) => {
    // Before the body is read: nothing else than a POST of a review is worth reading one.
    if (!PATHS.includes(request.url.split('?', 1)[0] ?? '')) {
      throw new RequestError(
        'NotFound',
        `there is only ${PATHS.map((path) => `POST ${path}`).join(' and ')}`,
      );
    }
    if (request.method !== 'POST') {
      reply.header('allow', 'POST');
      throw new RequestError('MethodNotAllowed', `the method must be POST; it is ${request.method}`);
    }
    const encoding = request.headers['content-encoding'];
    if (encoding !== undefined && encoding !== 'identity') {
      throw new RequestError(
        'UnsupportedMediaType',
        `Content-Encoding must be absent; it is ${JSON.stringify(encoding)}`,
      );
    }
  });
  app.addHook('onSend', async (_request, reply) => {
    if (draining) reply.header('connection', 'close');
  });
  app.setErrorHandler(async (error, request, reply) => {
    const bad = toRequestError(error);
    // Fastify would close the connection under a client that is still writing, who then may never see the answer:
    // what is left of the body is read and dropped instead, for as long as requestTimeout allows.
    if (bad?.reason === 'RequestEntityTooLarge') reply.removeHeader('connection');
    if (bad !== undefined) return refuse(reply, bad);
    stats.internalErrors++;
    log.error(
      { err: error, remote: request.ip },
      'internal error: the failurePolicy of the registration decides',
    );
    const message = 'the webhook failed by an error of its own; its log says more';
    return reply.code(500).send(failureStatus(new RequestError('InternalError', message)));
  });
  for (const endpoint of ['mutate', 'validate'] as const) {
    app.post(INSTALL.path[endpoint], async (request) =>
      admit(admission, endpoint, request.body as Json | undefined),
    );
  }

  await app.listen(listen);
  const { address, port } = app.server.address() as AddressInfo;
  return {
    address: { host: address, port },
    setCertificate: (next) => app.server.setSecureContext(tlsOptions(next)),
    beginDrain() {
      draining = true;
    },
    close: () => app.close(),
  };
}
