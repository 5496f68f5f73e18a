import type { AddressInfo } from 'node:net';
import Fastify from 'fastify';
import { makeCa, makeServingCertificate } from '../certs/certificates.ts';
import { INSTALL } from '../common/contract.ts';
import { BODY_LIMIT } from '../webhook/server.ts';

// The process that the webhook is measured next to: Fastify with a certificate of the same kind and the same limit of
// bodies, which receives each review whole and allows it without looking. It tells its port and its CA.

const ca = await makeCa({ commonName: 'no-op CA', days: 1 });
const { cert, key } = await makeServingCertificate({
  ca,
  dnsNames: ['localhost'],
  ips: ['127.0.0.1'],
  days: 1,
});
const answer = {
  apiVersion: 'admission.k8s.io/v1',
  kind: 'AdmissionReview',
  response: { uid: '', allowed: true },
};

const app = Fastify({
  https: { cert, key, minVersion: 'TLSv1.2' },
  bodyLimit: BODY_LIMIT,
  keepAliveTimeout: 95_000,
  requestTimeout: 60_000,
  logger: false,
});
app.removeAllContentTypeParsers();
app.addContentTypeParser(
  'application/json',
  { parseAs: 'buffer' },
  async (_request: unknown, body: Buffer) => body,
);
app.post(INSTALL.path.mutate, async () => answer);
await app.listen({ host: '127.0.0.1', port: 0 });

process.on('disconnect', () => process.exit());
process.send!({ port: (app.server.address() as AddressInfo).port, ca: ca.cert });
